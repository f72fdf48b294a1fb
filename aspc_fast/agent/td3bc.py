"""TD3+BC (Fujimoto & Gu 2021) on batched runs: the stages of one update, shared by every algorithm here.

All functions take and update ``AgentState`` with its leading run axis R; the stages are called in the order of
``aspc_fast.agent.schedule``. Metrics are tensors [R].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from aspc_fast.agent.adam import adam_
from aspc_fast.agent.layout import ActorParams
from aspc_fast.agent.networks import (
    ActorTape,
    actor_backward,
    actor_forward,
    critic_action_gradient,
    critic_backward,
    critic_forward,
)
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec

Metrics = dict[str, Tensor]


def per_run(value: Tensor, ndim: int) -> Tensor:
    """A per-run scalar [R] as [R, 1, ...] with ``ndim`` axes, to broadcast over a run's own axes."""
    return value.reshape(value.shape[0], *(1,) * (ndim - 1))


def target_values(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Tensor:
    """y [R, B] = r + gamma (1 - d) min(Q1_bar, Q2_bar)(s', clip(pi_bar(s') + clipped noise))."""
    max_action, bound = per_run(hyper.max_action, 3), per_run(hyper.noise_clip * hyper.max_action, 3)
    noise = batch.noise * per_run(hyper.policy_noise * hyper.max_action, 3)
    noise = noise.clamp(-bound, bound) * hyper.action_mask.unsqueeze(1)
    actor = state.views(spec.shapes).actor_target
    proposed, _ = actor_forward(actor, batch.next_observations, max_action)
    actions = (proposed + noise).clamp(-max_action, max_action)
    critic = state.views(spec.shapes).critic_target
    q, _ = critic_forward(critic, *both_critics(batch.next_observations, actions))
    rewards = batch.rewards * per_run(hyper.reward_factor, 2) + per_run(hyper.reward_shift, 2)
    return rewards + per_run(hyper.discount, 2) * (1.0 - batch.terminals) * q.amin(dim=1)


def critic_step(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, targets: Tensor) -> Metrics:
    """One Adam step of both critics on MSE(Q1, y) + MSE(Q2, y), in place."""
    params = state.views(spec.shapes).critic
    q, tape = critic_forward(params, *both_critics(batch.observations, batch.actions))
    error = q - targets.unsqueeze(1)
    gradient = spec.shapes.critic.flatten(critic_backward(params, tape, error * (2.0 / error.shape[-1])))
    lr = per_run(hyper.critic_lr, 3) if spec.critic_lr is None else spec.critic_lr
    adam_(spec, state.critic, gradient, state.critic_m, state.critic_v, lr, state.step)
    return {"critic_loss": error.square().mean(-1).sum(-1), "q1_mean": q[:, 0].mean(-1)}


def both_critics(observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Observations and actions [R, B, .] as [R, 2, B, .], the same for both critics (no copy)."""
    return (
        observations.unsqueeze(1).expand(-1, 2, -1, -1),
        actions.unsqueeze(1).expand(-1, 2, -1, -1),
    )


class PolicyValue(NamedTuple):
    """The policy on the batch: actions pi [R, B, A], q [R, B] = Q1(s, pi), dq [R, B, A] = dQ1/da, the actor's tape."""

    params: ActorParams
    tape: ActorTape
    actions: Tensor
    q: Tensor
    dq: Tensor


def policy_value(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> PolicyValue:
    """Run the current actor and the first critic on the batch's states."""
    params = state.views(spec.shapes).actor
    actions, tape = actor_forward(params, batch.observations, per_run(hyper.max_action, 3))
    critic = state.views(spec.shapes).critic_1
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
    lr = per_run(hyper.actor_lr, 2) if spec.actor_lr is None else spec.actor_lr
    adam_(spec, state.actor, gradient, state.actor_m, state.actor_v, lr, actor_updates(spec, state))
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
    return spec.shapes.actor.flatten(actor_backward(policy.params, policy.tape, d_actions, max_action))


def actor_updates(spec: Spec, state: AgentState) -> Tensor:
    """How many Adam steps the actor has made, this one included: int64 []."""
    return torch.div(state.step, spec.policy_freq, rounding_mode="floor")


def bc_errors(hyper: Hyper, policy_actions: Tensor, actions: Tensor) -> Tensor:
    """Cloning error [R, B]: squared difference, mean over the true action entries."""
    return (policy_actions - actions).square().sum(-1) / per_run(hyper.true_act_dim, 2)


def rl_cotangent(policy: PolicyValue, q_scale: Tensor) -> Tensor:
    """d(-mean(q) / c) / d pi, [R, B, A]."""
    return policy.dq * per_run(-1.0 / (q_scale * policy.q.shape[-1]), 3)


def bc_cotangent(hyper: Hyper, policy_actions: Tensor, actions: Tensor) -> Tensor:
    """d MSE(pi, a) / d pi, [R, B, A]."""
    return (policy_actions - actions) * per_run(2.0 / (hyper.true_act_dim * actions.shape[1]), 3)


def move_targets(state: AgentState, hyper: Hyper) -> None:
    """Targets move by tau towards the online weights, in place."""
    state.actor_target.lerp_(state.actor, per_run(hyper.tau, 2))
    state.critic_target.lerp_(state.critic, per_run(hyper.tau, 3))
