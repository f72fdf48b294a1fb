"""Damaged inputs, kills, clocks that jump, memory that ends: a smaller helping of `python -m benchmarks.bad_day`."""

from __future__ import annotations

import ast
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from aspc_fast.engine.eager import EagerEngine
from aspc_fast.errors import UserError
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.run.evaluators import WorkerEvaluator
from aspc_fast.run.train import train
from tests.bad_day.drive import corrupt
from tests.bad_day.kills import compare, survive
from tests.bad_day.targets import TARGETS
from tests.helpers import TOO_LONG, exit_code, toy_data, wait_for
from tests.run.test_sweep import all_of, policy_job
from tests.run.test_train import SETTINGS, SMALL, metrics, write_data
from tests.run.test_train import settings as changed

INPUTS = int(os.environ.get("ASPC_FAST_BAD_INPUTS", "300"))
KILLS = int(os.environ.get("ASPC_FAST_BAD_KILLS", "6"))
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_damaged_inputs_are_refused_in_one_sentence_or_read_right() -> None:
    counts = corrupt(INPUTS, seed=0)
    assert not counts.failures, json.dumps(counts.failures[0], indent=1)
    told = counts.to_json()
    assert told["inputs"] == INPUTS and set(told["by_target"]) == {target.name for target in TARGETS}
    # a harness that damages nothing, or refuses everything, proves nothing
    assert told["outcomes"]["refused"] > INPUTS / 3 and told["outcomes"]["same"] > INPUTS / 10


def test_the_driver_sees_crashes_and_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The child is replaced by one that dies at input 1 and hangs at input 3."""
    package = tmp_path / "tests" / "bad_day"
    package.mkdir(parents=True)
    for folder in (package, package.parent):  # else an installed clone's own tests would be found before it
        (folder / "__init__.py").touch()
    (package / "child.py").write_text(
        "import json, os, sys, time\n"
        "for i in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):\n"
        "    print(json.dumps({'begin': i}), flush=True)\n"
        "    if i == 1: os.abort()\n"
        "    if i == 3: time.sleep(3600)\n"
        "    print(json.dumps({'index': i, 'target': 'x', 'did': 'y', 'outcome': 'same', 'text': ''}), flush=True)\n"
    )
    monkeypatch.setattr("tests.bad_day.drive.ROOT", tmp_path)
    monkeypatch.setattr("tests.bad_day.drive.patience", lambda begun: 0.5 if begun == 3 else 900.0)
    counts = corrupt(5)
    assert [(f["index"], f["outcome"]) for f in counts.failures] == [(1, "crash"), (3, "hang")]
    assert counts.to_json()["outcomes"] == {"same": 3, "crash": 1, "hang": 1}


@pytest.mark.slow
def test_killed_at_any_moment_everything_ends_the_same(tmp_path: Path) -> None:
    told = survive(KILLS, tmp_path, seed=3)
    assert sum(told["kills"].values()) == KILLS and sum(told["runs_compared"].values()) >= 1


def test_the_comparison_after_a_kill_can_fail(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        train(toy_data(), SMALL, changed(seed=seed), out=tmp_path / name)
    compare(tmp_path / "a", tmp_path / "a")
    with pytest.raises(AssertionError):
        compare(tmp_path / "a", tmp_path / "b")


def test_clocks_that_jump_change_nothing_but_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(toy_data(), SMALL, SETTINGS, out=tmp_path / "calm")
    jumps: Iterator[float] = iter(range(10**9))
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + (-1) ** int(next(jumps)) * 1e9)
    monkeypatch.setattr(time, "time_ns", lambda: int((real + (-1) ** int(next(jumps)) * 1e9) * 1e9))
    train(toy_data(), SMALL, SETTINGS, out=tmp_path / "jumps")
    assert metrics(tmp_path / "calm") == metrics(tmp_path / "jumps")
    speeds = [json.loads(line)["updates_per_second"] for line in (tmp_path / "jumps/metrics.jsonl").open()]
    assert all(0 < speed < 1e9 for speed in speeds)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_device_out_of_memory_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, command: str, error: Exception
) -> None:
    data, out = write_data(tmp_path / "d.hdf5", env=None), tmp_path / "r"
    options = f"--steps 40 --eval-every 0 --log-every 10 --checkpoint-every 10 --device cpu --engine eager --out {out}"
    small = ["--set", "hidden_dim=8", "batch_size=8", "--workers", "0", "--final-episodes", "0"]
    arguments = ["train", str(data), "--hidden-dim", "8", "--resume"] if command == "train" else ["sweep", *small]
    arguments += [*options.split(), *([] if command == "train" else ["--data", str(data)])]
    real = EagerEngine.advance
    calls = [0]

    def advance(self: EagerEngine, *given: object) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise error
        real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(EagerEngine, "advance", advance)
    code, told = exit_code(*arguments), capsys.readouterr().err.strip()
    assert code == 2 and "\n" not in told, told
    for word in ("out of memory", "learning state", "activations", "lower", str(out), "intact"):
        assert word in told
    assert exit_code(*arguments) == 0  # what was saved is good, and the run goes on from it


def test_another_runtime_error_is_not_called_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(EagerEngine, "advance", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        train(toy_data(), SMALL, SETTINGS, out=tmp_path / "r")


class Deadly(str):
    """A frame's name whose reader dies: what unpickles a job that holds it ends at once."""

    def __reduce__(self) -> tuple:
        return os._exit, (9,)


def test_an_evaluation_that_kills_every_worker_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aspc_fast.run.evaluators.MAX_TRIES", 2)
    workers = WorkerEvaluator(1)
    workers.submit(policy_job(frame=Deadly("simulator")))
    with pytest.raises(UserError, match=r"killed its worker 2 times.*--workers 0"):
        all_of(workers)
    workers.close()


def test_workers_of_a_killed_trainer_end(tmp_path: Path) -> None:
    """They used to wait for work for ever: the pipe they listen on is held open by their own kind."""
    script = tmp_path / "trainer.py"
    script.write_text(
        "import time, sys\n"
        "from aspc_fast.run.evaluators import WorkerEvaluator\n"
        "from concurrent.futures import wait\n"
        "if __name__ == '__main__':\n"
        "    w = WorkerEvaluator(1)\n"
        "    wait([w._pool.submit(print, end='')])\n"
        "    print(*w._pool._processes, flush=True)\n"
        "    time.sleep(600)\n"
    )
    trainer = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert trainer.stdout is not None
    worker = int(trainer.stdout.readline())
    trainer.kill()
    trainer.wait()
    try:
        wait_for(lambda: not _alive(worker))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _write_for_ever(out: Path, stop: Callable[[], bool] = lambda: False) -> None:
    train(toy_data(), SMALL, changed(steps=10**6, engine="eager"), out=out, resume=True, stop=stop)


def test_a_second_writer_is_refused_and_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    first = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(tmp_path / "r",), daemon=True)
    first.start()
    wait_for((tmp_path / "r/checkpoints/latest.json").exists, first.is_alive)
    with pytest.raises(UserError, match="another process"):
        _write_for_ever(tmp_path / "r", stop=lambda: True)
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join(TOO_LONG)
    step = load_checkpoint(tmp_path / "r/checkpoints").meta["step"]
    train(toy_data(), SMALL, changed(steps=step + 20, engine="eager"), out=tmp_path / "r", resume=True)


UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_nothing_in_the_package_can_unpickle() -> None:
    """No import of an unpickler, no torch.load, no np.load but with allow_pickle=False, in any file of the package."""
    found = []
    for path in sorted([*(ROOT / "aspc_fast").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]):
        found += [f"{path.relative_to(ROOT)}:{line}: {what}" for line, what in unpicklers(path.read_text())]
    assert not found


def unpicklers(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module.split(".")[0]]
        if UNPICKLERS & set(names):
            yield node.lineno, f"imports {names[0]}"
        if isinstance(node, ast.Call):
            text = ast.unparse(node.func)
            safe = any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords)
            if text in ("torch.load", "torch.jit.load") or (
                text in ("np.load", "numpy.load", "read_array", "np.lib.format.read_array") and not safe
            ):
                yield node.lineno, text


def test_the_search_for_unpicklers_finds_them() -> None:
    for bad in ("import pickle", "from pickle import loads", "torch.load('x')", "np.load('x')", "import joblib.a"):
        assert list(unpicklers(bad)), bad
    assert not list(unpicklers("np.load('x', allow_pickle=False)"))
