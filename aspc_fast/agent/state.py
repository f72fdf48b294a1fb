"""Learning state and per-run hyper-parameters: tensors with a leading run axis R, as an algorithm declares them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aspc_fast.agent.algorithm import Algorithm, Draw, Net
from aspc_fast.agent.layout import Dims, Layout, MLPParams, Shapes
from aspc_fast.config import AgentConfig, columns_of, structure_of
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm


class _Tensors:
    """Tensors as attributes, by name and in a fixed order."""

    def __init__(self, **tensors: Tensor) -> None:
        self.__dict__.update(tensors)

    def __getattr__(self, name: str) -> Tensor:
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, in a fixed order."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())


class AgentState(_Tensors):
    """Everything that learning changes. Updated in place; 16 bytes per float32 parameter and a few scalars per run.

    For each network NAME of the algorithm: NAME, NAME_target (if it has one), NAME_m, NAME_v (Adam's moments), [R, P],
    or [R, copies, P]. Then the algorithm's scalars [R], and ``step``: int64 [], the number of training steps done;
    every other counter follows from it.
    """

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__(**tensors)
        self._params: dict[tuple[str, int | None], MLPParams] = {}

    def params(self, spec: Spec, name: str, copy: int | None = None) -> MLPParams:
        """The weights of network ``name`` (or ``name_target``), or of one of its copies, as views of the flat vectors.

        They are made once, since the state only changes in place; a compiler sees views best where they are used.
        """
        compiling = torch.compiler.is_compiling()
        if not compiling and (name, copy) in self._params:
            return self._params[name, copy]
        flat = getattr(self, name)
        made = spec.params(name.removesuffix("_target"), flat if copy is None else flat[:, copy])
        if not compiling:
            self._params[name, copy] = made
        return made

    @property
    def runs(self) -> int:
        """R."""
        return len(self._weights)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self._weights.dtype

    @property
    def device(self) -> torch.device:
        """Where all of it lies."""
        return self._weights.device

    @property
    def _weights(self) -> Tensor:
        return next(iter(self.tensors().values()))

    def run(self, index: int) -> AgentState:
        """One run's state with R = 1: see ``part``."""
        return self.part(slice(index, index + 1))

    def part(self, runs: slice) -> AgentState:
        """The state of these runs: views of this one, but for its step, which is a copy."""
        own = {name: t[runs] for name, t in self.tensors().items() if t.ndim}
        return AgentState(**own, step=self.step.clone())

    def clone(self) -> AgentState:
        """An independent copy."""
        return AgentState(**{name: tensor.clone() for name, tensor in self.tensors().items()})

    def to(self, device: torch.device | str) -> AgentState:
        """Moved to ``device``."""
        return AgentState(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def copy_(self, other: AgentState) -> None:
        """Overwrite in place with ``other``."""
        for name, tensor in self.tensors().items():
            tensor.copy_(getattr(other, name))


class Hyper(_Tensors):
    """What may differ between runs: tensors [R] (action_mask [R, A]).

    The algorithm's per-run hyper-parameters and columns under their names, and ``seeds`` int64; ``max_action``;
    ``true_act_dim``, the unpadded number of actions, and ``action_mask``, 1 on true and 0 on padded action entries.
    Rewards become reward * reward_factor + reward_shift.
    """

    def __init__(self, _exact: tuple[str, ...] = (), **tensors: Tensor) -> None:
        super().__init__(**tensors)
        self._exact = _exact

    def run(self, index: int) -> Hyper:
        """One run's hyper-parameters, R = 1."""
        return self.part(slice(index, index + 1))

    def part(self, runs: slice) -> Hyper:
        """Those of these runs, as views."""
        return Hyper(self._exact, **{name: t[runs] for name, t in self.tensors().items()})

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Hyper:
        """Moved to ``device``, floating tensors in ``dtype``; but the algorithm's exact columns stay float64."""
        moved = {
            name: t.to(device, dtype) if t.is_floating_point() and name not in self._exact else t.to(device)
            for name, t in self.tensors().items()
        }
        return Hyper(self._exact, **moved)


class Batch(NamedTuple):
    """One update's input: observations, next_observations [R, B, D] normalised; actions, noise [R, B, A];
    rewards, terminals [R, B]. ``noise`` holds standard normals. An algorithm with other draws declares its own."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Spec:
    """What all runs of a population share, so that one program trains them.

    dims: the widest of the runs. config: their configuration, with what may differ at its default. common: those of the
    learning rates on which all runs agree after all; an update may take them as plain numbers. Derived: algorithm,
    nets and layouts (by name), draws, period (training steps after which the parts repeat), and shapes, the sizes of
    ASPC's and TD3+BC's networks.
    """

    dims: Dims
    config: Any
    common: tuple[tuple[str, float], ...] = ()
    algorithm: Algorithm = field(init=False, repr=False, compare=False)
    nets: dict[str, Net] = field(init=False, repr=False, compare=False)
    layouts: dict[str, Layout] = field(init=False, repr=False, compare=False)
    draws: tuple[Draw, ...] = field(init=False, repr=False, compare=False)
    period: int = field(init=False, repr=False, compare=False)
    shapes: Shapes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        declared = algorithm(self.config.algo)
        nets = declared.networks(self.config)
        robust = getattr(self.config, "critic", "robust") == "robust"
        # plain attributes, which a compiler reads as constants
        for name, value in {
            "algorithm": declared,
            "nets": nets,
            "layouts": {name: net.mlp.layout(self.dims) for name, net in nets.items()},
            "draws": declared.draws if isinstance(declared.draws, tuple) else declared.draws(self.config),
            "period": declared.period(self.config),
            "shapes": Shapes(*self.dims, self.config.hidden_dim, robust),
        }.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Spec, (self.dims, self.config, self.common)

    def params(self, name: str, flat: Tensor) -> MLPParams:
        """Views of flat [..., P] as the weights of network ``name``."""
        return self.nets[name].mlp.params(self.layouts[name], flat)

    def rate(self, name: str) -> float | None:
        """A learning rate on which all runs agree, or None: see ``Hyper``."""
        return dict(self.common).get(name)

    def parts(self, step: int) -> tuple[str, ...]:
        """The parts of training step ``step`` (1, 2, ...)."""
        return self.algorithm.parts_of(self.config, step)


class RunShape(NamedTuple):
    """What the agent must know of one run's data: true dimensions, action bound, reward factor and shift."""

    obs_dim: int
    act_dim: int
    max_action: float = 1.0
    reward_factor: float = 1.0
    reward_shift: float = 0.0


def make_spec(configs: Sequence[AgentConfig], runs: Sequence[RunShape]) -> Spec:
    """The common program of these runs, padded to the widest; UserError if they cannot share one."""
    structures = {structure_of(config) for config in configs}
    if len(structures) != 1:
        first, second = list(structures)[:2]
        differs = sorted(n for n, v in first.to_json().items() if second.to_json().get(n, v) != v)
        raise UserError(f"runs of one population must agree on {', '.join(differs)}")
    structure = structures.pop()
    rates = dict.fromkeys(net.lr for net in algorithm(structure.algo).networks(structure).values())
    values = {name: {float(getattr(c, name)) for c in configs} for name in rates}
    common = tuple((name, found.pop()) for name, found in values.items() if len(found) == 1)
    return Spec(Dims(max(r.obs_dim for r in runs), max(r.act_dim for r in runs)), structure, common)


def make_hyper(
    spec: Spec, configs: Sequence[AgentConfig], runs: Sequence[RunShape], seeds: Sequence[int], dtype: torch.dtype
) -> Hyper:
    """Per-run hyper-parameters as tensors on the CPU."""
    declared = spec.algorithm
    fields = [{name: float(getattr(c, name)) for name in columns_of(type(c))} for c in configs]
    numbers: list[dict[str, float]] = [
        own
        | dict(declared.columns(config))
        | {
            "max_action": run.max_action,
            "true_act_dim": float(run.act_dim),
            "reward_factor": run.reward_factor,
            "reward_shift": run.reward_shift - config.reward_mean,
        }
        for own, config, run in zip(fields, configs, runs, strict=True)
    ]
    columns = {
        name: torch.tensor([n[name] for n in numbers], dtype=torch.float64 if name in declared.exact else dtype)
        for name in numbers[0]
    }
    act_dims = torch.tensor([r.act_dim for r in runs])
    mask = (torch.arange(spec.dims.act)[None, :] < act_dims[:, None]).to(dtype)
    seeded = torch.tensor(list(seeds), dtype=torch.int64)
    return Hyper(declared.exact, seeds=seeded, **columns, action_mask=mask)


def init_state(
    spec: Spec, configs: Sequence[AgentConfig], runs: Sequence[RunShape], seeds: Sequence[int], dtype: torch.dtype
) -> AgentState:
    """Fresh state on the CPU. A run's weights depend on its seed and true dimensions only, not on its neighbours."""
    weights, block = {}, 0
    for name, net in spec.nets.items():
        wide, stacked = net.mlp.layout(spec.dims), []
        for run, seed in zip(runs, seeds, strict=True):
            own = net.mlp.layout(Dims(run.obs_dim, run.act_dim))
            made = [net.init(own, seed, block + 100 * i) for i in range(net.copies or 1)]
            for copy, flat in enumerate(made if net.depths else ()):
                for tensor in net.spare(own, flat, copy):
                    tensor.copy_(torch.eye(len(tensor)) if tensor.ndim == 2 else torch.zeros(len(tensor)))
            padded = torch.stack([own.pad_to(wide, one) for one in made])
            stacked.append(padded if net.copies else padded[0])
        weights[name] = torch.stack(stacked).to(dtype)
        block += 100 * (net.copies or 1)
    firsts = [spec.algorithm.scalars(config) for config in configs]
    scalars = {name: torch.tensor([first[name] for first in firsts], dtype=dtype) for name in firsts[0]}
    return state_from_weights(spec, weights, scalars)


def state_from_weights(spec: Spec, weights: dict[str, Tensor], scalars: dict[str, Tensor]) -> AgentState:
    """State at step 0 with the networks' weights [R, (copies,) P]; targets start as copies."""
    tensors: dict[str, Any] = {}
    for name, net in spec.nets.items():
        tensors[name] = weights[name]
        if net.target:
            tensors[f"{name}_target"] = weights[name].clone()
        tensors |= {f"{name}_{moment}": torch.zeros_like(weights[name]) for moment in ("m", "v")}
    step = torch.zeros((), dtype=torch.int64, device=next(iter(weights.values())).device)
    return AgentState(**tensors, **scalars, step=step)


def inverse_softplus(alpha: float) -> float:
    """rho with softplus(rho) = alpha > 0."""
    return alpha + math.log(-math.expm1(-alpha))


def own_rates(spec: Spec) -> Spec:
    """The program that takes every learning rate as each run's own, even where all agree."""
    return replace(spec, common=())
