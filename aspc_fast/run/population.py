"""From datasets and run descriptions to an engine that is ready to train: what a single run and a sweep share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.state import AgentState, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig, Precision
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.data.packed import Packed, Packing
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.base import Engine, Learners
from aspc_fast.engine.replay import Replay
from aspc_fast.engine.select import make_engine
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm
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

    datasets: tuple[Transitions | Packed, ...]
    normalisers: tuple[Normaliser, ...]
    runs: tuple[RunSpec, ...]
    spec: Spec
    engine: Engine

    @property
    def state(self) -> AgentState:
        """The learning state, in place."""
        return self.engine.state

    @property
    def actors(self) -> Tensor:
        """The network that acts, of all runs [R, P]."""
        actors: Tensor = getattr(self.state, self.spec.algorithm.policy)
        return actors

    def policy(self, run: int, actors: Tensor | None = None) -> Policy:
        """One run's policy on the CPU: a snapshot, or as it was in the snapshot ``actors`` [R, P]."""
        data, normalise = self.datasets[self.runs[run].dataset], self.normalisers[self.runs[run].dataset]
        flat = (self.actors if actors is None else actors)[run].detach().cpu().float().clone()
        network = self.spec.nets[self.spec.algorithm.policy].mlp
        return Policy.from_padded(flat, network, self.spec.dims, data.obs_dim, data.act_dim, normalise, data.max_action)


def build_population(
    datasets: Sequence[Transitions | Packed],
    runs: Sequence[RunSpec],
    *,
    device: str = "cpu",
    engine: str = "eager",
    dtype: torch.dtype = torch.float32,
    store_next: bool = True,
    store: np.ndarray | None = None,
    precision: Precision = "tf32",
) -> Population:
    """Initialise ``runs`` on ``datasets`` (each stored once). UserError if the runs cannot share one program.

    store: the entries of a ``data.store.Store`` that holds the datasets, which are then ``Packed``.
    """
    check_device(device)
    configs, seeds = [r.config for r in runs], [r.seed for r in runs]
    normalisers = [_normaliser(d, _shared(i, runs)) for i, d in enumerate(datasets)]
    transforms = [reward_transform(r.config, datasets[r.dataset]) for r in runs]
    shapes = [
        RunShape(datasets[r.dataset].obs_dim, datasets[r.dataset].act_dim, datasets[r.dataset].max_action, *transform)
        for r, transform in zip(runs, transforms, strict=True)
    ]
    spec = make_spec(configs, shapes)
    state = init_state(spec, configs, shapes, seeds, dtype).to(device)
    hyper = make_hyper(spec, configs, shapes, seeds, dtype).to(device, dtype)
    dataset_of_run = [r.dataset for r in runs]
    if store is None:
        replay = Replay(datasets, normalisers, dataset_of_run, spec, device, dtype, store_next)  # type: ignore[arg-type]
    else:
        replay = Replay.of_store(store, datasets, dataset_of_run, spec, device, dtype)  # type: ignore[arg-type]
    built = make_engine(engine, Learners(spec, state, hyper, replay), precision)
    return Population(tuple(datasets), tuple(normalisers), tuple(runs), spec, built)


def packing(config: AgentConfig, store_next: bool) -> Packing:
    """How datasets must lie in a store for runs of this configuration."""
    eps = config.normalise_eps if config.normalise else None
    return Packing(eps, store_next, "next_actions" in algorithm(config.algo).data)


def reward_transform(config: AgentConfig, data: Transitions | Packed) -> tuple[float, float]:
    """Factor and shift of the reward option: reward * factor + shift."""
    if config.reward == "minus-one":
        return 1.0, -1.0
    if config.reward == "scale":
        return config.reward_scale, 0.0
    if config.reward == "centre":
        return 1.0, -(data.reward_mean if isinstance(data, Packed) else float(data.rewards.mean(dtype="float64")))
    if config.reward == "return-range":
        task = for_env(data.env) if data.env else None
        horizon = task.horizon if task else int(data.episode_lengths.max())
        if data.return_range <= 0:
            raise UserError(f"{data.source}: reward return-range needs episodes of different returns, all are equal")
        return horizon / data.return_range, 0.0
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


def _shared(dataset: int, runs: Sequence[RunSpec]) -> AgentConfig:
    """The configuration of a run on this dataset: a population agrees on how states are normalised."""
    return next(run.config for run in runs if run.dataset == dataset)


def _normaliser(data: Transitions | Packed, config: AgentConfig) -> Normaliser:
    if isinstance(data, Packed):
        return data.normaliser
    return Normaliser.of(data.observations, config.normalise_eps) if config.normalise else Normaliser.none(data.obs_dim)
