"""The parts of an update, sampling, evaluation and checkpoints, each alone."""

from __future__ import annotations

import pytest
import torch

from aspc_fast.agent.aspc import meta_step
from aspc_fast.agent.td3bc import actor_step, critic_step, move_targets, target_values
from aspc_fast.config import AgentConfig
from aspc_fast.results.checkpoint import save_checkpoint, state_tensors
from aspc_fast.run.evaluators import Job, evaluate_job
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.tools.bench import synthetic_data
from benchmarks.conftest import DEVICE, ROUNDS, synchronised

REPEATS = 5 if DEVICE == "cpu" else 200


@pytest.fixture(scope="module")
def made():
    return build_population([synthetic_data(20_000, 11, 3)], [RunSpec(0, AgentConfig(), 0)], device=DEVICE)


def stages(made):
    spec, state, hyper = made.spec, made.state, made.engine.hyper
    batch = next(iter(made.engine.replay.sample(spec, hyper, 1, 1)))
    state.step.fill_(20)
    targets = target_values(spec, state, hyper, batch)
    step, _ = actor_step(spec, state, hyper, batch, with_gradient_q=True)
    return {
        "sample": lambda: list(made.engine.replay.sample(spec, hyper, 1, 20)),
        "target": lambda: target_values(spec, state, hyper, batch),
        "critic": lambda: critic_step(spec, state, hyper, batch, targets),
        "actor": lambda: actor_step(spec, state, hyper, batch),
        "meta": lambda: meta_step(spec, state, hyper, batch, step),
        "targets": lambda: move_targets(state, hyper),
    }


@pytest.mark.benchmark(group="stages (sample: 20 updates' batches)")
@pytest.mark.parametrize("stage", ["sample", "target", "critic", "actor", "meta", "targets"])
def test_stage(benchmark, made, stage):
    with torch.no_grad():
        function = stages(made)[stage]
        benchmark.pedantic(synchronised(function), rounds=ROUNDS, iterations=REPEATS, warmup_rounds=1)


@pytest.mark.benchmark(group="beside training")
def test_evaluation(benchmark, made):
    pytest.importorskip("envpool")
    job = Job(0, "Hopper-v4", "simulator", {0: made.policy(0)}, episodes=10)
    benchmark.pedantic(lambda: evaluate_job(job), rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.benchmark(group="beside training")
def test_checkpoint(benchmark, made, tmp_path):
    tensors = state_tensors(made.state)
    benchmark.pedantic(lambda: save_checkpoint(tmp_path, 1, tensors, {}), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["bytes"] = made.state.nbytes()
