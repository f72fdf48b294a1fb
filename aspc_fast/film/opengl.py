"""Which off-screen OpenGL MuJoCo can draw with on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache

from aspc_fast.errors import UserError

_TRY = """
import mujoco
from mujoco.{backend} import GLContext
context = GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100)
print("works", flush=True)
import os
os._exit(0)
"""


def use_opengl() -> str:
    """Set MUJOCO_GL to a backend that works (kept if the user set it) and return its name.

    Each candidate is tried in a process of its own, since one that fails can abort the process or spoil the next.
    Raises UserError with what to install if none works.
    """
    own = os.environ.get("MUJOCO_GL")
    if own is not None and own not in ("egl", "osmesa", "glfw"):
        raise UserError(f"MUJOCO_GL is {own!r}: for pictures it must be egl, osmesa or glfw, or not be set")
    reasons = []
    for backend in [own] if own else _candidates():
        reason = _failure(backend)
        if reason is None:
            os.environ["MUJOCO_GL"] = backend
            return backend
        reasons.append(f"{backend}: {reason}")
    raise UserError(
        f"MuJoCo cannot draw off-screen here ({'; '.join(reasons)}): install OpenGL for use without a screen, on "
        "Debian or Ubuntu  apt-get install libegl1 libgl1-mesa-dri  or  apt-get install libosmesa6"
    )


def _candidates() -> list[str]:
    if not sys.platform.startswith("linux"):
        return ["glfw"]
    return ["egl", "osmesa", *(["glfw"] if os.environ.get("DISPLAY") else [])]


@cache
def _failure(backend: str) -> str | None:
    """Why MuJoCo cannot draw with this backend; None if it can."""
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo leaves its log where it runs
        try:
            done = subprocess.run(
                [sys.executable, "-c", _TRY.format(backend=backend)],
                cwd=folder,
                env=os.environ | {"MUJOCO_GL": backend},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if "works" in done.stdout:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1][:160] if lines else f"ended with code {done.returncode}"
