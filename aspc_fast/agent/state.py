"""Learning state and per-run hyper-parameters: tensors with a leading run axis R."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from aspc_fast.agent import philox
from aspc_fast.agent.layout import ActorParams, CriticParams, Layout, Shapes
from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError


class Views(NamedTuple):
    """Weights [R, ...] of the networks; ``critic`` and its target have a critic axis too, ``critic_1`` is Q1 alone."""

    actor: ActorParams
    actor_target: ActorParams
    critic: CriticParams
    critic_1: CriticParams
    critic_target: CriticParams


@dataclass
class AgentState:
    """Everything that learning changes. Updated in place; 16 bytes per float32 parameter and a few scalars per run.

    actor, actor_target, actor_m, actor_v: [R, P_actor]; critic, critic_target, critic_m, critic_v: [R, 2, P_critic]
    (weights, targets and Adam's moments). rho, rho_m, rho_v, ema_q: [R], alpha = softplus(rho). step: int64 [], the
    number of training steps done; every other counter follows from it.
    """

    actor: Tensor
    actor_target: Tensor
    actor_m: Tensor
    actor_v: Tensor
    critic: Tensor
    critic_target: Tensor
    critic_m: Tensor
    critic_v: Tensor
    rho: Tensor
    rho_m: Tensor
    rho_v: Tensor
    ema_q: Tensor
    step: Tensor
    _views: Views | None = field(default=None, init=False, repr=False, compare=False)

    def views(self, shapes: Shapes) -> Views:
        """The networks' weights as views of the flat vectors: made once, since the state only changes in place."""
        compiling = torch.compiler.is_compiling()  # a compiler sees views best where they are used
        if not compiling and self._views is not None:
            return self._views
        views = Views(
            actor=shapes.actor_params(self.actor),
            actor_target=shapes.actor_params(self.actor_target),
            critic=shapes.critic_params(self.critic),
            critic_1=shapes.critic_params(self.critic[:, 0]),
            critic_target=shapes.critic_params(self.critic_target),
        )
        if not compiling:
            self._views = views
        return views

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}

    def run(self, index: int) -> AgentState:
        """One run's state with R = 1: views of this one, but for its step, which is a copy."""
        own = {name: t[index : index + 1] for name, t in self.tensors().items() if t.ndim}
        return AgentState(**own, step=self.step.clone())

    def clone(self) -> AgentState:
        """An independent copy."""
        return AgentState(**{name: tensor.clone() for name, tensor in self.tensors().items()})

    def copy_(self, other: AgentState) -> None:
        """Overwrite in place with ``other``."""
        for name, tensor in self.tensors().items():
            tensor.copy_(getattr(other, name))

    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())


@dataclass(frozen=True)
class Hyper:
    """Hyper-parameters that may differ between runs: tensors [R] (action_mask [R, A]). Names as in AgentConfig.

    ``weight_eq2``, ``weight_eq3`` are 0 or 1 by the loss function; ``learns_alpha`` is 0 for td3bc. ``true_act_dim`` is
    the unpadded number of actions, ``action_mask`` 1 on true and 0 on padded action entries. Rewards become
    reward * reward_factor + reward_shift.
    """

    seeds: Tensor
    discount: Tensor
    tau: Tensor
    policy_noise: Tensor
    noise_clip: Tensor
    max_action: Tensor
    actor_lr: Tensor
    critic_lr: Tensor
    alpha_lr: Tensor
    alpha_lr_decay: Tensor
    ema: Tensor
    weight_eq2: Tensor
    weight_eq3: Tensor
    learns_alpha: Tensor
    true_act_dim: Tensor
    action_mask: Tensor
    reward_factor: Tensor
    reward_shift: Tensor

    def run(self, index: int) -> Hyper:
        """One run's hyper-parameters, R = 1."""
        return Hyper(**{f.name: getattr(self, f.name)[index : index + 1] for f in fields(self)})

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Hyper:
        """Moved to ``device``, floating tensors in ``dtype``; but alpha_lr_decay stays: its powers need float64."""
        moved = {
            f.name: (t.to(device, dtype) if t.is_floating_point() and f.name != "alpha_lr_decay" else t.to(device))
            for f in fields(self)
            for t in (getattr(self, f.name),)
        }
        return replace(self, **moved)


class Batch(NamedTuple):
    """One update's input: observations, next_observations [R, B, D] normalised; actions, noise [R, B, A];
    rewards, terminals [R, B]. ``noise`` holds standard normals."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminals: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Spec:
    """What all runs of a population share, so that one program trains them: sizes, batch and schedule.

    ``actor_lr`` and ``critic_lr`` are set where all runs agree on them (else None: see ``Hyper``); ``learns_alpha`` is
    false where no run does.
    """

    shapes: Shapes
    batch_size: int = 256
    policy_freq: int = 2
    alpha_freq: int = 10
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_eps: float = 1e-8
    actor_lr: float | None = None
    critic_lr: float | None = None
    learns_alpha: bool = True

    @property
    def period(self) -> int:
        """Training steps after which the schedule of updates repeats."""
        return self.policy_freq * self.alpha_freq


class RunShape(NamedTuple):
    """What the agent must know of one run's data: true dimensions, action bound, reward factor and shift."""

    obs_dim: int
    act_dim: int
    max_action: float = 1.0
    reward_factor: float = 1.0
    reward_shift: float = 0.0


def make_spec(configs: Sequence[AgentConfig], runs: Sequence[RunShape]) -> Spec:
    """The common program of these runs, padded to the widest; UserError if they cannot share one."""
    shared = {
        (c.hidden_dim, c.critic_kind, c.batch_size, c.policy_freq, c.alpha_freq, c.adam_beta1, c.adam_beta2, c.adam_eps)
        for c in configs
    }
    if len(shared) != 1:
        raise UserError(
            "runs of one population must agree on hidden_dim, critic, batch_size, policy_freq, alpha_freq, adam"
        )
    hidden_dim, kind, batch_size, policy_freq, alpha_freq, beta1, beta2, eps = shared.pop()
    shapes = Shapes(max(r.obs_dim for r in runs), max(r.act_dim for r in runs), hidden_dim, kind == "robust")
    actor_lrs, critic_lrs = {float(c.actor_lr) for c in configs}, {float(c.critic_lr) for c in configs}
    return Spec(
        shapes,
        *(batch_size, policy_freq, alpha_freq, beta1, beta2, eps),
        actor_lr=actor_lrs.pop() if len(actor_lrs) == 1 else None,
        critic_lr=critic_lrs.pop() if len(critic_lrs) == 1 else None,
        learns_alpha=any(c.algo == "aspc" for c in configs),
    )


def make_hyper(
    spec: Spec, configs: Sequence[AgentConfig], runs: Sequence[RunShape], seeds: Sequence[int], dtype: torch.dtype
) -> Hyper:
    """Per-run hyper-parameters as tensors on the CPU."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=dtype)

    act_dims = torch.tensor([r.act_dim for r in runs])
    learns = [c.algo == "aspc" for c in configs]
    return Hyper(
        seeds=torch.tensor(list(seeds), dtype=torch.int64),
        discount=column([c.discount for c in configs]),
        tau=column([c.tau for c in configs]),
        policy_noise=column([c.policy_noise for c in configs]),
        noise_clip=column([c.noise_clip for c in configs]),
        max_action=column([r.max_action for r in runs]),
        actor_lr=column([c.actor_lr for c in configs]),
        critic_lr=column([c.critic_lr for c in configs]),
        alpha_lr=column([c.alpha_lr_initial for c in configs]),
        alpha_lr_decay=torch.tensor([c.alpha_lr_decay for c in configs], dtype=torch.float64),
        ema=column([c.ema for c in configs]),
        weight_eq2=column([float(c.loss_function in (2, 4)) for c in configs]),
        weight_eq3=column([float(c.loss_function in (3, 4)) for c in configs]),
        learns_alpha=column([float(flag) for flag in learns]),
        true_act_dim=act_dims.to(dtype),
        action_mask=(torch.arange(spec.shapes.act_dim)[None, :] < act_dims[:, None]).to(dtype),
        reward_factor=column([r.reward_factor for r in runs]),
        reward_shift=column([r.reward_shift - c.reward_mean for r, c in zip(runs, configs, strict=True)]),
    )


def init_state(
    spec: Spec, configs: Sequence[AgentConfig], runs: Sequence[RunShape], seeds: Sequence[int], dtype: torch.dtype
) -> AgentState:
    """Fresh state on the CPU. A run's weights depend on its seed and true dimensions only, not on its neighbours."""
    actors, critics = [], []
    for config, run, seed in zip(configs, runs, seeds, strict=True):
        own = Shapes(run.obs_dim, run.act_dim, config.hidden_dim, spec.shapes.robust)
        actors.append(pad(_init_layer_default(own.actor, seed, 0), own.actor, spec.shapes.actor, own, spec.shapes))
        draw = _init_critic_robust if spec.shapes.robust else _init_layer_default
        pair = [draw(own.critic, seed, block) for block in (100, 200)]
        critics.append(torch.stack([pad(one, own.critic, spec.shapes.critic, own, spec.shapes) for one in pair]))
    rho = torch.tensor([inverse_softplus(c.alpha) for c in configs], dtype=dtype)
    return state_from_weights(torch.stack(actors).to(dtype), torch.stack(critics).to(dtype), rho)


def inverse_softplus(alpha: float) -> float:
    """rho with softplus(rho) = alpha > 0."""
    return alpha + math.log(-math.expm1(-alpha))


def state_from_weights(actor: Tensor, critic: Tensor, rho: Tensor) -> AgentState:
    """State at step 0 with weights actor [R, P_actor] and critic [R, 2, P_critic]; targets start as copies."""
    return AgentState(
        actor=actor,
        actor_target=actor.clone(),
        actor_m=torch.zeros_like(actor),
        actor_v=torch.zeros_like(actor),
        critic=critic,
        critic_target=critic.clone(),
        critic_m=torch.zeros_like(critic),
        critic_v=torch.zeros_like(critic),
        rho=rho,
        rho_m=torch.zeros_like(rho),
        rho_v=torch.zeros_like(rho),
        ema_q=torch.zeros_like(rho),
        step=torch.zeros((), dtype=torch.int64, device=actor.device),
    )


def pad(flat: Tensor, own: Layout, padded: Layout, own_shapes: Shapes, padded_shapes: Shapes) -> Tensor:
    """One network's flat weights [P_own] placed into the padded layout [P_padded], zeros elsewhere.

    The critic's first weight has rows [observations, actions]: its action rows move behind the padded observations.
    """
    out = torch.zeros(padded.size, dtype=flat.dtype)
    for name, source, target in zip(own.names, own.views(flat), padded.views(out), strict=True):
        if source.ndim == 0:
            target.copy_(source)
        elif name == "w0" and source.shape[0] > own_shapes.obs_dim:
            target[: own_shapes.obs_dim] = source[: own_shapes.obs_dim]
            first_action = padded_shapes.obs_dim
            target[first_action : first_action + own_shapes.act_dim] = source[own_shapes.obs_dim :]
        else:
            target[tuple(slice(0, n) for n in source.shape)] = source
    return out


def unpad(flat: Tensor, own: Layout, padded: Layout, own_shapes: Shapes, padded_shapes: Shapes) -> Tensor:
    """The inverse of ``pad``: [P_own] from [P_padded]."""
    parts = dict(zip(padded.names, padded.views(flat), strict=True))
    tensors = []
    for name, shape in zip(own.names, own.shapes, strict=True):
        part = parts[name]
        if name == "w0" and shape[0] > own_shapes.obs_dim:
            first_action = padded_shapes.obs_dim
            part = torch.cat((part[: own_shapes.obs_dim], part[first_action : first_action + own_shapes.act_dim]))
        tensors.append(part[tuple(slice(0, n) for n in shape)] if shape else part)
    return own.flatten(tensors)


def _symmetric(seed: int, block: int, shape: tuple[int, ...], bound: float) -> Tensor:
    count = math.prod(shape)
    return ((philox.uniforms(seed, block, count) * 2.0 - 1.0) * bound).float().reshape(shape)


def _init_layer_default(layout: Layout, seed: int, block: int) -> Tensor:
    """PyTorch's default Linear init: weight and bias U(+-1/sqrt(fan_in))."""
    tensors, fan_in = [], 1
    for i, shape in enumerate(layout.shapes):
        if not layout.names[i].startswith("b"):
            fan_in = shape[0]
        tensors.append(_symmetric(seed, block + i, shape, 1.0 / math.sqrt(fan_in)))
    return layout.flatten(tensors)


def _init_critic_robust(layout: Layout, seed: int, block: int) -> Tensor:
    """The published robust critic's init: small last layer, biases 0.1, identity LayerNorm."""
    tensors = []
    for i, (name, shape) in enumerate(zip(layout.names, layout.shapes, strict=True)):
        if name.endswith("last"):
            tensors.append(_symmetric(seed, block + i, shape, 3e-3))
        elif name.startswith("w"):
            tensors.append(_symmetric(seed, block + i, shape, 1.0 / math.sqrt(shape[0])))
        else:
            constant = {"b": 0.1, "gain": 1.0, "shift": 0.0}[name.rstrip("0123456789")]
            tensors.append(torch.full(shape, constant))
    return layout.flatten(tensors)
