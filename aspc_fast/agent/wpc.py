"""wPC, weighted policy constraint: TD3+BC that clones only those actions which the critic values above V(s).

The robust critic is that of Colin-Jing/ASPC's algorithms/offline/wpc.py, the plain one that of qsa-fox/wPC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from aspc_fast.agent.adam import adam_step, per_run
from aspc_fast.agent.algorithm import Algorithm, Metrics, Net
from aspc_fast.agent.initialise import torch_default
from aspc_fast.agent.layout import MLP
from aspc_fast.agent.networks import critic_forward, mlp_backward, mlp_forward
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.agent.td3bc import TRACE as TD3BC_TRACE
from aspc_fast.agent.td3bc import (
    TD3Config,
    actor_gradient,
    actor_updates,
    bc_cotangent,
    bc_errors,
    fit_critics,
    move_targets,
    policy_value,
    rl_cotangent,
    target_values,
    td3bc_networks,
    trace_config,
)
from aspc_fast.agent.trace_names import Places, actor_critic_places, numbered, one_rate
from aspc_fast.config import hyper


@dataclass(frozen=True)
class WPCConfig(TD3Config):
    """Hyper-parameters of wPC. It has one set for all datasets."""

    algo: str = "wpc"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    critic: Literal["robust", "plain"] = "robust"
    """robust: 3 hidden layers, LayerNorm after ReLU; plain: 2 hidden layers."""
    alpha: float = hyper(2.5, 0, open_low=True)
    """alpha: weight of the RL term against cloning, > 0."""
    value_lr: float = hyper(3e-4, 0, 1)
    """eta_V: Adam learning rate of the value network."""


def evaluate(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> tuple[Tensor, Metrics]:
    """One Adam step of both critics and one of V on the same targets y, in place.

    Returns w [R, B]: 1 where the updated Q1(s, a) is above V(s) as it was before its update, else 0.
    """
    y = target_values(spec, state, hyper, batch)
    q, critic_loss = fit_critics(spec, state, hyper, batch, y)
    params = state.params(spec, "vnet")
    v, tape = mlp_forward(params, batch.observations)
    error = v - y
    gradient = spec.layouts["vnet"].flatten(mlp_backward(params, tape, error * (2.0 / error.shape[-1])))
    adam_step(spec, state, hyper, "vnet", gradient, state.step)
    q_after, _ = critic_forward(state.params(spec, "critic", 0), batch.observations, batch.actions)
    kept = (q_after > v).to(v.dtype)
    q_means = q.mean(-1)
    metrics = {
        "critic_loss": critic_loss,
        "q1_mean": q_means[:, 0],
        "q2_mean": q_means[:, 1],
        "target_q_mean": y.mean(-1),
        "vnet_loss": error.square().mean(-1),
        "bc_ratio": kept.mean(-1),
        "v_mean": v.mean(-1),
        "q1_after_mean": q_after.mean(-1),
        "adv_mean": (q_after - v).mean(-1),
    }
    return kept, metrics


def evaluation_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The part of a step without policy: critics and V."""
    return evaluate(spec, state, hyper, batch)[1]


def policy_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The part of every policy_freq-th step: critics and V, one Adam step of the actor, then the targets.

    The actor's loss is -(alpha / mean|q|) mean(q) + mean(w (pi - a)^2), the mean over all entries, not the kept ones.
    """
    kept, metrics = evaluate(spec, state, hyper, batch)
    policy = policy_value(spec, state, hyper, batch)
    q_mean, q_scale = policy.q.mean(-1), policy.q.abs().mean(-1)
    d_bc = bc_cotangent(hyper, policy.actions, batch.actions) * kept.unsqueeze(-1)
    d_actions = rl_cotangent(policy, q_scale) * per_run(hyper.alpha, 3) + d_bc
    gradient = actor_gradient(spec, hyper, policy, d_actions)
    adam_step(spec, state, hyper, "actor", gradient, actor_updates(spec, state))
    move_targets(state, hyper)
    bc, scale = bc_errors(hyper, policy.actions, batch.actions), hyper.alpha / q_scale
    bc_weighted = (bc * kept).mean(-1)
    return metrics | {
        "actor_loss": bc_weighted - scale * q_mean,
        "q_pi_mean": q_mean,
        "q_abs_mean": q_scale,
        "alpha_used": hyper.alpha.clone(),
        "lmbda": scale,
        "bc_mse": bc.mean(-1),
        "bc_weighted": bc_weighted,
    }


def networks(config: Any) -> dict[str, Net]:
    """TD3+BC's, and V: obs -> H -> H -> 1 without LayerNorm or target."""
    value = Net(MLP(("obs",), (config.hidden_dim,) * 2), "value_lr", torch_default)
    return td3bc_networks(config) | {"vnet": value}


def places(spec: Spec) -> Places:
    """The authors' parameters."""
    return actor_critic_places(spec) | numbered(spec, "vnet", None, ["vnet/l1", "vnet/l2", "vnet/l3"])


def settings(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a trace tells beside its ``hp``."""
    return trace_config(meta, arrays) | (one_rate(meta, "value_lr") if "vnet_lr" not in meta["hp"] else {})


ALGORITHM = Algorithm(
    name="wpc",
    title="wPC",
    config=WPCConfig,
    networks=networks,
    parts={"critics": evaluation_part, "critics and policy": policy_part},
    parts_of=lambda config, t: ("critics",) if t % config.policy_freq else ("critics and policy",),
    period=lambda config: config.policy_freq,
    batch=Batch,
    shown=("critic_loss", "actor_loss", "q1_mean", "bc_ratio"),
    source="Colin-Jing/ASPC algorithms/offline/wpc.py; qsa-fox/wPC",
    trace=replace(
        TD3BC_TRACE,
        algo="wpc",
        hyper={**TD3BC_TRACE.hyper, "value_lr": "value_lr", "vnet_lr": "value_lr"},
        weights=places,
        config=settings,
    ),
)
