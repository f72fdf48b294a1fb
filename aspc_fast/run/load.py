"""Read a finished (or interrupted) run back: its policy and what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aspc_fast.agent.layout import Shapes
from aspc_fast.config import AgentConfig
from aspc_fast.data.replay import Normaliser
from aspc_fast.errors import UserError
from aspc_fast.files import read_json
from aspc_fast.run.checkpoint import load_checkpoint
from aspc_fast.run.loop import checkpoint_normaliser
from aspc_fast.run.policy import Policy
from aspc_fast.run.results import CHECKPOINTS, CONFIG


@dataclass(frozen=True)
class LoadedRun:
    """A run's last checkpoint: the policy, its training step, the simulator task (or None) and the maze frame."""

    policy: Policy
    step: int
    task: str | None
    frame: str


def load_run(folder: Path) -> LoadedRun:
    """The last checkpoint of a results folder; UserError naming the file and field if it is missing or damaged."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: not a results folder ({CONFIG} is missing)")
    described = read_json(path)
    try:
        data: dict[str, Any] = described["dataset"]
        config = AgentConfig.from_json(described["agent"])
        shapes = Shapes(int(data["obs_dim"]), int(data["act_dim"]), config.hidden_dim, config.critic_kind == "robust")
        max_action, frame = float(data["max_action"]), str(data["frame"])
        task = data["id"] or data["env"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged, field {error} is missing or of the wrong type") from None
    saved = load_checkpoint(folder / CHECKPOINTS)
    actor, (mean, std) = saved.tensors.get("state.actor"), checkpoint_normaliser(saved, 0)
    if actor is None or mean is None or std is None or actor.shape != (1, shapes.actor.size):
        raise UserError(f"{folder / CHECKPOINTS}: the checkpoint does not hold the actor that {CONFIG} describes")
    if mean.shape != (shapes.obs_dim,) or std.shape != (shapes.obs_dim,):
        raise UserError(
            f"{folder / CHECKPOINTS}: normaliser of shape {tuple(mean.shape)}, expected {(shapes.obs_dim,)}"
        )
    policy = Policy(actor[0].float(), shapes, Normaliser(mean.numpy(), std.numpy()), max_action)
    return LoadedRun(policy, int(saved.meta["step"]), task, frame)
