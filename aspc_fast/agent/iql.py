"""IQL, implicit Q-learning (Kostrikov et al. 2022), as tinkoff-ai/CORL's algorithms/offline/iql.py has it.

V learns an expectile of the target critics, Q learns from V, and the actor is regressed on the dataset's actions with
weights exp(beta * advantage). Actions enter the likelihood as they are in the dataset: ``max_action`` scales only what
the policy does in the environment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.adam import adam_step, per_run
from aspc_fast.agent.algorithm import Algorithm, Draw, Metrics, Net
from aspc_fast.agent.descend import descend
from aspc_fast.agent.initialise import torch_default
from aspc_fast.agent.layout import MLP, MLPParams, critic_mlp
from aspc_fast.agent.networks import affine, critic_forward, mlp_backward, mlp_forward
from aspc_fast.agent.philox import STREAM_OWN
from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.agent.td3bc import backed_up, both_critics, fit_critics
from aspc_fast.agent.trace_names import BATCH_NAMES, Place, Places, TraceNames, sequential, width_of
from aspc_fast.config import AgentConfig, hyper, shared


@dataclass(frozen=True)
class IQLConfig(AgentConfig):
    """Hyper-parameters of IQL; defaults are those of the locomotion tasks."""

    algo: str = "iql"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    policy: Literal["gaussian", "deterministic"] = "gaussian"
    """gaussian: mean tanh(MLP) and a free standard deviation for each action entry; deterministic: the mean alone."""
    expectile: float = hyper(0.7, 0, 1)
    """tau_e: the expectile of Q that V learns, in [0, 1]; 0.5 is the mean."""
    beta: float = hyper(3.0, 0)
    """beta: inverse temperature of the advantage weights exp(beta u), per unit of Q."""
    exp_adv_max: float = hyper(100.0, 0, open_low=True)
    """Bound of the advantage weights."""
    tau: float = hyper(0.005, 0, 1, open_low=True)
    """tau: share of the online critics that enters their targets at each step, in (0, 1]."""
    actor_lr: float = hyper(3e-4, 0, 1)
    """eta_actor: the actor's first Adam learning rate; it falls along half a cosine."""
    horizon: int = hyper(1_000_000, 1, 1e12)
    """T_max: training steps after which the actor's learning rate is zero."""
    critic_lr: float = hyper(3e-4, 0, 1)
    """eta_Q: Adam learning rate of the critics."""
    value_lr: float = hyper(3e-4, 0, 1)
    """eta_V: Adam learning rate of the value network."""
    actor_dropout: float = shared(0.0, 0, 0.99)
    """Share of hidden units dropped in the deterministic actor's updates; without effect on a Gaussian, as in CORL."""
    log_std_min: float = hyper(-20.0)
    """Lower bound of the log standard deviation."""
    log_std_max: float = hyper(2.0)
    """Upper bound of the log standard deviation."""

    @property
    def drops_out(self) -> bool:
        """Whether updates draw dropout masks."""
        return self.policy == "deterministic" and self.actor_dropout > 0


class IQLBatch(NamedTuple):
    """One update's input, as ``Batch`` without noise; dropout_1, _2 [R, B, H]: uniform in (-1, 1), if there is dropout.

    A unit is kept where its number is below 1 - 2 * actor_dropout.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    dropout_1: Tensor = torch.empty(0)
    dropout_2: Tensor = torch.empty(0)


def value_step(spec: Spec, state: AgentState, hyper: Hyper, batch: IQLBatch) -> tuple[Tensor, Metrics]:
    """One Adam step of V on mean(|tau_e - 1[u < 0]| u^2), in place. Returns u = min target Q(s, a) - V(s), [R, B]."""
    critic = state.params(spec, "critic_target")
    q, _ = critic_forward(critic, *both_critics(batch.observations, batch.actions))
    target = q.amin(dim=1)
    params = state.params(spec, "value")
    v, tape = mlp_forward(params, batch.observations)
    advantage = target - v
    weight = (per_run(hyper.expectile, 2) - (advantage < 0).to(v.dtype)).abs()
    d_v = weight * advantage * (-2.0 / v.shape[-1])
    gradient = spec.layouts["value"].flatten(mlp_backward(params, tape, d_v))
    adam_step(spec, state, hyper, "value", gradient, state.step)
    metrics = {
        "value_loss": (weight * advantage.square()).mean(-1),
        "v_mean": v.mean(-1),
        "target_q_mean": target.mean(-1),
        "adv_mean": advantage.mean(-1),
        "adv_pos_frac": (advantage > 0).to(v.dtype).mean(-1),
    }
    return advantage, metrics


def policy_mean(config: IQLConfig, params: MLPParams, batch: IQLBatch) -> Tensor:
    """tanh(MLP(s)) [R, B, A], with the batch's dropout after each hidden layer if there is any."""
    if not config.drops_out:
        return mlp_forward(params, batch.observations)[0].tanh()
    x, keeping = batch.observations, 1.0 - config.actor_dropout
    for layer, drawn in zip(params.hidden, (batch.dropout_1, batch.dropout_2), strict=True):
        kept = (drawn < 2.0 * keeping - 1.0).to(x.dtype)
        x = affine(x, layer.w, layer.b).relu() * kept / keeping
    return affine(x, params.w, params.b).tanh()


def cosine_rate(hyper: Hyper, done: Tensor) -> Tensor:
    """The actor's learning rate [R] after ``done`` (int64 []) updates: eta_actor / 2 (1 + cos(pi done / T_max))."""
    half = torch.cos(0.5 * math.pi * done.double() / hyper.horizon)  # its square is exact where 1 + cos(...) cancels
    return (hyper.actor_lr.double() * half.square()).to(hyper.actor_lr.dtype)


def actor_step(spec: Spec, state: AgentState, hyper: Hyper, batch: IQLBatch, advantage: Tensor) -> Metrics:
    """One Adam step of the actor on mean(min(exp(beta u), bound) * cloning loss), in place."""
    config, mask = spec.config, hyper.action_mask.unsqueeze(1)
    exp_adv, bound = torch.exp(per_run(hyper.beta, 2) * advantage), per_run(hyper.exp_adv_max, 2)
    weight = torch.minimum(exp_adv, bound)

    def loss(params: MLPParams) -> tuple[Tensor, Metrics]:
        error = batch.actions - policy_mean(config, params, batch)
        if config.policy == "deterministic":
            terms = error.square()
        else:
            limits = per_run(hyper.log_std_min, 2), per_run(hyper.log_std_max, 2)
            log_std = params.extras[0].clamp(*limits).unsqueeze(1)
            terms = 0.5 * (error / log_std.exp()).square() + log_std + 0.5 * math.log(2.0 * math.pi)
        bc = (terms * mask).sum(-1)
        return (weight * bc).mean(-1), {"bc_loss_mean": bc.mean(-1)}

    lr = cosine_rate(hyper, state.step - 1)
    actor_loss, metrics = descend(spec, state, hyper, "actor", loss, state.step, lr)
    metrics |= {
        "actor_loss": actor_loss,
        "exp_adv_mean": weight.mean(-1),
        "exp_adv_clipped_frac": (exp_adv > bound).to(weight.dtype).mean(-1),
        "actor_lr_used": lr,
        "actor_lr_after": cosine_rate(hyper, state.step),
    }
    if config.policy == "gaussian":
        log_std = spec.params("actor", state.actor).extras[0]
        metrics["log_std_mean_after"] = (log_std * hyper.action_mask).sum(-1) / hyper.true_act_dim
    return metrics


def whole_step(spec: Spec, state: AgentState, hyper: Hyper, batch: IQLBatch) -> Metrics:
    """V, then the critics on r + gamma (1 - d) V(s') with V as it was before, their targets, and the actor."""
    next_v, _ = mlp_forward(state.params(spec, "value"), batch.next_observations)
    advantage, metrics = value_step(spec, state, hyper, batch)
    backup = backed_up(hyper, batch, next_v)
    q, q_loss = fit_critics(spec, state, hyper, batch, backup, factor=0.5)
    state.critic_target.lerp_(state.critic, per_run(hyper.tau, 3))
    q_means = q.mean(-1)
    metrics |= {
        "q_loss": q_loss,
        "q1_mean": q_means[:, 0],
        "q2_mean": q_means[:, 1],
        "next_v_mean": next_v.mean(-1),
        "backup_mean": backup.mean(-1),
    }
    return metrics | actor_step(spec, state, hyper, batch, advantage)


def networks(config: IQLConfig) -> dict[str, Net]:
    """An actor, with its log standard deviations if it is Gaussian; a pair of critics with targets; V."""
    hidden = (config.hidden_dim,) * 2
    extras = (("log_std", ("act",)),) if config.policy == "gaussian" else ()
    return {
        "actor": Net(MLP(("obs",), hidden, ("act",), extras=extras), "actor_lr", torch_default),
        "critic": Net(critic_mlp(config.hidden_dim, False), "critic_lr", torch_default, copies=2, target=True),
        "value": Net(MLP(("obs",), hidden), "value_lr", torch_default),
    }


def draws(config: IQLConfig) -> tuple[Draw, ...]:
    """One uniform number for each hidden unit of each sample, where the actor has dropout."""
    sizes = (config.hidden_dim,)
    return tuple(Draw(f"dropout_{i + 1}", sizes, "uniform", STREAM_OWN + i) for i in (0, 1) if config.drops_out)


def places(spec: Spec) -> Places:
    """The authors' parameters: dropout layers count among the modules of their nn.Sequential."""
    stride = 3 if spec.config.drops_out else 2
    found = sequential(spec, "actor", None, "actor/net.net", stride=stride) | sequential(
        spec, "value", None, "vf/v.net"
    )
    for i in (0, 1):
        found |= sequential(spec, "critic", i, f"qf/q{i + 1}.net", f"q_target/q{i + 1}.net")
    return found | ({"actor/log_std": Place("actor", None, "log_std")} if spec.config.policy == "gaussian" else {})


def settings(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The width, and the kind of policy unless it is named: only a Gaussian has a log_std."""
    width = width_of(arrays, "init/vf/v.net.0.bias")
    if "policy" in meta["hp"]:
        return width
    deterministic = meta["hp"].get("iql_deterministic", "init/actor/log_std" not in arrays)
    return width | {"policy": "deterministic" if deterministic else "gaussian"}


def masks_as_numbers(mask: Tensor) -> Tensor:
    """Dropout masks (1: kept) as uniform numbers that ``policy_mean`` reads as these masks."""
    return 1.0 - 2.0 * mask


ALGORITHM = Algorithm(
    name="iql",
    title="IQL",
    config=IQLConfig,
    networks=networks,
    exact=("horizon",),
    parts={"step": whole_step},
    parts_of=lambda config, t: ("step",),
    period=lambda config: 1,
    batch=IQLBatch,
    draws=draws,
    shown=("value_loss", "q_loss", "actor_loss", "q1_mean"),
    source="Kostrikov et al. 2022, arXiv 2110.06169; CORL algorithms/offline/iql.py",
    trace=TraceNames(
        algo="iql",
        hyper={
            **{name: name for name in ("discount", "tau", "beta", "actor_lr", "hidden_dim")},
            **{"iql_tau": "expectile", "vf_lr": "value_lr", "qf_lr": "critic_lr", "iql_deterministic": ""},
            **{"max_timesteps": "horizon", "T_max": "horizon", "policy": "policy", "dropout": "actor_dropout"},
            **{name: name for name in ("actor_dropout", "exp_adv_max", "log_std_min", "log_std_max")},
        },
        batch=BATCH_NAMES | {"dropout_1": "dropout_mask_1", "dropout_2": "dropout_mask_2"},
        weights=places,
        config=settings,
        given={"dropout_1": masks_as_numbers, "dropout_2": masks_as_numbers},
    ),
)
