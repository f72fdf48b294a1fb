"""TD3+BC whose alpha runs along a straight line over training: the paper's ablation beside alpha fixed and learned.

The end points of the paper's line are not known to this package: start, end and length are hyper-parameters. Engines
with kernels of their own refuse it, since they would train with alpha as it was at first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from aspc_fast.agent import td3bc
from aspc_fast.agent.algorithm import Metrics
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.config import hyper


@dataclass(frozen=True)
class LinearConfig(td3bc.TD3BCConfig):
    """Hyper-parameters of TD3+BC with alpha on a line."""

    algo: str = "td3bc_linear"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    critic: Literal["robust", "plain"] = "robust"
    """robust: 3 hidden layers, LayerNorm after ReLU; plain: 2 hidden layers."""
    alpha: float = hyper(2.5, 0, open_low=True)
    """alpha at the start of training: weight of the RL term against cloning, > 0."""
    alpha_end: float = hyper(10.0, 0, open_low=True)
    """alpha from alpha_horizon on, > 0. The default is this package's choice, not the paper's."""
    alpha_horizon: int = hyper(1_000_000, 1, 1e12)
    """Training steps over which alpha goes from its first to its last value."""


def alpha_now(state: AgentState, hyper: Hyper) -> Tensor:
    """alpha [R], float64, of the training step that is being done."""
    share = (state.step / hyper.alpha_horizon).clamp(max=1.0)
    return hyper.alpha + (hyper.alpha_end - hyper.alpha) * share


def policy_part(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """TD3+BC's part of every policy_freq-th step, with alpha = softplus(rho) where the line is now."""
    alpha = alpha_now(state, hyper)
    state.rho.copy_(alpha + torch.log(-torch.expm1(-alpha)))
    return td3bc.policy_part(spec, state, hyper, batch)


ALGORITHM = replace(
    td3bc.ALGORITHM,
    name="td3bc_linear",
    title="TD3+BC, linear alpha",
    config=LinearConfig,
    exact=("alpha_horizon",),
    parts={"critics": td3bc.critics_part, "policy": policy_part},
    shown=("critic_loss", "actor_loss", "q1_mean", "alpha_after"),
    curve="alpha_after",
    source="arXiv 2508.19900, the ablation of alpha",
    trace=None,
)
