"""ReBRAC in plain PyTorch, one run, top to bottom. After tinkoff-ai/CORL, algorithms/offline/rebrac.py (JAX).

TD3 with a penalty on the distance to the dataset's actions in the actor's loss and in the critic's target. Three things
differ from TD3+BC's habits: the first update already has an actor step; LayerNorm's eps is flax's 1e-6; and the actor's
target moves towards the actor from before the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.references import common
from tests.references.common import Actor, Critic, descend, detached, edac_init, mlp


@dataclass(frozen=True)
class Config:
    """Hyper-parameters under CORL's names."""

    gamma: float = 0.99
    tau: float = 0.005
    actor_bc_coef: float = 1.0
    critic_bc_coef: float = 1.0
    actor_learning_rate: float = 1e-3
    critic_learning_rate: float = 1e-3
    actor_ln: bool = False
    critic_ln: bool = True
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    normalize_q: bool = True
    hidden_dim: int = 256
    actor_n_hiddens: int = 3
    critic_n_hiddens: int = 3
    layernorm_eps: float = 1e-6


class Trainer(common.Trainer):
    """One run. ``train_step`` is the whole algorithm."""

    config_type = Config
    initial = ("actor", "critic_1", "critic_2")
    derived: ClassVar = {f"{name}_target": name for name in initial}

    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """Actions are in +-1."""
        if self.max_action != 1.0:
            raise ValueError(f"max_action is {self.max_action}, but ReBRAC's actions are in [-1, 1]")
        c = self.config

        def net(inputs: int, hiddens: int, outputs: int, has_ln: bool, last_bound: float) -> nn.Sequential:
            widths = [inputs, *[c.hidden_dim] * hiddens, outputs]
            return mlp(widths, c.layernorm_eps if has_ln else None, edac_init(last_bound))

        actor = Actor(net(obs_dim, c.actor_n_hiddens, act_dim, c.actor_ln, 1e-3))
        critics = [Critic(net(obs_dim + act_dim, c.critic_n_hiddens, 1, c.critic_ln, 3e-3)) for _ in range(2)]
        return dict(zip(self.initial, (actor, *critics), strict=True))

    def make_optimizers(self) -> None:
        """Actor and critics apart."""
        self.actor_optimizer = self.adam(self.config.actor_learning_rate, "actor")
        self.critic_optimizer = self.adam(self.config.critic_learning_rate, "critic_1", "critic_2")

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state, next_state [B, D]; action, next_action (the dataset's), noise_raw [B, A];
        reward, done [B, 1]."""
        c = self.config
        state, action, next_state = batch["state"], batch["action"], batch["next_state"]

        with torch.no_grad():
            noise = (c.policy_noise * batch["noise_raw"]).clamp(-c.noise_clip, c.noise_clip)
            next_action = (self.actor_target(next_state) + noise).clamp(-1, 1)
            next_bc = ((next_action - batch["next_action"]) ** 2).sum(1, keepdim=True)
            next_q = torch.min(
                self.critic_1_target(next_state, next_action), self.critic_2_target(next_state, next_action)
            )
            next_q = next_q - c.critic_bc_coef * next_bc
            target_q = batch["reward"] + (1 - batch["done"]) * c.gamma * next_q

        q1, q2 = self.critic_1(state, action), self.critic_2(state, action)
        critic_loss = F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q)
        descend(self.critic_optimizer, critic_loss)

        logs = {
            "critic_loss": critic_loss,
            "q_min": torch.min(q1, q2).mean(),
            "q1_mean": q1.mean(),
            "q2_mean": q2.mean(),
            "target_q_mean": target_q.mean(),
            "next_bc_mean": next_bc.mean(),
            "next_q_mean": next_q.mean(),
        }
        if self.steps % c.policy_freq == 0:
            self.move(
                c.tau, *self.derived
            )  # before the actor's step, as the source does: its target sees the old actor
            logs |= self.actor_step(state, action)
        self.steps += 1
        return detached(logs)

    def actor_step(self, state: Tensor, action: Tensor) -> dict[str, Tensor]:
        """One Adam step of the actor against the smaller of the updated critics."""
        c = self.config
        pi = self.actor(state)
        bc = ((pi - action) ** 2).sum(1, keepdim=True)
        q = torch.min(self.critic_1(state, pi), self.critic_2(state, pi))
        q_abs = q.abs().mean().detach()
        lmbda = 1 / q_abs if c.normalize_q else torch.ones_like(q_abs)
        actor_loss = (c.actor_bc_coef * bc - lmbda * q).mean()
        descend(self.actor_optimizer, actor_loss)
        return {
            "actor_loss": actor_loss,
            "bc_mse_policy": bc.mean(),
            "action_mse": F.mse_loss(pi, action),
            "q_pi_mean": q.mean(),
            "q_abs_mean": q_abs,
            "lmbda": lmbda,
        }
