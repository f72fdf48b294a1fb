"""TD3+BC (Fujimoto & Gu 2021) on batched runs, and the parts of an update that other algorithms share with it.

All functions take and update ``AgentState`` with its leading run axis R. Metrics are tensors [R].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from aspc_fast.agent.adam import adam_step, per_run
from aspc_fast.agent.algorithm import Algorithm, Metrics, Net
from aspc_fast.agent.initialise import small_last, torch_default
from aspc_fast.agent.layout import MLPParams, actor_mlp, critic_mlp
from aspc_fast.agent.networks import (
    ActorTape,
    actor_backward,
    actor_forward,
    critic_action_gradient,
    critic_forward,
    mlp_backward,
)
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec, inverse_softplus
from aspc_fast.agent.trace_names import BATCH_NAMES, Place, TraceNames, actor_critic_places, one_rate, width_of
from aspc_fast.config import AgentConfig, hyper, shared


@dataclass(frozen=True)
class TD3Config(AgentConfig):
    """Hyper-parameters of TD3 (Fujimoto et al. 2018), which the algorithms that build on it share."""

    tau: float = hyper(0.005, 0, 1, open_low=True)
    """tau: share of the online weights that enters the targets at each target update, in (0, 1]."""
    policy_noise: float = hyper(0.2, 0)
    """sigma: standard deviation of the target policy's noise, in units of max_action."""
    noise_clip: float = hyper(0.5, 0)
    """c: bound of that noise, in units of max_action."""
    policy_freq: int = shared(2, 1, 1_000_000)
    """d: critic updates per actor (and target) update."""
    actor_lr: float = hyper(3e-4, 0, 1)
    """eta_actor: Adam learning rate of the actor."""
    critic_lr: float = hyper(3e-4, 0, 1)
    """eta_critic: Adam learning rate of the critics."""


@dataclass(frozen=True)
class TD3BCConfig(TD3Config):
    """Hyper-parameters of TD3+BC."""

    algo: str = "td3bc"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    critic: Literal["robust", "plain"] = "plain"
    """robust: 3 hidden layers, LayerNorm after ReLU; plain: 2 hidden layers."""
    alpha: float = hyper(2.5, 0, open_low=True)
    """alpha: weight of the RL term against cloning, > 0."""


def target_values(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Tensor:
    """y [R, B] = r + gamma (1 - d) min(Q1_bar, Q2_bar)(s', clip(pi_bar(s') + clipped noise))."""
    actions = target_actions(spec, state, hyper, batch)
    q, _ = critic_forward(state.params(spec, "critic_target"), *both_critics(batch.next_observations, actions))
    return backed_up(hyper, batch, q.amin(dim=1))


def target_actions(spec: Spec, state: AgentState, hyper: Hyper, batch: Any) -> Tensor:
    """a' [R, B, A] = clip(pi_bar(s') + clipped noise), 0 in padded entries."""
    max_action, bound = per_run(hyper.max_action, 3), per_run(hyper.noise_clip * hyper.max_action, 3)
    noise = batch.noise * per_run(hyper.policy_noise * hyper.max_action, 3)
    noise = noise.clamp(-bound, bound) * hyper.action_mask.unsqueeze(1)
    proposed, _ = actor_forward(state.params(spec, "actor_target"), batch.next_observations, max_action)
    return (proposed + noise).clamp(-max_action, max_action)


def backed_up(hyper: Hyper, batch: Any, next_values: Tensor) -> Tensor:
    """r + gamma (1 - d) times the values [R, B] of the next states, [R, B], with the run's reward transform."""
    rewards = batch.rewards * per_run(hyper.reward_factor, 2) + per_run(hyper.reward_shift, 2)
    return rewards + per_run(hyper.discount, 2) * (1.0 - batch.terminals) * next_values


def critic_step(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, targets: Tensor) -> Metrics:
    """One Adam step of both critics on MSE(Q1, y) + MSE(Q2, y), in place."""
    q, loss = fit_critics(spec, state, hyper, batch, targets)
    return {"critic_loss": loss, "q1_mean": q[:, 0].mean(-1)}


def fit_critics(
    spec: Spec, state: AgentState, hyper: Hyper, batch: Any, targets: Tensor, factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """``critic_step`` on ``factor`` times its loss: Q1 and Q2 at (s, a) before it, [R, 2, B], and the loss [R]."""
    params = state.params(spec, "critic")
    q, tape = critic_forward(params, *both_critics(batch.observations, batch.actions))
    error = q - targets.unsqueeze(1)
    gradient = spec.layouts["critic"].flatten(mlp_backward(params, tape, error * (2.0 * factor / error.shape[-1])))
    adam_step(spec, state, hyper, "critic", gradient, state.step)
    return q, error.square().mean(-1).sum(-1) * factor


def both_critics(observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Observations and actions [R, B, .] as [R, 2, B, .], the same for both critics (no copy)."""
    return (
        observations.unsqueeze(1).expand(-1, 2, -1, -1),
        actions.unsqueeze(1).expand(-1, 2, -1, -1),
    )


class PolicyValue(NamedTuple):
    """The policy on the batch: actions pi [R, B, A], q [R, B] = Q1(s, pi), dq [R, B, A] = dQ1/da, the actor's tape."""

    params: MLPParams
    tape: ActorTape
    actions: Tensor
    q: Tensor
    dq: Tensor


def policy_value(spec: Spec, state: AgentState, hyper: Hyper, batch: Any, actor: str = "actor") -> PolicyValue:
    """Run the current ``actor`` and the first critic on the batch's states."""
    params = state.params(spec, actor)
    actions, tape = actor_forward(params, batch.observations, per_run(hyper.max_action, 3))
    critic = state.params(spec, "critic", 0)
    q, critic_tape = critic_forward(critic, batch.observations, actions)
    return PolicyValue(params, tape, actions, q, critic_action_gradient(critic, critic_tape, actions.shape[-1]))


class ActorStep(NamedTuple):
    """What the meta step needs of the actor step: cloning errors bc [R, B] of the policy before it, and [R, P] each the
    gradient that Adam received and its part gQ (None unless asked for)."""

    bc: Tensor
    gradient: Tensor
    gradient_q: Tensor | None


def actor_step(
    spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, with_gradient_q: bool = False
) -> tuple[ActorStep, Metrics]:
    """One Adam step of the actor on -(alpha / mean|q|) mean(q) + MSE(pi, a), in place, with alpha as it is now."""
    policy = policy_value(spec, state, hyper, batch)
    alpha, q_scale = softplus(state.rho), policy.q.abs().mean(-1)
    bc = bc_errors(hyper, policy.actions, batch.actions)
    d_rl = rl_cotangent(policy, q_scale)
    d_actions = d_rl * per_run(alpha, 3) + bc_cotangent(hyper, policy.actions, batch.actions)
    gradient = actor_gradient(spec, hyper, policy, d_actions)
    gradient_q = actor_gradient(spec, hyper, policy, d_rl) if with_gradient_q else None
    adam_step(spec, state, hyper, "actor", gradient, actor_updates(spec, state))
    q_mean, bc_mse = policy.q.mean(-1), bc.mean(-1)
    metrics = {
        "actor_loss": bc_mse - alpha / q_scale * q_mean,
        "q_pi_mean": q_mean,
        "q_abs_mean": q_scale,
        "bc_mse": bc_mse,
        "alpha_used": alpha,
        "lambda": alpha / q_scale,
    }
    return ActorStep(bc, gradient, gradient_q), metrics


def actor_gradient(spec: Spec, hyper: Hyper, policy: PolicyValue, d_actions: Tensor) -> Tensor:
    """Gradient [R, P] with respect to the actor's weights, given the gradient d_actions [R, B, A]."""
    max_action = per_run(hyper.max_action, 3)
    return spec.layouts["actor"].flatten(actor_backward(policy.params, policy.tape, d_actions, max_action))


def actor_updates(spec: Spec, state: AgentState) -> Tensor:
    """How many Adam steps the actor has made, this one included: int64 []."""
    return torch.div(state.step, spec.config.policy_freq, rounding_mode="floor")


def bc_errors(hyper: Hyper, policy_actions: Tensor, actions: Tensor) -> Tensor:
    """Cloning error [R, B]: squared difference, mean over the true action entries."""
    return (policy_actions - actions).square().sum(-1) / per_run(hyper.true_act_dim, 2)


def rl_cotangent(policy: PolicyValue, q_scale: Tensor) -> Tensor:
    """d(-mean(q) / c) / d pi, [R, B, A]."""
    return policy.dq * per_run(-1.0 / (q_scale * policy.q.shape[-1]), 3)


def bc_cotangent(hyper: Hyper, policy_actions: Tensor, actions: Tensor) -> Tensor:
    """d MSE(pi, a) / d pi, [R, B, A]."""
    return (policy_actions - actions) * per_run(2.0 / (hyper.true_act_dim * actions.shape[1]), 3)


def move_targets(state: AgentState, hyper: Hyper, actor: str = "actor") -> None:
    """Targets move by tau towards the online weights, in place; the actor's towards those of ``actor``."""
    state.actor_target.lerp_(getattr(state, actor), per_run(hyper.tau, 2))
    state.critic_target.lerp_(state.critic, per_run(hyper.tau, 3))


def td3bc_networks(config: Any) -> dict[str, Net]:
    """An actor and a pair of critics, robust or plain, all with targets."""
    robust = config.critic == "robust"
    draw = small_last if robust else torch_default
    return {
        "actor": Net(actor_mlp(config.hidden_dim), "actor_lr", torch_default, target=True),
        "critic": Net(critic_mlp(config.hidden_dim, robust), "critic_lr", draw, copies=2, target=True),
    }


def critics_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The part of every step: both critics."""
    return critic_step(spec, state, hyper, batch, target_values(spec, state, hyper, batch))


def policy_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The part of every policy_freq-th step: the actor, with the updated Q1, then the targets."""
    _, metrics = actor_step(spec, state, hyper, batch)
    move_targets(state, hyper)
    return metrics | {"alpha_after": softplus(state.rho)}


def first_rho(config: Any) -> dict[str, float]:
    """alpha = softplus(rho), as ASPC has it."""
    return {"rho": inverse_softplus(config.alpha)}


def parts_of(config: Any, t: int) -> tuple[str, ...]:
    """Critics at each step; the policy at every policy_freq-th."""
    return ("critics",) if t % config.policy_freq else ("critics", "policy")


def trace_config(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a trace tells beside its ``hp``: the learning rate, the width, and the critic, robust if it has net.9."""
    robust = any(key.startswith("init/critic_1/net.9.") for key in arrays)
    width = width_of(arrays, "init/actor/net.0.bias")
    return one_rate(meta, "actor_lr", "critic_lr") | width | {"critic": "robust" if robust else "plain"}


def adam_sums(spec: Spec, state: AgentState) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each of the actor's tensors: sum m, sum |m|, sum v of Adam's moments, and their scales."""
    sums = {}
    for theirs, place in actor_critic_places(spec).items():
        if place.net == "actor":
            m = Place("actor_m", None, place.tensor).view(spec, state)
            v = Place("actor_v", None, place.tensor).view(spec, state)
            ours = np.array([float(m.sum()), float(m.abs().sum()), float(v.sum())])
            sums[theirs.replace("actor/", "actor_adam_sums/")] = ours, np.maximum(ours[[1, 1, 2]], 1e-300)
    return sums


TRACE = TraceNames(
    algo="td3_bc",
    hyper={
        **{name: name for name in ("discount", "tau", "policy_noise", "noise_clip", "policy_freq", "alpha")},
        **{name: name for name in ("reward_mean", "actor_lr", "critic_lr", "hidden_dim")},
        "robust_critic": "",
    },
    batch=BATCH_NAMES | {"noise": "noise_raw"},
    weights=actor_critic_places,
    config=trace_config,
    final=adam_sums,
)

ALGORITHM = Algorithm(
    name="td3bc",
    title="TD3+BC",
    config=TD3BCConfig,
    networks=td3bc_networks,
    scalars=first_rho,
    parts={"critics": critics_part, "policy": policy_part},
    parts_of=parts_of,
    period=lambda config: config.policy_freq,
    batch=Batch,
    shown=("critic_loss", "actor_loss", "q1_mean"),
    source="Fujimoto & Gu 2021, arXiv 2106.06860",
    trace=TRACE,
)
