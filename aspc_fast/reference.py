"""ASPC and TD3+BC in plain PyTorch, one run, top to bottom: the oracle of the tests and the baseline of the benchmarks.

Written as a careful researcher would write it by hand: nn.Modules, torch.optim.Adam, and a double backward
(``create_graph=True``) through the actor's Adam step for alpha. Nothing here is optimised, nothing of ours is imported.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


@dataclass
class Config:
    """Hyper-parameters under the paper's names; policy_noise and noise_clip are in units of max_action."""

    algo: str = "aspc"  # or "td3bc"
    robust_critic: bool = True
    discount: float = 0.99
    tau: float = 0.005
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    alpha: float = 2.5
    alpha_freq: int = 10
    alpha_lr: float = 2e-3
    alpha_lr_final: float = 0.01
    alpha_lr_horizon: int = 1_000_000
    ema: float = 0.995
    loss_function: int = 4
    lr: float = 3e-4
    reward_mean: float = 0.0


class Actor(nn.Module):
    """Deterministic policy: normalised observations [B, D] -> actions [B, A] in +-max_action."""

    def __init__(self, obs_dim: int, act_dim: int, max_action: float, hidden: int = 256) -> None:
        super().__init__()
        self.max_action = max_action
        self.net = nn.Sequential(
            *(nn.Linear(obs_dim, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
            *(nn.Linear(hidden, act_dim), nn.Tanh()),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """The policy's actions."""
        return self.max_action * self.net(observations)


class RobustCritic(nn.Module):
    """Q(s, a) [B, 1]: three hidden layers with LayerNorm after ReLU."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: int = 256) -> None:
        super().__init__()
        widths = [obs_dim + act_dim, hidden, hidden, hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.LayerNorm(width_out)]
            bound = 1 / math.sqrt(width_in)
            nn.init.uniform_(layers[-3].weight, -bound, bound)  # type: ignore[arg-type]
            nn.init.constant_(layers[-3].bias, 0.1)  # type: ignore[arg-type]
        last = nn.Linear(hidden, 1)
        nn.init.uniform_(last.weight, -3e-3, 3e-3)
        nn.init.uniform_(last.bias, -3e-3, 3e-3)
        self.net = nn.Sequential(*layers, last)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q-values."""
        return self.net(torch.cat([observations, actions], dim=1))


class PlainCritic(nn.Module):
    """Q(s, a) [B, 1] of TD3+BC as published: two hidden layers, PyTorch's default init."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Linear(obs_dim + act_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, 1),
        )

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q-values."""
        return self.net(torch.cat([observations, actions], dim=1))


class AdamUpdate(torch.autograd.Function):
    """Adam's update m_hat / (sqrt(v_hat) + eps) from a gradient, with the derivative that torchopt's ASPC uses.

    Untouched autograd through the square root gives NaN where v = 0; here the derivative is 0 where the new m is 0, and
    (sqrt(v_hat) + eps)^3 stands where the textbook has (sqrt(v_hat) + eps)^2 sqrt(v_hat).
    """

    @staticmethod
    def forward(ctx: Any, grad: Tensor, m: Tensor, v: Tensor, count: int) -> Tensor:  # noqa: D102
        b1, b2, eps = 0.9, 0.999, 1e-8
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        k1, k2 = 1 - b1**count, 1 - b2**count
        denominator = torch.sqrt(v / k2) + eps
        ctx.save_for_backward(grad, m, denominator)
        ctx.constants = b1, b2, k1, k2
        return m / k1 / denominator

    @staticmethod
    def backward(ctx: Any, *d_update: Any) -> Any:  # noqa: D102
        grad, m, denominator = ctx.saved_tensors
        b1, b2, k1, k2 = ctx.constants
        slope = (1 - b1) / (k1 * denominator) - m / k1 * (1 - b2) * grad / (k2 * denominator**3)
        return torch.where(m == 0, 0.0, slope) * d_update[0], None, None, None


class Trainer:
    """One run. ``train_step`` is the whole algorithm."""

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        max_action: float = 1.0,
        config: Config | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config = config or Config()
        critic = RobustCritic if self.config.robust_critic else PlainCritic
        self.max_action = max_action
        self.actor = Actor(obs_dim, act_dim, max_action).to(device, dtype)
        self.critic_1 = critic(obs_dim, act_dim).to(device, dtype)
        self.critic_2 = critic(obs_dim, act_dim).to(device, dtype)
        self.raw_alpha = torch.tensor(math.log(math.expm1(self.config.alpha)), device=device, dtype=dtype)
        self.raw_alpha.requires_grad_(True)
        self.reset()

    def reset(self) -> None:
        """Targets become copies, optimisers and counters start anew."""
        c = self.config
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_1_target = copy.deepcopy(self.critic_1)
        self.critic_2_target = copy.deepcopy(self.critic_2)
        self.critic_optimizer = torch.optim.Adam([*self.critic_1.parameters(), *self.critic_2.parameters()], lr=c.lr)
        self.actor_m = [torch.zeros_like(p) for p in self.actor.parameters()]
        self.actor_v = [torch.zeros_like(p) for p in self.actor.parameters()]
        self.alpha_optimizer = torch.optim.Adam([self.raw_alpha], lr=c.alpha_lr / 10 * c.alpha_freq)
        alpha_updates = max(int(c.alpha_lr_horizon / (c.policy_freq * c.alpha_freq)), 1)
        decay = c.alpha_lr_final ** (1 / alpha_updates)
        self.alpha_scheduler = torch.optim.lr_scheduler.ExponentialLR(self.alpha_optimizer, gamma=decay)
        self.ema_q = torch.zeros_like(self.raw_alpha, requires_grad=False)
        self.steps = 0

    def train_step(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, done: Tensor, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """One update on a batch: obs, next_obs [B, D] normalised; action [B, A]; reward, done [B, 1]; noise: standard
        normals [B, A] (drawn if None). Returns the step's losses and, on meta steps, every term of the outer loss."""
        c = self.config
        self.steps += 1
        logs: dict[str, Tensor] = {}

        with torch.no_grad():
            noise = torch.randn_like(action) if noise is None else noise
            clip = c.noise_clip * self.max_action
            noise = (noise * c.policy_noise * self.max_action).clamp(-clip, clip)
            next_action = (self.actor_target(next_obs) + noise).clamp(-self.max_action, self.max_action)
            next_q = torch.min(self.critic_1_target(next_obs, next_action), self.critic_2_target(next_obs, next_action))
            target_q = reward - c.reward_mean + c.discount * (1 - done) * next_q

        q1, q2 = self.critic_1(obs, action), self.critic_2(obs, action)
        critic_loss = F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        logs |= {"critic_loss": critic_loss.detach(), "q1_mean": q1.detach().mean()}

        if self.steps % c.policy_freq == 0:
            meta = c.algo == "aspc" and self.steps % (c.policy_freq * c.alpha_freq) == 0
            logs |= self.actor_step(obs, action, meta)
            with torch.no_grad():
                for target, online in (
                    (self.actor_target, self.actor),
                    (self.critic_1_target, self.critic_1),
                    (self.critic_2_target, self.critic_2),
                ):
                    for p_target, p in zip(target.parameters(), online.parameters(), strict=True):
                        p_target.copy_(c.tau * p + (1 - c.tau) * p_target)
        return logs

    def actor_step(self, obs: Tensor, action: Tensor, meta: bool) -> dict[str, Tensor]:
        """One Adam step of the actor with alpha as it is; on meta steps alpha learns from the loss after that step."""
        alpha = F.softplus(self.raw_alpha)
        names, params = zip(*self.actor.named_parameters(), strict=True)
        pi = self.actor(obs)
        q = self.critic_1(obs, pi)
        bc = F.mse_loss(pi, action)
        loss = -(alpha if meta else alpha.detach()) / q.abs().mean().detach() * q.mean() + bc
        grads = torch.autograd.grad(loss, params, create_graph=meta)
        count = self.steps // self.config.policy_freq
        new_params = [
            p - self.config.lr * AdamUpdate.apply(g, m, v, count)
            for p, g, m, v in zip(params, grads, self.actor_m, self.actor_v, strict=True)
        ]
        logs = {
            "actor_loss": loss,
            "q_pi_mean": q.mean(),
            "q_abs_mean": q.abs().mean(),
            "bc_mse": bc,
            "alpha_used": alpha,
        }
        if meta:
            logs |= self.meta_step(obs, action, pi.detach(), dict(zip(names, new_params, strict=True)))
        with torch.no_grad():
            for p, new, g, m, v in zip(params, new_params, grads, self.actor_m, self.actor_v, strict=True):
                p.copy_(new)
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g**2)
        return {name: value.detach() for name, value in logs.items()}

    def meta_step(
        self, obs: Tensor, action: Tensor, pi_old: Tensor, new_params: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """One Adam step of alpha on the outer loss, differentiated through the actor's Adam step."""
        c = self.config
        alpha = F.softplus(self.raw_alpha).detach()
        pi = functional_call(self.actor, new_params, (obs,))
        q = self.critic_1(obs, pi)
        ema_q = (1 - c.ema) * q.mean() + c.ema * self.ema_q
        eq1 = -alpha * q.mean() / q.abs().mean().detach() + F.mse_loss(pi, action)
        delta_q = ema_q - self.ema_q
        eq2 = delta_q**2
        bc_old, bc_new = ((pi_old - action) ** 2).mean(1), ((pi - action) ** 2).mean(1)
        bc_sup, delta_bc_sup = bc_old.max(), (bc_old - bc_new).abs().max()
        eq3 = eq2.detach() * bc_sup * delta_bc_sup
        outer = {1: eq1, 2: eq1 + eq2, 3: eq1 + eq3, 4: eq1 + eq2 + eq3}[c.loss_function]

        logs = {"eq1": eq1, "eq2": eq2, "eq3": eq3, "alpha_loss": outer, "ema_q": ema_q, "delta_q": delta_q}
        logs |= {"q_new_mean": q.mean(), "q_new_abs_mean": q.abs().mean(), "bc_mse_new": F.mse_loss(pi, action)}
        logs |= {"bc_sup": bc_sup, "delta_bc_sup": delta_bc_sup}
        logs["alpha_lr_used"] = torch.tensor(self.alpha_optimizer.param_groups[0]["lr"], dtype=alpha.dtype)
        (self.raw_alpha.grad,) = torch.autograd.grad(outer, self.raw_alpha)
        logs["alpha_grad"] = self.raw_alpha.grad.clone()
        self.alpha_optimizer.step()
        self.alpha_scheduler.step()
        self.ema_q = ema_q.detach()
        return logs
