"""What benchmarks/gpu.sh starts, without a GPU: answers are kept as they come, nothing exceeds its time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.kernels import interpreter  # noqa: F401  (first: sets the interpreter)

# isort: split
from benchmarks import first, headline
from tests.helpers import TOO_LONG

ROOT = Path(__file__).parents[1]
PARTS = ("first", "tests", "kernels", "shapes", "tiles", "ladder", "headline-1", "headline-39", "headline-195", "real")


class Here:
    """A question that this process answers, but for those to the fused engine."""

    def __init__(self, question: dict) -> None:
        self.question, self.begin = question, 0.0

    def wait(self, seconds: float) -> dict:
        fused = self.question["engine"].startswith("fused")
        return self.question | ({"error": "no GPU"} if fused else first.answer(self.question))


def test_first_answers_in_the_order_of_importance_and_goes_on_after_one_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first, "Asked", Here)
    monkeypatch.setenv("ASPC_FAST_TILES", "tuned")  # measuring sets it, and only a process of its own may keep it
    words = "first --device cpu --rows 300 --runs 1 --seconds 0.2 --engines fused:latency eager --out"
    monkeypatch.setattr(sys, "argv", [*words.split(), str(tmp_path / "first.json")])
    first.main()
    answers = json.loads((tmp_path / "first.json").read_text())["answers"]
    assert [(a["what"], a["engine"]) for a in answers] == [
        *(("right", "eager"), ("right", "fused:latency"), ("speed", "fused:latency"), ("speed", "eager")),
        *(("speed", "eager"), ("ratio", "eager")),
    ]
    eager, fused, fused_speed, eager_speed, plain, ratio = answers
    assert eager["right"] and eager["quantities"] >= 30
    assert fused["error"] == fused_speed["error"] == "no GPU"
    expected = plain["run_updates_per_second"] / eager_speed["run_updates_per_second"]
    assert ratio["aspc_over_td3bc"] == pytest.approx(expected)


def test_a_question_is_a_process_that_may_fail_or_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    real = first.Asked({"what": "right", "engine": "fused:latency", "device": "cpu"}).wait(TOO_LONG)
    assert real["error"].startswith("exit code 1") and "needs a CUDA device" in real["error"]
    fake = tmp_path / "python"  # called as: python -m benchmarks.first --ask QUESTION
    fake.write_text(
        "#!/bin/sh\ncase $4 in *hang*) exec sleep 3600;; *mute*) exit 3;; esac\n"
        'echo "x.py:1: Warning: slow"\necho \'ANSWER {"right": true}\'\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    assert first.Asked({"what": "right"}).wait(TOO_LONG) == {
        **{"what": "right", "right": True},
        "warnings": ["x.py:1: Warning: slow"],
    }
    assert first.Asked({"what": "mute"}).wait(TOO_LONG)["error"] == "exit code 3: nothing said"
    assert "no answer within" in first.Asked({"what": "hang"}).wait(0)["error"]
    sheet = first.Sheet(tmp_path / "sheet.json", minutes=0)
    assert sheet.ask({"what": "right", "engine": "eager"})["error"] == "not asked: the time was over"


def test_a_wrong_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from aspc_fast.engine import select
    from aspc_fast.engine.eager import EagerEngine

    class Wrong(EagerEngine):
        def step(self, batch):
            self.state.critic.mul_(1.0001)
            return super().step(batch)

    monkeypatch.setattr(select, "make_engine", lambda name, learners, precision: Wrong(learners))
    found = first.answer({"what": "right", "engine": "eager", "device": "cpu"})
    assert not found["right"] and any("critic_loss" in line for line in found["failed"])
    assert "WRONG" in first.told({"what": "right", "engine": "eager", **found})


def test_headline_goes_on_where_it_was_and_begins_nothing_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def measure(engine, runs, *_):
        asked.append((engine, runs))
        numbers = ("updates_per_second", "run_updates_per_second", "minutes_for_a_million_updates", "tflops")
        row = dict.fromkeys((*numbers, "state_gb_per_second", "ready_after_seconds"), 1.0)
        return {"engine": engine, "runs": runs, "algo": "aspc", "tiles": None, **row}

    def call(*options: str) -> list[tuple[str, int]]:
        asked.clear()
        base = ["headline", "--out", str(tmp_path / "h.json"), "--device", "cpu", "--engines", "eager", "compiled"]
        monkeypatch.setattr(sys, "argv", [*base, *options])
        headline.main()
        return list(asked)

    monkeypatch.setattr(headline, "measure", measure)
    assert call("--runs", "1") == [("eager", 1), ("compiled", 1)]
    assert call("--runs", "1", "39", "--minutes", "-1") == []
    assert "the same command goes on" in capsys.readouterr().out
    assert call("--runs", "1", "39") == [("eager", 39), ("compiled", 39)]
    assert len(json.loads((tmp_path / "h.json").read_text())["rows"]) == 4


def test_all_tiles_are_a_row_each() -> None:
    names = headline.expand(["compiled", "fused:all", "eager"], 39, "cpu")
    assert (names[0], names[-1]) == ("compiled", "eager") and "fused:throughput, plain loads" in names
    assert len(set(names)) == len(names) == 11
    assert headline.expand(["fused"], 39, "cpu") == ["fused"]


def test_the_suite_is_made_once_for_all_engines() -> None:
    headline.suite_data.cache_clear()
    assert headline.suite_data(39, 50) is headline.suite_data(39, 50)
    assert len(headline.suite_data(195, 50)) == 39


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_the_script_says_so_at_once(tmp_path: Path) -> None:
    own = os.environ | {"PYTHON": sys.executable, "OUT": str(tmp_path)}
    done = subprocess.run(["benchmarks/gpu.sh"], cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr.strip().splitlines()[-1].startswith("gpu.sh: torch sees no CUDA device here; DEVICE=cpu")


def test_the_script_limits_every_part_and_knows_its_parts() -> None:
    script = (ROOT / "benchmarks" / "gpu.sh").read_text()
    assert subprocess.run(["bash", "-n", "benchmarks/gpu.sh"], cwd=ROOT, check=False).returncode == 0
    limit = int(script.split("limit=")[1].split()[0])
    assert limit < 480
    assert script.count('$python" -m') == script.count('run "$python" -m')  # nothing runs without the limit
    for part in PARTS:
        assert f" {part})" in script
    assert (
        "workers[@]" in script.split(" kernels)")[1].split(";;")[0]
    )  # hundreds of compilations: not one after another
    done = subprocess.run(["benchmarks/gpu.sh", "none"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and all(part in done.stdout for part in PARTS)
