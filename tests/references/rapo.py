"""RAPO (TD3+AMO) in plain PyTorch, one run, top to bottom. After seonvin0319/AMO, algorithms/torch/td3_amo.py.

Two actors share the critics: E (``actor``, acts) and B (``bootstrap``). Each has a scale alpha = softplus(rho) that
divides its constraint and learns from a loss after one virtual step of its actor, on a second, independent batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.references import common
from tests.references.common import Actor, Critic, descend, detached, edac_init, mlp, polyak


@dataclass(frozen=True)
class Config:
    """Hyper-parameters under AMO's names."""

    discount: float = 0.99
    tau: float = 0.005
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    alpha_E: float = 5.0
    alpha_B: float = 5.0
    alpha_lr: float = 1e-3
    meta_interval: int = 20
    smoothness_eps: float = 1e-6
    bootstrap_loss: str = "l2_rms"  # or "l1_l2_rms" (the original AMO), "l1", "l2"
    critic_target: str = "actor"  # or "execution", the same, or "bootstrap": whose average values the next state
    freeze_scale_E: bool = False
    freeze_scale_B: bool = False
    actor_depth: int = 2
    critic_depth: int = 2
    critic_layernorm: bool = False
    ln_eps: float = 1e-5
    critic_special_init: bool = True
    hidden_dim: int = 256


class Scale(nn.Module):
    """alpha = softplus(rho), rho a 0-d parameter that starts rounded to float32."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.tensor(alpha + math.log(-math.expm1(-alpha)), dtype=torch.float32))

    def forward(self) -> Tensor:
        return F.softplus(self.rho)


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root with derivative 0 at 0."""
    return torch.where(x > 0, torch.where(x > 0, x, 1.0).sqrt(), 0.0)


def q_scale(q: Tensor) -> Tensor:
    """The constant by which Q is divided."""
    return q.abs().mean().clamp(min=1e-6).detach()


class Trainer(common.Trainer):
    """One run. ``train_step`` is the whole algorithm; the outer batch is data."""

    config_type = Config
    initial = ("actor", "critic_1", "critic_2", "scale_E", "scale_B")
    derived: ClassVar = {"bootstrap": "actor"} | {f"{name}_target": name for name in ("actor", "critic_1", "critic_2")}

    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """Actions are in +-1; LayerNorm, if any, after ReLU."""
        if self.max_action != 1.0:
            raise ValueError(f"max_action is {self.max_action}, but RAPO's actions are in [-1, 1]")
        c = self.config
        widths = [obs_dim + act_dim, *[c.hidden_dim] * c.critic_depth, 1]
        norm, init = c.ln_eps if c.critic_layernorm else None, edac_init(3e-3) if c.critic_special_init else None
        return {
            "actor": Actor(mlp([obs_dim, *[c.hidden_dim] * c.actor_depth, act_dim])),
            "critic_1": Critic(mlp(widths, norm, init)),
            "critic_2": Critic(mlp(widths, norm, init)),
            "scale_E": Scale(c.alpha_E),
            "scale_B": Scale(c.alpha_B),
        }

    def make_optimizers(self) -> None:
        """Critics, both actors, and a scale each, whose rate is set where it is used."""
        self.critic_optimizer = self.adam(self.config.critic_lr, "critic_1", "critic_2")
        self.actors_optimizer = self.adam(self.config.actor_lr, "actor", "bootstrap")
        self.scale_optimizers = {s: self.adam(self.config.alpha_lr, f"scale_{s}") for s in ("E", "B")}
        self.scale_E_steps = 0

    def target_q(self, state: Tensor, action: Tensor) -> Tensor:
        """The smaller of the target critics."""
        return torch.min(self.critic_1_target(state, action), self.critic_2_target(state, action))

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state, next_state [B, D]; action, noise_raw [B, A]; reward, done [B, 1]; on meta steps
        outer_state, outer_action, outer_next_state, outer_done of the independent batch."""
        c = self.config
        self.steps += 1
        state, action, next_state = batch["state"], batch["action"], batch["next_state"]

        with torch.no_grad():
            noise = (batch["noise_raw"] * c.policy_noise).clamp(-c.noise_clip, c.noise_clip)
            next_action = (self.actor_target(next_state) + noise).clamp(-1, 1)
            target_q = batch["reward"] + (1 - batch["done"]) * c.discount * self.target_q(next_state, next_action)
        critic_loss = sum(F.mse_loss(critic(state, action), target_q) for critic in (self.critic_1, self.critic_2))
        descend(self.critic_optimizer, critic_loss)
        logs = {"critic_loss": critic_loss}

        if self.steps % c.policy_freq == 0:
            alpha_E = self.scale_E().detach()  # E's own step uses the scale from before the meta step, B's from after
            if self.steps % c.meta_interval == 0:
                logs |= self.meta_step(batch)
            alpha_B = self.scale_B().detach()
            logs["bootstrap_actor_loss"] = self.inner_loss(self.bootstrap, state, action, alpha_B)
            logs["actor_loss"] = self.inner_loss(self.actor, state, action, alpha_E)
            logs |= {"alpha_E": self.scale_E(), "alpha_B": alpha_B}
            descend(self.actors_optimizer, logs["bootstrap_actor_loss"] + logs["actor_loss"])  # no parameter is in both
            polyak(c.tau, self.actor_target, self.bootstrap if c.critic_target == "bootstrap" else self.actor)
            self.move(c.tau, "critic_1_target", "critic_2_target")
        logs |= {"rho_E_after": self.scale_E.rho.clone(), "rho_B_after": self.scale_B.rho.clone()}
        return detached(logs)

    def inner_loss(self, actor: nn.Module, state: Tensor, action: Tensor, alpha: Tensor) -> Tensor:
        """What either actor minimises: minus the normalised value, and the constraint divided by alpha."""
        pi = actor(state)
        q = self.critic_1(state, pi)
        return -q.mean() / q_scale(q) + F.mse_loss(pi, action) / alpha

    def inner_grads(self, actor: nn.Module, batch: dict[str, Tensor], alpha: Tensor) -> zip:
        """(name, parameter, gradient) of every parameter of the actor; the gradients are differentiable in alpha."""
        names, params = zip(*actor.named_parameters(), strict=True)
        loss = self.inner_loss(actor, batch["state"], batch["action"], alpha)
        grads = torch.autograd.grad(loss, params, create_graph=True)
        return zip(names, params, grads, strict=True)

    def meta_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One Adam step of each scale that is not frozen; the actors have not yet made this update's step."""
        c = self.config
        lr = c.alpha_lr * 0.01 ** (self.scale_E_steps * c.meta_interval / 1_000_000)
        losses = self.bootstrap_losses(batch)
        logs = {"alpha_lr_used": torch.tensor(lr, dtype=losses["l1"].dtype)}
        logs |= {"L1_B": losses["l1"], "L2_RMS_B": losses["l2_rms"], "L2_B": losses["l2"]}
        outer = {} if c.freeze_scale_E else {"E": self.execution_loss(batch)}
        outer |= {} if c.freeze_scale_B else {"B": losses[c.bootstrap_loss]}
        self.scale_E_steps += "E" in outer
        for name, loss in outer.items():
            rho, optimizer = getattr(self, f"scale_{name}").rho, self.scale_optimizers[name]
            (rho.grad,) = torch.autograd.grad(loss, rho)
            logs |= {f"L_alpha_{name}": loss, f"scale_{name}_grad": rho.grad.clone()}
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        return logs

    def execution_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """E's outer loss: a lower bound on the value gained by one virtual Adam step, with its sign turned."""
        plus, count = {}, self.steps // self.config.policy_freq
        for name, p, grad in self.inner_grads(self.actor, batch, self.scale_E()):
            moments = self.actors_optimizer.state[p]
            m = 0.9 * moments.get("exp_avg", torch.zeros_like(p)) + (1 - 0.9) * grad
            v = 0.999 * moments.get("exp_avg_sq", torch.zeros_like(p)) + (1 - 0.999) * grad**2
            root = safe_sqrt(v / (1 - 0.999**count))
            plus[name] = p - self.config.actor_lr * (m / (1 - 0.9**count)) / (root + 1e-8)
        state = batch["outer_state"]
        old, new = self.actor(state).detach(), torch.func.functional_call(self.actor, plus, (state,))
        leaves = [action.detach().requires_grad_(True) for action in (old, new)]
        q_old, q_new = (self.critic_1_target(state, action) for action in leaves)
        grad_old, grad_new = torch.autograd.grad(q_old.sum() + q_new.sum(), leaves)
        displacement = new - old
        change = safe_sqrt(((grad_new - grad_old) ** 2).sum(1)) * safe_sqrt((displacement**2).sum(1))
        gain = (grad_old * displacement).sum(1) - 0.5 * change
        return -gain.mean() / q_scale(q_new)

    def bootstrap_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """B's outer losses after one virtual gradient step: its own objective (l1) and how far targets move (l2)."""
        c, alpha = self.config, self.scale_B()
        grads = self.inner_grads(self.bootstrap, batch, alpha)
        plus = {name: p - c.actor_lr * grad for name, p, grad in grads}
        state, next_state = batch["outer_state"], batch["outer_next_state"]
        pi, next_pi = (torch.func.functional_call(self.bootstrap, plus, (s,)) for s in (state, next_state))
        q = self.target_q(state, pi)
        scale = q.abs().mean().detach() + c.smoothness_eps
        moved = self.target_q(next_state, next_pi) - self.target_q(next_state, self.bootstrap(next_state)).detach()
        mean_square = ((c.discount * (1 - batch["outer_done"]) * moved / scale) ** 2).mean()
        l1 = -alpha.detach() * q.mean() / scale + F.mse_loss(pi, batch["outer_action"])
        l2, l2_rms = alpha.detach() * mean_square, alpha.detach() * safe_sqrt(mean_square)
        return {"l1": l1, "l2_rms": l2_rms, "l2": l2, "l1_l2_rms": l1 + l2_rms}
