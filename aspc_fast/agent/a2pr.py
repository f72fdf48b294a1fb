"""A2PR (Liu et al. 2024, arXiv 2405.19909): TD3+BC whose constraint pulls towards the better of the dataset's action
and a VAE's reconstruction of the policy's own, and only where one of them is better than V(s).

All that a step does after V's update uses V(s) from before it, so a step with an actor update is one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.adam import adam_step, per_run
from aspc_fast.agent.algorithm import NOISE, Algorithm, Draw, Metrics, Net
from aspc_fast.agent.descend import descend, descend_together
from aspc_fast.agent.initialise import torch_default
from aspc_fast.agent.layout import MLP, MLPParams
from aspc_fast.agent.networks import actor_forward, critic_forward, mlp_backward, mlp_forward
from aspc_fast.agent.philox import STREAM_OWN
from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.agent.td3bc import (
    TD3Config,
    actor_updates,
    backed_up,
    bc_errors,
    both_critics,
    fit_critics,
    move_targets,
    target_actions,
)
from aspc_fast.agent.trace_names import BATCH_NAMES, Place, Places, TraceNames, numbered
from aspc_fast.config import hyper, shared

LOG_STD_RANGE = (-4.0, 15.0)
VAE = ("encoder", "decoder")


@dataclass(frozen=True)
class A2PRConfig(TD3Config):
    """Hyper-parameters of A2PR."""

    algo: str = "a2pr"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    alpha: float = hyper(2.5, 0, open_low=True)
    """alpha: weight of the RL term against cloning, > 0."""
    mask: float = hyper(0.5, 0)
    """epsilon_mask: weight of the constraint where it acts."""
    vae_weight: float = hyper(1.0, 0)
    """w: weight of the reconstruction error against the VAE's KL term."""
    value_lr: float = hyper(3e-4, 0, 1)
    """eta_V: Adam learning rate of V."""
    vae_lr: float = hyper(1e-3, 0, 1)
    """eta_VAE: Adam learning rate of the VAE."""
    vae_hidden_dim: int = shared(750, 1, 8192)
    """Width of the VAE's hidden layers, in units."""


class Batch(NamedTuple):
    """One update's input: as ``state.Batch``, and standard normals [R, B, 2A] for the VAE's latent, of the dataset's
    actions (vae_eps) and of the policy's (vae_eps_pi)."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    noise: Tensor
    vae_eps: Tensor
    vae_eps_pi: Tensor


class Advantage(NamedTuple):
    """V(s) before its update and Q1(s, a) - V(s) with the updated critic, [R, B] each."""

    values: Tensor
    of_data: Tensor


def reconstruct(
    hyper: Hyper, encoder: MLPParams, decoder: MLPParams, observations: Tensor, actions: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The VAE's actions [R, B, A] for (s, a), with the latent's mean and log standard deviation [R, B, 2A]."""
    moments, _ = mlp_forward(encoder, torch.cat((observations, actions), dim=-1))
    mean, log_std = moments.chunk(2, dim=-1)
    log_std = log_std.clamp(*LOG_STD_RANGE)
    latent = (mean + log_std.exp() * eps) * latent_mask(hyper, eps).unsqueeze(1)
    actions, _ = actor_forward(decoder, torch.cat((observations, latent), dim=-1), per_run(hyper.max_action, 3))
    return actions, mean, log_std


def latent_mask(hyper: Hyper, eps: Tensor) -> Tensor:
    """1 on the latent's true entries (two for each action entry) and 0 on padded ones, [R, 2A]."""
    places = torch.arange(eps.shape[-1], device=eps.device)
    return (places < 2.0 * hyper.true_act_dim.unsqueeze(-1)).to(eps.dtype)


def critic_and_value(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> tuple[Advantage, Metrics]:
    """One Adam step of both critics, and one of V towards the smaller of the target's and the new critics' backup."""
    actions, critic = target_actions(spec, state, hyper, batch), state.params(spec, "critic")
    following = both_critics(batch.next_observations, actions)
    q_bar, _ = critic_forward(state.params(spec, "critic_target"), *following)
    targets = backed_up(hyper, batch, q_bar.amin(dim=1))
    q, critic_loss = fit_critics(spec, state, hyper, batch, targets)

    q_next, _ = critic_forward(critic, *following)
    value_targets = torch.minimum(backed_up(hyper, batch, q_next.amin(dim=1)), targets)
    q_data, _ = critic_forward(state.params(spec, "critic", 0), batch.observations, batch.actions)
    value = state.params(spec, "value")
    values, tape = mlp_forward(value, batch.observations)
    error = values - value_targets
    gradient = mlp_backward(value, tape, error * (2.0 / error.shape[-1]))
    adam_step(spec, state, hyper, "value", spec.layouts["value"].flatten(gradient), state.step)
    metrics = {
        "critic_loss": critic_loss,
        "q1_mean": q[:, 0].mean(-1),
        "q2_mean": q[:, 1].mean(-1),
        "target_q_mean": targets.mean(-1),
        "value_loss": error.square().mean(-1),
        "v_mean": values.mean(-1),
        "t_q_mean": value_targets.mean(-1),
        "adv_mean": (q_data - values).mean(-1),
    }
    return Advantage(values, q_data - values), metrics


def vae_step(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, advantage: Advantage) -> Metrics:
    """One Adam step of the VAE: reconstruction of the actions that are better than V(s), and the latent's KL."""
    selected = (advantage.of_data > 0).to(batch.actions.dtype)
    mask, latent_dim = latent_mask(hyper, batch.vae_eps).unsqueeze(1), 2.0 * hyper.true_act_dim

    def loss(encoder: MLPParams, decoder: MLPParams) -> tuple[Tensor, Metrics]:
        actions, mean, log_std = reconstruct(hyper, encoder, decoder, batch.observations, batch.actions, batch.vae_eps)
        recon_loss = hyper.vae_weight * (selected * bc_errors(hyper, actions, batch.actions)).mean(-1)
        std = log_std.exp()
        kl = (1.0 + 2.0 * log_std - mean.square() - std.square()).sum(-1)  # 0 in padded entries: mean 0, std 1
        kl_loss = -0.5 * kl.mean(-1) / latent_dim
        metrics = {
            "recon_loss": recon_loss,
            "kl_loss": kl_loss,
            "vae_mean_mean": mean.sum(-1).mean(-1) / latent_dim,
            "vae_std_mean": (std * mask).sum(-1).mean(-1) / latent_dim,
        }
        return recon_loss + 0.5 * kl_loss, metrics

    vae_loss, metrics = descend_together(spec, state, hyper, VAE, loss, state.step)
    return {"vae_loss": vae_loss, "vae_adv_frac": selected.mean(-1), **metrics}


def actor_step(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, advantage: Advantage) -> Metrics:
    """One Adam step of the actor. The gradient also flows through the VAE's reconstruction into the policy."""
    critic = state.params(spec, "critic", 0)
    encoder, decoder = (state.params(spec, name) for name in VAE)

    def loss(actor: Any) -> Any:
        actions, _ = actor_forward(actor, batch.observations, per_run(hyper.max_action, 3))
        q, _ = critic_forward(critic, batch.observations, actions)
        q_abs = q.detach().abs().mean(-1)
        scale = hyper.alpha / q_abs
        actor_loss = -scale * q.mean(-1)
        recon, _, _ = reconstruct(hyper, encoder, decoder, batch.observations, actions, batch.vae_eps_pi)
        of_recon = critic_forward(critic, batch.observations, recon.detach())[0] - advantage.values
        chosen = of_recon >= advantage.of_data
        anchor = torch.where(chosen.unsqueeze(-1), recon, batch.actions)
        on = ((of_recon >= 0) | (advantage.of_data > 0)).to(q.dtype)
        bc_loss = hyper.mask * (bc_errors(hyper, actions, anchor) * on).mean(-1)
        metrics = {
            "actor_loss": actor_loss,
            "bc_loss": bc_loss,
            "combined_loss": actor_loss + bc_loss,
            "lmbda": scale,
            "q_pi_mean": q.mean(-1),
            "q_abs_mean": q_abs,
            "bc_mse": bc_errors(hyper, actions, batch.actions).mean(-1),
            "adv_action_mean": advantage.of_data.mean(-1),
            "adv_recon_mean": of_recon.mean(-1),
            "recon_chosen_frac": chosen.to(q.dtype).mean(-1),
            "bc_on_frac": on.mean(-1),
        }
        return actor_loss + bc_loss, metrics

    _, metrics = descend(spec, state, hyper, "actor", loss, actor_updates(spec, state))
    return metrics


def models(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The part of every step without an actor update: critics, V and VAE."""
    advantage, metrics = critic_and_value(spec, state, hyper, batch)
    return metrics | vae_step(spec, state, hyper, batch, advantage)


def models_and_policy(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """The part of every policy_freq-th step: critics, V and VAE, the actor, then the targets."""
    advantage, metrics = critic_and_value(spec, state, hyper, batch)
    metrics |= vae_step(spec, state, hyper, batch, advantage)
    metrics |= actor_step(spec, state, hyper, batch, advantage)
    move_targets(state, hyper)
    return metrics


def networks(config: Any) -> dict[str, Net]:
    """Actor, critics and V; the VAE is an encoder (to the latent's mean and log std) and a decoder."""
    h, wide = config.hidden_dim, config.vae_hidden_dim
    return {
        "actor": Net(MLP(("obs",), (h,) * 3, ("act",)), "actor_lr", torch_default, target=True),
        "critic": Net(MLP(("obs", "act"), (h,) * 4), "critic_lr", torch_default, copies=2, target=True),
        "value": Net(MLP(("obs",), (h,) * 4), "value_lr", torch_default),
        "encoder": Net(MLP(("obs", "act"), (wide,) * 2, ("latent", "latent")), "vae_lr", torch_default),
        "decoder": Net(MLP(("obs", "latent"), (wide,) * 2, ("act",)), "vae_lr", torch_default),
    }


def trace_weights(spec: Spec) -> Places:
    """Their layers: l1 to l5 and l6 to l10 are the two critics of one module, the VAE is another module."""
    places = Places()
    for suffix in ("", "_target"):
        places |= numbered(spec, f"actor{suffix}", None, [f"actor{suffix}/l{i}" for i in (1, 2, 3, 4)])
        for copy, first in ((0, 1), (1, 6)):
            layers = [f"critic{suffix}/l{first + i}" for i in range(5)]
            places |= numbered(spec, f"critic{suffix}", copy, layers)
    places |= numbered(spec, "value", None, [f"value/l{i}" for i in (1, 2, 3, 4, 5)])
    places |= numbered(spec, "encoder", None, ["vae/e1", "vae/e2"])
    places |= numbered(spec, "decoder", None, ["vae/d1", "vae/d2", "vae/d3"])
    for segment, head in enumerate(("vae/mean", "vae/log_std")):
        places[f"{head}.weight"] = Place("encoder", None, "w2", segment)
        places[f"{head}.bias"] = Place("encoder", None, "b2", segment)
    return places


def trace_config(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The widths of the networks."""
    widths = {"hidden_dim": "init/actor/l1.bias", "vae_hidden_dim": "init/vae/e1.bias"}
    return {name: int(arrays[key].size) for name, key in widths.items() if key in arrays}


SAME_NAMES = (
    *("discount", "tau", "policy_noise", "noise_clip", "policy_freq", "actor_lr", "critic_lr", "value_lr", "vae_lr"),
    *("alpha", "mask", "vae_weight", "hidden_dim", "vae_hidden_dim"),
)
TRACE = TraceNames(
    algo="a2pr",
    hyper={name: name for name in SAME_NAMES},
    batch=BATCH_NAMES | {"noise": "noise_raw", "vae_eps": "vae_eps", "vae_eps_pi": "vae_eps_pi"},
    weights=trace_weights,
    config=trace_config,
)

ALGORITHM = Algorithm(
    name="a2pr",
    title="A2PR",
    config=A2PRConfig,
    networks=networks,
    parts={"models": models, "models and policy": models_and_policy},
    parts_of=lambda config, t: ("models",) if t % config.policy_freq else ("models and policy",),
    period=lambda config: config.policy_freq,
    batch=Batch,
    draws=(
        NOISE,
        Draw("vae_eps", ("latent",), stream=STREAM_OWN),
        Draw("vae_eps_pi", ("latent",), stream=STREAM_OWN + 1),
    ),
    shown=("critic_loss", "combined_loss", "q1_mean"),
    source="Liu et al. 2024, arXiv 2405.19909; ltlhuuu/A2PR",
    trace=TRACE,
)
