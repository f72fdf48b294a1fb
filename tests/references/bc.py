"""Behaviour cloning in plain PyTorch: TD3+BC's actor on its constraint alone, the mean squared error of the actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.references import common
from tests.references.common import Actor, descend, mlp


@dataclass(frozen=True)
class Config:
    """Hyper-parameters; the actor learns on every ``policy_freq``-th update."""

    policy_freq: int = 1
    lr: float = 3e-4
    hidden_dim: int = 256


class Trainer(common.Trainer):
    """One run. ``train_step`` is the whole algorithm."""

    config_type = Config
    initial = ("actor",)

    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """TD3+BC's actor."""
        h = self.config.hidden_dim
        return {"actor": Actor(mlp([obs_dim, h, h, act_dim]), self.max_action)}

    def make_optimizers(self) -> None:
        """The actor's."""
        self.actor_optimizer = self.adam(self.config.lr, "actor")

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Behaviour cloning draws nothing."""
        return {}

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state [B, D]; action [B, A]; the rest of the batch is not read."""
        self.steps += 1
        if self.steps % self.config.policy_freq:
            return {}
        bc_mse = F.mse_loss(self.actor(batch["state"]), batch["action"])
        descend(self.actor_optimizer, bc_mse)
        return {"actor_loss": bc_mse.detach(), "bc_mse": bc_mse.detach()}
