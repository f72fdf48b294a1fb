"""ReBRAC in plain PyTorch, one run, top to bottom. After tinkoff-ai/CORL, algorithms/offline/rebrac.py (JAX).

TD3 with a penalty on the distance to the dataset's actions in the actor's loss and in the critic's target. Three things
differ from TD3+BC's habits: the first update already has an actor step; LayerNorm's eps is flax's 1e-6; and the actor's
target moves towards the actor from before the step.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def mlp(widths: list[int], layernorm_eps: float | None, last_bound: float) -> nn.Sequential:
    """Linear, ReLU (and LayerNorm) for every hidden layer, then Linear; initialised as in the EDAC paper."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths[:-1]):
        linear = nn.Linear(width_in, width_out)
        bound = 1 / math.sqrt(width_in)
        nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.constant_(linear.bias, 0.1)
        layers += [linear, nn.ReLU()]
        if layernorm_eps is not None:
            layers.append(nn.LayerNorm(width_out, eps=layernorm_eps))
    last = nn.Linear(widths[-2], widths[-1])
    nn.init.uniform_(last.weight, -last_bound, last_bound)
    nn.init.uniform_(last.bias, -last_bound, last_bound)
    return nn.Sequential(*layers, last)


class Actor(nn.Module):
    """Deterministic policy: observations [B, D] -> actions [B, A] in +-1."""

    def __init__(self, obs_dim: int, act_dim: int, c: Config) -> None:
        super().__init__()
        widths = [obs_dim, *[c.hidden_dim] * c.actor_n_hiddens, act_dim]
        self.net = mlp(widths, c.layernorm_eps if c.actor_ln else None, 1e-3)

    def forward(self, state: Tensor) -> Tensor:
        return torch.tanh(self.net(state))


class Critic(nn.Module):
    """Q(s, a) [B, 1]."""

    def __init__(self, obs_dim: int, act_dim: int, c: Config) -> None:
        super().__init__()
        widths = [obs_dim + act_dim, *[c.hidden_dim] * c.critic_n_hiddens, 1]
        self.net = mlp(widths, c.layernorm_eps if c.critic_ln else None, 3e-3)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([state, action], dim=1))


class Trainer:
    """One run. ``train_step`` is the whole algorithm."""

    initial = ("actor", "critic_1", "critic_2")
    derived = ("actor_target", "critic_1_target", "critic_2_target")

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        max_action: float = 1.0,
        config: Config | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        if max_action != 1.0:
            raise ValueError(f"max_action is {max_action}, but ReBRAC's actions are in [-1, 1]")
        self.config = c = config or Config()
        self.act_dim = act_dim
        self.actor = Actor(obs_dim, act_dim, c).to(device, dtype)
        self.critic_1 = Critic(obs_dim, act_dim, c).to(device, dtype)
        self.critic_2 = Critic(obs_dim, act_dim, c).to(device, dtype)
        self.reset()

    def reset(self) -> None:
        """Targets become copies, optimisers and counters start anew."""
        c = self.config
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_1_target = copy.deepcopy(self.critic_1)
        self.critic_2_target = copy.deepcopy(self.critic_2)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=c.actor_learning_rate)
        critic_params = [*self.critic_1.parameters(), *self.critic_2.parameters()]
        self.critic_optimizer = torch.optim.Adam(critic_params, lr=c.critic_learning_rate)
        self.steps = 0

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The random numbers of one update, by their names in the batch."""
        return {"noise_raw": torch.randn(batch_size, self.act_dim, generator=generator)}

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
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

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
            with torch.no_grad():  # before the actor's step, as the source does: its target sees the old actor
                for name in ("actor", "critic_1", "critic_2"):
                    online, target = getattr(self, name), getattr(self, f"{name}_target")
                    for p_target, p in zip(target.parameters(), online.parameters(), strict=True):
                        p_target.copy_(c.tau * p + (1 - c.tau) * p_target)
            logs |= self.actor_step(state, action)
        self.steps += 1
        return {name: value.detach() for name, value in logs.items()}

    def actor_step(self, state: Tensor, action: Tensor) -> dict[str, Tensor]:
        """One Adam step of the actor against the smaller of the updated critics."""
        c = self.config
        pi = self.actor(state)
        bc = ((pi - action) ** 2).sum(1, keepdim=True)
        q = torch.min(self.critic_1(state, pi), self.critic_2(state, pi))
        q_abs = q.abs().mean().detach()
        lmbda = 1 / q_abs if c.normalize_q else torch.ones_like(q_abs)
        actor_loss = (c.actor_bc_coef * bc - lmbda * q).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        return {
            "actor_loss": actor_loss,
            "bc_mse_policy": bc.mean(),
            "action_mse": F.mse_loss(pi, action),
            "q_pi_mean": q.mean(),
            "q_abs_mean": q_abs,
            "lmbda": lmbda,
        }
