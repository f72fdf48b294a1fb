"""IQL in plain PyTorch, one run, top to bottom. After tinkoff-ai/CORL, algorithms/offline/iql.py.

V learns an expectile of the target critics, Q learns from V, the actor is regressed on the dataset's actions with
weights exp(beta * advantage). ``max_action`` scales actions for the environment only, not in the likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.references import common
from tests.references.common import descend, detached


@dataclass(frozen=True)
class Config:
    """Hyper-parameters under CORL's names; dropout acts on the deterministic actor only, as in CORL."""

    discount: float = 0.99
    tau: float = 0.005
    iql_tau: float = 0.7
    beta: float = 3.0
    vf_lr: float = 3e-4
    qf_lr: float = 3e-4
    actor_lr: float = 3e-4
    max_timesteps: int = 1_000_000
    iql_deterministic: bool = False
    actor_dropout: float | None = None
    exp_adv_max: float = 100.0
    log_std_min: float = -20.0
    log_std_max: float = 2.0
    hidden_dim: int = 256


class MLP(nn.Module):
    """Two hidden ReLU layers. Dropout's masks (1 = kept) are given, one per hidden layer."""

    def __init__(self, width_in: int, width_out: int, hidden: int, dropout: float | None = None) -> None:
        super().__init__()
        drop = [] if dropout is None else [nn.Dropout(dropout)]
        self.net = nn.Sequential(
            *(nn.Linear(width_in, hidden), nn.ReLU(), *drop),
            *(nn.Linear(hidden, hidden), nn.ReLU(), *drop),
            nn.Linear(hidden, width_out),
        )

    def forward(self, x: Tensor, masks: tuple[Tensor, ...] = ()) -> Tensor:
        kept = iter(masks)
        for layer in self.net:
            x = x * next(kept) / (1 - layer.p) if isinstance(layer, nn.Dropout) else layer(x)
        return x


class Actor(nn.Module):
    """tanh of an MLP: the mean of a Gaussian with a free log_std [A], or the action itself."""

    def __init__(self, obs_dim: int, act_dim: int, config: Config) -> None:
        super().__init__()
        if not config.iql_deterministic:
            self.log_std = nn.Parameter(torch.zeros(act_dim))
        dropout = config.actor_dropout if config.iql_deterministic else None
        self.net = MLP(obs_dim, act_dim, config.hidden_dim, dropout)

    def forward(self, state: Tensor, masks: tuple[Tensor, ...] = ()) -> Tensor:
        return torch.tanh(self.net(state, masks))


class TwinQ(nn.Module):
    """Two critics (s, a) -> [B] each."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: int) -> None:
        super().__init__()
        self.q1 = MLP(obs_dim + act_dim, 1, hidden)
        self.q2 = MLP(obs_dim + act_dim, 1, hidden)

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        state_action = torch.cat([state, action], dim=1)
        return self.q1(state_action).squeeze(1), self.q2(state_action).squeeze(1)


class Value(nn.Module):
    """V(s) [B]."""

    def __init__(self, obs_dim: int, hidden: int) -> None:
        super().__init__()
        self.v = MLP(obs_dim, 1, hidden)

    def forward(self, state: Tensor) -> Tensor:
        return self.v(state).squeeze(1)


class Trainer(common.Trainer):
    """One run. ``train_step`` is the whole algorithm."""

    config_type = Config
    initial = ("actor", "qf", "vf")
    derived: ClassVar = {"q_target": "qf"}

    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """All have the same width."""
        hidden = self.config.hidden_dim
        actor = Actor(obs_dim, act_dim, self.config)
        return {"actor": actor, "qf": TwinQ(obs_dim, act_dim, hidden), "vf": Value(obs_dim, hidden)}

    def make_optimizers(self) -> None:
        """One for each network, and the actor's schedule."""
        c = self.config
        self.vf_optimizer, self.qf_optimizer = self.adam(c.vf_lr, "vf"), self.adam(c.qf_lr, "qf")
        self.actor_optimizer = self.adam(c.actor_lr, "actor")
        self.actor_schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_optimizer, c.max_timesteps)

    @property
    def drops_out(self) -> bool:
        """Whether updates need dropout masks."""
        return self.config.iql_deterministic and self.config.actor_dropout is not None

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The random numbers of one update, by their names in the batch."""
        if not self.drops_out:
            return {}
        keep = torch.full((batch_size, self.config.hidden_dim), 1 - (self.config.actor_dropout or 0.0))
        return {f"dropout_mask_{i}": torch.bernoulli(keep, generator=generator) for i in (1, 2)}

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state, next_state [B, D]; action [B, A]; reward, done [B, 1]; dropout_mask_1, _2 [B, hidden]."""
        c = self.config
        state, action = batch["state"], batch["action"]

        with torch.no_grad():
            next_v = self.vf(batch["next_state"])
            target_q = torch.min(*self.q_target(state, action))

        v = self.vf(state)
        advantage = target_q - v
        negative = (advantage < 0).to(v.dtype)
        value_loss = ((c.iql_tau - negative).abs() * advantage**2).mean()
        descend(self.vf_optimizer, value_loss)

        backup = batch["reward"].squeeze(1) + c.discount * (1 - batch["done"].squeeze(1)) * next_v
        q1, q2 = self.qf(state, action)
        q_loss = (F.mse_loss(q1, backup) + F.mse_loss(q2, backup)) / 2
        descend(self.qf_optimizer, q_loss)
        self.move(c.tau, "q_target")

        logs = {
            "value_loss": value_loss,
            "v_mean": v.mean(),
            "target_q_mean": target_q.mean(),
            "adv_mean": advantage.mean(),
            "adv_pos_frac": (advantage > 0).to(v.dtype).mean(),
            "q_loss": q_loss,
            "q1_mean": q1.mean(),
            "q2_mean": q2.mean(),
            "next_v_mean": next_v.mean(),
            "backup_mean": backup.mean(),
        }
        logs |= self.actor_step(batch, advantage.detach())
        return detached(logs)

    def actor_step(self, batch: dict[str, Tensor], advantage: Tensor) -> dict[str, Tensor]:
        """One Adam step of the weighted regression; the advantage [B] is from before V's update."""
        c = self.config
        state, action = batch["state"], batch["action"]
        exp_adv = torch.exp(c.beta * advantage)
        weight = exp_adv.clamp(max=c.exp_adv_max)
        masks = (batch["dropout_mask_1"], batch["dropout_mask_2"]) if self.drops_out else ()
        mean = self.actor(state, masks)
        if c.iql_deterministic:
            bc_loss = ((mean - action) ** 2).sum(1)
        else:
            log_std = self.actor.log_std.clamp(c.log_std_min, c.log_std_max)
            z = (action - mean) / log_std.exp()
            bc_loss = (0.5 * z**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(1)
        actor_loss = (weight * bc_loss).mean()
        lr_used = self.actor_optimizer.param_groups[0]["lr"]
        descend(self.actor_optimizer, actor_loss)
        self.actor_schedule.step()
        logs = {
            "actor_loss": actor_loss,
            "exp_adv_mean": weight.mean(),
            "exp_adv_clipped_frac": (exp_adv > c.exp_adv_max).to(weight.dtype).mean(),
            "bc_loss_mean": bc_loss.mean(),
            "actor_lr_used": torch.tensor(lr_used, dtype=weight.dtype),
            "actor_lr_after": torch.tensor(self.actor_optimizer.param_groups[0]["lr"], dtype=weight.dtype),
        }
        if not c.iql_deterministic:
            logs["log_std_mean_after"] = self.actor.log_std.mean()
        return logs
