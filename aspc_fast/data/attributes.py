"""A file's text attributes, read where damage can do no harm.

HDF5 keeps strings in a heap, and its C library follows a damaged heap entry into foreign memory: a few flipped bytes
end the process with a segmentation fault, which no ``except`` can catch. (Arrays of numbers have no such entries:
tens of thousands of damaged files were refused in good order.) So a forked child reads the attributes and reports them
as JSON; if the child dies, the file is damaged.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import warnings
from pathlib import Path

import h5py

from aspc_fast.errors import UserError

MAX_ATTRIBUTES = 200
MAX_CHARACTERS = 65536
SECONDS = 5


def read_attributes(path: Path) -> dict[str, str]:
    """The root attributes of an HDF5 file as text; UserError if reading them ends the reader.

    An attribute that cannot be read as text, or is very long, is left out.
    """
    if not hasattr(os, "fork"):
        return _read(path)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forks beside threads; this child touches nothing but h5py and leaves by _exit
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _report(path, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    try:
        if status == 0:
            return {str(key): str(value) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        pass
    raise UserError(f"{path}: the attributes cannot be read, the file is damaged")


def _report(path: Path, writing: int) -> None:
    status = 1
    try:
        faulthandler.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        # the C library's last words belong to no one
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(_read(path)).encode())
        status = 0
    finally:
        os._exit(status)


def _read(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    with h5py.File(path, "r", locking=False) as file:
        for name in list(file.attrs.keys())[:MAX_ATTRIBUTES]:
            try:
                if file.attrs.get_id(name).get_storage_size() > MAX_CHARACTERS:
                    continue
                value = file.attrs[name]
                text = value.decode() if isinstance(value, bytes) else str(value)
            except Exception:
                continue  # damage or an exotic type costs the attribute, not the dataset
            if len(text) <= MAX_CHARACTERS:
                texts[str(name)] = text
    return texts
