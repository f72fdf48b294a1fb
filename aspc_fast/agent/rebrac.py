"""ReBRAC (Tarasov et al. 2023, arXiv 2305.09836): TD3 with a penalty on the distance to the dataset's actions, in the
actor's loss and in the critics' target, as CORL computes it.

Three habits differ from TD3+BC's here: the first training step already has an actor step, LayerNorm's eps is flax's
1e-6, and the actor's target moves towards the actor from before the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.adam import per_run
from aspc_fast.agent.algorithm import Algorithm, Metrics, Net
from aspc_fast.agent.descend import descend
from aspc_fast.agent.initialise import small_last
from aspc_fast.agent.layout import MLP
from aspc_fast.agent.networks import actor_forward, critic_forward
from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.agent.td3bc import TD3Config, backed_up, both_critics, fit_critics, move_targets, target_actions
from aspc_fast.agent.trace_names import BATCH_NAMES, TraceNames, actor_critic_places, width_of
from aspc_fast.config import hyper, shared
from aspc_fast.errors import UserError


@dataclass(frozen=True)
class ReBRACConfig(TD3Config):
    """Hyper-parameters of ReBRAC. Defaults are the one set of the ASPC authors' script for all datasets; CORL tunes the
    two coefficients, batch size and learning rates for each (``aspc_fast.settings``)."""

    algo: str = "rebrac"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    actor_lr: float = hyper(1e-3, 0, 1)
    """eta_actor: Adam learning rate of the actor."""
    critic_lr: float = hyper(1e-3, 0, 1)
    """eta_critic: Adam learning rate of the critics."""
    actor_bc_coef: float = hyper(0.001, 0)
    """beta_1: weight of the squared distance to the dataset's action in the actor's loss."""
    critic_bc_coef: float = hyper(0.001, 0)
    """beta_2: weight of the squared distance to the dataset's next action in the critics' target."""
    normalise_q: bool = True
    """Whether the actor's loss divides Q by its mean magnitude."""
    actor_ln: bool = False
    """Whether the actor has LayerNorm after each ReLU."""
    critic_ln: bool = True
    """Whether the critics have LayerNorm after each ReLU."""
    actor_n_hiddens: int = shared(3, 1, 16)
    """Hidden layers of the actor."""
    critic_n_hiddens: int = shared(3, 1, 16)
    """Hidden layers of a critic."""
    layer_norm_eps: float = shared(1e-6, 0, 1, open_low=True)
    """Added to the variance in LayerNorm (flax's default)."""
    normalise: bool = False
    """Whether states are normalised with the dataset's own mean and standard deviation."""


class Batch(NamedTuple):
    """One update's input: as ``state.Batch``, and next_actions [R, B, A], the dataset's action after each row."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    next_actions: Tensor
    noise: Tensor


def critics(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """One Adam step of both critics towards r + gamma (1 - d) (min Q_bar(s', a') - beta_2 |a' - a'_data|^2)."""
    actions = target_actions(spec, state, hyper, batch)
    q, _ = critic_forward(state.params(spec, "critic_target"), *both_critics(batch.next_observations, actions))
    distance = (actions - batch.next_actions).square().sum(-1)
    next_q = q.amin(dim=1) - per_run(hyper.critic_bc_coef, 2) * distance
    targets = backed_up(hyper, batch, next_q)
    q, critic_loss = fit_critics(spec, state, hyper, batch, targets)
    return {
        "critic_loss": critic_loss,
        "q_min": q.amin(dim=1).mean(-1),
        "q1_mean": q[:, 0].mean(-1),
        "q2_mean": q[:, 1].mean(-1),
        "target_q_mean": targets.mean(-1),
        "next_bc_mean": distance.mean(-1),
        "next_q_mean": next_q.mean(-1),
    }


def policy(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The targets move, then one Adam step of the actor on beta_1 |pi - a|^2 - lambda min(Q1, Q2)(s, pi)."""
    move_targets(state, hyper)  # before the actor's step: its target never sees this one
    critic = state.params(spec, "critic")

    def loss(actor: Any) -> Any:
        actions, _ = actor_forward(actor, batch.observations, per_run(hyper.max_action, 3))
        q = critic_forward(critic, *both_critics(batch.observations, actions))[0].amin(dim=1)
        q_abs = q.detach().abs().mean(-1)
        scale = 1.0 / q_abs if spec.config.normalise_q else torch.ones_like(q_abs)
        distance, q_mean = (actions - batch.actions).square().sum(-1).mean(-1), q.mean(-1)
        actor_loss = hyper.actor_bc_coef * distance - scale * q_mean
        metrics = {
            "actor_loss": actor_loss,
            "bc_mse_policy": distance,
            "action_mse": distance / hyper.true_act_dim,
            "q_pi_mean": q_mean,
            "q_abs_mean": q_abs,
            "lmbda": scale,
        }
        return actor_loss, metrics

    updates = torch.div(state.step - 1, spec.config.policy_freq, rounding_mode="floor") + 1
    _, metrics = descend(spec, state, hyper, "actor", loss, updates)
    return metrics


def networks(config: Any) -> dict[str, Net]:
    """An actor and a pair of critics of any depth, with or without LayerNorm, all with targets."""
    actor_hidden, critic_hidden = (
        (config.hidden_dim,) * depth for depth in (config.actor_n_hiddens, config.critic_n_hiddens)
    )
    actor = MLP(("obs",), actor_hidden, ("act",), config.actor_ln, config.layer_norm_eps)
    critic = MLP(("obs", "act"), critic_hidden, (), config.critic_ln, config.layer_norm_eps)
    return {
        "actor": Net(actor, "actor_lr", partial(small_last, last=1e-3), target=True),
        "critic": Net(critic, "critic_lr", small_last, copies=2, target=True),
    }


def parts_of(config: Any, t: int) -> tuple[str, ...]:
    """Critics at each step; the policy at the first and every policy_freq-th after it."""
    return ("critics", "policy") if (t - 1) % config.policy_freq == 0 else ("critics",)


def trace_config(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The width; UserError where the file's epochs break the rhythm of actor steps, which begins anew with each."""
    epoch, rhythm = int(meta["hp"].get("num_updates_on_epoch", 1000)), int(meta["hp"].get("policy_freq", 2))
    if int(meta["n_steps"]) > epoch and epoch % rhythm:
        raise UserError(f"its epochs of {epoch} updates are no multiple of policy_freq {rhythm}")
    return width_of(arrays, "init/actor/net.0.bias")


SAME_NAMES = (
    *("tau", "policy_noise", "noise_clip", "policy_freq", "actor_bc_coef", "critic_bc_coef", "hidden_dim"),
    *("actor_ln", "critic_ln", "actor_n_hiddens", "critic_n_hiddens"),
)
TRACE = TraceNames(
    algo="rebrac",
    hyper={
        "gamma": "discount",
        "actor_learning_rate": "actor_lr",
        "critic_learning_rate": "critic_lr",
        "normalize_q": "normalise_q",
        "layernorm_eps": "layer_norm_eps",
        "num_updates_on_epoch": "",
        **{name: name for name in SAME_NAMES},
    },
    batch=BATCH_NAMES | {"next_actions": "next_action", "noise": "noise_raw"},
    weights=actor_critic_places,
    config=trace_config,
    max_action=1.0,
)

ALGORITHM = Algorithm(
    name="rebrac",
    title="ReBRAC",
    config=ReBRACConfig,
    networks=networks,
    parts={"critics": critics, "policy": policy},
    parts_of=parts_of,
    period=lambda config: config.policy_freq,
    batch=Batch,
    data=("next_actions",),
    shown=("critic_loss", "actor_loss", "q1_mean"),
    source="Tarasov et al. 2023, arXiv 2305.09836; tinkoff-ai/CORL, algorithms/offline/rebrac.py",
    trace=TRACE,
)
