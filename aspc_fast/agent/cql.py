"""CQL, conservative Q-learning (Kumar et al. 2020), as tinkoff-ai/CORL's algorithms/offline/cql.py has it.

Soft actor-critic whose critics also push down the soft maximum of Q over actions drawn uniformly and from the policy.
All losses of a step are taken at the parameters from before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from aspc_fast.agent import philox
from aspc_fast.agent.adam import adam_, per_run
from aspc_fast.agent.algorithm import Algorithm, Draw, Init, Metrics, Net
from aspc_fast.agent.descend import descend
from aspc_fast.agent.initialise import symmetric
from aspc_fast.agent.layout import MLP, Layout, MLPParams
from aspc_fast.agent.networks import critic_forward, mlp_forward
from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.agent.td3bc import backed_up, both_critics
from aspc_fast.agent.trace_names import BATCH_NAMES, Place, Places, TraceNames, sequential, width_of
from aspc_fast.config import AgentConfig, hyper, shared
from aspc_fast.errors import UserError


@dataclass(frozen=True)
class CQLConfig(AgentConfig):
    """Hyper-parameters of CQL; defaults are those of CORL's locomotion tasks."""

    algo: str = "cql"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    tau: float = hyper(0.005, 0, 1, open_low=True)
    """tau: share of the online critics that enters their targets at each target update, in (0, 1]."""
    target_update_period: int = shared(1, 1, 1_000_000)
    """Training steps per target update."""
    actor_lr: float = hyper(3e-5, 0, 1)
    """eta_pi: Adam learning rate of the actor and of log alpha."""
    critic_lr: float = hyper(3e-4, 0, 1)
    """eta_Q: Adam learning rate of the critics and of log alpha'."""
    alpha_multiplier: float = hyper(1.0, 0)
    """Factor of the entropy's weight alpha; the weight itself without entropy_tuning."""
    entropy_tuning: bool = True
    """Whether alpha = exp(log alpha) learns to keep the policy's entropy at entropy_target."""
    entropy_target: float = hyper(-1.0)
    """Target of the policy's entropy, in nats per action entry."""
    backup_entropy: bool = False
    """Whether the next state's value has the entropy term."""
    log_std_multiplier: float = shared(1.0)
    """First value of the learned factor of the log standard deviation."""
    orthogonal_init: bool = True
    """Whether the critics' weights begin orthogonal."""
    critic_depth: int = shared(3, 1, 16)
    """Hidden layers of a critic."""
    second_critic_depth: int = shared(0, 0, 16)
    """Hidden layers of the second critic; 0: as the first. CORL's script leaves it at 3 whatever the first one has."""
    cql_actions: int = shared(10, 1, 1000)
    """K: actions drawn of each kind for the soft maximum."""
    cql_alpha: float = hyper(10.0, 0)
    """Weight of the conservative term."""
    cql_temp: float = hyper(1.0, 0, open_low=True)
    """Temperature of the soft maximum, in units of Q."""
    importance_sample: bool = True
    """Whether each drawn action's log-density is subtracted in the soft maximum."""
    max_target_backup: bool = False
    """Whether the next state is valued at the best of K actions instead of at one."""
    lagrange: bool = False
    """Whether alpha' = exp(log alpha') learns to keep the conservative term at cql_gap."""
    cql_gap: float = hyper(-1.0)
    """The gap that lagrange aims at, in units of Q."""
    clip_min: float = hyper(-1e9)
    """Lower bound of soft maximum minus Q(s, a)."""
    clip_max: float = hyper(1e9)
    """Upper bound of soft maximum minus Q(s, a)."""


class CQLBatch(NamedTuple):
    """One update's input: as ``Batch``; normals of pi(s) [R, B, A], of the backup [R, B, A] (or [R, B, K, A]) and of
    the soft maximum's policy actions; its uniform actions; [R, B, K, A] each."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    noise_new: Tensor
    noise_next: Tensor
    noise_cql_current: Tensor
    noise_cql_next: Tensor
    uniform_actions: Tensor


def sample(params: MLPParams, hyper: Hyper, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions of the tanh Gaussian, [R, B, A], and their log-densities [R, B]; [R, B, K, .] for such ``noise``."""
    out, _ = mlp_forward(params, observations)
    mean, log_std = out.chunk(2, dim=-1)
    multiplier, offset = params.extras
    log_std = (per_run(multiplier, 3) * log_std + per_run(offset, 3)).clamp(-20.0, 2.0)
    if noise.ndim == 4:
        mean, log_std = mean.unsqueeze(2), log_std.unsqueeze(2)
    mask = hyper.action_mask.reshape(-1, *(1,) * (noise.ndim - 2), noise.shape[-1])
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    log_jacobian = 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))  # of tanh, which forgets u where it saturates
    actions = u.tanh() * per_run(hyper.max_action, noise.ndim) * mask
    return actions, ((log_normal - log_jacobian) * mask).sum(-1)


def values(params: MLPParams, observations: Tensor, actions: Tensor) -> Tensor:
    """Both critics at actions [R, B, A] or [R, B, K, A]: [R, 2, B] or [R, 2, B, K]."""
    if actions.ndim == 3:
        return critic_forward(params, *both_critics(observations, actions))[0]
    states = observations.unsqueeze(2).expand(*actions.shape[:-1], -1).flatten(1, 2)
    q, _ = critic_forward(params, *both_critics(states, actions.flatten(1, 2)))
    return q.unflatten(-1, actions.shape[1:3])


def backup(spec: Spec, state: AgentState, hyper: Hyper, batch: CQLBatch, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The TD target and the next state's value in it, [R, B]."""
    actions, log_pi = sample(state.params(spec, "actor"), hyper, batch.next_observations, batch.noise_next)
    target_q = values(state.params(spec, "critic_target"), batch.next_observations, actions).amin(1)
    if spec.config.max_target_backup:
        target_q, best = target_q.max(-1)
        log_pi = log_pi.gather(-1, best.unsqueeze(-1)).squeeze(-1)
    if spec.config.backup_entropy:
        target_q = target_q - per_run(alpha, 2) * log_pi
    return backed_up(hyper, batch, target_q), target_q


class Candidates(NamedTuple):
    """Of the soft maximum: actions [R, B, 3 K, A] (uniform, of pi(s'), of pi(s)), and their log-densities."""

    actions: Tensor
    log_density: Tensor


def candidates(spec: Spec, state: AgentState, hyper: Hyper, batch: CQLBatch) -> Candidates:
    """Actions of both policies are valued at s."""
    params = state.params(spec, "actor")
    current, log_current = sample(params, hyper, batch.observations, batch.noise_cql_current)
    following, log_following = sample(params, hyper, batch.next_observations, batch.noise_cql_next)
    uniform = batch.uniform_actions * hyper.action_mask[:, None, None]
    log_uniform = per_run(hyper.true_act_dim * math.log(0.5), 3).expand_as(log_current)
    log_density = torch.cat((log_uniform, log_following, log_current), 2)
    return Candidates(torch.cat((uniform, following, current), 2), log_density)


def critic_step(
    spec: Spec, state: AgentState, hyper: Hyper, batch: CQLBatch, targets: Tensor, drawn: Candidates
) -> tuple[Tensor, Metrics]:
    """One Adam step of both critics, in place. Returns the mean of their conservative terms [R]."""
    config, count = spec.config, spec.config.cql_actions
    temp, bounds = per_run(hyper.cql_temp, 3), (per_run(hyper.clip_min, 3), per_run(hyper.clip_max, 3))
    actions = torch.cat((batch.actions.unsqueeze(2), drawn.actions), 2)
    alpha_prime = state.log_alpha_prime.exp().clamp(max=1e6)

    def loss(params: MLPParams) -> tuple[Tensor, Metrics]:
        every = values(params, batch.observations, actions)
        q, others = every[..., 0], every[..., 1:]
        weighed = others - drawn.log_density.unsqueeze(1) if config.importance_sample else every
        soft_max = temp * torch.logsumexp(weighed / temp.unsqueeze(-1), -1)
        diff = (soft_max - q).clamp(*bounds).mean(-1)
        penalty = per_run(hyper.cql_alpha, 2) * diff
        if config.lagrange:
            penalty = per_run(alpha_prime, 2) * (penalty - per_run(hyper.cql_alpha * hyper.cql_gap, 2))
        td = (q - targets.unsqueeze(1)).square().mean(-1)
        found = {
            "average_qf{}": q.mean(-1),
            "cql_std_q{}": every.std(-1).mean(-1),
            "cql_qf{}_diff": diff,
            "cql_min_qf{}_loss": penalty,
            "qf{}_loss": td,
        }
        kinds = ("cql_q{}_rand", "cql_q{}_next_actions", "cql_q{}_current_actions")
        found |= {name: part.mean((-2, -1)) for name, part in zip(kinds, others.split(count, -1), strict=True)}
        metrics = {name.format(i + 1): both[:, i] for name, both in found.items() for i in (0, 1)}
        return (td + penalty).sum(-1), metrics

    qf_loss, metrics = descend(spec, state, hyper, "critic", loss, state.step)
    mean = 0.5 * (metrics["cql_min_qf1_loss"] + metrics["cql_min_qf2_loss"])
    return mean, metrics | {"qf_loss": qf_loss}


def actor_step(spec: Spec, state: AgentState, hyper: Hyper, batch: CQLBatch, alpha: Tensor) -> Metrics:
    """One Adam step of the actor on mean(alpha log pi - min Q(s, pi)), in place."""
    critic = state.params(spec, "critic")

    def loss(params: MLPParams) -> tuple[Tensor, Metrics]:
        actions, log_pi = sample(params, hyper, batch.observations, batch.noise_new)
        q = values(critic, batch.observations, actions).amin(1)
        return (per_run(alpha, 2) * log_pi - q).mean(-1), {"log_pi": log_pi.mean(-1)}

    policy_loss, metrics = descend(spec, state, hyper, "actor", loss, state.step)
    return metrics | {"policy_loss": policy_loss}


def scalar_step(spec: Spec, state: AgentState, name: str, gradient: Tensor, lr: Tensor) -> None:
    """One Adam step on a scalar of the state, in place."""
    moments = getattr(state, f"{name}_m"), getattr(state, f"{name}_v")
    adam_(spec, getattr(state, name), gradient, *moments, lr, state.step)


def whole_step(spec: Spec, state: AgentState, hyper: Hyper, batch: CQLBatch) -> Metrics:
    """Actor, critics and both alphas."""
    config, alpha = spec.config, hyper.alpha_multiplier.clone()
    if config.entropy_tuning:
        alpha = state.log_alpha.exp() * hyper.alpha_multiplier
    targets, target_q = backup(spec, state, hyper, batch, alpha)
    drawn = candidates(spec, state, hyper, batch)
    zero = torch.zeros_like(alpha)
    metrics = actor_step(spec, state, hyper, batch, alpha)
    metrics |= {"alpha": alpha, "alpha_loss": zero, "average_target_q": target_q.mean(-1)}
    penalty, found = critic_step(spec, state, hyper, batch, targets, drawn)
    metrics |= found | {"alpha_prime": zero, "alpha_prime_loss": zero.clone()}
    if config.entropy_tuning:
        excess = metrics["log_pi"] + hyper.entropy_target * hyper.true_act_dim
        metrics["alpha_loss"] = -state.log_alpha * excess
        scalar_step(spec, state, "log_alpha", -excess, hyper.actor_lr)
    if config.lagrange:
        metrics |= {"alpha_prime": state.log_alpha_prime.exp().clamp(max=1e6), "alpha_prime_loss": -penalty}
        inside = (state.log_alpha_prime.exp() <= 1e6).to(penalty.dtype)  # beyond its bound alpha' has no slope
        scalar_step(spec, state, "log_alpha_prime", -penalty * inside, hyper.critic_lr)
    return metrics | {
        "log_alpha_after": state.log_alpha.clone(),
        "log_alpha_prime_after": state.log_alpha_prime.clone(),
    }


def whole_step_and_targets(spec: Spec, state: AgentState, hyper: Hyper, batch: CQLBatch) -> Metrics:
    """The step, then the critics' targets."""
    metrics = whole_step(spec, state, hyper, batch)
    state.critic_target.lerp_(state.critic, per_run(hyper.tau, 3))
    return metrics


def starts(hidden_gain: float | None, first: dict[str, float] | None = None) -> Init:
    """CORL's init: hidden layers orthogonal of this gain with bias 0, or PyTorch's default; the last layer orthogonal
    or Xavier of gain 0.01 with bias 0; extras as ``first`` says."""

    def init(layout: Layout, seed: int, block: int) -> Tensor:
        tensors, fan_in = [], 1
        last = max(i for i, name in enumerate(layout.names) if name.startswith("w"))
        for i, (name, shape) in enumerate(zip(layout.names, layout.shapes, strict=True)):
            if name.startswith("w"):
                fan_in = shape[0]
                fan_out = shape[1] if len(shape) == 2 else 1
                bound = 1e-2 * math.sqrt(6.0 / (fan_in + fan_out)) if i == last else 1.0 / math.sqrt(fan_in)
                if hidden_gain is None:
                    tensors.append(symmetric(seed, block + i, shape, bound))
                else:
                    gain = 1e-2 if i == last else hidden_gain
                    tensors.append(gain * orthogonal(seed, block + i, fan_in, fan_out).reshape(shape))
            elif not name.startswith("b"):
                tensors.append(torch.full(shape, (first or {})[name]))
            elif i == last + 1 or hidden_gain is not None:
                tensors.append(torch.zeros(shape))
            else:
                tensors.append(symmetric(seed, block + i, shape, 1.0 / math.sqrt(fan_in)))
        return layout.flatten(tensors)

    return init


def orthogonal(seed: int, block: int, rows: int, columns: int) -> Tensor:
    """A random matrix [rows, columns] with orthonormal rows or columns, float32, uniform over all of them."""
    uniform = philox.uniforms(seed, block, rows * columns).double().clamp(1e-12, 1.0 - 1e-12)
    normal = torch.erfinv(2.0 * uniform - 1.0).reshape(max(rows, columns), min(rows, columns))
    q, r = torch.linalg.qr(normal)
    q = q * torch.diagonal(r).sign()
    return (q if rows >= columns else q.T).float()


def networks(config: CQLConfig) -> dict[str, Net]:
    """The Gaussian's mean and log standard deviation, scaled and shifted by two learned numbers; a pair of critics."""
    extras: tuple[tuple[str, tuple[int | str, ...]], ...] = (("log_std_multiplier", ()), ("log_std_offset", ()))
    actor = MLP(("obs",), (config.hidden_dim,) * 3, ("act", "act"), extras=extras)
    depths = (config.critic_depth, config.second_critic_depth or config.critic_depth)
    critic = MLP(("obs", "act"), (config.hidden_dim,) * max(depths))
    first = {"log_std_multiplier": config.log_std_multiplier, "log_std_offset": -1.0}
    critic_init = starts(math.sqrt(2.0) if config.orthogonal_init else None)
    return {
        "actor": Net(actor, "actor_lr", starts(None, first)),
        "critic": Net(
            critic, "critic_lr", critic_init, copies=2, target=True, depths=depths if depths[0] != depths[1] else None
        ),
    }


def draws(config: CQLConfig) -> tuple[Draw, ...]:
    """In the order of ``CQLBatch``."""
    one, many = ("act",), (config.cql_actions, "act")
    sizes: dict[str, tuple[int | str, ...]] = {
        "noise_new": one,
        "noise_next": many if config.max_target_backup else one,
    }
    sizes |= {"noise_cql_current": many, "noise_cql_next": many}
    normals = [Draw(name, size, "normal", philox.STREAM_OWN + i) for i, (name, size) in enumerate(sizes.items())]
    return (*normals, Draw("uniform_actions", many, "uniform", philox.STREAM_OWN + len(normals)))


def places(spec: Spec) -> Places:
    """The authors' parameters."""
    found = sequential(spec, "actor", None, "actor/base_network")
    found |= {f"actor/{name}.constant": Place("actor", None, name) for name in ("log_std_multiplier", "log_std_offset")}
    for i in (0, 1):
        found |= sequential(spec, "critic", i, f"critic_{i + 1}/network", f"target_critic_{i + 1}/network")
    return found


def trace_config(meta: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Width, depths and the target of the entropy; UserError where the actor was cloned first."""
    hp: dict[str, Any] = meta["hp"]
    found: dict[str, Any] = width_of(arrays, "init/actor/base_network.0.bias")
    if hp.get("bc_steps"):
        raise UserError(f"hyper-parameter 'bc_steps' is {hp['bc_steps']!r}, but only 0 is known here")
    layers = [sum(key.startswith(f"init/critic_{i}/") and key.endswith(".bias") for key in arrays) for i in (1, 2)]
    if min(layers) > 1 and layers[0] != layers[1]:
        found |= {"critic_depth": layers[0] - 1, "second_critic_depth": layers[1] - 1}
    if meta.get("target_entropy") is not None:
        found["entropy_target"] = float(meta["target_entropy"]) / int(meta["action_dim"])
    bounds = {"cql_clip_diff_min": "clip_min", "cql_clip_diff_max": "clip_max"}
    infinite = [ours for theirs, ours in bounds.items() if math.isinf(float(hp.get(theirs) or 0.0))]
    return found | {name: getattr(CQLConfig, name) for name in infinite}


SCALARS = {"log_alpha": 0.0, "log_alpha_prime": 1.0}

ALGORITHM = Algorithm(
    name="cql",
    title="CQL",
    config=CQLConfig,
    networks=networks,
    scalars=lambda config: SCALARS | {f"{name}_{moment}": 0.0 for name in SCALARS for moment in ("m", "v")},
    parts={"step": whole_step, "step and targets": whole_step_and_targets},
    parts_of=lambda config, t: ("step",) if t % config.target_update_period else ("step and targets",),
    period=lambda config: config.target_update_period,
    batch=CQLBatch,
    draws=draws,
    shown=("qf_loss", "policy_loss", "average_qf1", "alpha"),
    source="Kumar et al. 2020, arXiv 2006.04779; CORL algorithms/offline/cql.py",
    trace=TraceNames(
        algo="cql",
        hyper={
            **{name: name for name in ("discount", "alpha_multiplier", "backup_entropy", "target_update_period")},
            **{name: name for name in ("orthogonal_init", "cql_temp", "cql_alpha", "hidden_dim")},
            **{"soft_target_update_rate": "tau", "use_automatic_entropy_tuning": "entropy_tuning"},
            **{"policy_lr": "actor_lr", "qf_lr": "critic_lr", "q_n_hidden_layers": "critic_depth", "bc_steps": ""},
            **{"cql_n_actions": "cql_actions", "cql_importance_sample": "importance_sample"},
            **{"cql_lagrange": "lagrange", "cql_target_action_gap": "cql_gap", "cql_clip_diff_min": "clip_min"},
            **{"cql_clip_diff_max": "clip_max", "cql_max_target_backup": "max_target_backup"},
            **{"policy_log_std_multiplier": "log_std_multiplier"},
        },
        batch=BATCH_NAMES
        | {name: name for name in ("noise_new", "noise_next", "noise_cql_current", "noise_cql_next")}
        | {"uniform_actions": "uniform_random_actions"},
        weights=places,
        config=trace_config,
    ),
)
