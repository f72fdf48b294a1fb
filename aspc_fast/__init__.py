"""aspc_fast: ASPC (arXiv 2508.19900) for offline reinforcement learning, at the speed of the hardware."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

_package = Path(__file__).resolve().parent
if not (_package / "kernels").is_dir() and (_package.parent / "kernels").is_dir():
    __path__.append(str(_package.parent))  # a bare clone: kernels/ lies beside the package, a wheel carries it inside
