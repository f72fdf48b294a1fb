import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from aspc_fast.config import AgentConfig
from aspc_fast.data.arrays import from_arrays
from aspc_fast.errors import UserError
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.results.load import load_run
from aspc_fast.results.records import Observer
from aspc_fast.run.loop import Diverged, Interrupted
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.run.train import TrainSettings, train
from tests.helpers import TOO_LONG, exit_code, toy_data, wait_for

SMALL = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
SETTINGS = TrainSettings(steps=60, eval_every=0, log_every=20, checkpoint_every=20, device="cpu")


def settings(**changes) -> TrainSettings:
    return replace(SETTINGS, **changes)


def metrics(folder: Path) -> list[dict]:
    """metrics.jsonl without the one field that is not deterministic."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "updates_per_second"} for line in lines]


def final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints").tensors


def assert_same_run(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    left, right = final_tensors(one), final_tensors(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def write_data(path: Path, obs_dim: int = 11, act_dim: int = 3, env: str | None = "Hopper-v4") -> Path:
    data = toy_data(rows=500, obs_dim=obs_dim, act_dim=act_dim)
    with h5py.File(path, "w") as file:
        for name in ("observations", "actions", "rewards", "terminals", "next_observations"):
            file[name] = getattr(data, name)
        file["timeouts"] = np.zeros(len(data), dtype=bool)
        if env:
            file.attrs["env_id"] = env
    return path


def test_results_folder_is_complete(tmp_path):
    run = train(toy_data(), SMALL, SETTINGS, out=tmp_path / "r")
    config = json.loads((tmp_path / "r/config.json").read_text())
    assert config["dataset"]["fingerprint"] == toy_data().fingerprint
    assert config["agent"]["alpha_freq"] == 5
    assert "torch" in config["versions"]
    names = {name for record in metrics(tmp_path / "r") for name in record}
    theory = {"lambda", "alpha_after", "alpha_grad", "eq1", "eq2", "eq3", "delta_q", "bc_sup", "delta_bc_sup"}
    assert theory <= names
    assert [r["step"] for r in metrics(tmp_path / "r")] == [20, 40, 60]
    assert final_tensors(tmp_path / "r").keys() >= {"state.actor_m", "state.critic_v", "state.rho_m", "state.ema_q"}
    assert run.policy(np.zeros((4, 5))).shape == (4, 2)
    loaded = load_run(tmp_path / "r").policy(np.ones((4, 5)))
    assert np.array_equal(loaded, run.policy(np.ones((4, 5))))
    assert not list((tmp_path / "r").rglob("*.tmp"))


def test_training_learns_to_clone_with_small_alpha():
    """With alpha near 0 ASPC is cloning: the actor must fit a simple deterministic behaviour."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(2000, 4)).astype(np.float32)
    actions = np.tanh(observations[:, :2])
    data = toy_data(rows=2000, obs_dim=4, observations=observations, actions=actions)
    run = train(data, AgentConfig(algo="td3bc", alpha=1e-6, hidden_dim=64), settings(steps=600, log_every=300))
    assert run.records[-1]["bc_mse"] < 0.05 * np.var(actions)


def test_same_seed_same_run_other_seed_other_run(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(toy_data(), SMALL, settings(seed=seed), out=tmp_path / name)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


@pytest.mark.parametrize("stop_at", [7, 20, 33])
def test_interrupted_run_resumes_to_the_same_end(tmp_path, stop_at, monkeypatch):
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 1)
    train(toy_data(), SMALL, SETTINGS, out=tmp_path / "whole")
    seen = []

    class Count(Observer):
        def on_progress(self, step):
            seen.append(step)

    with pytest.raises(Interrupted) as interrupted:
        train(toy_data(), SMALL, SETTINGS, out=tmp_path / "cut", observer=Count(), stop=lambda: seen[-1] >= stop_at)
    assert interrupted.value.step == stop_at
    train(toy_data(), SMALL, SETTINGS, out=tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_longer_training_continues_a_finished_run(tmp_path):
    train(toy_data(), SMALL, settings(steps=40), out=tmp_path / "grown")
    train(toy_data(), SMALL, settings(steps=60), out=tmp_path / "grown", resume=True)
    train(toy_data(), SMALL, settings(steps=60), out=tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "grown")


def test_first_sigint_saves_and_exits_130(tmp_path):
    data = write_data(tmp_path / "data.hdf5", env=None)
    command = [sys.executable, "-m", "aspc_fast", "train", str(data), "--steps", "1000000", "--hidden-dim", "16"]
    command += ["--batch-size", "16", "--log-every", "100", "--device", "cpu", "--engine", "eager"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "r")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = tmp_path / "r/metrics.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size, lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=TOO_LONG)
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert b"--resume" in output
    assert load_checkpoint(tmp_path / "r/checkpoints").meta["step"] > 0


def test_divergence_is_named_and_the_last_good_state_kept(tmp_path):
    rewards = np.zeros(400, dtype=np.float32)
    rewards[::7] = 3e38  # squared error overflows float32 as soon as such a row is drawn
    with pytest.raises(Diverged) as diverged:
        train(toy_data(rewards=rewards), SMALL, SETTINGS, out=tmp_path / "r")
    assert diverged.value.quantity == "critic_loss"
    saved = load_checkpoint(tmp_path / "r/checkpoints")
    assert saved.meta["step"] == diverged.value.step - 1
    assert all(torch.isfinite(t).all() for t in saved.tensors.values())
    assert metrics(tmp_path / "r")[-1] == {"kind": "diverged", "step": diverged.value.step, "quantity": "critic_loss"}


def test_evaluation_records_name_the_simulator(tmp_path):
    data = toy_data(rows=300, obs_dim=11, act_dim=3, env="Hopper-v4")
    run = train(data, SMALL, settings(eval_every=30, eval_episodes=3), out=tmp_path / "r")
    evals = [r for r in metrics(tmp_path / "r") if r["kind"] == "eval"]
    assert [e["step"] for e in evals] == [30, 60]
    assert len(evals[0]["returns"]) == 3
    assert run.summary["env"] == "Hopper-v4"
    assert run.summary["simulator"].startswith("envpool")
    assert run.summary["mean_of_last_evaluations"] == pytest.approx(np.mean([e["score"] for e in evals]))


def test_reward_options():
    from aspc_fast.run.population import reward_transform

    data = toy_data()
    assert reward_transform(AgentConfig(reward="minus-one"), data) == (1.0, -1.0)
    assert reward_transform(AgentConfig(reward="scale", reward_scale=0.1), data) == (0.1, 0.0)
    factor, shift = reward_transform(AgentConfig(reward="centre"), data)
    assert factor == 1.0
    assert abs(float((data.rewards + shift).mean())) < 1e-6
    factor, _ = reward_transform(AgentConfig(reward="return-range"), data)
    assert factor == pytest.approx(data.episode_lengths.max() / corl_range(data, data.episode_lengths.max()))


def corl_range(data, horizon):
    """CORL's return_reward_range, in its own words: a time-out row is not there, so a count runs on over it."""
    returns, total, length = [], 0.0, 0
    for reward, terminal in zip(data.rewards, data.terminals, strict=True):
        total, length = total + float(reward), length + 1
        if terminal or length == horizon:
            returns.append(total)
            total, length = 0.0, 0
    return max(returns) - min(returns)


def test_return_range_counts_over_dropped_rows_as_corl_does(tmp_path):
    rewards = np.arange(40, dtype=np.float32)
    flags = {"timeouts": np.arange(40) % 10 == 9, "terminals": np.arange(40) == 25}
    data = from_arrays(np.zeros((40, 11)), np.zeros((40, 3)), rewards, **flags, env="Hopper-v4")
    assert data.return_range == 0.0  # one piece alone: the horizon of 1000 is longer than all of it
    flags["terminals"][3] = True
    data = from_arrays(np.zeros((40, 11)), np.zeros((40, 3)), rewards, **flags, env="Hopper-v4")
    assert data.return_range == pytest.approx(corl_range(data, 1000), rel=1e-12)
    assert data.return_range != pytest.approx(np.ptp(data.episode_returns))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(config=AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5, tau=0.01)), "tau"),
        (dict(settings=settings(seed=3)), "seed"),
        (dict(data=toy_data(seed=5)), "begun with other data"),
    ],
)
def test_resuming_something_else_is_refused(tmp_path, change, message):
    train(toy_data(), SMALL, settings(steps=20), out=tmp_path / "r")
    arguments = {"data": toy_data(), "config": SMALL, "settings": settings(steps=20)} | change
    with pytest.raises(UserError, match=message):
        train(**arguments, out=tmp_path / "r", resume=True)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    train(toy_data(), SMALL, settings(steps=20), out=tmp_path / "r")
    before = (tmp_path / "r/metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="--resume"):
        train(toy_data(), SMALL, settings(steps=20), out=tmp_path / "r")
    assert (tmp_path / "r/metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "checkpoints/step-0000000020.safetensors").write_bytes(b"x" * 100), "sha256"),
        (lambda f: (f / "checkpoints/step-0000000020.safetensors").unlink(), "missing"),
        (lambda f: [path.write_text("{") for path in f.glob("checkpoints/*.json")], "JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json"),
    ],
)
def test_damaged_results_give_one_sentence(tmp_path, damage, message):
    train(toy_data(), SMALL, settings(steps=20), out=tmp_path / "r")
    damage(tmp_path / "r")
    with pytest.raises(UserError, match=message):
        train(toy_data(), SMALL, settings(steps=40), out=tmp_path / "r", resume=True)


@pytest.mark.parametrize("kind", [TrainSettings, SweepSettings])
@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"log_every": 0}, {"checkpoint_every": -1}, {"checkpoint_seconds": 0}, {"precision": "half"}],
)
def test_settings_that_do_not_work_are_named(kind, wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))} must be"):
        kind(**wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "no-such-file.hdf5"], "no-such-file.hdf5"),
        (["train", "hopper-mediun-v2"], "hopper-medium-v2"),
        (["tran"], "train"),
        (["train", "DATA", "--alpha", "-1"], "alpha"),
        (["train", "DATA", "--device", "cuda:77"], "cuda"),
        (["train", "DATA", "--steps", "0"], "steps"),
        (["train", "DATA", "--engine", "warp"], "engine"),
        (["evaluate", "no-such-folder"], "no-such-folder"),
        (["data", "info", "no-such-file.hdf5"], "no-such-file.hdf5"),
        (["data", "fetch"], "get"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(tmp_path, capsys, arguments, message):
    data = write_data(tmp_path / "data.hdf5")
    filled = [data if a == "DATA" else a for a in arguments]
    out = ["--out", tmp_path / "r"] if arguments[0] == "train" else []
    assert exit_code(*filled, *out) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.strip().count("\n") == 0
    assert not (tmp_path / "r/config.json").exists()


def test_command_line_trains_and_evaluates(tmp_path, capsys):
    data = write_data(tmp_path / "data.hdf5")
    options = "--steps 40 --eval-every 20 --eval-episodes 2 --log-every 20 --hidden-dim 16 --batch-size 16 --device cpu"
    assert exit_code("train", data, *options.split(), "--out", tmp_path / "r") == 0
    assert exit_code("evaluate", tmp_path / "r", "--episodes", "3") == 0
    assert "Hopper-v4" in capsys.readouterr().out
    assert (tmp_path / "r/curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "r/evaluation-3x0.json").read_text())["returns"]) == 3


@pytest.mark.parametrize("engine", ["eager", "unheard-of"])
def test_a_run_that_cannot_be_built_leaves_no_folder(tmp_path, monkeypatch, engine):
    def broken(*given, **options):
        raise RuntimeError("no such kernel")

    if engine == "eager":
        monkeypatch.setattr("aspc_fast.run.train.build_population", broken)
    with pytest.raises((RuntimeError, UserError)):
        train(toy_data(), SMALL, settings(engine=engine), out=tmp_path / "results/deep/r")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "r").mkdir()
    with pytest.raises((RuntimeError, UserError)):
        train(toy_data(), SMALL, settings(engine=engine), out=tmp_path / "r")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]  # it was here before
    train_again = settings(engine="eager", steps=20)
    monkeypatch.undo()
    train(toy_data(), SMALL, train_again, out=tmp_path / "r")
    assert (tmp_path / "r/summary.json").exists()
