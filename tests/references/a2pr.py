"""A2PR (adaptive advantage-guided policy regularisation) in plain PyTorch, one run, top to bottom.

After ltlhuuu/A2PR, A2PR.py and core/network. TD3+BC whose constraint pulls towards the better of the dataset's action
and a VAE's reconstruction of the policy's own, and only where one of them beats V(s).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.references import common
from tests.references.common import Layers, descend, detached


@dataclass(frozen=True)
class Config:
    """Hyper-parameters; policy_noise and noise_clip are in units of max_action."""

    discount: float = 0.99
    tau: float = 0.005
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    value_lr: float = 3e-4
    vae_lr: float = 1e-3
    alpha: float = 2.5
    mask: float = 1.0
    vae_weight: float = 1.0
    hidden_dim: int = 256
    vae_hidden_dim: int = 750


class Actor(Layers):
    """Deterministic policy: observations [B, D] -> actions [B, A] in +-max_action."""

    def __init__(self, obs_dim: int, act_dim: int, max_action: float, hidden: int) -> None:
        super().__init__(obs_dim, *[hidden] * 3, act_dim)
        self.max_action = max_action

    def forward(self, state: Tensor) -> Tensor:
        return self.max_action * torch.tanh(super().forward(state))


class Critic(nn.Module):
    """Q1 (l1..l5) and Q2 (l6..l10), each (s, a) -> [B, 1]."""

    def __init__(self, obs_dim: int, act_dim: int, hidden: int) -> None:
        super().__init__()
        for first in (1, 6):
            widths = [obs_dim + act_dim, hidden, hidden, hidden, hidden, 1]
            for i in range(5):
                setattr(self, f"l{first + i}", nn.Linear(widths[i], widths[i + 1]))

    def head(self, first: int, state: Tensor, action: Tensor) -> Tensor:
        """The critic whose layers start at ``first``."""
        x = torch.cat([state, action], dim=1)
        for i in range(first, first + 4):
            x = F.relu(getattr(self, f"l{i}")(x))
        return getattr(self, f"l{first + 4}")(x)

    def q1(self, state: Tensor, action: Tensor) -> Tensor:
        return self.head(1, state, action)

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(1, state, action), self.head(6, state, action)


class VAE(nn.Module):
    """Reconstruction of an action given the state, with the latent's mean and std [B, 2A]."""

    def __init__(self, obs_dim: int, act_dim: int, max_action: float, hidden: int) -> None:
        super().__init__()
        self.max_action = max_action
        latent = 2 * act_dim
        self.e1, self.e2 = nn.Linear(obs_dim + act_dim, hidden), nn.Linear(hidden, hidden)
        self.mean, self.log_std = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.d1, self.d2 = nn.Linear(obs_dim + latent, hidden), nn.Linear(hidden, hidden)
        self.d3 = nn.Linear(hidden, act_dim)

    def forward(self, state: Tensor, action: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu(self.e2(F.relu(self.e1(torch.cat([state, action], dim=1)))))
        mean = self.mean(x)
        std = torch.exp(self.log_std(x).clamp(-4, 15))
        z = mean + std * eps
        x = F.relu(self.d2(F.relu(self.d1(torch.cat([state, z], dim=1)))))
        return self.max_action * torch.tanh(self.d3(x)), mean, std


class Trainer(common.Trainer):
    """One run. ``train_step`` is the whole algorithm."""

    config_type = Config
    initial = ("actor", "critic", "value", "vae")
    derived: ClassVar = {"actor_target": "actor", "critic_target": "critic"}

    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """All but the VAE have the same width."""
        c = self.config
        return {
            "actor": Actor(obs_dim, act_dim, self.max_action, c.hidden_dim),
            "critic": Critic(obs_dim, act_dim, c.hidden_dim),
            "value": Layers(obs_dim, *[c.hidden_dim] * 4, 1),
            "vae": VAE(obs_dim, act_dim, self.max_action, c.vae_hidden_dim),
        }

    def make_optimizers(self) -> None:
        """One for each network."""
        for name in self.initial:
            setattr(self, f"{name}_optimizer", self.adam(getattr(self.config, f"{name}_lr"), name))

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The random numbers of one update, by their names in the batch."""
        widths = {"noise_raw": self.act_dim, "vae_eps": 2 * self.act_dim, "vae_eps_pi": 2 * self.act_dim}
        return {name: torch.randn(batch_size, width, generator=generator) for name, width in widths.items()}

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state, next_state [B, D]; action, noise_raw [B, A]; reward, done [B, 1]; vae_eps and, on actor
        steps, vae_eps_pi [B, 2A]."""
        c = self.config
        self.steps += 1
        state, action, next_state = batch["state"], batch["action"], batch["next_state"]

        with torch.no_grad():
            clip = c.noise_clip * self.max_action
            noise = (batch["noise_raw"] * c.policy_noise * self.max_action).clamp(-clip, clip)
            next_action = (self.actor_target(next_state) + noise).clamp(-self.max_action, self.max_action)
            not_done = 1 - batch["done"]
            next_q = torch.min(*self.critic_target(next_state, next_action))
            target_q = batch["reward"] + not_done * c.discount * next_q

        q1, q2 = self.critic(state, action)
        critic_loss = F.mse_loss(q1, target_q) + F.mse_loss(q2, target_q)
        descend(self.critic_optimizer, critic_loss)

        with torch.no_grad():
            online_q = torch.min(*self.critic(next_state, next_action))
            value_target = torch.min(batch["reward"] + not_done * c.discount * online_q, target_q)
            q_action = self.critic.q1(state, action)
        v = self.value(state)
        value_loss = F.mse_loss(v, value_target)
        descend(self.value_optimizer, value_loss)
        v = v.detach()  # from before the update, everywhere below

        recon, mean, std = self.vae(state, action, batch["vae_eps"])
        selected = (q_action > v).to(v.dtype)
        recon_loss = (c.vae_weight * selected * (recon - action) ** 2).mean()
        kl_loss = -0.5 * (1 + torch.log(std**2) - mean**2 - std**2).mean()
        vae_loss = recon_loss + 0.5 * kl_loss
        descend(self.vae_optimizer, vae_loss)

        logs = {"critic_loss": critic_loss, "q1_mean": q1.mean(), "q2_mean": q2.mean(), "value_loss": value_loss}
        logs |= {"target_q_mean": target_q.mean(), "v_mean": v.mean(), "t_q_mean": value_target.mean()}
        logs |= {"vae_loss": vae_loss, "recon_loss": recon_loss, "kl_loss": kl_loss, "vae_adv_frac": selected.mean()}
        logs |= {"vae_mean_mean": mean.mean(), "vae_std_mean": std.mean(), "adv_mean": (q_action - v).mean()}
        if self.steps % c.policy_freq == 0:
            logs |= self.actor_step(state, action, batch["vae_eps_pi"], q_action - v, v)
            self.move(c.tau, *self.derived)
        return detached(logs)

    def actor_step(
        self, state: Tensor, action: Tensor, eps: Tensor, adv_action: Tensor, v: Tensor
    ) -> dict[str, Tensor]:
        """One Adam step of the actor. The gradient also flows through the VAE's reconstruction into the policy."""
        c = self.config
        pi = self.actor(state)
        q = self.critic.q1(state, pi)
        lmbda = c.alpha / q.abs().mean().detach()
        actor_loss = -lmbda * q.mean()
        recon, _, _ = self.vae(state, pi, eps)
        adv_recon = (self.critic.q1(state, recon) - v).detach()
        chosen = adv_recon >= adv_action
        anchor = torch.where(chosen, recon, action)
        on = ((adv_recon >= 0) | (adv_action > 0)).to(v.dtype)
        bc_loss = ((pi - anchor) ** 2 * (c.mask * on)).mean()
        combined_loss = actor_loss + bc_loss
        descend(self.actor_optimizer, combined_loss, self.actor.parameters())
        logs = {"actor_loss": actor_loss, "bc_loss": bc_loss, "combined_loss": combined_loss, "lmbda": lmbda}
        logs |= {"q_pi_mean": q.mean(), "q_abs_mean": q.abs().mean(), "bc_mse": F.mse_loss(pi, action)}
        logs |= {"adv_action_mean": adv_action.mean(), "adv_recon_mean": adv_recon.mean()}
        return logs | {"recon_chosen_frac": chosen.to(v.dtype).mean(), "bc_on_frac": on.mean()}
