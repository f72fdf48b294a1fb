"""aspc_fast: ASPC (arXiv 2508.19900) for offline reinforcement learning, at the speed of the hardware.

import aspc_fast as af

data = af.load("hopper-medium-v2")
run = af.train(data, steps=100_000)
actions = run.policy(observations)
print(af.evaluate(run.policy, "hopper-medium-v2", episodes=100).score)
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aspc_fast.api import load_policy, sweep, train
    from aspc_fast.config import AgentConfig
    from aspc_fast.data.arrays import from_arrays
    from aspc_fast.data.load import load
    from aspc_fast.errors import UserError
    from aspc_fast.evaluation import evaluate

__version__ = "0.1.0"
__all__ = [
    "AgentConfig",
    "UserError",
    "__version__",
    "evaluate",
    "from_arrays",
    "load",
    "load_policy",
    "sweep",
    "train",
]

_HOME = {
    "AgentConfig": "aspc_fast.config",
    "UserError": "aspc_fast.errors",
    "evaluate": "aspc_fast.evaluation",
    "from_arrays": "aspc_fast.data.arrays",
    "load": "aspc_fast.data.load",
    "load_policy": "aspc_fast.api",
    "sweep": "aspc_fast.api",
    "train": "aspc_fast.api",
}


class _KernelsBesideThePackage(MetaPathFinder):
    """Finds aspc_fast.kernels in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The package's spec; what is inside it is found in the usual way."""
        if fullname != f"{__name__}.kernels":
            return None
        return spec_from_file_location(
            fullname, self._folder / "__init__.py", submodule_search_locations=[str(self._folder)]
        )


# PyTorch's CPU threads otherwise spin long while they wait for each other: on a machine that does anything else
# besides, that makes training many times slower. A short spin keeps an idle machine's speed. Works before torch loads.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_package = Path(__file__).resolve().parent
if not (_package / "kernels").is_dir() and (_package.parent / "kernels").is_dir():
    # a bare clone: kernels/ lies beside the package, a wheel carries it inside. Not by __path__, through which
    # everything else that lies there would seem to be part of the package
    sys.meta_path.insert(0, _KernelsBesideThePackage(_package.parent / "kernels"))


def __getattr__(name: str) -> Any:
    """Public names load when they are first used, so that `import aspc_fast` costs nothing."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'aspc_fast' has no attribute {name!r}")
