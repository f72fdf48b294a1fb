"""What is damaged and read back: every kind of file this package reads, and what its reader must give."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from aspc_fast.config import AgentConfig
from aspc_fast.data import download
from aspc_fast.data.load import load
from aspc_fast.data.transitions import Transitions
from aspc_fast.report.build import build_report
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.results.export import export, load_exported
from aspc_fast.results.load import load_run
from aspc_fast.run.plan import PlannedRun
from aspc_fast.run.schedule import Schedule
from aspc_fast.run.shard import Shard, ShardSource, read_shard
from aspc_fast.run.train import TrainSettings, train
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import toy_data

Content = dict[str, np.ndarray]
SMALL = AgentConfig(hidden_dim=8, batch_size=8, alpha_freq=2)
SETTINGS = TrainSettings(
    steps=40, eval_every=0, log_every=10, checkpoint_every=20, device="cpu", engine="eager", tensorboard=False
)
MINARI = "fuzz/box-v0"


@dataclass(frozen=True)
class Target:
    """build(folder) makes the files, read(folder) gives what was read; ``files``: patterns of what may be damaged.

    exact: a checksum covers every byte, so that what is accepted must be the original. bytewise: it does not, but a
    damaged byte may change no more than the one entry it belongs to. rules: what holds of whatever is accepted.
    """

    name: str
    build: Callable[[Path], object]
    read: Callable[[Path], Content]
    files: tuple[str, ...]
    exact: bool = False
    bytewise: bool = False
    rules: Callable[[Content], None] = lambda content: None


def fields(rows: int = 60) -> Content:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(rows, 5)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "next_observations": rng.normal(size=(rows, 5)).astype(np.float32),
        "terminals": np.arange(rows) % 20 == 9,
        "timeouts": np.arange(rows) % 20 == 19,
    }


def build_hdf5(folder: Path, **options: object) -> None:
    for name in ("data.hdf5", "secret.hdf5"):
        with h5py.File(folder / name, "w") as file:
            for key, array in fields().items():
                chunks = {"chunks": (16, *array.shape[1:])} if options else {}
                file.create_dataset(key, data=array, **chunks, **options)
            file.attrs.update({"env_id": "none", "max_action": 1.0, "how": "by hand"})
    (folder / "secret.bin").write_bytes(np.zeros(600, np.float32).tobytes())


def build_npz(folder: Path, compressed: bool = False) -> None:
    (np.savez_compressed if compressed else np.savez)(folder / "data.npz", **fields())


def build_minari(folder: Path) -> None:
    data = folder / "root" / MINARI / "data"
    data.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for number in range(3):
            group = file.create_group(f"episode_{number}")
            group.attrs["total_steps"] = 20
            group["observations"] = rng.normal(size=(21, 5))
            group["actions"] = rng.uniform(-1, 1, (20, 2))
            group["rewards"] = rng.normal(size=20)
            group["terminations"] = np.zeros(20, bool)
            group["truncations"] = np.arange(20) == 19
    space = '{"type": "Box", "dtype": "float64", "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}'
    spec = '{"id": "Odd-v0", "entry_point": "os:getcwd"}'
    metadata = {"total_episodes": 3, "total_steps": 60, "data_format": "hdf5", "action_space": space, "env_spec": spec}
    (data / "metadata.json").write_text(json.dumps(metadata))


def read_minari(folder: Path) -> Content:
    os.environ["MINARI_DATASETS_PATH"] = str(folder / "root")
    return content(load(MINARI))


def content(data: Transitions) -> Content:
    names = (
        "observations",
        "actions",
        "rewards",
        "next_observations",
        "terminals",
        "episode_returns",
        "episode_lengths",
    )
    return {name: getattr(data, name) for name in names} | {"max_action": np.float64(data.max_action)}


def dataset_rules(read: Content) -> None:
    """What training relies on, whatever the file was."""
    rows = len(read["rewards"])
    assert rows and all(len(read[n]) == rows for n in ("observations", "actions", "next_observations", "terminals"))
    assert read["observations"].shape == read["next_observations"].shape
    for name in ("observations", "actions", "rewards", "next_observations"):
        assert read[name].dtype == np.float32 and np.isfinite(read[name]).all(), name
    assert (np.abs(read["actions"]) <= np.float32(read["max_action"])).all()
    assert read["terminals"].dtype == bool and (read["terminals"].view(np.uint8) <= 1).all()
    assert (read["episode_lengths"] >= 1).all()


def build_run(folder: Path) -> None:
    train(toy_data(rows=100), SMALL, SETTINGS, out=folder / "run")


def read_checkpoint(folder: Path) -> Content:
    return {name: tensor.numpy() for name, tensor in load_checkpoint(folder / "run/checkpoints").tensors.items()}


def read_resumed(folder: Path) -> Content:
    settings = TrainSettings(**(vars(SETTINGS) | {"steps": 60}))
    run = train(toy_data(rows=100), SMALL, settings, out=folder / "run", resume=True)
    records = [str({**record, "updates_per_second": 0.0}) for record in run.records]
    return read_checkpoint(folder) | {"records": np.array(records)}


def read_policy(folder: Path) -> Content:
    loaded = load_run(folder / "run")
    return {"actions": loaded.policy(np.linspace(-1, 1, 20).reshape(4, 5)), "step": np.array(loaded.step)}


def read_report(folder: Path) -> Content:
    build_report([folder / "run"], folder / "report")
    return {}


def build_export(folder: Path) -> None:
    build_run(folder)
    export(folder / "run", "safetensors", folder / "policy.safetensors")


def read_export(folder: Path) -> Content:
    loaded = load_exported(folder / "policy.safetensors")
    return {"actions": loaded.policy(np.linspace(-1, 1, 20).reshape(4, 5))}


def build_trace(folder: Path) -> None:
    from aspc_fast import reference
    from tests.helpers import record_trace

    record_trace(folder / "trace.npz", reference.Config(alpha_freq=2), steps=4, batch=4)


def read_the_trace(folder: Path) -> Content:
    trace = read_trace(folder / "trace.npz")
    verify(trace)
    return dict(trace.arrays)


def build_shard(folder: Path) -> None:
    Shard(
        numbers=[0, 1],
        runs=[PlannedRun(0, SMALL, seed) for seed in (0, 1)],
        sources=[ShardSource("data.hdf5", "0" * 64, None)],
        schedule=Schedule(40, 0, 1, 10, 20),
        device="cpu",
        engine="eager",
        store_next=True,
        workers=0,
    ).write(folder / "000")


def read_the_shard(folder: Path) -> Content:
    return {"all": np.array(str(read_shard(folder / "000")))}


def build_checksums(folder: Path) -> None:
    for name in ("a.hdf5", "b.hdf5"):
        (folder / name).write_bytes(name.encode() * 100)
        download.record(folder / name, download.sha256(folder / name), "by hand")


def read_checksums(folder: Path) -> Content:
    for name in ("a.hdf5", "b.hdf5"):
        download.verify_checksum(folder / name)
    return {}


HDF5, NPZ = ("data.hdf5",), ("data.npz",)
RUN = ("run/config.json", "run/metrics.jsonl", "run/checkpoints/*.json", "run/checkpoints/*.safetensors")
TARGETS = (
    Target("hdf5", build_hdf5, lambda f: content(load(f / "data.hdf5")), HDF5, bytewise=True, rules=dataset_rules),
    Target(
        "hdf5, gzip",
        lambda f: build_hdf5(f, compression="gzip", fletcher32=True),
        lambda f: content(load(f / "data.hdf5")),
        HDF5,
        bytewise=True,
        rules=dataset_rules,
    ),
    Target("npz", build_npz, lambda f: content(load(f / "data.npz")), NPZ, exact=True, rules=dataset_rules),
    Target(
        "npz, compressed",
        lambda f: build_npz(f, compressed=True),
        lambda f: content(load(f / "data.npz")),
        NPZ,
        exact=True,
        rules=dataset_rules,
    ),
    Target("minari", build_minari, read_minari, (f"root/{MINARI}/data/*",), bytewise=True, rules=dataset_rules),
    Target("checkpoint", build_run, read_checkpoint, RUN[2:], exact=True),
    Target("resume", build_run, read_resumed, RUN, exact=True),
    Target("policy of a run", build_run, read_policy, (RUN[0], *RUN[2:]), exact=True),
    Target("report", build_run, read_report, (*RUN[:2], "run/summary.json")),
    Target("exported policy", build_export, read_export, ("policy.safetensors",)),
    Target("golden trace", build_trace, read_the_trace, ("trace.npz",), exact=True),
    Target("shard of a sweep", build_shard, read_the_shard, ("000/shard.json",), exact=True),
    Target("checksums of downloads", build_checksums, read_checksums, ("checksums.json",)),
)
