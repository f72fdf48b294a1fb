"""Behaviour cloning: the smallest algorithm there is, and the pattern for another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aspc_fast.agent.adam import per_run
from aspc_fast.agent.algorithm import Algorithm, Metrics, Net
from aspc_fast.agent.descend import descend
from aspc_fast.agent.initialise import torch_default
from aspc_fast.agent.layout import actor_mlp
from aspc_fast.agent.networks import actor_forward
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.config import AgentConfig, hyper


@dataclass(frozen=True)
class BCConfig(AgentConfig):
    """Hyper-parameters of behaviour cloning."""

    algo: str = "bc"
    """What is trained: aspc, td3bc, ... (each has its own options: --algo NAME --help shows them)."""
    actor_lr: float = hyper(3e-4, 0, 1)
    """eta_actor: Adam learning rate of the actor."""


def clone(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> Metrics:
    """One Adam step of the actor on the mean squared difference from the data's actions."""

    def loss(actor: Any) -> Any:
        actions, _ = actor_forward(actor, batch.observations, per_run(hyper.max_action, 3))
        error = (actions - batch.actions).square().sum(-1) / per_run(hyper.true_act_dim, 2)
        return error.mean(-1), {}

    bc_loss, _ = descend(spec, state, hyper, "actor", loss, state.step)
    return {"bc_loss": bc_loss}


ALGORITHM = Algorithm(
    name="bc",
    title="BC",
    config=BCConfig,
    networks=lambda config: {"actor": Net(actor_mlp(config.hidden_dim), "actor_lr", torch_default)},
    parts={"clone": clone},
    parts_of=lambda config, t: ("clone",),
    period=lambda config: 1,
    batch=Batch,
    shown=("bc_loss",),
)
