"""wPC (weighted policy constraint) in plain PyTorch, one run, top to bottom.

TD3+BC whose behaviour cloning term keeps only the actions that the critic values above V(s). After
Colin-Jing/ASPC@3119fbe, algorithms/offline/wpc.py (robust critic) and qsa-fox/wPC (``robust_critic=False``).
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


class Critic(nn.Module):
    """Q(s, a) [B, 1]: robust (three hidden layers with LayerNorm after ReLU) or plain (two, PyTorch's default init)."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: int, robust: bool) -> None:
        super().__init__()
        widths = [obs_dim + act_dim, *[hidden] * (3 if robust else 2)]
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            linear = nn.Linear(width_in, width_out)
            layers += [linear, nn.ReLU()]
            if robust:
                layers.append(nn.LayerNorm(width_out))
                bound = 1 / math.sqrt(width_in)
                nn.init.uniform_(linear.weight, -bound, bound)
                nn.init.constant_(linear.bias, 0.1)
        last = nn.Linear(hidden, 1)
        if robust:
            nn.init.uniform_(last.weight, -3e-3, 3e-3)
            nn.init.uniform_(last.bias, -3e-3, 3e-3)
        self.net = nn.Sequential(*layers, last)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.net(torch.cat([state, action], dim=1))


class Value(nn.Module):
    """V(s) [B, 1]."""

    def __init__(self, obs_dim: int, hidden: int) -> None:
        super().__init__()
        self.l1 = nn.Linear(obs_dim, hidden)
        self.l2 = nn.Linear(hidden, hidden)
        self.l3 = nn.Linear(hidden, 1)

    def forward(self, state: Tensor) -> Tensor:
        return self.l3(F.relu(self.l2(F.relu(self.l1(state)))))


class Trainer:
    """One run. ``train_step`` is the whole algorithm."""

    initial = ("actor", "critic_1", "critic_2", "vnet")
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
        self.config = c = config or Config()
        self.act_dim, self.max_action = act_dim, max_action
        self.actor = Actor(obs_dim, act_dim, max_action, c.hidden_dim).to(device, dtype)
        self.critic_1 = Critic(obs_dim, act_dim, c.hidden_dim, c.robust_critic).to(device, dtype)
        self.critic_2 = Critic(obs_dim, act_dim, c.hidden_dim, c.robust_critic).to(device, dtype)
        self.vnet = Value(obs_dim, c.hidden_dim).to(device, dtype)
        self.reset()

    def reset(self) -> None:
        """Targets become copies, optimisers and counters start anew."""
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_1_target = copy.deepcopy(self.critic_1)
        self.critic_2_target = copy.deepcopy(self.critic_2)
        lr = self.config.lr
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=lr)
        self.critic_optimizer = torch.optim.Adam([*self.critic_1.parameters(), *self.critic_2.parameters()], lr=lr)
        self.vnet_optimizer = torch.optim.Adam(self.vnet.parameters(), lr=lr)
        self.steps = 0

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The random numbers of one update, by their names in the batch."""
        return {"noise_raw": torch.randn(batch_size, self.act_dim, generator=generator)}

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
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        v = self.vnet(state)
        vnet_loss = F.mse_loss(v, target_q)
        self.vnet_optimizer.zero_grad()
        vnet_loss.backward()
        self.vnet_optimizer.step()

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
            with torch.no_grad():
                for name in ("actor", "critic_1", "critic_2"):
                    online, target = getattr(self, name), getattr(self, f"{name}_target")
                    for p_target, p in zip(target.parameters(), online.parameters(), strict=True):
                        p_target.copy_(c.tau * p + (1 - c.tau) * p_target)
        return {name: value.detach() for name, value in logs.items()}

    def actor_step(self, state: Tensor, action: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """One Adam step of the actor; the constraint's mean is over all actions, not over those kept."""
        pi = self.actor(state)
        q = self.critic_1(state, pi)
        lmbda = self.config.alpha / q.abs().mean().detach()
        bc_weighted = ((pi - action) ** 2 * weight).mean()
        actor_loss = -lmbda * q.mean() + bc_weighted
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        return {
            "actor_loss": actor_loss,
            "q_pi_mean": q.mean(),
            "q_abs_mean": q.abs().mean(),
            "alpha_used": torch.tensor(self.config.alpha, dtype=q.dtype),
            "lmbda": lmbda,
            "bc_mse": F.mse_loss(pi, action),
            "bc_weighted": bc_weighted,
        }
