"""The examples run as a stranger runs them, and what they print is so."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import aspc_fast as af
from tests.helpers import toy_data

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STEPS = 240


@pytest.fixture
def lines_of(monkeypatch, capsys, tmp_path):
    """name -> what an example prints, run from somewhere else; it leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(name: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", str(STEPS)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        assert list(tmp_path.iterdir()) == []
        return capsys.readouterr().out.splitlines()

    return run


def numbers(lines: list[str], start: str) -> list[list[float]]:
    """The numbers of each line that begins with ``start``."""
    found = [re.findall(r"-?\d+\.\d+", line) for line in lines if line.startswith(start)]
    return [[float(word) for word in words] for words in found]


def test_every_example_is_tested():
    own = {path.stem for path in EXAMPLES.glob("*.py")} - {"toy"}
    assert own == {"own_data", "hyper_parameters", "outer_loss_ablation", "compare_td3bc"}


def test_the_toy_task_has_that_optimum(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from toy import best, collect, play

    optimum = play(best)
    rng = np.random.default_rng(0)
    for scale in (0.05, 0.3):
        assert play(lambda p, scale=scale: best(p) + rng.normal(0, scale, p.shape)) < optimum
    assert play(lambda p: 0.8 * best(p)) < optimum
    assert play(lambda p: -p / np.linalg.norm(p, axis=1, keepdims=True)) < optimum
    assert af.from_arrays(**collect(100)).obs_dim == 2


def test_own_data(lines_of):
    lines = lines_of("own_data")
    data, policy, optimum = (row[0] for row in numbers(lines, "return of"))
    assert data + 2 < policy < optimum < 0
    push = re.findall(r"-?\d\.\d*", lines[0])
    assert float(push[0]) < -0.2  # from the right, to the left


def test_hyper_parameters(lines_of):
    lines = lines_of("hyper_parameters")
    assert "discount=0.99" in lines[0]
    logged = numbers(lines, "step")
    assert len(logged) == 4
    assert logged[-1][1] != logged[0][1]  # alpha moves
    runs = numbers(lines, "alpha")
    assert [alpha for alpha, _ in runs] == [0.1, 0.5, 2.5, 10.0]
    assert runs[0][1] < runs[2][1] < numbers(lines, "optimum")[0][0]  # next to cloning the worst data


def test_outer_loss_ablation(lines_of):
    lines = lines_of("outer_loss_ablation")
    variants = numbers(lines, "variant")
    assert len(variants) == 4
    assert [line.split()[1] for line in lines[:4]] == ["1", "2", "3", "4"]
    assert all(alpha != 2.5 for alpha, _ in variants)
    assert all(-11 < returned < numbers(lines, "optimum")[0][0] for _, returned in variants)


def test_compare_td3bc(lines_of):
    lines = lines_of("compare_td3bc")
    data, td3bc, aspc, optimum = (numbers(lines, name)[0] for name in ("data", "td3bc", "aspc", "optimum"))
    assert data[0] < td3bc[0] < optimum[0]
    assert td3bc[0] < aspc[0] < optimum[0]  # from the same cautious alpha, the one that is learned gets further


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_plain_gymnasium_loop(tmp_path):
    """The README's loop: a trained policy with nothing of this package around it."""
    import gymnasium

    options = {"steps": 20, "eval_every": 0, "hidden_dim": 16, "batch_size": 16, "device": "cpu"}
    af.train(toy_data(obs_dim=11, act_dim=3, env="Hopper-v4"), out=tmp_path / "r", **options)

    env = gymnasium.make("Hopper-v4")
    policy = af.load_policy(tmp_path / "r")
    observation, _ = env.reset(seed=0)
    done, steps = False, 0
    while not done:
        action = policy(observation)
        observation, reward, terminated, truncated, _ = env.step(action)
        done, steps = terminated or truncated, steps + 1
    assert env.action_space.contains(action)
    assert np.isfinite(reward)
    assert 0 < steps <= 1000
