"""Runs of unlike datasets and hyper-parameters in one padded population, beside the same runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from aspc_fast.agent.layout import Dims
from aspc_fast.config import AgentConfig
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay
from aspc_fast.run.population import Population, RunSpec, build_population
from tests.helpers import toy_data

DATASETS = (toy_data(), toy_data(rows=300, obs_dim=7, act_dim=3, seed=1), toy_data(obs_dim=3, act_dim=1, seed=2))


def lockstep(configs: Sequence[AgentConfig], kind: type[EagerEngine] = EagerEngine) -> tuple[Population, EagerEngine]:
    """One run for each configuration, the i-th on DATASETS[i], float64, in one batched program as on a GPU."""
    datasets = list(DATASETS[: len(configs)])
    made = build_population(datasets, [RunSpec(i, c, 10 + i) for i, c in enumerate(configs)], dtype=torch.float64)
    replay = Replay(datasets, made.normalisers, range(len(configs)), made.spec, dtype=torch.float64)
    return made, kind(made.spec, made.state, made.engine.hyper, replay)


def assert_padded_equals_solo(configs: Sequence[AgentConfig], steps: int = 7) -> None:
    """Weights, moments, targets, scalars and mean metrics of each run, whoever trains beside it."""
    made, engine = lockstep(configs)
    together = MetricMeans()
    engine.advance(steps, together)
    means = together.take()
    for i, config in enumerate(configs):
        solo = build_population([DATASETS[i]], [RunSpec(0, config, 10 + i)], dtype=torch.float64)
        alone = MetricMeans()
        solo.engine.advance(steps, alone)
        for name, values in alone.take().items():
            torch.testing.assert_close(means[name][i], values[0], rtol=1e-9, atol=1e-11, msg=name)
        dims = Dims(DATASETS[i].obs_dim, DATASETS[i].act_dim)
        for name, tensor in solo.state.tensors().items():
            if tensor.ndim:
                mine = _unpadded(made, name, getattr(made.state, name)[i], dims)
                torch.testing.assert_close(mine, tensor[0], rtol=1e-10, atol=1e-12, msg=name)


def _unpadded(made: Population, name: str, flat: torch.Tensor, dims: Dims) -> torch.Tensor:
    """One run's own part of a network's vector [P] or [copies, P]; the rest of it must be zero."""
    net = next((net for net in made.spec.nets if name in (net, f"{net}_target", f"{net}_m", f"{net}_v")), None)
    if net is None:
        return flat
    own, wide = made.spec.nets[net].mlp.layout(dims), made.spec.layouts[net]
    rows = flat if flat.ndim == 2 else flat[None]
    narrow = torch.stack([own.unpad_from(wide, row) for row in rows])
    assert rows.count_nonzero() == narrow.count_nonzero(), f"{name}: padded entries have moved"
    return narrow if flat.ndim == 2 else narrow[0]


def assert_compiled_equals_eager(config: AgentConfig, steps: int = 5, **tolerance: Any) -> None:
    """The compiled engine on sampled batches: everything the eager one leaves and reports."""
    (eager, engine), (compiled, compiling) = lockstep([config] * 2), lockstep([config] * 2, CompiledEngine)
    means = MetricMeans(), MetricMeans()
    engine.advance(steps, means[0])
    compiling.advance(steps, means[1])
    assert isinstance(compiling, CompiledEngine)
    assert compiling.compiles
    for name, tensor in eager.state.tensors().items():
        torch.testing.assert_close(getattr(compiled.state, name), tensor, msg=name, **tolerance)
    ours, theirs = means[1].take(), means[0].take()
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        torch.testing.assert_close(ours[name], values, msg=name, **tolerance)
