"""The algorithms there are: a name, and the module that declares it as ``ALGORITHM``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from aspc_fast.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from aspc_fast.agent.algorithm import Algorithm

_MODULES = {
    "aspc": "aspc_fast.agent.aspc",
    "td3bc": "aspc_fast.agent.td3bc",
    "wpc": "aspc_fast.agent.wpc",
    "a2pr": "aspc_fast.agent.a2pr",
    "iql": "aspc_fast.agent.iql",
    "rebrac": "aspc_fast.agent.rebrac",
    "rapo": "aspc_fast.agent.rapo",
    "cql": "aspc_fast.agent.cql",
    "bc": "aspc_fast.agent.bc",
    "td3bc_linear": "aspc_fast.agent.td3bc_linear",
}
_ADDED: dict[str, Algorithm] = {}


def names() -> tuple[str, ...]:
    """Every algorithm's name, this package's first."""
    return (*_MODULES, *_ADDED)


def algorithm(name: str) -> Algorithm:
    """The algorithm called ``name``; UserError with the nearest name if there is none."""
    if name in _ADDED:
        return _ADDED[name]
    if name not in _MODULES:
        hint = did_you_mean(str(name), names())
        raise UserError(f"algo must be one of {', '.join(names())}, got {name!r}{hint}")
    found: Algorithm = import_module(_MODULES[name]).ALGORITHM
    return found


def is_everywhere(name: str) -> bool:
    """Whether another process knows the algorithm too."""
    return name in _MODULES


def register(added: Algorithm) -> None:
    """Make an algorithm from outside this package known under its name, in this process. UserError if it is taken."""
    if added.name in _MODULES:
        raise UserError(f"algo {added.name!r} is this package's own; choose another name")
    _ADDED[added.name] = added
