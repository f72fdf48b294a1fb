"""From datasets and run descriptions to an engine that is ready to train: what a single run and a sweep share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aspc_fast.agent.state import AgentState, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig, Precision
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.base import Engine
from aspc_fast.engine.replay import Replay
from aspc_fast.engine.select import make_engine
from aspc_fast.errors import UserError
from aspc_fast.results.policy import Policy
from aspc_fast.suite import for_env


@dataclass(frozen=True)
class RunSpec:
    """One run: the index of its dataset, its hyper-parameters and its seed (0 <= seed < 2**63)."""

    dataset: int
    config: AgentConfig
    seed: int


@dataclass(frozen=True)
class Population:
    """Runs that train in lockstep, with everything they need on the device."""

    datasets: tuple[Transitions, ...]
    normalisers: tuple[Normaliser, ...]
    runs: tuple[RunSpec, ...]
    spec: Spec
    engine: Engine

    @property
    def state(self) -> AgentState:
        """The learning state, in place."""
        return self.engine.state

    def policy(self, run: int, actors: Tensor | None = None) -> Policy:
        """One run's policy on the CPU: a snapshot, or as it was in the snapshot ``actors`` [R, P_actor]."""
        data, normalise = self.datasets[self.runs[run].dataset], self.normalisers[self.runs[run].dataset]
        flat = (self.state.actor if actors is None else actors)[run].detach().cpu().float().clone()
        return Policy.from_padded(flat, self.spec.shapes, data.obs_dim, data.act_dim, normalise, data.max_action)


def build_population(
    datasets: Sequence[Transitions],
    runs: Sequence[RunSpec],
    *,
    device: str = "cpu",
    engine: str = "eager",
    dtype: torch.dtype = torch.float32,
    store_next: bool = True,
    precision: Precision = "tf32",
) -> Population:
    """Initialise ``runs`` on ``datasets`` (each stored once). UserError if the runs cannot share one program."""
    check_device(device)
    configs, seeds = [r.config for r in runs], [r.seed for r in runs]
    normalisers = [Normaliser.of(d.observations, _eps_of(i, runs)) for i, d in enumerate(datasets)]
    transforms = [reward_transform(r.config, datasets[r.dataset]) for r in runs]
    shapes = [
        RunShape(datasets[r.dataset].obs_dim, datasets[r.dataset].act_dim, datasets[r.dataset].max_action, *transform)
        for r, transform in zip(runs, transforms, strict=True)
    ]
    spec = make_spec(configs, shapes)
    state = init_state(spec, configs, shapes, seeds, dtype)
    state = AgentState(**{name: tensor.to(device) for name, tensor in state.tensors().items()})
    hyper = make_hyper(spec, configs, shapes, seeds, dtype).to(device, dtype)
    replay = Replay(datasets, normalisers, [r.dataset for r in runs], spec, device, dtype, store_next)
    built = make_engine(engine, spec, state, hyper, replay, precision)
    return Population(tuple(datasets), tuple(normalisers), tuple(runs), spec, built)


def reward_transform(config: AgentConfig, data: Transitions) -> tuple[float, float]:
    """Factor and shift of the reward option: reward * factor + shift."""
    if config.reward == "minus-one":
        return 1.0, -1.0
    if config.reward == "scale":
        return config.reward_scale, 0.0
    if config.reward == "centre":
        return 1.0, -float(data.rewards.mean(dtype="float64"))
    if config.reward == "return-range":
        task = for_env(data.env) if data.env else None
        horizon = task.horizon if task else int(data.episode_lengths.max())
        spread = float(data.episode_returns.max() - data.episode_returns.min())
        if spread <= 0:
            raise UserError(f"{data.source}: reward return-range needs episodes of different returns, all are equal")
        return horizon / spread, 0.0
    return 1.0, 0.0


def check_device(device: str) -> None:
    """UserError unless torch can use ``device``."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UserError(f"device {device!r} is not one torch knows (cpu, cuda, cuda:0, ...)") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} was asked for, but torch sees no CUDA device here; use --device cpu")
    index = torch.device(device).index
    if kind == "cuda" and index is not None and index >= torch.cuda.device_count():
        raise UserError(f"device {device!r} does not exist: torch sees {torch.cuda.device_count()} CUDA devices")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"device {device!r} is not supported: use cpu or cuda")


def _eps_of(dataset: int, runs: Sequence[RunSpec]) -> float:
    found = {r.config.normalise_eps for r in runs if r.dataset == dataset}
    if len(found) != 1:
        raise UserError("runs on the same dataset must agree on normalise_eps")
    return found.pop()
