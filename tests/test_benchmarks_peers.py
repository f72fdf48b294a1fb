"""The benchmark beside peers: it loads their modules from a folder, takes turns, and leaves out who fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aspc_fast.errors import UserError
from benchmarks import peers
from benchmarks.peers import EIGHT, ONE, PAIR, TWO, Contender, Row

AUTHORS = """
import d4rl, gym, pyrallis, wandb  # not here: mocked
import torch
from torch import nn

class torchopt:
    @staticmethod
    def adam(lr, use_accelerated_op):
        return "adam"

class Net(nn.Linear):
    def __init__(self, obs, act=1, scale=1.0):
        super().__init__(obs, act)

Actor = Critic = Vnet = Net

class ReplayBuffer:
    def __init__(self, obs, act, rows, device):
        assert (obs, act) == (17, 6)

    def load_d4rl_dataset(self, data):
        print("no answer")
        self.rows = torch.from_numpy(data["observations"])

    def sample(self, count):
        return [self.rows[:count]]

class Adaptive_TD3_BC:
    def __init__(self, max_action, actor, actor_optimizer, **others):
        assert actor_optimizer == "adam" and len(others) == 6

    def train(self, batch):
        assert len(batch[0]) == 256 and self.reward_mean == 0

@pyrallis.wrap()
def train(config: gym.Env):
    raise AssertionError
"""


@pytest.fixture
def cores() -> tuple[int, int]:
    try:
        return peers.two_cores()
    except UserError:
        pytest.skip("two cores are needed")


def folder(tmp_path: Path, file: str, text: str) -> str:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return str(tmp_path)


def test_a_peer_takes_turns_and_those_that_fail_are_left_out(tmp_path: Path, cores: tuple[int, int]) -> None:
    fake = folder(tmp_path / "authors", "algorithms/offline/aspc.py", AUTHORS)
    broken = folder(tmp_path / "jax", "algos/td3bc.py", "import a_library_that_is_not_here")
    made = [
        Contender("peer", "authors", ("authors", fake)),
        Contender("broken", "JAX-CORL", ("jax-corl", broken, "8")),
        Contender("absent", "JAX-CORL", ("jax-corl", broken, "8"), python="/no/such/python"),
    ]
    (row,), failed = peers.measure(made, rounds=2, seconds=0.01, cores=cores)
    assert set(row.windows) == {ONE, TWO, PAIR}
    assert all(len(own) == 2 and min(own) > 0 for own in row.windows.values())
    assert all(len(own) == 2 for own in row.cores.values())
    assert "torch" in row.versions
    assert failed == [
        "broken is left out: ModuleNotFoundError: No module named 'a_library_that_is_not_here'",
        "absent is left out: /no/such/python does not run (No such file or directory)",
    ]


def test_a_worker_is_bound_to_its_cores_and_runs_this_package(cores: tuple[int, int]) -> None:
    words = [sys.executable, str(peers.WORKER), str(cores[1]), "ours", "eager", "td3bc", "1"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        ready = json.loads(worker.stdout.readline())
        assert os.sched_getaffinity(worker.pid) == {cores[1]}
        (window,) = map(json.loads, worker.communicate("0.01\n")[0].splitlines())
    assert ready["versions"].keys() == {"torch"}
    assert window["updates"] >= 40 and window.keys() == {"updates", "seconds", "cpu"}


def row(name: str, whose: str, **medians: float) -> Row:
    columns = dict(zip(("one", "two", "pair", "eight"), peers.COLUMNS, strict=True))
    windows = {columns[key]: [value - 1, value, value + 5] for key, value in medians.items()}
    return Row(Contender(name, whose, ()), windows, {column: [1.0] for column in windows})


def test_ratios_are_to_the_best_peer_of_the_column() -> None:
    rows = [
        row("native, ASPC", "ours", one=120.0, two=240.0, pair=230.0, eight=300.0),
        row("native, TD3+BC", "ours", one=999.0),
        row("the authors' trainer, ASPC", "authors", one=60.0, two=300.0, pair=120.0),
        row("JAX-CORL, TD3+BC", "JAX-CORL", one=100.0, two=150.0, pair=200.0),
    ]
    found = peers.ratios(rows)
    assert {column: told["ratio"] for column, told in found.items()} == {ONE: 1.2, TWO: 0.8, PAIR: 1.15, EIGHT: 1.5}
    assert found[TWO]["peer"] == "the authors' trainer, ASPC"
    assert "1 thread: native, ASPC over JAX-CORL, TD3+BC: 1.20" in peers.table(rows)
    assert peers.ratios(rows[:2]) == {}


def test_options_that_do_not_work_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", "--authors", str(tmp_path / "none")])
    assert peers.main() == 2
    assert "no such folder" in capsys.readouterr().err
    made, left_out = peers.contenders(peers.options_of(["--engines", "native"]))
    assert [one.name for one in made] == ["reference.py, ASPC", "native, ASPC", "native, TD3+BC"]
    assert len(left_out) == 2
