"""What every algorithm owes to every engine: padding changes nothing, and neither does compiling."""

from __future__ import annotations

import warnings
from typing import Any
from unittest import mock

import pytest
import torch

from aspc_fast.agent.layout import Dims
from aspc_fast.engine import compiled
from aspc_fast.engine.base import Learners
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay
from aspc_fast.run.population import RunSpec, build_population
from tests.helpers import toy_data

STEPS = 9


def assert_padding_is_inert(*configs: Any) -> None:
    """Runs of different dimensions and hyper-parameters in one batched program are what each is alone, in float64."""
    data = [toy_data(obs_dim=5 + 2 * i, act_dim=2 + i, seed=i) for i in range(len(configs))]
    runs = [RunSpec(i, config, i) for i, config in enumerate(configs)]
    made = build_population(data, runs, dtype=torch.float64)
    replay = Replay(made.datasets, made.normalisers, range(len(runs)), made.spec, dtype=torch.float64)
    hyper: Any = made.engine.hyper
    together, means = EagerEngine(Learners(made.spec, made.state, hyper, replay)), MetricMeans()
    together.advance(STEPS, means)
    batched = means.take()
    for i, config in enumerate(configs):
        alone = build_population([data[i]], [RunSpec(0, config, i)], dtype=torch.float64)
        alone.engine.advance(STEPS, means)
        for name, values in means.take().items():
            assert batched[name][i] == pytest.approx(values[0], rel=1e-9, abs=1e-12), name
        own = Dims(data[i].obs_dim, data[i].act_dim)
        for name, tensor in alone.state.tensors().items():
            network, ours = (
                name.removesuffix("_target").removesuffix("_m").removesuffix("_v"),
                getattr(made.state, name),
            )
            if network in made.spec.nets:
                wide, narrow = made.spec.layouts[network], made.spec.nets[network].mlp.layout(own)
                rows = ours[i].reshape(-1, wide.size)
                got = torch.stack([narrow.unpad_from(wide, row) for row in rows])
                assert rows.count_nonzero() == got.count_nonzero(), f"padded entries of {name} are not zero"
                torch.testing.assert_close(got, tensor[0].reshape(got.shape), rtol=1e-10, atol=1e-12, msg=name)
            elif ours.ndim:
                torch.testing.assert_close(ours[i], tensor[0], rtol=1e-10, atol=1e-12, msg=name)


def assert_compiled_equals_eager(config: Any, backend: str) -> None:
    """Every metric's mean and every tensor of the state after some steps, in float64; nothing may fall back."""
    compile_ = torch.compile
    torch._dynamo.reset()
    compiled._compiled.cache_clear()
    results = {}
    with mock.patch.object(torch, "compile", lambda f, **options: compile_(f, backend=backend, **options)):
        for engine in ("compiled", "eager"):
            made = build_population([toy_data()], [RunSpec(0, config, 1)], dtype=torch.float64, engine=engine)
            means = MetricMeans()
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="torch.compile does not work")
                made.engine.advance(STEPS, means)
            results[engine] = means.take(), made.state.tensors()
    compiled._compiled.cache_clear()
    (metrics, state), (expected_metrics, expected) = results["compiled"], results["eager"]
    assert metrics.keys() == expected_metrics.keys()
    for name, values in expected_metrics.items():
        assert metrics[name] == pytest.approx(values, rel=1e-8, abs=1e-12), name
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-9, atol=1e-12, msg=name)
