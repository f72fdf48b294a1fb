"""Behaviour cloning in plain PyTorch: TD3+BC's actor on its constraint alone, the mean squared error of the actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Hyper-parameters; the actor learns on every ``policy_freq``-th update."""

    policy_freq: int = 1
    lr: float = 3e-4
    hidden_dim: int = 256


class Actor(nn.Module):
    """Deterministic policy: observations [B, D] -> actions [B, A] in +-max_action."""

    def __init__(self, obs_dim: int, act_dim: int, max_action: float, hidden: int) -> None:
        super().__init__()
        self.max_action = max_action
        self.net = nn.Sequential(
            *(nn.Linear(obs_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
            *(nn.Linear(hidden, act_dim), nn.Tanh()),
        )

    def forward(self, state: Tensor) -> Tensor:
        return self.max_action * self.net(state)


class Trainer:
    """One run. ``train_step`` is the whole algorithm."""

    initial = ("actor",)
    derived: tuple[str, ...] = ()

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        max_action: float = 1.0,
        config: Config | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config or Config()
        self.actor = Actor(obs_dim, act_dim, max_action, self.config.hidden_dim).to(device, dtype)
        self.reset()

    def reset(self) -> None:
        """The optimiser and the counter start anew."""
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=self.config.lr)
        self.steps = 0

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Behaviour cloning draws nothing."""
        return {}

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state [B, D]; action [B, A]; the rest of the batch is not read."""
        self.steps += 1
        if self.steps % self.config.policy_freq:
            return {}
        bc_mse = F.mse_loss(self.actor(batch["state"]), batch["action"])
        self.actor_optimizer.zero_grad()
        bc_mse.backward()
        self.actor_optimizer.step()
        return {"actor_loss": bc_mse.detach(), "bc_mse": bc_mse.detach()}
