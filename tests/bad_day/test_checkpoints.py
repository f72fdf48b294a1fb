"""Checkpoints that are damaged, of another version, or cut off by a kill between two of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError
from aspc_fast.results import checkpoint as ckpt
from aspc_fast.results.load import load_run
from aspc_fast.results.records import Observer
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.run.train import TrainSettings, train
from tests.helpers import toy_data
from tests.run.test_train import SMALL, assert_same_run, write_data

SETTINGS = TrainSettings(
    steps=60, eval_every=0, log_every=10, checkpoint_every=20, device="cpu", engine="eager", tensorboard=False
)


class Heard(Observer):
    """What the user is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)


def begin(out: Path, steps: int = 60) -> Path:
    train(toy_data(), SMALL, replace(SETTINGS, steps=steps), out=out)
    return out / "checkpoints"


def flip(path: Path, at: int = -9) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def digit(name: str) -> Callable[[Path], None]:
    """Another number in a field of the latest checkpoint's JSON, as a flipped byte makes it."""

    def change(folder: Path) -> None:
        for path in (folder / "latest.json", sorted(folder.glob("step-*.json"))[-1]):
            value = json.loads(path.read_text())
            path.write_text(json.dumps(value | {name: value[name] - 1}))

    return change


DAMAGE: dict[str, Callable[[Path], object]] = {
    "tensors": lambda folder: flip(sorted(folder.glob("*.safetensors"))[-1]),
    "tensors gone": lambda folder: sorted(folder.glob("*.safetensors"))[-1].unlink(),
    "JSON cut": lambda folder: [p.write_text("{") for p in (folder / "latest.json", folder / "step-0000000060.json")],
    "another step": digit("step"),
    "another length of the metrics": digit("metrics_bytes"),
    "latest.json gone": lambda folder: (folder / "latest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path: Path, damage: str) -> None:
    begin(tmp_path / "whole")
    DAMAGE[damage](begin(tmp_path / "hurt"))
    heard = Heard()
    train(toy_data(), SMALL, SETTINGS, out=tmp_path / "hurt", resume=True, observer=heard)
    step = 60 if damage == "latest.json gone" else 40  # the newest checkpoint has a file of its own beside latest.json
    assert f"going back to the checkpoint of step {step}" in heard.messages[0] and str(tmp_path) in heard.messages[0]
    assert_same_run(tmp_path / "whole", tmp_path / "hurt")


def test_two_damaged_checkpoints_are_one_sentence(tmp_path: Path) -> None:
    for path in begin(tmp_path / "r").glob("*.safetensors"):
        flip(path)
    with pytest.raises(UserError, match=r"step-0000000060\.safetensors: damaged"):
        train(toy_data(), SMALL, SETTINGS, out=tmp_path / "r", resume=True)


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_another_format_version_is_named_and_not_stepped_back_from(tmp_path: Path, version: object) -> None:
    latest = begin(tmp_path / "r") / "latest.json"
    latest.write_text(json.dumps(json.loads(latest.read_text()) | {"format_version": version}))
    with pytest.raises(UserError, match=rf"format version {version!r}, this program reads versions 1 and 2"):
        train(toy_data(), SMALL, SETTINGS, out=tmp_path / "r", resume=True)


def test_checkpoints_of_the_first_version_are_still_read(tmp_path: Path) -> None:
    begin(tmp_path / "whole")
    folder = begin(tmp_path / "r", steps=20)
    latest = folder / "latest.json"
    old = json.loads(latest.read_text()) | {"format_version": 1}
    for name in ("checksum", "metrics_sha256"):
        del old[name]
    latest.write_text(json.dumps(old))
    (folder / "step-0000000020.json").unlink()
    train(toy_data(), SMALL, SETTINGS, out=tmp_path / "r", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "r")


def test_a_second_checkpoint_of_the_same_step_leaves_the_first_whole(tmp_path: Path) -> None:
    """A run saves its last step twice, before and after the evaluations: a kill in between must cost nothing."""
    ckpt.save_checkpoint(tmp_path, 5, {"x": torch.zeros(3)}, {})

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ckpt, "write_json", killed)
        ckpt.save_checkpoint(tmp_path, 5, {"x": torch.ones(3)}, {})
    assert torch.equal(ckpt.load_checkpoint(tmp_path).tensors["x"], torch.zeros(3))
    ckpt.save_checkpoint(tmp_path, 5, {"x": torch.ones(3)}, {})
    assert torch.equal(ckpt.load_checkpoint(tmp_path).tensors["x"], torch.ones(3))
    ckpt.save_checkpoint(tmp_path, 6, {"x": torch.ones(3)}, {})
    assert len(list(tmp_path.glob("*.safetensors"))) == len(list(tmp_path.glob("step-*.json"))) == ckpt.KEEP


@pytest.mark.parametrize("field", ["max_action", "obs_dim"])
def test_a_changed_configuration_is_not_believed(tmp_path: Path, field: str) -> None:
    begin(tmp_path / "r")
    path = tmp_path / "r/config.json"
    value = json.loads(path.read_text())
    value["dataset"][field] += 1
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"config\.json: damaged or changed by hand"):
        load_run(tmp_path / "r")


def test_damaged_metrics_are_noticed_when_a_run_goes_on(tmp_path: Path) -> None:
    begin(tmp_path / "r")
    path = tmp_path / "r/metrics.jsonl"
    path.write_text(path.read_text().replace('"step": 30', '"step": 31'))
    with pytest.raises(UserError, match=r"metrics\.jsonl: damaged or changed since the checkpoint"):
        train(toy_data(), SMALL, SETTINGS, out=tmp_path / "r", resume=True)


def test_what_a_killed_writer_left_is_swept_up(tmp_path: Path) -> None:
    folder = begin(tmp_path / "r")
    left = [
        tmp_path / "r/.summary.json.abc.tmp",
        folder / ".latest.json.xyz.tmp",
        folder / "step-0000000010.safetensors",
    ]
    for path in left:
        path.write_bytes(b"half")
    train(toy_data(), SMALL, replace(SETTINGS, steps=80), out=tmp_path / "r", resume=True)
    assert not any(path.exists() for path in left)


def sweep_settings(**changes: object) -> SweepSettings:
    usual = {"steps": 20, "device": "cpu", "engine": "eager", "eval_every": 0, "final_episodes": 0, "workers": 0}
    return SweepSettings(**(usual | {"tensorboard": False} | changes))


def test_a_sweep_killed_while_planned_goes_on_with_another_plan(tmp_path: Path) -> None:
    """Two shards were staged for a small memory, then the machine had more: one shard, every run once."""
    data, out = write_data(tmp_path / "d.hdf5", env=None), tmp_path / "s"
    base = AgentConfig(hidden_dim=16, batch_size=16)
    with pytest.raises(RuntimeError):
        sweep([data], [0, 1], out, base=base, settings=sweep_settings(), parts=2, on_plan=_stop)
    (out / "shards").rename(out / ".shards")
    summary = sweep([data], [0, 1], out, base=base, settings=sweep_settings())
    assert [row["run"] for row in summary["runs"]] == [0, 1] and summary["plan"]["populations"] == 1


def test_a_path_in_a_shard_is_not_followed(tmp_path: Path) -> None:
    """shard.json names the data; what the command names is read instead, wherever the file says it is."""
    data, out = write_data(tmp_path / "d.hdf5", env=None), tmp_path / "s"
    base = AgentConfig(hidden_dim=16, batch_size=16)
    with pytest.raises(RuntimeError):
        sweep([data], [0], out, base=base, settings=sweep_settings(), on_plan=_stop)
    path = out / "shards/000/shard.json"
    described = json.loads(path.read_text())
    described["sources"][0]["source"] = str(tmp_path / "elsewhere.hdf5")
    path.write_text(json.dumps({name: value for name, value in described.items() if name != "checksum"}))
    sweep([data], [0], out, base=base, settings=sweep_settings())
    assert json.loads(path.read_text())["sources"][0]["source"] == str(data.resolve())


def _stop(plan: object) -> None:
    raise RuntimeError("stop here")


def test_names_that_point_outside_are_refused(tmp_path: Path) -> None:
    folder = begin(tmp_path / "r")
    outside = tmp_path / "outside.safetensors"
    (folder / "step-0000000060.safetensors").rename(outside)
    good = json.loads((folder / "latest.json").read_text())
    for name in ("../../outside.safetensors", str(outside), "..", "", "a/b", "\0"):
        for path in (folder / "latest.json", folder / "step-0000000060.json"):
            ckpt.write_json(path, good | {"file": name}, seal=True)
        with pytest.raises(UserError):
            ckpt.load_checkpoint(folder)


def test_a_checkpoint_replaced_while_it_is_read_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at a training that goes on: the first checkpoint is gone before its tensors are read."""
    folder = tmp_path / "checkpoints"

    def save(step: int) -> None:
        ckpt.save_checkpoint(folder, step, {"state.step": torch.tensor(step)}, {})

    save(1)
    real_read, replaced = ckpt.read_json, []

    def read(path: Path, **how: bool) -> object:
        value = real_read(path, **how)
        if path.name == ckpt.LATEST and not replaced:
            replaced.append(path)
            for step in (2, 3, 4):
                save(step)
        return value

    monkeypatch.setattr(ckpt, "read_json", read)
    assert ckpt.load_checkpoint(folder).meta["step"] == 4
    assert replaced
