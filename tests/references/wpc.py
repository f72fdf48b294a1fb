"""wPC (weighted policy constraint) in plain PyTorch, one run, top to bottom.

TD3+BC whose behaviour cloning term keeps only the actions that the critic values above V(s). After
Colin-Jing/ASPC@3119fbe, algorithms/offline/wpc.py (robust critic) and qsa-fox/wPC (``robust_critic=False``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.references import common
from tests.references.common import Actor, Critic, Layers, descend, detached, edac_init, mlp


@dataclass(frozen=True)
class Config:
    """Hyper-parameters; policy_noise and noise_clip are in units of max_action."""

    discount: float = 0.99
    tau: float = 0.005
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    alpha: float = 2.5
    lr: float = 3e-4
    robust_critic: bool = True
    hidden_dim: int = 256


class Trainer(common.Trainer):
    """One run. ``train_step`` is the whole algorithm."""

    config_type = Config
    initial = ("actor", "critic_1", "critic_2", "vnet")
    derived: ClassVar = {f"{name}_target": name for name in ("actor", "critic_1", "critic_2")}

    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """Robust critics have three hidden layers with LayerNorm after ReLU, plain ones two and PyTorch's init."""
        h, robust = self.config.hidden_dim, self.config.robust_critic
        widths, norm = [obs_dim + act_dim, *[h] * (3 if robust else 2), 1], (1e-5, edac_init(3e-3)) if robust else ()
        return {
            "actor": Actor(mlp([obs_dim, h, h, act_dim]), self.max_action),
            "critic_1": Critic(mlp(widths, *norm)),
            "critic_2": Critic(mlp(widths, *norm)),
            "vnet": Layers(obs_dim, h, h, 1),
        }

    def make_optimizers(self) -> None:
        """All of one rate."""
        self.actor_optimizer = self.adam(self.config.lr, "actor")
        self.critic_optimizer = self.adam(self.config.lr, "critic_1", "critic_2")
        self.vnet_optimizer = self.adam(self.config.lr, "vnet")

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state, next_state [B, D]; action, noise_raw [B, A]; reward, done [B, 1]."""
        c = self.config
        self.steps += 1
        state, action = batch["state"], batch["action"]

        with torch.no_grad():
            clip = c.noise_clip * self.max_action
            noise = (batch["noise_raw"] * c.policy_noise * self.max_action).clamp(-clip, clip)
            next_state = batch["next_state"]
            next_action = (self.actor_target(next_state) + noise).clamp(-self.max_action, self.max_action)
            next_q = torch.min(
                self.critic_1_target(next_state, next_action), self.critic_2_target(next_state, next_action)
            )
            target_q = batch["reward"] + c.discount * (1 - batch["done"]) * next_q

        q1, q2 = self.critic_1(state, action), self.critic_2(state, action)
        critic_loss = F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q)
        descend(self.critic_optimizer, critic_loss)

        v = self.vnet(state)
        vnet_loss = F.mse_loss(v, target_q)
        descend(self.vnet_optimizer, vnet_loss)

        with torch.no_grad():  # the updated critic against V before its update
            q1_after = self.critic_1(state, action)
            weight = (q1_after > v).to(v.dtype)
        logs = {
            "critic_loss": critic_loss,
            "q1_mean": q1.mean(),
            "q2_mean": q2.mean(),
            "target_q_mean": target_q.mean(),
            "vnet_loss": vnet_loss,
            "bc_ratio": weight.mean(),
            "v_mean": v.mean(),
            "q1_after_mean": q1_after.mean(),
            "adv_mean": (q1_after - v).mean(),
        }
        if self.steps % c.policy_freq == 0:
            logs |= self.actor_step(state, action, weight)
            self.move(c.tau, *self.derived)
        return detached(logs)

    def actor_step(self, state: Tensor, action: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """One Adam step of the actor; the constraint's mean is over all actions, not over those kept."""
        pi = self.actor(state)
        q = self.critic_1(state, pi)
        lmbda = self.config.alpha / q.abs().mean().detach()
        bc_weighted = ((pi - action) ** 2 * weight).mean()
        actor_loss = -lmbda * q.mean() + bc_weighted
        descend(self.actor_optimizer, actor_loss)
        return {
            "actor_loss": actor_loss,
            "q_pi_mean": q.mean(),
            "q_abs_mean": q.abs().mean(),
            "alpha_used": torch.tensor(self.config.alpha, dtype=q.dtype),
            "lmbda": lmbda,
            "bc_mse": F.mse_loss(pi, action),
            "bc_weighted": bc_weighted,
        }
