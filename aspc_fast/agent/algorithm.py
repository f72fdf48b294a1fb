"""What an algorithm declares. Engines, command line, memory plan, checkpoints, reports and exports follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from aspc_fast.agent.layout import MLP, Layout
from aspc_fast.agent.philox import STREAM_NOISE
from aspc_fast.config import AgentConfig

if TYPE_CHECKING:
    from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
    from aspc_fast.agent.trace_names import TraceNames

Metrics = dict[str, Tensor]
"""One step's quantities by name: tensors [R]."""
Part = Callable[["Spec", "AgentState", "Hyper", Any], Metrics]
"""A piece of a training step: updates the state in place and returns its metrics."""
Init = Callable[[Layout, int, int], Tensor]
"""Fresh weights [P] of a layout, from a seed and the first number of a block of random streams."""


@dataclass(frozen=True)
class Net:
    """A network of the learning state, with Adam's moments, and what else comes with it.

    lr: the hyper-parameter that is Adam's learning rate. copies: how many of it (a pair of critics); the state's
    tensors then have an axis for them. target: whether a slowly moving copy is kept, ``NAME_target``. depths: hidden
    layers of each copy where they differ: the layers of the layout that a copy lacks are identities that never learn.
    """

    mlp: MLP
    lr: str
    init: Init
    copies: int | None = None
    target: bool = False
    depths: tuple[int, ...] | None = None

    def hidden_layers(self, copy: int | None) -> int:
        """Hidden layers of a copy."""
        return len(self.mlp.hidden) if self.depths is None or copy is None else self.depths[copy]

    def spare(self, layout: Layout, flat: Tensor, copy: int) -> list[Tensor]:
        """Weights and biases, as views of ``flat`` [..., P], of the layers that this copy lacks."""
        missing = range(self.hidden_layers(copy), len(self.mlp.hidden))
        views = layout.views(flat)
        return [views[layout.names.index(f"{kind}{depth}")] for depth in missing for kind in "wb"]


@dataclass(frozen=True)
class Draw:
    """Random numbers of a training step: batch field ``name`` of shape [R, B, *sizes] (sizes as in a layout).

    kind: standard normals, or uniform in [-1, 1]. stream: one number for each draw of an algorithm, from 1.
    """

    name: str
    sizes: tuple[int | str, ...]
    kind: Literal["normal", "uniform"] = "normal"
    stream: int = STREAM_NOISE


NOISE = Draw("noise", ("act",))


def _no_columns(config: Any) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Algorithm:
    """An algorithm in one value; ``aspc_fast.registry`` maps its name to it.

    name, title: as options and tables call it. config: its hyper-parameters. networks: by name, for a configuration;
    the first is initialised first. parts: pieces of a step by name. parts_of: which of them training step t (1, 2, ...)
    has, in order; it repeats after ``period`` steps. scalars: further per-run state [R] with first values, given a
    configuration. columns: per-run numbers [R] derived from a configuration, beside its per-run hyper-parameters;
    ``exact``: those that stay float64. draws, data: the batch's random numbers (or a function of a configuration that
    gives them), and its columns beyond [s, a, r, s', d] ("next_actions", or "outer": a second, independent batch).
    batch: the NamedTuple of them; draws that some configurations lack come last and have an empty tensor as default.
    policy: the network whose tanh acts (its first outputs). shown: the metrics a person looks at, and ``curve`` the one
    to draw. trace: how its authors' golden traces name things.
    """

    name: str
    title: str
    config: type[AgentConfig]
    networks: Callable[[Any], dict[str, Net]]
    parts: dict[str, Part]
    parts_of: Callable[[Any, int], tuple[str, ...]]
    period: Callable[[Any], int]
    batch: type[Batch] | type[Any]
    scalars: Callable[[Any], Mapping[str, float]] = _no_columns
    columns: Callable[[Any], Mapping[str, float]] = _no_columns
    exact: tuple[str, ...] = ()
    draws: tuple[Draw, ...] | Callable[[Any], tuple[Draw, ...]] = (NOISE,)
    data: tuple[str, ...] = ()
    policy: str = "actor"
    shown: tuple[str, ...] = ()
    curve: str | None = None
    source: str = ""
    trace: TraceNames | None = field(default=None, compare=False)
