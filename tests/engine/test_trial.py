"""The choice of an engine on a GPU, without one: candidates are right, wrong or crash as told, time is injected."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from aspc_fast.engine import trial, trial_memory
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.trial import Trial, build, find
from aspc_fast.engine.trial_memory import Found, Outcome
from tests.pretend.populations import build as population

KEY = {"gpu": "Some GPU", "runs": 4}


class Clock:
    """Counts the microseconds that the engine in use says its steps take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


CLOCK = Clock()


def engine(microseconds: float, spoil=lambda state: None, compile_seconds: float = 0.0):
    """An eager engine that claims a speed and may spoil the state after each advance."""

    class Claimed(EagerEngine):
        def __init__(self, learners):
            super().__init__(learners)
            CLOCK.now += compile_seconds

        def advance(self, steps, means):
            super().advance(min(steps, 2 * self.spec.period), means)
            CLOCK.now += steps * microseconds * 1e-6
            spoil(self.state)

    return Claimed


def crash(error):
    def make(learners):
        raise error

    return make


@pytest.fixture(autouse=True)
def slow_eager(monkeypatch):
    """Eager is slow, by the clock; stretches and samples are short."""
    monkeypatch.setattr(trial, "EagerEngine", engine(1000.0))
    for name, small in {"MAX_STEPS": 4, "SHAKEN": 2, "ROUNDS": 2}.items():
        monkeypatch.setattr(trial, name, small)


@pytest.fixture
def learners():
    learners = population(runs=2)
    learners.state.step.fill_(7)  # in the middle of a period
    return learners


def run(learners, options, where, key=KEY, said=None):
    said = [] if said is None else said
    return find(learners, "fp32", key=key, options=options, where=where, clock=CLOCK, tell=said.append)


def verdicts(found):
    return {o.name: o.verdict for o in found.outcomes}


def scale(name, factor):
    return lambda state: getattr(state, name).mul_(factor)


WRONG = {
    "weights a little off": lambda state: state.critic.mul_(1.001),
    "one weight": lambda state: state.actor[0, 3].add_(0.01),
    "targets not moved": lambda state: state.critic_target.copy_(state.critic),
    "alpha's step doubled": lambda state: state.rho.add_(1e-3),
    "moments lost": lambda state: state.actor_v.zero_(),
    "not a number": lambda state: state.ema_q.fill_(torch.nan),
    "last run only": lambda state: state.rho_v[-1:].mul_(1.5),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_candidate_loses_however_fast(learners, tmp_path, wrong):
    said = []
    found = run(learners, {"quick": engine(1.0, WRONG[wrong]), "honest": engine(10.0)}, tmp_path, said=said)
    assert found.chosen == "honest"
    assert verdicts(found) == {"eager": "right", "quick": "wrong", "honest": "right"}
    assert any(line.startswith("quick left out:") and "PyTorch's own error" in line for line in said)
    assert all("\n" not in line for line in said)


def test_the_fastest_right_one_is_taken_told_and_remembered(learners, tmp_path):
    options, said = {"slow": engine(90.0), "quick": engine(5.0), "middle": engine(20.0)}, []
    found = run(learners, options, tmp_path, said=said)
    assert found.chosen == "quick"
    assert [o.microseconds for o in found.outcomes][1:] == pytest.approx([90.0, 5.0, 20.0])
    assert "quick, 5.0 us per update of all runs; 4 of the 4 tried were right" in said[-1]
    again = run(learners, dict.fromkeys(options, crash(AssertionError("must not be tried"))), tmp_path, said=said)
    assert again == found
    assert said[-1].startswith("quick, the fastest that was right here before")
    other = run(learners, {"slow": engine(1.0)}, tmp_path, KEY | {"gpu": "Other GPU"})
    assert other.chosen == "slow"


def test_the_state_stays_as_it_is(learners, tmp_path):
    before = learners.state.clone()
    run(learners, {"a": engine(1.0), "b": engine(2.0, WRONG["one weight"])}, tmp_path)
    for name, tensor in before.tensors().items():
        assert torch.equal(getattr(learners.state, name), tensor), name


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines"),
        torch.OutOfMemoryError("CUDA out of memory"),
        ValueError(""),
    ],
)
def test_one_that_crashes_is_left_out_with_a_sentence(learners, tmp_path, error):
    said = []
    found = run(learners, {"broken": crash(error), "honest": engine(3.0)}, tmp_path, said=said)
    assert found.chosen == "honest"
    assert verdicts(found)["broken"] == "failed"
    (line,) = (line for line in said if "left out" in line)
    assert type(error).__name__ in line
    assert "\n" not in line


def test_if_none_is_right_eager_remains(learners, tmp_path):
    found = run(learners, {"broken": crash(RuntimeError("no")), "wrong": engine(1.0, WRONG["one weight"])}, tmp_path)
    assert found.chosen == "eager"
    assert isinstance(build(found, {}, learners), EagerEngine)


def test_what_cannot_be_built_after_all_goes_on_eagerly(learners, capsys):
    found = Found(KEY, (Outcome("quick", "right", 1.0, 1.0),), "quick")
    built = build(found, {"quick": crash(torch.OutOfMemoryError("full"))}, learners)
    assert type(built) is trial.EagerEngine
    assert "quick cannot be built: OutOfMemoryError: full; going on with eager" in capsys.readouterr().err


def test_compiling_does_not_count_but_checking_and_timing_are_bounded(learners, tmp_path):
    patient = {"a": engine(1.0, compile_seconds=500.0), "b": engine(2.0, compile_seconds=500.0)}
    assert set(verdicts(run(learners, patient, tmp_path)).values()) == {"right"}
    crawling = {"a": engine(1e6), "b": engine(1e6), "c": engine(1.0)}
    found = run(learners, crawling, tmp_path / "other")
    assert verdicts(found)["c"] == "not tried"
    assert "15 s" in found.outcomes[-1].reason
    assert found.chosen in ("a", "b", "eager")


def test_variants_are_tried_of_the_best_design_only(learners, tmp_path):
    options = {
        "fused, latency": engine(9.0),
        "fused, throughput": engine(4.0),
        "fused, latency, 32 rows": engine(1.0),
        "fused, throughput, 32 rows": engine(3.0),
    }
    found = run(learners, options, tmp_path)
    assert verdicts(found)["fused, latency, 32 rows"] == "not tried"
    assert found.chosen == "fused, throughput, 32 rows"


def test_one_that_took_the_process_down_is_left_out_the_next_time(learners, tmp_path):
    class Killed(BaseException):
        """Stands for a signal: nothing can catch it."""

    with pytest.raises(Killed):
        run(learners, {"deadly": crash(Killed()), "honest": engine(3.0)}, tmp_path)
    found = run(learners, {"deadly": crash(Killed()), "honest": engine(3.0)}, tmp_path)
    assert found.chosen == "honest"
    assert found.outcomes[1] == Outcome("deadly", "failed", reason="its last trial took the process down")


def test_a_real_death_leaves_its_mark(tmp_path):
    script = f"""
import os
from pathlib import Path
from aspc_fast.engine import trial_memory
trial_memory.mark(Path({str(tmp_path)!r}), {KEY!r}, "deadly")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert trial_memory.fallen(tmp_path, KEY) == ["deadly"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "key": {}, "outcomes": [{"name": 1}]}', "\x00\xff"])
def test_a_damaged_memory_is_harmless(learners, tmp_path, text):
    trial_memory.file_of(tmp_path, KEY).write_text(text, encoding="latin-1")
    trial_memory.file_of(tmp_path, KEY).with_suffix(".trying").write_text(text, encoding="latin-1")
    with pytest.warns(UserWarning, match="not a readable trial"):
        assert run(learners, {"a": engine(1.0)}, tmp_path).chosen == "a"
    assert run(learners, {"a": crash(AssertionError())}, tmp_path).chosen == "a"


def test_a_changed_choice_is_not_believed(learners, tmp_path):
    run(learners, {"a": engine(1.0), "b": engine(2.0)}, tmp_path)
    path = trial_memory.file_of(tmp_path, KEY)
    path.write_text(path.read_text().replace('"chosen": "a"', '"chosen": "b"'))
    with pytest.warns(UserWarning, match="damaged or changed by hand"):
        assert trial_memory.recall(tmp_path, KEY) is None


def test_memory_is_bounded_and_an_unwritable_folder_is_only_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_memory, "KEPT", 3)
    for number in range(5):
        trial_memory.remember(tmp_path, Found(KEY | {"runs": number}, (Outcome("a", "right", 1.0, 2.0),), "a"))
    assert len(list(tmp_path.iterdir())) == len(trial_memory.recall_all(tmp_path)) == 3
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be remembered"):
        trial_memory.remember(tmp_path / "file" / "engines", Found(KEY, (), "a"))


def test_what_a_choice_depends_on(learners):
    spec = learners.spec
    base = trial.make_key("GPU", "580.1", spec, 39, "tf32")
    assert trial.make_key("GPU", "580.1", spec, 64, "tf32") == base
    others = [
        trial.make_key("Other", "580.1", spec, 39, "tf32"),
        trial.make_key("GPU", "590.1", spec, 39, "tf32"),
        trial.make_key("GPU", "580.1", spec, 65, "tf32"),
        trial.make_key("GPU", "580.1", spec, 39, "bf16"),
    ]
    assert len({json.dumps(key) for key in [base, *others]}) == 5
    assert {"torch", "triton", "aspc_fast"} <= base.keys()


def test_bf16_is_only_among_the_kernels_and_only_where_it_was_asked_for():
    pytest.importorskip("triton")
    assert "compiled" in trial.candidates(39, 90, "tf32")
    assert all(name.startswith("fused") for name in trial.candidates(39, 90, "bf16"))
    names = list(trial.candidates(39, 90, "tf32"))
    assert names[0] == "fused, throughput"
    branches = {runs: [n for n in trial.candidates(runs, 90, "tf32") if "branches" in n] for runs in (8, 16, 39)}
    assert [len(found) for found in branches.values()] == [0, 1, 2]
    assert {trial.base_of(n) for n in branches[39]} == {"fused, throughput"}
    assert [trial.base_of(name) is None for name in names] == sorted(
        (trial.base_of(n) is None for n in names), reverse=True
    )


def test_the_rule_has_room_for_an_honest_float32_engine(learners):
    """The same mathematics with every weight gradient rounded elsewhere: state perturbed by single roundings."""

    def rounded(state):
        for tensor in (state.actor, state.critic, state.critic_m):
            tensor.mul_(1 + 2.0**-24 * torch.randn_like(tensor))

    outcome = Trial(learners, "fp32", CLOCK).run("honest", engine(1.0, rounded))
    assert outcome.verdict == "right", outcome
