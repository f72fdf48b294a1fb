"""TensorBoard events and W&B beside metrics.jsonl: the same numbers, also after a kill, and never in the way."""

import builtins
import errno
import importlib
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aspc_fast.cli import main
from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError
from aspc_fast.results import events
from aspc_fast.results.logged_run import scalars
from aspc_fast.results.loggers import run_names
from aspc_fast.results.records import Observer
from aspc_fast.run.loop import Interrupted
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.run.train import TrainSettings, train
from tests.helpers import toy_data
from tests.run.test_train import write_data

SMALL = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
SETTINGS = {"steps": 60, "eval_every": 0, "log_every": 10, "checkpoint_every": 20, "device": "cpu", "engine": "eager"}
HOPPER = toy_data(rows=300, obs_dim=11, act_dim=3, env="Hopper-v4")


def settings(**changes) -> TrainSettings:
    return TrainSettings(**(SETTINGS | changes))


def records(folder: Path, **wanted) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = read(folder)
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def assert_events_are(folder: Path, expected: list[dict]) -> None:
    """Every number of the records stands in the events once, in order, and nothing else does."""
    wanted: dict[str, list[tuple[int, float]]] = {}
    for record in expected:
        for tag, value in scalars(record).items():
            wanted.setdefault(tag, []).append((record["step"], pytest.approx(value, rel=1e-6)))
    assert wanted
    assert series(folder) == wanted


class Messages(Observer):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.step = 0

    def on_message(self, text: str) -> None:
        self.texts.append(text)

    def on_progress(self, step: int) -> None:
        self.step = step


def test_events_hold_what_metrics_hold(tmp_path):
    train(HOPPER, SMALL, settings(eval_every=30, eval_episodes=2), out=tmp_path / "r")
    assert_events_are(tmp_path / "r/tensorboard", records(tmp_path / "r"))
    found = series(tmp_path / "r/tensorboard")
    names = {"critic_loss", "actor_loss", "q1_mean", "alpha_after", "updates_per_second"}
    assert {f"train/{name}" for name in names} | {"eval/score", "eval/return", "eval/length"} <= found.keys()
    assert [step for step, _ in found["eval/score"]] == [30, 60]


def test_settings_are_in_the_events(tmp_path):
    train(toy_data(), SMALL, settings(steps=10, seed=7), out=tmp_path / "r")
    accumulator = read(tmp_path / "r/tensorboard")
    text = accumulator.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert '"hidden_dim": 16' in text
    assert "config" in accumulator.PluginTagToContent("text")
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    ((tag, content),) = accumulator.PluginTagToContent("hparams").items()
    assert tag == "_hparams_/session_start_info"
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["seed"].number_value == 7
    assert hparams["algo"].string_value == "aspc"
    assert hparams["tau"].number_value == 0.005


def deterministic(folder: Path) -> list[dict]:
    return [{k: v for k, v in r.items() if k != "updates_per_second"} for r in records(folder)]


def test_a_killed_and_resumed_run_says_every_step_once(tmp_path, monkeypatch):
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 1)

    class Dies(Observer):
        def on_progress(self, step):
            if step == 55:
                raise ZeroDivisionError  # as a kill: events of steps 50 are written, the checkpoint is of step 40

    evaluated = {"eval_every": 25, "eval_episodes": 2}
    with pytest.raises(ZeroDivisionError):
        train(HOPPER, SMALL, settings(**evaluated), out=tmp_path / "r", observer=Dies())
    assert max(step for step, _ in series(tmp_path / "r/tensorboard")["train/critic_loss"]) == 50
    train(HOPPER, SMALL, settings(**evaluated), out=tmp_path / "r", resume=True)
    assert len(list((tmp_path / "r/tensorboard").iterdir())) == 1
    assert_events_are(tmp_path / "r/tensorboard", records(tmp_path / "r"))
    train(HOPPER, SMALL, settings(**evaluated, tensorboard=False), out=tmp_path / "plain")
    assert deterministic(tmp_path / "r") == deterministic(tmp_path / "plain")


def test_a_run_killed_before_its_first_checkpoint_starts_its_events_anew(tmp_path):
    class Dies(Messages):
        def on_record(self, record):
            if record["step"] == 20:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(toy_data(), SMALL, settings(checkpoint_every=50), out=tmp_path / "r", observer=Dies())
    assert series(tmp_path / "r/tensorboard")
    train(toy_data(), SMALL, settings(checkpoint_every=50), out=tmp_path / "r", resume=True)
    assert_events_are(tmp_path / "r/tensorboard", records(tmp_path / "r"))


def test_an_evaluation_that_was_pending_at_the_checkpoint_is_said_once(tmp_path):
    """The worker's result of step 20 came after the checkpoint of step 30 and comes again after a kill."""
    before = [{"kind": "train", "step": step, "critic_loss": step / 7} for step in (10, 20, 30)]
    late = {"kind": "eval", "step": 20, "final": False, "score": 5.0, "returns": [1.0, 2.0], "lengths": [3, 4]}
    after = {"kind": "train", "step": 40, "critic_loss": 0.5}
    killed = events.EventSink(tmp_path, {}, "all")
    for record in (*before, late, after):
        killed.on_record(record)
    resumed = events.EventSink(tmp_path, {}, "all")
    resumed.on_restore(30, before, [20])
    for record in (late, after):
        resumed.on_record(record)
    assert_events_are(tmp_path / "all", [*before, late, after])


@pytest.mark.parametrize("package", [None, "google_crc32c"])
def test_an_event_is_with_the_system_when_the_call_returns(tmp_path, without, package):
    """A kill a moment later must not cost it; and TensorBoard's own CRC stands in for a package that is missing."""
    if package is not None:
        without(package)
    events = importlib.import_module("aspc_fast.results.events")
    file = events.EventFile(tmp_path)
    file.scalars(10, {"train/x": 1.5})
    assert series(tmp_path) == {"train/x": [(10, 1.5)]}
    file.close()


def test_steps_trained_without_events_are_filled_in(tmp_path):
    train(toy_data(), SMALL, settings(steps=20), out=tmp_path / "r")
    train(toy_data(), SMALL, settings(steps=40, tensorboard=False), out=tmp_path / "r", resume=True)
    train(toy_data(), SMALL, settings(steps=60), out=tmp_path / "r", resume=True)
    assert_events_are(tmp_path / "r/tensorboard", records(tmp_path / "r"))


def test_a_torn_event_file_is_written_anew(tmp_path):
    train(toy_data(), SMALL, settings(steps=40), out=tmp_path / "r")
    (file,) = (tmp_path / "r/tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    train(toy_data(), SMALL, settings(), out=tmp_path / "r", resume=True)
    assert_events_are(tmp_path / "r/tensorboard", records(tmp_path / "r"))


def test_switched_off_means_no_folder(tmp_path):
    train(toy_data(), SMALL, settings(steps=10, tensorboard=False), out=tmp_path / "r")
    assert not (tmp_path / "r/tensorboard").exists()


def test_a_full_disk_stops_the_events_with_one_sentence(tmp_path, monkeypatch):
    written = []

    def full(self, event):
        written.append(event.summary.value)
        if sum(bool(values) and values[0].tag == "train/critic_loss" for values in written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(self, event)

    whole = events.EventFile.write
    monkeypatch.setattr(events.EventFile, "write", full)
    said = Messages()
    train(toy_data(), SMALL, settings(), out=tmp_path / "r", observer=said)
    assert [text for text in said.texts if "No space left" in text] == said.texts
    assert len(said.texts) == 1
    assert [r["step"] for r in records(tmp_path / "r")] == [10, 20, 30, 40, 50, 60]
    assert [step for step, _ in series(tmp_path / "r/tensorboard")["train/critic_loss"]] == [10]


@pytest.fixture
def without(monkeypatch):
    """Makes imports of a package fail, as where it is not installed."""

    def hide(package: str) -> None:
        for name in [n for n in sys.modules if n.split(".")[0] == package or n == "aspc_fast.results.events"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr("aspc_fast.results.events", raising=False)
        real = builtins.__import__

        def fake(name, *args, **kwargs):
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", fake)

    return hide


def test_without_the_package_training_goes_on_and_says_so_once(tmp_path, without):
    without("tensorboard")
    said = Messages()
    run = train(toy_data(), SMALL, settings(), out=tmp_path / "r", observer=said)
    assert len(run.records) == 6
    assert len(said.texts) == 1
    assert "aspc_fast[log]" in said.texts[0]
    data = write_data(tmp_path / "data.hdf5", env=None)
    said = Messages()
    tiny = {name: SETTINGS[name] for name in ("log_every", "checkpoint_every", "device", "engine")}
    chosen = SweepSettings(steps=20, workers=0, eval_every=0, final_episodes=0, **tiny)
    sweep([data], [0, 1, 2], tmp_path / "s", base=SMALL, settings=chosen, observer=said, parts=3)
    assert [text for text in said.texts if "TensorBoard" in text] == said.texts
    assert len(said.texts) == 1


def test_a_sweep_writes_one_folder_per_run(tmp_path, monkeypatch):
    monkeypatch.setattr("aspc_fast.run.loop.SLICE", 1)
    data = [write_data(tmp_path / "hopper-a.hdf5"), write_data(tmp_path / "walker-b.hdf5", 17, 6, "Walker2d-v4")]
    tiny = {name: SETTINGS[name] for name in ("steps", "log_every", "checkpoint_every", "device", "engine")}
    chosen = SweepSettings(**tiny, workers=0, eval_every=25, eval_episodes=1, final_episodes=1)
    said = Messages()
    arguments = {"base": SMALL, "varied": {"alpha_freq": [5, 10]}, "settings": chosen}
    with pytest.raises(Interrupted):
        sweep(data, [3], tmp_path / "s", **arguments, observer=said, stop=lambda: said.step >= 33)
    sweep(data, [3], tmp_path / "s", **arguments)
    config = json.loads((tmp_path / "s/config.json").read_text())
    assert len(config["runs"]) == 4
    for row in config["runs"]:
        name = f"{row['dataset']}-aspc-alpha_freq={row['agent']['alpha_freq']}-seed3"
        assert_events_are(tmp_path / "s/tensorboard" / name, records(tmp_path / "s", run=row["run"]))
        assert "final/score" in series(tmp_path / "s/tensorboard" / name)
    speeds = series(tmp_path / "s/tensorboard/population-000")["system/run_updates_per_second"]
    assert [step for step, _ in speeds] == [10, 20, 25, 30, 40, 50, 60]
    assert len(list((tmp_path / "s/tensorboard").iterdir())) == 4 + 2


def test_run_names_are_folder_names_and_differ():
    assert run_names([("a b/c", "aspc", "", "seed0")]) == ["a-b-c-aspc-seed0"]
    same = run_names([("d", "aspc", "", "seed0")] * 2 + [("e" * 300, "aspc", "x=1 y=2", "seed0")])
    assert same[:2] == ["d-aspc-seed0-run0", "d-aspc-seed0-run1"]
    assert len(same[2]) < 200
    assert same[2].endswith("x=1-y=2-seed0")


class FakeRun:
    def __init__(self, arguments: dict) -> None:
        self.arguments, self.rows, self.summary, self.exit_code = arguments, [], {}, None

    def define_metric(self, name, step_metric):
        assert step_metric.endswith("_step")

    def log(self, row):
        self.rows.append(row)
        self.summary.update(row)

    def finish(self, exit_code=0):
        self.exit_code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A module wandb that keeps runs by id, as the server does."""
    module = types.ModuleType("wandb")
    module.__version__ = "0.22.0"
    module.runs = {}
    module.init = lambda **arguments: module.runs.setdefault(arguments["id"], FakeRun(arguments))
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_every_record_once(tmp_path, wandb):
    class Dies(Messages):
        def on_progress(self, step):
            if step == 60:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(toy_data(), SMALL, settings(wandb="p", checkpoint_every=20), out=tmp_path / "r", observer=Dies())
    ((_, run),) = wandb.runs.items()
    assert run.exit_code == 1
    assert len(run.rows) == 5
    train(toy_data(), SMALL, settings(wandb="p"), out=tmp_path / "r", resume=True)
    ((_, run),) = wandb.runs.items()
    assert run.exit_code == 0
    assert run.arguments["project"] == "p"
    assert run.arguments["name"] == "r"
    assert run.arguments["config"]["alpha_freq"] == 5
    assert [row["train_step"] for row in run.rows] == [10, 20, 30, 40, 50, 60]
    critic = [record["critic_loss"] for record in records(tmp_path / "r")]
    assert [row["train/critic_loss"] for row in run.rows] == critic


def test_wandb_that_joins_late_gets_what_was_before(tmp_path, wandb):
    train(toy_data(), SMALL, settings(steps=20), out=tmp_path / "r")
    train(toy_data(), SMALL, settings(wandb="p"), out=tmp_path / "r", resume=True)
    ((_, run),) = wandb.runs.items()
    assert [row["train_step"] for row in run.rows] == [10, 20, 30, 40, 50, 60]


def test_wandb_in_a_sweep_has_a_run_for_each(tmp_path, wandb):
    data = write_data(tmp_path / "data.hdf5", env=None)
    tiny = {name: SETTINGS[name] for name in ("steps", "log_every", "checkpoint_every", "device", "engine")}
    chosen = SweepSettings(**tiny, workers=0, eval_every=0, final_episodes=0, wandb="p")
    sweep([data], [0, 1], tmp_path / "s", base=SMALL, settings=chosen)
    assert sorted(run.arguments["name"] for run in wandb.runs.values()) == ["data-aspc-seed0", "data-aspc-seed1"]
    for run in wandb.runs.values():
        assert (run.arguments["group"], run.arguments["reinit"], run.exit_code) == ("s", "create_new", 0)
        assert [row["train_step"] for row in run.rows if "train_step" in row] == [10, 20, 30, 40, 50, 60]
        assert "system/run_updates_per_second" in run.summary


def test_wandb_missing_or_without_login_is_said_before_training(tmp_path, without, wandb, capsys):
    def refuse(**_):
        raise RuntimeError("api_key not configured\nmore")

    wandb.init = refuse
    data = write_data(tmp_path / "data.hdf5", env=None)
    with pytest.raises(UserError, match=r"api_key not configured\).*wandb login"):
        train(toy_data(), SMALL, settings(wandb="p"), out=tmp_path / "r")
    assert not (tmp_path / "r/config.json").exists()
    (tmp_path / "r/wandb.json").write_text("[]")
    with pytest.raises(UserError, match=r"wandb\.json"):
        train(toy_data(), SMALL, settings(wandb="p"), out=tmp_path / "r")
    without("wandb")
    for command in (["train", str(data)], ["sweep", "--data", str(data)]):
        with pytest.raises(SystemExit) as exit_info:
            main([*command, "--wandb", "p", "--out", str(tmp_path / "x")])
        assert exit_info.value.code == 2
        assert "pip install 'aspc_fast[wandb]'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_wandb_too_old_for_sweeps_is_refused(tmp_path, wandb):
    wandb.__version__ = "0.17.4"
    data = write_data(tmp_path / "data.hdf5", env=None)
    with pytest.raises(UserError, match=r"0\.19\.10"):
        sweep([data], [0, 1], tmp_path / "s", base=SMALL, settings=SweepSettings(steps=20, device="cpu", wandb="p"))


def test_importing_and_asking_for_help_loads_no_logger(tmp_path):
    code = """
import sys
import aspc_fast
from aspc_fast.cli import main
try:
    main(["train", "--help"])
except SystemExit as done:
    assert done.code == 0
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"tensorboard", "wandb"}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "--no-tensorboard" in done.stdout
    assert "--wandb" in done.stdout
