"""RAPO (TD3+AMO, seonvin0319/AMO): two actors share the critics, and each has a scale that divides its cloning term.

E (``actor``) acts; B (``bootstrap``) may value the next state. A scale alpha = softplus(rho) learns from a loss after
one virtual step of its actor, on a second, independent batch. Both hyper-gradients are in first-order form, as
``aspc`` has them: an actor's gradient is g = gRL + gBC / alpha, so d theta'/d alpha follows from gBC alone, and the
outer loss is one forward-mode pass away. E's virtual step is the very Adam step that E makes, so it is made once.

Outer losses are differences across a step that moves B's weights by about 1e-7: they are taken in float64 whatever the
precision of training, for float32 gets them to 0.4 % at best, and TF32 not at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from aspc_fast.agent.adam import adam_, adam_derivative, adam_step, per_run
from aspc_fast.agent.algorithm import Algorithm, Metrics, Net
from aspc_fast.agent.initialise import small_last, torch_default
from aspc_fast.agent.layout import MLP, Layout, MLPParams
from aspc_fast.agent.networks import actor_forward, actor_tangent, critic_action_gradient, critic_forward
from aspc_fast.agent.state import AgentState, Hyper, Spec, inverse_softplus
from aspc_fast.agent.td3bc import (
    PolicyValue,
    TD3Config,
    actor_gradient,
    actor_updates,
    bc_cotangent,
    bc_errors,
    both_critics,
    critics_part,
    move_targets,
    policy_value,
    rl_cotangent,
)
from aspc_fast.agent.trace_names import (
    BATCH_NAMES,
    Place,
    Places,
    TraceNames,
    actor_critic_places,
    sequential,
    width_of,
)
from aspc_fast.config import derived, hyper, shared
from aspc_fast.errors import UserError

SMALLEST_Q = 1e-6  # what mean|Q| is at least where it divides
ACTORS = (("bootstrap", "rho_bootstrap", "bootstrap_actor_loss"), ("actor", "rho", "actor_loss"))
# Settings of the authors' program of which only one value is RAPO.
FIXED = {"execution_score": "bpi", "execution_only": False, "execution_meta_loss": "le", "algorithm": "td3_amo"}
FIXED |= {"meta_warmup_steps": 0, "gaussian": False}


@dataclass(frozen=True)
class RAPOConfig(TD3Config):
    """Hyper-parameters of RAPO. Defaults are those of the authors' td3_rapo_tinit5_tlr1e-3."""

    algo: str = "rapo"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    alpha: float = derived(5.0, 0, open_low=True)
    """alpha_E: first scale of the acting actor E, > 0; it divides E's cloning term."""
    alpha_bootstrap: float = derived(5.0, 0, open_low=True)
    """alpha_B: first scale of the bootstrap actor B, > 0."""
    alpha_lr: float = hyper(1e-3, 0, 1)
    """eta_alpha: Adam learning rate of both scales at first."""
    alpha_lr_final: float = derived(0.01, 0, 1, open_low=True)
    """Share of eta_alpha that is left after alpha_lr_horizon training steps (exponential decay per meta step)."""
    alpha_lr_horizon: int = derived(1_000_000, 1, 1e12)
    """Training steps over which alpha_lr_final is reached: a constant of the method, not the run's length."""
    meta_interval: int = shared(20, 1, 1_000_000)
    """A meta step is made where the training step is a multiple of this and of policy_freq."""
    freeze_alpha: bool = False
    """Whether alpha_E stays as it is."""
    freeze_alpha_bootstrap: bool = False
    """Whether alpha_B stays as it is."""
    bootstrap_loss: Literal["l2_rms", "l1_l2_rms", "l1", "l2"] = "l2_rms"
    """L_B: how far B's step moves the targets (l2: mean square, l2_rms: its root), B's own objective (l1), a sum."""
    bootstrap_eps: float = shared(1e-6, 0)
    """Added to mean|Q| where B's outer loss divides by it."""
    critic_target: Literal["actor", "bootstrap"] = "actor"
    """The actor whose Polyak average values the next state."""
    actor_depth: int = shared(2, 1, 16)
    """Hidden layers of both actors."""
    critic_depth: int = shared(2, 1, 16)
    """Hidden layers of a critic."""
    critic_layer_norm: bool = False
    """Whether a critic has LayerNorm after every ReLU."""
    critic_layer_norm_eps: float = shared(1e-5, 0, 1, open_low=True)
    """Added to the variance in LayerNorm."""

    @property
    def period(self) -> int:
        """Training steps after which the schedule of updates repeats."""
        return math.lcm(self.policy_freq, self.meta_interval)

    @property
    def alpha_lr_decay(self) -> float:
        """Factor on the scales' learning rate per meta step."""
        return float(self.alpha_lr_final ** (self.meta_interval / self.alpha_lr_horizon))


class RAPOBatch(NamedTuple):
    """One update's input: as ``Batch``, and s, a, s', d of an independent batch of the same size."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    outer_observations: Tensor
    outer_actions: Tensor
    outer_next_observations: Tensor
    outer_terminals: Tensor
    noise: Tensor


class Inner(NamedTuple):
    """An actor's loss rl + bc / alpha on the batch: both terms [R] and their gradients with respect to pi [R, B, A]."""

    policy: PolicyValue
    rl: Tensor
    bc: Tensor
    d_rl: Tensor
    d_bc: Tensor

    def loss(self, alpha: Tensor) -> Tensor:
        """[R]"""
        return self.rl + self.bc / alpha


def inner(spec: Spec, state: AgentState, hyper: Hyper, batch: RAPOBatch, actor: str) -> Inner:
    """-mean Q1(s, pi) / mean|Q1(s, pi)| and MSE(pi, a) of one actor."""
    policy = policy_value(spec, state, hyper, batch, actor)
    q_scale = policy.q.abs().mean(-1).clamp(min=SMALLEST_Q)
    bc = bc_errors(hyper, policy.actions, batch.actions).mean(-1)
    d_bc = bc_cotangent(hyper, policy.actions, batch.actions)
    return Inner(policy, -policy.q.mean(-1) / q_scale, bc, rl_cotangent(policy, q_scale), d_bc)


def policy_part(spec: Spec, state: AgentState, hyper: Hyper, batch: RAPOBatch) -> Metrics:
    """The part of every policy_freq-th step: both actors, then the targets."""
    metrics: Metrics = {}
    for actor, rho, loss in ACTORS:
        found, alpha = inner(spec, state, hyper, batch, actor), softplus(getattr(state, rho))
        gradient = actor_gradient(spec, hyper, found.policy, found.d_rl + found.d_bc / per_run(alpha, 3))
        adam_step(spec, state, hyper, actor, gradient, actor_updates(spec, state))
        metrics[loss] = found.loss(alpha)
    move_targets(state, hyper, spec.config.critic_target)
    return metrics | alphas(state)


def alphas(state: AgentState) -> Metrics:
    """Both scales as they are now, [R]."""
    return {"alpha_E": softplus(state.rho), "alpha_B": softplus(state.rho_bootstrap)}


def policy_and_scales_part(spec: Spec, state: AgentState, hyper: Hyper, batch: RAPOBatch) -> Metrics:
    """The part of a meta step: both actors and both scales, then the targets.

    E steps with its scale from before this update, B with the scale that has just learnt.
    """
    alpha, alpha_b, max_action = softplus(state.rho), softplus(state.rho_bootstrap), per_run(hyper.max_action, 3)
    found, found_b = (inner(spec, state, hyper, batch, actor) for actor in ("actor", "bootstrap"))
    outer = outer_double(batch)
    before, _ = actor_forward(spec.params("actor", state.actor.double()), outer.outer_observations, max_action.double())
    metrics = {"actor_loss": found.loss(alpha)}

    g_rl, g_bc = (actor_gradient(spec, hyper, found.policy, d) for d in (found.d_rl, found.d_bc))
    gradient, updates = g_rl + g_bc / per_run(alpha, 2), actor_updates(spec, state)
    adam_step(spec, state, hyper, "actor", gradient, updates)
    slope = adam_derivative(spec, gradient, state.actor_m, state.actor_v, updates, textbook=True)
    direction = per_run(hyper.actor_lr / alpha.square(), 2) * slope * g_bc

    g_rl_b, g_bc_b = (actor_gradient(spec, hyper, found_b.policy, d) for d in (found_b.d_rl, found_b.d_bc))
    moved = per_run(hyper.actor_lr, 2) * (g_rl_b + g_bc_b / per_run(alpha_b, 2))
    direction_b = per_run(hyper.actor_lr / alpha_b.square(), 2) * g_bc_b
    virtual = state.bootstrap.double() - moved.double()
    losses, d_alpha_b = bootstrap_outer(spec, state, hyper, outer, alpha_b.double(), virtual, direction_b.double())
    metrics |= {"L1_B": losses["l1"], "L2_RMS_B": losses["l2_rms"], "L2_B": losses["l2"]}

    rate = scale_rate(spec, state, hyper)
    metrics["alpha_lr_used"] = rate
    if not spec.config.freeze_alpha:
        metrics["L_alpha_E"], d_alpha = execution_outer(spec, state, hyper, outer, before, direction.double())
        metrics["scale_E_grad"] = scale_step(spec, state, "rho", d_alpha, rate)
    if not spec.config.freeze_alpha_bootstrap:
        metrics["L_alpha_B"] = losses[spec.config.bootstrap_loss]
        metrics["scale_B_grad"] = scale_step(spec, state, "rho_bootstrap", d_alpha_b, rate)

    metrics = {name: value.to(state.dtype) for name, value in metrics.items()}
    alpha_b = softplus(state.rho_bootstrap)
    metrics["bootstrap_actor_loss"] = found_b.loss(alpha_b)
    adam_step(spec, state, hyper, "bootstrap", g_rl_b + g_bc_b / per_run(alpha_b, 2), updates)
    move_targets(state, hyper, spec.config.critic_target)
    return metrics | alphas(state)


def outer_double(batch: RAPOBatch) -> RAPOBatch:
    """With the independent batch in float64."""
    names = ("outer_observations", "outer_actions", "outer_next_observations", "outer_terminals")
    return batch._replace(**{name: getattr(batch, name).double() for name in names})


def meta_steps(spec: Spec, state: AgentState) -> Tensor:
    """How many meta steps there were, this one included: int64 []."""
    return torch.div(state.step, spec.period, rounding_mode="floor")


def scale_rate(spec: Spec, state: AgentState, hyper: Hyper) -> Tensor:
    """Learning rate [R] of both scales at this meta step; as in the source, only E's learning lets it decay."""
    if spec.config.freeze_alpha:
        return hyper.alpha_lr.clone()
    return (hyper.alpha_lr * hyper.alpha_lr_decay ** (meta_steps(spec, state) - 1)).to(state.dtype)


def scale_step(spec: Spec, state: AgentState, rho: str, d_alpha: Tensor, rate: Tensor) -> Tensor:
    """One Adam step on rho [R], in place, given dL/d alpha [R]. Returns dL/d rho [R]."""
    weights = getattr(state, rho)
    gradient = d_alpha.to(weights.dtype) * torch.sigmoid(weights)
    moments = getattr(state, f"{rho}_m"), getattr(state, f"{rho}_v")
    adam_(spec, weights, gradient, *moments, rate, meta_steps(spec, state))
    return gradient


def execution_outer(
    spec: Spec, state: AgentState, hyper: Hyper, batch: RAPOBatch, before: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """L_E [R] and dL_E/d alpha_E [R]: minus a lower bound on what E's step gains at the first target critic.

    ``state.actor`` has made its step, whose derivative is ``direction`` [R, P]; ``before`` [R, B, A]: its actions on
    the outer states before it. The critic's action gradients are constants.
    """
    max_action, states = per_run(hyper.max_action, 3).double(), batch.outer_observations
    params = spec.params("actor", state.actor.double())
    critic = spec.params("critic", state.critic_target[:, 0].double())
    after, tape = actor_forward(params, states, max_action)
    _, critic_tape = critic_forward(critic, states, before)
    slope_before = critic_action_gradient(critic, critic_tape, before.shape[-1])
    q, critic_tape = critic_forward(critic, states, after)
    slope_after = critic_action_gradient(critic, critic_tape, after.shape[-1])

    moved = after - before
    distance, change = norm(moved), norm(slope_after - slope_before)
    gain = (slope_before * moved).sum(-1) - 0.5 * change * distance
    q_scale = q.abs().mean(-1).clamp(min=SMALLEST_Q)
    d_moved = slope_before - (0.5 * change * reciprocal(distance)).unsqueeze(-1) * moved
    motion = actor_tangent(params, tape, spec.params("actor", direction), max_action)
    return -gain.mean(-1) / q_scale, -(d_moved * motion).sum(-1).mean(-1) / q_scale


def bootstrap_outer(
    spec: Spec, state: AgentState, hyper: Hyper, batch: RAPOBatch, alpha: Tensor, virtual: Tensor, direction: Tensor
) -> tuple[Metrics, Tensor]:
    """B's outer losses by name [R], and d/d alpha_B [R] of the one that is used.

    virtual [R, P]: B's weights after one plain gradient step; ``direction`` its derivative. alpha itself is a constant.
    """
    max_action, d_alpha = per_run(hyper.max_action, 3).double(), torch.zeros_like(alpha)
    states, next_states, kind = batch.outer_observations, batch.outer_next_observations, spec.config.bootstrap_loss
    params, along = spec.params("bootstrap", virtual), spec.params("bootstrap", direction)
    actions, tape = actor_forward(params, states, max_action)
    next_actions, next_tape = actor_forward(params, next_states, max_action)
    old_next, _ = actor_forward(spec.params("bootstrap", state.bootstrap.double()), next_states, max_action)

    critics = spec.params("critic", state.critic_target.double())
    q, slope = smaller(critics, states, actions)
    q_next, slope_next = smaller(critics, next_states, next_actions)
    q_old, _ = smaller(critics, next_states, old_next)
    scale = q.abs().mean(-1) + spec.config.bootstrap_eps
    weight = per_run(hyper.discount / scale, 2) * (1.0 - batch.outer_terminals)
    shift = weight * (q_next - q_old)
    mean_square, bc = shift.square().mean(-1), bc_errors(hyper, actions, batch.outer_actions).mean(-1)
    losses = {"l1": bc - alpha * q.mean(-1) / scale, "l2_rms": alpha * mean_square.sqrt(), "l2": alpha * mean_square}
    losses["l1_l2_rms"] = losses["l1"] + losses["l2_rms"]

    if kind != "l1":
        motion = actor_tangent(params, next_tape, along, max_action)
        d_square = 2.0 * (shift * weight * (slope_next * motion).sum(-1)).mean(-1)
        d_alpha = d_alpha + alpha * d_square * (1.0 if kind == "l2" else 0.5 * reciprocal(mean_square.sqrt()))
    if kind in ("l1", "l1_l2_rms"):
        motion = actor_tangent(params, tape, along, max_action)
        d_actions = bc_cotangent(hyper, actions, batch.outer_actions) - slope * per_run(alpha / scale / q.shape[-1], 3)
        d_alpha = d_alpha + (d_actions * motion).sum((-2, -1))
    return losses, d_alpha


def smaller(critics: MLPParams, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """min of two critics [R, B] and its gradient with respect to the actions [R, B, A]."""
    q, tape = critic_forward(critics, *both_critics(observations, actions))
    slopes = critic_action_gradient(critics, tape, actions.shape[-1])
    first = (q[:, 0] <= q[:, 1]).unsqueeze(-1)
    return q.amin(1), torch.where(first, slopes[:, 0], slopes[:, 1])


def norm(vectors: Tensor) -> Tensor:
    """Euclidean norm over the last axis."""
    return vectors.square().sum(-1).sqrt()


def reciprocal(x: Tensor) -> Tensor:
    """1 / x, and 0 where x = 0: there the root that x is has derivative 0."""
    return torch.where(x > 0, 1.0 / x, 0.0)


def rapo_networks(config: Any) -> dict[str, Net]:
    """E and B, which starts as E's copy; two critics; targets of E's place and of the critics."""

    def as_the_actor(layout: Layout, seed: int, block: int) -> Tensor:
        return torch_default(layout, seed, 0)  # the first network's streams

    actor = MLP(("obs",), (config.hidden_dim,) * config.actor_depth, ("act",))
    hidden = (config.hidden_dim,) * config.critic_depth
    critic = MLP(("obs", "act"), hidden, (), config.critic_layer_norm, config.critic_layer_norm_eps)
    return {
        "actor": Net(actor, "actor_lr", torch_default, target=True),
        "bootstrap": Net(actor, "actor_lr", as_the_actor),
        "critic": Net(critic, "critic_lr", small_last, copies=2, target=True),
    }


def scalars(config: Any) -> dict[str, float]:
    """alpha = softplus(rho) of both actors, and Adam's moments."""
    first = {"rho": inverse_softplus(config.alpha), "rho_bootstrap": inverse_softplus(config.alpha_bootstrap)}
    return first | {f"{rho}_{moment}": 0.0 for rho in first for moment in ("m", "v")}


def parts_of(config: Any, t: int) -> tuple[str, ...]:
    """Critics at each step; both actors at every policy_freq-th; the scales where meta_interval divides t as well."""
    if t % config.policy_freq:
        return ("critics",)
    return ("critics", "policy") if t % config.period else ("critics", "policy and scales")


def trace_weights(spec: Spec) -> Places:
    """Where the authors' parameters lie here."""
    found = actor_critic_places(spec) | sequential(spec, "bootstrap", None, "bootstrap/net")
    return found | {"scale_E/rho": Place("rho"), "scale_B/rho": Place("rho_bootstrap")}


def trace_config(meta: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """The width, and E's other name as the critics' target; UserError where the program was not RAPO."""
    for name, value in FIXED.items():
        if meta["hp"].get(name, value) != value:
            raise UserError(f"hyper-parameter {name!r} is {meta['hp'][name]!r}, but only {value!r} is known here")
    renamed = {"critic_target": "actor"} if meta["hp"].get("critic_target") == "execution" else {}
    return width_of(arrays, "init/actor/net.0.bias") | renamed


TRACE = TraceNames(
    algo="rapo",
    hyper={name: name for name in ("discount", "tau", "policy_noise", "noise_clip", "policy_freq", "meta_interval")}
    | {name: name for name in ("actor_lr", "critic_lr", "alpha_lr", "actor_depth", "critic_depth", "hidden_dim")}
    | {name: name for name in ("bootstrap_loss", "critic_target")}
    | {"alpha_E": "alpha", "alpha_B": "alpha_bootstrap", "smoothness_eps": "bootstrap_eps"}
    | {"freeze_scale_E": "freeze_alpha", "freeze_scale_B": "freeze_alpha_bootstrap"}
    | {"critic_layernorm": "critic_layer_norm", "ln_eps": "critic_layer_norm_eps", "critic_special_init": ""}
    | dict.fromkeys(FIXED, ""),
    batch=BATCH_NAMES
    | {f"outer_{ours}": f"outer_{theirs}" for ours, theirs in BATCH_NAMES.items() if ours != "rewards"}
    | {"noise": "noise_raw"},
    weights=trace_weights,
    starts={"bootstrap": "actor"},
    config=trace_config,
    after=lambda spec, state, hyper, step: {
        "rho_E_after": float(state.rho[0]),
        "rho_B_after": float(state.rho_bootstrap[0]),
    },
    max_action=1.0,
    scale_gradient=frozenset({"scale_E_grad", "scale_B_grad"}),
)


ALGORITHM = Algorithm(
    name="rapo",
    title="RAPO",
    config=RAPOConfig,
    networks=rapo_networks,
    scalars=scalars,
    columns=lambda config: {"alpha_lr_decay": config.alpha_lr_decay},
    exact=("alpha_lr_decay",),
    parts={"critics": critics_part, "policy": policy_part, "policy and scales": policy_and_scales_part},
    parts_of=parts_of,
    period=lambda config: config.period,
    batch=RAPOBatch,
    data=("outer",),
    shown=("critic_loss", "actor_loss", "alpha_E", "alpha_B"),
    curve="alpha_E",
    source="github.com/seonvin0319/AMO",
    trace=TRACE,
)
