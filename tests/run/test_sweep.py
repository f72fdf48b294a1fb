import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from aspc_fast.cli.sweep import parse_settings
from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.data.store import Store, load_store
from aspc_fast.errors import UserError
from aspc_fast.results.folder import ResultsFolder
from aspc_fast.results.records import Observer
from aspc_fast.run.evaluators import InlineEvaluator, Job, Result, WorkerEvaluator
from aspc_fast.run.loop import Interrupted
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.run.train import train
from tests.helpers import TOO_LONG, exit_code, killed_at, toy_data
from tests.run.test_train import settings as train_settings
from tests.run.test_train import write_data

BASE = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
QUICK = SweepSettings(
    steps=60,
    device="cpu",
    log_every=20,
    checkpoint_every=20,
    eval_every=30,
    eval_episodes=2,
    final_episodes=3,
    workers=0,
)


def changed(**changes) -> SweepSettings:
    return replace(QUICK, **changes)


@pytest.fixture
def sources(tmp_path):
    return [write_data(tmp_path / "hopper-a.hdf5"), write_data(tmp_path / "walker-b.hdf5", 17, 6, "Walker2d-v4")]


def records(out: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    chosen = [line for line in lines if line["kind"] == kind]
    return sorted(chosen, key=lambda r: (r.get("run", -1), r["step"], r.get("final", False)))


def assert_same_sweep(one: Path, other: Path) -> None:
    for kind in ("train", "eval", "diverged"):
        assert records(one, kind) == records(other, kind), kind
    left, right = (json.loads((out / "summary.json").read_text())["runs"] for out in (one, other))
    assert left == right


def test_a_finished_sweep_called_again_keeps_its_summary(sources, tmp_path) -> None:
    first = sweep(sources, [0], tmp_path / "s", base=BASE, settings=QUICK)
    written = (tmp_path / "s" / "summary.json").read_bytes()
    assert first["wall_seconds"] > 0
    assert sweep(sources, [0], tmp_path / "s", base=BASE, settings=QUICK) == json.loads(written)
    assert (tmp_path / "s" / "summary.json").read_bytes() == written


def test_auto_counts_the_updates_of_all_runs(sources, tmp_path, monkeypatch) -> None:
    asked = []

    def resolve(name: str, device: str, updates: int, algo: str) -> str:
        asked.append((name, device, updates, algo))
        return "eager"

    monkeypatch.setattr("aspc_fast.run.sweep.resolve_engine", resolve)
    short = changed(steps=4, eval_every=0, final_episodes=0)
    sweep(sources, [0, 1], tmp_path / "s", base=BASE, varied={"alpha": [1.0, 2.0, 3.0]}, settings=short)
    assert asked == [("auto", "cpu", 4 * 2 * 2 * 3, "aspc")]


def test_a_sweep_trains_and_evaluates_every_run(tmp_path, sources):
    varied = {"algo": ["aspc", "td3bc"], "critic": ["robust"], "alpha_freq": [5, 10]}
    summary = sweep(sources, [0, 1], tmp_path / "s", base=BASE, varied=varied, settings=QUICK)
    assert len(summary["runs"]) == 12  # alpha_freq is no hyper-parameter of TD3+BC
    assert all(row["state"] == "done" and row["step"] == 60 for row in summary["runs"])
    config = json.loads((tmp_path / "s/config.json").read_text())
    assert {(r["dataset"], r["algo"], r["seed"], r["setting"]) for r in config["runs"]} == {
        (d, a, s, setting)
        for d in ("hopper-a", "walker-b")
        for s in (0, 1)
        for a, setting in (
            ("aspc", "critic=robust alpha_freq=5"),
            ("aspc", "critic=robust alpha_freq=10"),
            ("td3bc", "critic=robust"),
        )
    }
    evals = records(tmp_path / "s", "eval")
    assert len(evals) == 12 * 3
    for row in config["runs"]:
        own = [e for e in evals if e["run"] == row["run"]]
        assert [(e["step"], len(e["returns"])) for e in own] == [(30, 2), (60, 2), (60, 3)]
        assert {e["env"] for e in own} == {row["env"]}
    td3bc = [r["run"] for r in config["runs"] if r["algo"] == "td3bc"]
    assert all(t["alpha_after"] == pytest.approx(2.5) for t in records(tmp_path / "s", "train") if t["run"] in td3bc)


def test_a_run_of_a_sweep_is_the_run_that_train_makes(tmp_path, sources):
    sweep(sources, [0, 1], tmp_path / "s", base=BASE, settings=QUICK)
    train(load(sources[0]), BASE, train_settings(seed=1, eval_every=30, eval_episodes=2), out=tmp_path / "t")
    alone = [json.loads(line) for line in (tmp_path / "t/metrics.jsonl").read_text().splitlines()]
    for kind in ("train", "eval"):
        own = [r for r in records(tmp_path / "s", kind) if r["run"] == 1 and not r.get("final")]
        expected = [r for r in alone if r["kind"] == kind]
        assert len(own) == len(expected) > 0
        for left, right in zip(own, expected, strict=True):
            for name in left.keys() & right.keys() - {"updates_per_second", "dataset"}:
                if not isinstance(left[name], str):
                    assert left[name] == pytest.approx(right[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("stop_at", [13, 40])
def test_an_interrupted_sweep_goes_on_to_the_same_end(tmp_path, sources, monkeypatch, stop_at):
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 1)
    sweep(sources, [0], tmp_path / "whole", base=BASE, settings=QUICK)
    seen = [0]

    class Watch(Observer):
        def on_progress(self, step):
            seen.append(step)

    stopped = {"observer": Watch(), "stop": lambda: seen[-1] >= stop_at}
    with pytest.raises(Interrupted):
        sweep(sources, [0], tmp_path / "cut", base=BASE, settings=QUICK, **stopped)
    sweep(sources, [0], tmp_path / "cut", base=BASE, settings=QUICK)
    assert_same_sweep(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_killed_sweep_with_workers_goes_on_to_the_same_end(tmp_path, sources):
    words = "--seeds 2 --steps 120 --log-every 20 --checkpoint-every 20 --eval-every 40 --eval-episodes 2"
    words += " --final-episodes 2 --device cpu --set hidden_dim=16 batch_size=16"
    command = ["sweep", "--data", *map(str, sources), *words.split(), "--out"]
    killed = [sys.executable, "-m", "aspc_fast", *command, str(tmp_path / "killed"), "--workers", "1"]
    with (tmp_path / "errors.txt").open("w+") as errors:  # a pipe would be held open by workers
        environment = killed_at("shards/000/checkpoints/latest.json", 3, tmp_path / "kill", group=True)
        process = subprocess.Popen(killed, env=environment, stdout=errors, stderr=errors, start_new_session=True)
        assert process.wait(TOO_LONG) == -signal.SIGKILL, (tmp_path / "errors.txt").read_text()
    for out, workers in (("killed", "1"), ("whole", "0")):
        assert exit_code(*command, tmp_path / out, "--workers", workers) == 0
    assert_same_sweep(tmp_path / "whole", tmp_path / "killed")


def test_a_diverging_run_is_marked_and_disturbs_nobody(tmp_path, sources):
    with h5py.File(sources[0], "a") as file:
        file["rewards"][...] = 1e15 * file["rewards"][...]  # squared they are float32, but not times 1e9

    def run(out, *scales):
        varied = {"reward": ["scale"], "reward_scale": scales}
        summary = sweep(sources[:1], [0], tmp_path / out, base=BASE, varied=varied, settings=QUICK)
        own = [r for kind in ("train", "eval") for r in records(tmp_path / out, kind) if r["run"] == 0]
        return [row["state"] for row in summary["runs"]], own

    states, beside = run("mixed", 1.0, 1e9)
    assert states == ["done", "diverged"]
    assert run("alone", 1.0) == (["done"], beside)


def test_a_second_process_is_refused(tmp_path, sources):
    first = ResultsFolder(tmp_path / "s")
    first.open()
    with pytest.raises(UserError, match="another process"):
        sweep(sources, [0], tmp_path / "s", base=BASE, settings=QUICK)
    first.close()


def test_another_sweep_in_the_same_folder_is_refused(tmp_path, sources):
    small = changed(steps=20, eval_every=0, final_episodes=0)
    sweep(sources, [0], tmp_path / "s", base=BASE, settings=small)
    for change in ({"seeds": [1]}, {"varied": {"discount": [0.9]}}, {"settings": changed(steps=40)}):
        arguments = {"seeds": [0], "varied": {}, "settings": small} | change
        with pytest.raises(UserError, match=r"config\.json"):
            sweep(sources, out=tmp_path / "s", base=BASE, **arguments)


def test_changed_data_is_noticed(tmp_path, sources):
    with pytest.raises(Interrupted):
        sweep(sources, [0], tmp_path / "s", base=BASE, settings=changed(steps=200), stop=lambda: True)
    with h5py.File(sources[0], "a") as file:
        file["rewards"][3] = 5.0
    with pytest.raises(UserError, match=r"config\.json|fingerprint"):
        sweep(sources, [0], tmp_path / "s", base=BASE, settings=changed(steps=200))


def test_a_small_budget_makes_several_populations_with_the_same_results(tmp_path, sources):
    whole = sweep(sources, [0, 1], tmp_path / "whole", base=BASE, settings=QUICK)
    needed = sum(whole["plan"][f"{part}_bytes"] for part in ("dataset", "state", "activation"))
    tight = changed(memory_gb=0.6 * needed / 2**30)
    cut = sweep(sources, [0, 1], tmp_path / "cut", base=BASE, settings=tight)
    assert whole["plan"]["populations"] == 1
    assert cut["plan"]["populations"] > 1
    for left, right in zip(records(tmp_path / "whole", "train"), records(tmp_path / "cut", "train"), strict=True):
        assert left["run"] == right["run"]
        assert left["critic_loss"] == pytest.approx(right["critic_loss"], rel=1e-3)


def policy_job(**changes) -> Job:
    data = toy_data(rows=100, obs_dim=11, act_dim=3, env="Hopper-v4")
    run = train(data, BASE, train_settings(steps=20))
    return replace(Job(5, "Hopper-v4", "simulator", {0: run.policy}, episodes=2), **changes)


def all_of(workers: WorkerEvaluator) -> list[Result]:
    results = []
    while workers.pending():
        workers.wait()
        results += workers.finished()
    return results


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_job_redone_as_inline(tmp_path):
    job, inline, workers = policy_job(), InlineEvaluator(), WorkerEvaluator(1)
    deadly = replace(job, frame=DeadlyOnce(job.frame, tmp_path / "died"))
    inline.submit(job)
    workers.submit(deadly)
    assert workers.pending() == [deadly]
    assert all_of(workers) == inline.finished()
    assert workers.pending() == [] and (tmp_path / "died").exists()
    workers.close()


class DeadlyOnce(str):
    """A frame's name whose first reader in another process dies."""

    def __new__(cls, text, mark):
        made = super().__new__(cls, text)
        made.mark = mark
        return made

    def __reduce__(self):
        return die_once, (str(self), self.mark)


def die_once(text, mark):
    if not mark.exists():
        mark.touch()
        os._exit(9)
    return text


def test_set_words_become_values():
    varied = parse_settings("aspc,td3bc", ("alpha-freq=5,10", "discount=0.9", "loss_function=1,4"))
    assert varied == {"algo": ["aspc", "td3bc"], "alpha_freq": [5, 10], "discount": [0.9], "loss_function": [1, 4]}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("alpha_frq=5", "alpha_frq"),
        ("alpha_freq", "alpha_freq"),
        ("alpha_freq=x", "'x'"),
        ("tau=7", "tau"),
        ("tau=0.1,0.10", "0.1 is there twice"),
    ],
)
def test_wrong_set_words_are_named(tmp_path, capsys, word, message):
    assert exit_code("sweep", "--out", tmp_path / "s", "--data", "x.hdf5", "--set", word) == 2
    assert message in capsys.readouterr().err


def test_an_algorithm_named_twice_is_refused():
    with pytest.raises(UserError, match="--algo: iql is there twice"):
        parse_settings("iql,aspc,iql", ())


def test_a_sweep_of_six_algorithms_goes_on_to_the_same_end_after_every_interruption(tmp_path, sources, monkeypatch):
    """Six programs, so six populations and two stores; it is stopped in each of them."""
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 1)
    varied = {"algo": ["aspc", "td3bc", "wpc", "a2pr", "iql", "rebrac"], "vae_hidden_dim": [16]}
    settings = changed(steps=12, log_every=4, checkpoint_every=4, eval_every=0, final_episodes=2, settings="paper")
    arguments = {"base": AgentConfig(hidden_dim=16, batch_size=16), "varied": varied, "settings": settings}
    sweep(sources, [0], tmp_path / "whole", **arguments)

    class Once(Observer):
        done = 0

        def on_progress(self, step):
            self.done += step > 0

    interruptions = 0
    while True:
        watch = Once()
        try:
            sweep(sources, [0], tmp_path / "cut", observer=watch, stop=lambda w=watch: w.done > 8, **arguments)
            break
        except Interrupted:
            interruptions += 1
    assert interruptions >= 6
    assert_same_sweep(tmp_path / "whole", tmp_path / "cut")
    runs = json.loads((tmp_path / "cut/config.json").read_text())["runs"]
    assert {r["algo"] for r in runs} == set(varied["algo"])
    assert len(runs) == 6 * 2


def test_the_plan_of_the_whole_suite_needs_no_data(capsys, tmp_path):
    words = ["--suite", "d4rl39", "--seeds", 5, "--plan", "--memory-gb", 24, "--out", tmp_path / "s"]
    assert exit_code("sweep", *words) == 0
    assert "195 runs" in capsys.readouterr().out
    assert not (tmp_path / "s").exists()


def test_every_dataset_is_read_once_for_each_way_it_lies_in_memory(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ReBRAC takes states as they are, with next actions: its populations have their turn with a second store."""
    begun: list[tuple[Any, int]] = []
    stores: list[Store] = []

    def load(asked: list[tuple[str, str | None]], needed: Any, **how: Any) -> Store:
        assert all(store.fd < 0 for store in stores)  # the one before is let go first
        begun.append((needed, len(asked)))
        stores.append(load_store(asked, needed, **how))
        return stores[-1]

    for module in ("sweep", "shard"):
        monkeypatch.setattr(f"aspc_fast.run.{module}.load_store", load)
    settings = changed(steps=4, log_every=2, checkpoint_every=0, eval_every=0, final_episodes=0, engine="eager")
    varied = {"algo": ["aspc", "rebrac", "td3bc"], "critic_lr": [1e-3, 1e-4]}
    summary = sweep(sources, [0, 1], tmp_path / "out", base=BASE, varied=varied, settings=settings, parts=8)
    assert [(needed.next_actions, count) for needed, count in begun] == [(False, 2), (True, 2)]
    assert [run["step"] for run in summary["runs"]] == [4] * 24
