"""Snapshots that wait for evaluation: bounded in memory, cut into jobs of like length, the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aspc_fast.config import AgentConfig
from aspc_fast.results import checkpoint as ckpt
from aspc_fast.run.evaluations import IN_MEMORY, PARTS, Evaluations, _divided, known_results
from aspc_fast.run.evaluators import Evaluator, Job, Result
from aspc_fast.run.pace import disk_bytes, evaluation_core_seconds, outlook
from aspc_fast.run.plan import DataSize
from aspc_fast.run.population import Population, RunSpec, build_population
from aspc_fast.run.sweep_plan import SweepSettings, plan_sweep
from aspc_fast.suite import SUITE
from tests.helpers import toy_data

SMALL = AgentConfig(hidden_dim=8, batch_size=8)


class Slow(Evaluator):
    """An evaluator that takes jobs only while it has room, and does them when asked to."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.done: list[Job] = []
        self.open = False

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def finished(self) -> list[Result]:
        ready, self.jobs = (self.jobs, []) if self.open else ([], self.jobs)
        self.done += ready
        return [Result(run, {"kind": "eval", "step": job.step}) for job in ready for run in job.policies]

    def wait(self) -> None:
        self.open = True

    def room(self) -> bool:
        return self.open and len(self.jobs) < 2

    def pending(self) -> list[Job]:
        return self.jobs


def population(runs: int = 3) -> Population:
    data = toy_data(obs_dim=11, act_dim=3, env="Hopper-v4")
    return build_population([data], [RunSpec(0, SMALL, seed) for seed in range(runs)])


def moved(trained: Population, step: int) -> None:
    trained.state.actor.fill_(step / 10)


def test_snapshots_that_wait_are_bounded_in_memory_and_come_back_from_files(tmp_path: Path) -> None:
    trained, slow = population(), Slow()
    waiting = Evaluations(trained, slow, tmp_path)
    for step in range(1, 11):
        moved(trained, step)
        waiting.submit(step, 1, False, range(3))
        assert not waiting.finished()
    described, tensors = waiting.to_checkpoint()
    assert len(tensors) == IN_MEMORY and len(list(tmp_path.glob("pending-*"))) == 10 - IN_MEMORY
    assert [len(entry) for entry in described] == [3] * IN_MEMORY + [4] * (10 - IN_MEMORY)
    saved = ckpt.Checkpoint(tensors, {"pending": described})
    results = waiting.finished(wait_for_all=True)
    assert sorted((r.record["step"], r.run) for r in results) == [(s, r) for s in range(1, 11) for r in range(3)]
    for job in slow.done:
        for policy in job.policies.values():
            assert float(policy.weights[0]) == pytest.approx(job.step / 10)
    assert waiting.to_checkpoint() == ([], {})

    again, later = Slow(), population()
    restored = Evaluations(later, again, tmp_path)
    known = known_results([{"kind": "eval", "step": 2, "final": False, "run": 1}], {0: 0, 1: 1, 2: 2})
    restored.restore(saved, range(3), known)
    restored.finished(wait_for_all=True)
    done = sorted((job.step, run) for job in again.done for run in job.policies)
    assert done == [(s, r) for s in range(1, 11) for r in range(3) if (s, r) != (2, 1)]
    first = [(job.step, float(policy.weights[0])) for job in again.done for policy in job.policies.values()]
    assert all(weight == pytest.approx(step / 10) for step, weight in first)


def test_jobs_hold_every_run_once_longest_first_and_none_is_much_of_the_whole() -> None:
    pytest.importorskip("envpool")
    pytest.importorskip("gymnasium_robotics")
    jobs = [(row.id, "simulator", [3 * i, 3 * i + 1, 3 * i + 2]) for i, row in enumerate(SUITE)]
    parts = _divided(jobs)
    assert sorted(run for _, _, runs in parts for run in runs) == list(range(3 * len(SUITE)))
    many = [("antmaze-large-play-v2", "simulator", list(range(64))), ("pen-human-v1", "simulator", [99])]
    parts = _divided(many)
    assert parts[-1] == ("pen-human-v1", "simulator", [99])
    assert max(len(runs) for _, _, runs in parts) <= -(-64 // PARTS) + 1


def plan(**changes: Any) -> tuple[Any, SweepSettings]:
    settings = SweepSettings(**({"device": "cpu", "memory_gb": 24.0, "workers": 2} | changes))
    sizes = [DataSize(row.id, row.transitions, row.obs_dim, row.act_dim) for row in SUITE]
    return plan_sweep(sizes, [0], AgentConfig(), {}, settings), settings


def test_the_plan_tells_what_the_disk_gets_and_whether_evaluation_keeps_up() -> None:
    paper, settings = plan(preset="paper")
    simulated = sum(200 * 10 * row.horizon for row in SUITE)
    assert simulated / 10_000 < evaluation_core_seconds(paper, settings.schedule()) < simulated / 2000
    one, everything = disk_bytes(paper, settings)
    assert one == max(paper.memory(i).state_bytes for i in range(len(paper.shards)))
    records = 39 * 1000 * 650 * 3
    assert everything == 2 * sum(paper.memory(i).state_bytes for i in range(len(paper.shards))) + records
    assert any("is written every 60 s" in line for line in outlook(paper, settings))
    parts, settings = plan(memory_gb=2.0)  # populations train one after another: what is written at once gets smaller
    assert len(parts.shards) > 1
    assert disk_bytes(parts, settings)[0] < one and disk_bytes(parts, settings)[1] == pytest.approx(everything, rel=0.1)
    assert any("every 100,000 steps" in line for line in outlook(*plan(checkpoint_every=100_000)))
    assert len(outlook(*plan(eval_every=0, final_episodes=0))) == 1


def test_an_evaluation_longer_than_training_says_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aspc_fast.run.pace.training_seconds", lambda *_: 300.0)
    (_, told) = outlook(*plan(preset="paper"))
    assert "--preset final or" in told and "cores (--workers) would keep up" in told
    (_, told) = outlook(*plan(preset="paper", workers=100_000))
    assert "would keep up" not in told


def test_a_plan_says_which_datasets_have_no_published_settings():
    sizes = [DataSize("mine", 1000, 11, 3), DataSize("hopper-medium-v2", 1000, 11, 3)]
    settings = SweepSettings(settings="paper", eval_every=0, final_episodes=0)
    (_, told) = outlook(plan_sweep(sizes, [0], AgentConfig(), {"algo": ["aspc", "rebrac", "iql"]}, settings), settings)
    assert told == "settings paper: mine: none of the 39 datasets, so rebrac, iql train there with their defaults"
    for algos, some in ((["aspc", "wpc"], sizes), (["rebrac"], sizes[1:])):
        assert len(outlook(plan_sweep(some, [0], AgentConfig(), {"algo": algos}, settings), settings)) == 1
