"""CQL in plain PyTorch, one run, top to bottom. After tinkoff-ai/CORL, algorithms/offline/cql.py (its bc_steps = 0).

SAC whose critics also push down the soft maximum of Q over actions drawn uniformly and from the policy. All losses are
taken at the parameters from before the update.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.references import common
from tests.references.common import Init, detached, mlp


@dataclass(frozen=True)
class Config:
    """Hyper-parameters under CORL's names."""

    discount: float = 0.99
    soft_target_update_rate: float = 0.005
    target_update_period: int = 1
    alpha_multiplier: float = 1.0
    use_automatic_entropy_tuning: bool = True
    backup_entropy: bool = False
    policy_lr: float = 3e-5
    qf_lr: float = 3e-4
    policy_log_std_multiplier: float = 1.0
    orthogonal_init: bool = True
    q_n_hidden_layers: int = 3
    second_critic_layers: int = 0  # 0: as the first; CORL's script always makes 3
    target_entropy: float | None = None  # None: minus the number of actions
    cql_n_actions: int = 10
    cql_importance_sample: bool = True
    cql_lagrange: bool = False
    cql_target_action_gap: float = -1.0
    cql_temp: float = 1.0
    cql_alpha: float = 10.0
    cql_max_target_backup: bool = False
    cql_clip_diff_min: float = -math.inf
    cql_clip_diff_max: float = math.inf
    hidden_dim: int = 256


def corl_init(orthogonal: bool) -> Init:
    """Hidden layers orthogonal with bias 0, or PyTorch's; the last one small, orthogonal or Xavier, with bias 0."""

    def init(layer: nn.Linear, is_last: bool) -> None:
        if is_last:
            (nn.init.orthogonal_ if orthogonal else nn.init.xavier_uniform_)(layer.weight, gain=1e-2)
        elif orthogonal:
            nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
        if is_last or orthogonal:
            nn.init.constant_(layer.bias, 0.0)

    return init


class Scalar(nn.Module):
    """One learned number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.tensor(value))

    def forward(self) -> Tensor:
        return self.constant


class Actor(nn.Module):
    """A Gaussian through tanh: observations [B, D] and normals [B, A] or [B, K, A] -> actions and their log-density."""

    def __init__(self, obs_dim: int, act_dim: int, max_action: float, c: Config) -> None:
        super().__init__()
        self.max_action = max_action
        self.base_network = mlp([obs_dim, *[c.hidden_dim] * 3, 2 * act_dim], init=corl_init(False))
        self.log_std_multiplier = Scalar(c.policy_log_std_multiplier)
        self.log_std_offset = Scalar(-1.0)

    def forward(self, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.base_network(state).chunk(2, dim=1)
        log_std = (self.log_std_multiplier() * log_std + self.log_std_offset()).clamp(-20, 2)
        if noise.ndim == 3:
            mean, log_std = mean.unsqueeze(1), log_std.unsqueeze(1)
        u = mean + log_std.exp() * noise
        log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_jacobian = 2 * (math.log(2) - u - F.softplus(-2 * u))  # of tanh, which forgets u where it saturates
        return self.max_action * torch.tanh(u), (log_normal - log_jacobian).sum(-1)


class Critic(nn.Module):
    """Q(s, a): [B] for actions [B, A], [B, K] for actions [B, K, A]."""

    def __init__(self, obs_dim: int, act_dim: int, layers: int, c: Config) -> None:
        super().__init__()
        self.network = mlp([obs_dim + act_dim, *[c.hidden_dim] * layers, 1], init=corl_init(c.orthogonal_init))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        if action.ndim == 3:
            state = state.unsqueeze(1).expand(-1, action.shape[1], -1)
        return self.network(torch.cat([state, action], dim=-1)).squeeze(-1)


class Trainer(common.Trainer):
    """One run. ``train_step`` is the whole algorithm."""

    config_type = Config
    initial = ("actor", "critic_1", "critic_2")
    derived: ClassVar = {"target_critic_1": "critic_1", "target_critic_2": "critic_2"}

    def networks(self, obs_dim: int, act_dim: int) -> dict[str, nn.Module]:
        """With log alpha and log alpha', which are not recorded."""
        c = self.config
        second = c.second_critic_layers or c.q_n_hidden_layers
        return {
            "actor": Actor(obs_dim, act_dim, self.max_action, c),
            "critic_1": Critic(obs_dim, act_dim, c.q_n_hidden_layers, c),
            "critic_2": Critic(obs_dim, act_dim, second, c),
            "alpha": Scalar(0.0),
            "alpha_prime": Scalar(1.0),
        }

    def make_optimizers(self) -> None:
        """One for each network and number, which begin anew as well."""
        c = self.config
        self.log_alpha, self.log_alpha_prime = self.alpha.constant, self.alpha_prime.constant
        with torch.no_grad():
            self.log_alpha.fill_(0.0)
            self.log_alpha_prime.fill_(1.0)
        self.critic_params = [*self.critic_1.parameters(), *self.critic_2.parameters()]
        self.actor_optimizer = self.adam(c.policy_lr, "actor")
        self.critic_optimizer = self.adam(c.qf_lr, "critic_1", "critic_2")
        self.alpha_optimizer = self.adam(c.policy_lr, "alpha")
        self.alpha_prime_optimizer = self.adam(c.qf_lr, "alpha_prime")

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The random numbers of one update, by their names in the batch."""
        one, many = (batch_size, self.act_dim), (batch_size, self.config.cql_n_actions, self.act_dim)
        shapes = {"noise_new": one, "noise_next": many if self.config.cql_max_target_backup else one}
        shapes |= {"noise_cql_current": many, "noise_cql_next": many}
        draws = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        return draws | {"uniform_random_actions": 2 * torch.rand(many, generator=generator) - 1}

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update. state, next_state [B, D]; action, noise_new [B, A]; reward, done [B, 1]; noise_next [B, A], or
        [B, K, A] with the max-target backup; uniform_random_actions, noise_cql_current, noise_cql_next [B, K, A]."""
        c = self.config
        self.steps += 1
        state = batch["state"]

        new_action, log_pi = self.actor(state, batch["noise_new"])
        alpha_loss, alpha = torch.zeros_like(self.log_alpha), torch.full_like(self.log_alpha, c.alpha_multiplier)
        if c.use_automatic_entropy_tuning:
            target_entropy = -self.act_dim if c.target_entropy is None else c.target_entropy
            alpha_loss = -(self.log_alpha * (log_pi + target_entropy).detach()).mean()
            alpha = self.log_alpha.exp() * c.alpha_multiplier
        q_new = torch.min(self.critic_1(state, new_action), self.critic_2(state, new_action))
        policy_loss = (alpha * log_pi - q_new).mean()
        logs = {"log_pi": log_pi.mean(), "policy_loss": policy_loss, "alpha_loss": alpha_loss, "alpha": alpha}

        td_target, target_q = self.backup(batch, alpha)
        q1, penalty_1, log_1 = self.conservative(self.critic_1, 1, batch)
        q2, penalty_2, log_2 = self.conservative(self.critic_2, 2, batch)
        qf1_loss, qf2_loss = F.mse_loss(q1, td_target), F.mse_loss(q2, td_target)
        alpha_prime_loss, alpha_prime = torch.zeros_like(alpha), torch.zeros_like(alpha)
        if c.cql_lagrange:
            alpha_prime = self.log_alpha_prime.exp().clamp(max=1e6)
            penalty_1 = alpha_prime * (penalty_1 - c.cql_alpha * c.cql_target_action_gap)
            penalty_2 = alpha_prime * (penalty_2 - c.cql_alpha * c.cql_target_action_gap)
            alpha_prime_loss = -(penalty_1 + penalty_2) / 2
        qf_loss = qf1_loss + qf2_loss + penalty_1 + penalty_2
        logs |= log_1 | log_2 | {"average_target_q": target_q.mean(), "qf1_loss": qf1_loss, "qf2_loss": qf2_loss}
        logs |= {"cql_min_qf1_loss": penalty_1, "cql_min_qf2_loss": penalty_2, "qf_loss": qf_loss}
        logs |= {"alpha_prime_loss": alpha_prime_loss, "alpha_prime": alpha_prime}

        steps = [(self.actor_optimizer, policy_loss, [*self.actor.parameters()])]
        steps += [(self.critic_optimizer, qf_loss, self.critic_params)]
        if c.use_automatic_entropy_tuning:
            steps += [(self.alpha_optimizer, alpha_loss, [self.log_alpha])]
        if c.cql_lagrange:
            steps += [(self.alpha_prime_optimizer, alpha_prime_loss, [self.log_alpha_prime])]
        for _, loss, params in steps:  # every gradient before any step
            for p, grad in zip(params, torch.autograd.grad(loss, params, retain_graph=True), strict=True):
                p.grad = grad
        for optimizer, _, _ in steps:
            optimizer.step()
        if self.steps % c.target_update_period == 0:
            self.move(c.soft_target_update_rate, *self.derived)
        logs |= {"log_alpha_after": self.log_alpha.clone(), "log_alpha_prime_after": self.log_alpha_prime.clone()}
        return detached(logs)

    @torch.no_grad()
    def backup(self, batch: dict[str, Tensor], alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The TD target [B] and the next state's value in it [B]."""
        c, next_state = self.config, batch["next_state"]
        next_action, next_log_pi = self.actor(next_state, batch["noise_next"])
        target_q = torch.min(
            self.target_critic_1(next_state, next_action), self.target_critic_2(next_state, next_action)
        )
        if c.cql_max_target_backup:
            target_q, best = target_q.max(dim=1)
            next_log_pi = next_log_pi.gather(1, best.unsqueeze(1)).squeeze(1)
        if c.backup_entropy:
            target_q = target_q - alpha * next_log_pi
        return batch["reward"].squeeze(1) + (1 - batch["done"].squeeze(1)) * c.discount * target_q, target_q

    def conservative(
        self, critic: Critic, i: int, batch: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Q(s, a) [B], cql_alpha times the gap between the soft maximum of Q and Q(s, a), and what is logged of it."""
        c, state, random_action = self.config, batch["state"], batch["uniform_random_actions"]
        with torch.no_grad():
            current_action, current_log_pi = self.actor(state, batch["noise_cql_current"])
            next_action, next_log_pi = self.actor(batch["next_state"], batch["noise_cql_next"])
        q, q_rand = critic(state, batch["action"]), critic(state, random_action)
        q_current, q_next = critic(state, current_action), critic(state, next_action)  # both valued at s
        candidates = torch.cat([q_rand, q.unsqueeze(1), q_next, q_current], dim=1)
        logs = {f"average_qf{i}": q.mean(), f"cql_std_q{i}": candidates.std(dim=1).mean()}
        if c.cql_importance_sample:
            log_uniform = self.act_dim * math.log(0.5)
            candidates = torch.cat([q_rand - log_uniform, q_next - next_log_pi, q_current - current_log_pi], dim=1)
        soft_max = c.cql_temp * torch.logsumexp(candidates / c.cql_temp, dim=1)
        diff = (soft_max - q).clamp(c.cql_clip_diff_min, c.cql_clip_diff_max).mean()
        logs |= {f"cql_q{i}_rand": q_rand.mean(), f"cql_q{i}_next_actions": q_next.mean(), f"cql_qf{i}_diff": diff}
        return q, c.cql_alpha * diff, logs | {f"cql_q{i}_current_actions": q_current.mean()}
