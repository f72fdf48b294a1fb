"""Read a finished (or interrupted) run back, alone or from a sweep: its policy and what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aspc_fast.agent.layout import Dims
from aspc_fast.config import AgentConfig
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.errors import UserError
from aspc_fast.files import read_json
from aspc_fast.registry import algorithm
from aspc_fast.results.checkpoint import Checkpoint, checkpoint_normaliser, load_checkpoint
from aspc_fast.results.names import CHECKPOINTS, CONFIG, SHARD
from aspc_fast.results.policy import Policy


@dataclass(frozen=True)
class LoadedRun:
    """A run's last checkpoint: the policy, its training step, the simulator task (or None) and the maze frame.

    ``env`` is the task's environment where the data told it, ``dataset`` the dataset's id or its file's stem.
    """

    policy: Policy
    step: int
    task: str | None
    frame: str
    env: str | None = None
    dataset: str = ""
    algo: str = ""
    seed: int = 0


def load_run(folder: Path, run: int | None = None) -> LoadedRun:
    """The last checkpoint of a results folder; UserError naming the file and field if it is missing or damaged.

    ``folder``: of `train`, or of `sweep` with the number of the run wanted (not needed where there is only one).
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: not a results folder ({CONFIG} is missing)")
    described = read_json(path)
    try:
        if described.get("kind") == "sweep":
            return _of_sweep(folder, described, run)
        if run is not None:
            raise UserError(f"{folder}: holds a single run; leave out the run's number ({run})")
        config, data = AgentConfig.from_json(described["agent"]), described["dataset"]
        name, seed = data["id"] or Path(data["source"]).stem, int(described["settings"]["seed"])
        saved = load_checkpoint(folder / CHECKPOINTS)
        dims = _dims([data])
        return _loaded(folder / CHECKPOINTS, saved, config, data, dims, name=name, seed=seed)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: damaged, field {error} is missing or of the wrong type") from None


def _of_sweep(folder: Path, described: dict[str, Any], run: int | None) -> LoadedRun:
    runs = described["runs"]
    if run is None and len(runs) == 1:
        run = 0
    if run is None or not 0 <= run < len(runs):
        wrong = "say which" if run is None else f"there is no run {run}"
        shown = [f"{r['run']} = {r['dataset']} {r['algo']} {r['setting']} seed {r['seed']}" for r in runs[:3]]
        more = ", ..." if len(runs) > len(shown) else ""
        names = ", ".join(" ".join(name.split()) for name in shown)
        raise UserError(f"{folder}: a sweep of {len(runs)} runs, {wrong} with --run N ({names}{more})")
    for shard in sorted((folder / "shards").iterdir()) if (folder / "shards").is_dir() else []:
        part = read_json(shard / SHARD)
        if run not in part["runs"]:
            continue
        position, used = part["runs"].index(run), sorted({int(planned["dataset"]) for planned in part["planned"]})
        dataset, config = int(part["planned"][position]["dataset"]), AgentConfig.from_json(runs[run]["agent"])
        datasets = described["datasets"]
        return _loaded(
            shard / CHECKPOINTS,
            load_checkpoint(shard / CHECKPOINTS),
            config,
            datasets[dataset],
            _dims([datasets[i] for i in used]),
            name=runs[run]["dataset"],
            seed=int(runs[run]["seed"]),
            place=(position, len(part["runs"]), used.index(dataset)),
        )
    raise UserError(f"{folder}: no shard holds run {run}; was the sweep interrupted while it began?")


def _dims(datasets: list[dict[str, Any]]) -> Dims:
    """The padded dimensions of a population on ``datasets``: as wide as the widest."""
    return Dims(*(max(int(data[name]) for data in datasets) for name in ("obs_dim", "act_dim")))


def _loaded(
    where: Path,
    saved: Checkpoint,
    config: AgentConfig,
    data: dict[str, Any],
    padded: Dims,
    *,
    name: str,
    seed: int,
    place: tuple[int, int, int] = (0, 1, 0),
) -> LoadedRun:
    """``place``: the run's index in its population, the population's size, and the index of its dataset there."""
    run, runs, dataset = place
    obs_dim, act_dim = int(data["obs_dim"]), int(data["act_dim"])
    declared = algorithm(config.algo)
    network = declared.networks(config)[declared.policy].mlp
    actor, (mean, std) = saved.tensors.get(f"state.{declared.policy}"), checkpoint_normaliser(saved, dataset)
    if actor is None or mean is None or std is None or actor.shape != (runs, network.layout(padded).size):
        raise UserError(f"{where}: the checkpoint does not hold the actor that {CONFIG} describes")
    if mean.shape != (obs_dim,) or std.shape != (obs_dim,):
        raise UserError(f"{where}: normaliser of shape {tuple(mean.shape)}, expected {(obs_dim,)}")
    if not torch.isfinite(actor[run]).all():
        raise UserError(f"{where}: the policy of this run holds NaN or infinity, training has diverged")
    normaliser = Normaliser(mean.numpy(), std.numpy())
    flat, bound = actor[run].float(), float(data["max_action"])
    policy = Policy.from_padded(flat, network, padded, obs_dim, act_dim, normaliser, bound)
    task, step = data["id"] or data["env"], int(saved.meta["step"])
    return LoadedRun(policy, step, task, str(data["frame"]), data["env"], name, config.algo, seed)
