"""Hyper-parameters that every algorithm has, and how an algorithm declares its own.

An algorithm's configuration is a frozen dataclass derived from ``AgentConfig`` in the algorithm's file: each field is
``hyper(default, low, high)`` (or ``derived``, ``shared``, ``choice``) with its paper symbol and unit in the docstring
below it. The command line, the Python options, sweeps, checks and reports are built from these fields.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm, names

RewardOption = Literal["none", "return-range", "minus-one", "scale", "centre"]
Precision = Literal["tf32", "fp32", "bf16"]

_BIG = 1e9


def hyper(default: Any, low: float = -_BIG, high: float = _BIG, *, open_low: bool = False) -> Any:
    """A numeric hyper-parameter in [low, high], or (low, high] with ``open_low``: a tensor [R] of ``Hyper``."""
    return _field(default, "column", low, high, open_low)


def derived(default: Any, low: float = -_BIG, high: float = _BIG, *, open_low: bool = False) -> Any:
    """A hyper-parameter in which runs may differ, but which updates know through the algorithm's ``columns`` only."""
    return _field(default, "derived", low, high, open_low)


def shared(default: Any, low: float = -_BIG, high: float = _BIG, *, open_low: bool = False) -> Any:
    """A numeric hyper-parameter in which runs of one population must agree."""
    return _field(default, "shared", low, high, open_low)


def choice(default: Any) -> Any:
    """A hyper-parameter of a few values (its type is a Literal) in which runs may differ; known through ``columns``."""
    return dataclasses.field(default=default, metadata={"kind": "derived"})


def _field(default: Any, kind: str, low: float, high: float, open_low: bool) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "range": (low, high, open_low)})


@dataclass(frozen=True)
class AgentConfig:
    """Hyper-parameters of one run. ``AgentConfig(algo=NAME, ...)`` makes the configuration of that algorithm."""

    algo: str = "aspc"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    hidden_dim: int = shared(256, 1, 8192)
    """Width of every hidden layer, in units."""
    batch_size: int = shared(256, 1, 1_048_576)
    """B: transitions per update."""
    discount: float = hyper(0.99, 0, 1)
    """gamma: discount per step, in [0, 1]."""
    reward: RewardOption = choice("none")
    """Reward transform: return-range (times horizon / (best - worst return)), minus-one, scale, centre (minus mean)."""
    reward_scale: float = derived(1.0)
    """Factor of the reward option scale."""
    reward_mean: float = derived(0.0)
    """r_mean: subtracted from every reward after the transform."""
    normalise: bool = True
    """Whether states are normalised with the dataset's own mean and standard deviation."""
    normalise_eps: float = shared(1e-3, 0, open_low=True)
    """Added to the standard deviation when states are normalised, in units of the state."""
    adam_beta1: float = shared(0.9, 0, 0.999999)
    """beta_1 of every Adam."""
    adam_beta2: float = shared(0.999, 0, 0.99999999)
    """beta_2 of every Adam."""
    adam_eps: float = shared(1e-8, 0, 1, open_low=True)
    """epsilon of every Adam, added outside the root."""

    def __new__(cls, algo: str | None = None, **_: Any) -> AgentConfig:
        """An instance of the algorithm's own class, as pathlib.Path makes the platform's."""
        kind = cls
        if cls is AgentConfig:
            kind = algorithm(AgentConfig.algo if algo is None else algo).config
        return super().__new__(kind)

    def __post_init__(self) -> None:
        if not isinstance(self, algorithm(self.algo).config):
            raise UserError(f"algo {self.algo!r} has hyper-parameters of its own; use AgentConfig(algo=...)")
        for field in dataclasses.fields(self):
            if "range" in field.metadata:
                _check_range(field.name, getattr(self, field.name), *field.metadata["range"])
        for name, allowed in choices(self.algo).items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} must be one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain values, one per field."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> AgentConfig:
        """The inverse of ``to_json``; UserError on a field this version does not know."""
        kind = algorithm(values.get("algo", AgentConfig.algo)).config
        unknown = sorted(set(values) - fields_of(kind))
        if unknown:
            raise UserError(f"unknown hyper-parameter {unknown[0]!r} in the configuration")
        return kind(**values)

    def changed(self, **changes: Any) -> AgentConfig:
        """With other values; another ``algo`` begins from its own defaults and what was set here and exists there."""
        if changes.get("algo", self.algo) == self.algo:
            return dataclasses.replace(self, **changes)
        kind, plain = algorithm(changes["algo"]).config, type(self)()
        kept = {n: v for n, v in self.to_json().items() if v != getattr(plain, n) and n in fields_of(kind)}
        return kind(**(kept | changes))


def fields_of(kind: type[AgentConfig]) -> set[str]:
    """The names of a configuration's hyper-parameters."""
    return {field.name for field in dataclasses.fields(kind)}


def every_field() -> set[str]:
    """The hyper-parameters of all algorithms together."""
    return set().union(*(fields_of(algorithm(name).config) for name in names()))


def columns_of(kind: type[AgentConfig]) -> tuple[str, ...]:
    """Hyper-parameters that are a tensor [R]: runs of one population may differ in them."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.metadata.get("kind") == "column")


@cache
def structure_of(config: AgentConfig) -> AgentConfig:
    """What runs of one population must agree on: the configuration with all that may differ at its default."""
    free: dict[str, Any] = {
        field.name: field.default
        for field in dataclasses.fields(config)
        if field.metadata.get("kind") in ("column", "derived")
    }
    return dataclasses.replace(config, **free)


@cache
def choices(algo: str) -> dict[str, tuple[Any, ...]]:
    """Hyper-parameters of an algorithm that take one of a few values, and these values."""
    hints = {name: hint for name, hint in get_type_hints(algorithm(algo).config).items() if get_origin(hint) is Literal}
    return {name: get_args(hint) for name, hint in hints.items()}


def _check_range(name: str, value: Any, low: float, high: float, open_low: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name} must be a finite number, got {value!r}")
    if value < low or value > high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise UserError(f"{name} must lie in {bracket}{low:,.7g}, {high:,.7g}], got {value!r}")
