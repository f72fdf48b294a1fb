"""The C++ library of the ``native`` engine: compiled at first use, kept in the user's cache.

Cache: ``$XDG_CACHE_HOME/aspc_fast/native`` (``~/.cache/...``), one library and its checksum for each source, compiler,
flags, processor and scalar type; the KEPT used last remain. A file that was cut off or changed is built again.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path

from aspc_fast.errors import UserError
from aspc_fast.files import replacing

SOURCE = Path(__file__).with_name("cpp")
COMPILERS = ("g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-pthread")
BUILD_SECONDS = 300
KEPT = 8


class NativeUnavailable(UserError):
    """The library cannot be built or used here; the sentence says why."""


def compiler() -> str | None:
    """Path of the C++ compiler to use: ``$CXX`` if it names one, else g++ or clang++; None if there is none."""
    names = (os.environ.get("CXX", ""), *COMPILERS)
    return next((found for name in names if name and (found := shutil.which(name))), None)


def cache_folder() -> Path:
    """Where libraries are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "aspc_fast" / "native"


@cache
def library(scalar: str) -> ctypes.CDLL:
    """The library for ``scalar`` (float or double), built if it is not in the cache. NativeUnavailable if it cannot."""
    found = compiler()
    if found is None:
        raise NativeUnavailable("engine native needs a C++ compiler (g++ or clang++), and there is none on the PATH")
    command = [found, *FLAGS, *_machine_flags(), "-shared", f"-DASPC_SCALAR={scalar}"]
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        raise NativeUnavailable(f"{folder}: engine native cannot keep its library there ({error})") from None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise NativeUnavailable(f"{folder}: others may write there, so engine native loads no code from it")
    path = folder / f"{_key(command)}.so"
    try:
        if not _is_whole(path):
            _build(command, path)
            _forget_old(folder)
        os.utime(path)
        return _load(path)
    except OSError as error:
        raise NativeUnavailable(f"{path}: engine native cannot load its library ({error})") from None


def _machine_flags() -> tuple[str, ...]:
    arm = platform.machine().lower() in ("arm64", "aarch64")
    return ("-mcpu=native",) if arm else ("-march=native", "-mprefer-vector-width=512")


def _sources() -> list[Path]:
    return sorted(p for p in SOURCE.iterdir() if p.suffix in (".cpp", ".h"))


def _key(command: list[str]) -> str:
    digest = hashlib.sha256()
    for part in (*command, _version(command[0]), _processor()):
        digest.update(part.encode() + b"\0")
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _version(found: str) -> str:
    try:
        done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{found}: the C++ compiler does not run ({error})") from None
    return done.stdout


def _processor() -> str:
    """What ``-march=native`` depends on: the processor's model and features."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
        told = [line for line in lines if line.split(":")[0].strip() in ("model", "model name", "flags", "Features")]
        if told:
            return "\n".join(told)
    return f"{platform.machine()} {platform.processor()}"


def _build(command: list[str], path: Path) -> None:
    with replacing(path) as temporary:
        whole = [*command, str(SOURCE / "native.cpp"), "-o", str(temporary)]
        try:
            done = subprocess.run(whole, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NativeUnavailable(f"{command[0]}: engine native could not be compiled ({error})") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            raise NativeUnavailable(f"{command[0]}: engine native does not compile here: {next(iter(lines), '?')}")
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    with replacing(_checksum(path)) as temporary:
        temporary.write_text(digest, encoding="ascii")


def _checksum(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """A library cut off would not raise but kill the process when it is loaded."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _checksum(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False


def _forget_old(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process may be at it too
        for path in sorted(folder.glob("*.so"), key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]:
            path.unlink(missing_ok=True)
            _checksum(path).unlink(missing_ok=True)


def _load(path: Path) -> ctypes.CDLL:
    found = ctypes.CDLL(str(path))
    pointer, number, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    found.aspc_open.argtypes, found.aspc_open.restype = [pointer, *(number,) * 3], pointer
    found.aspc_close.argtypes, found.aspc_close.restype = [pointer], None
    found.aspc_work.argtypes, found.aspc_work.restype = [pointer, pointer, *(number,) * 5, flag, flag], None
    found.aspc_vector_bytes.restype = number
    found.aspc_sizes.restype = ctypes.c_int64
    return found
