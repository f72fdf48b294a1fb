"""What the tests of engines with kernels of their own share: populations on toy data, reference settings, stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aspc_fast import reference
from aspc_fast.agent.aspc import meta_step
from aspc_fast.agent.state import AgentState, Batch, Hyper, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.agent.td3bc import actor_step, critic_step, move_targets, target_values
from aspc_fast.config import AgentConfig
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.engine.base import Learners
from aspc_fast.engine.replay import Replay
from aspc_fast.tools.trace import Trace, read_trace
from tests.helpers import record_trace, toy_data

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "variant 4": (dict(alpha_freq=2), dict(max_action=1.5, steps=4)),
    "variant 1": (dict(loss_function=1, alpha_freq=1), dict(obs_dim=17, act_dim=6, steps=4)),
    "variant 2, every step": (
        dict(loss_function=2, policy_freq=1, alpha_freq=1),
        dict(obs_dim=3, act_dim=1, steps=3),
    ),
    "variant 3, slow policy": (
        dict(loss_function=3, policy_freq=3, alpha_freq=1),
        dict(obs_dim=9, act_dim=4, steps=3),
    ),
    "td3bc as published": (dict(algo="td3bc", robust_critic=False), dict(max_action=0.4, steps=4)),
}


def trace_of(folder: Path, variant: str) -> Trace:
    """The reference trainer's run of a variant."""
    config, shape = VARIANTS[variant]
    return read_trace(record_trace(folder / "t.npz", reference.Config(**config), **shape))


def population(
    configs: list[AgentConfig],
    dtype: torch.dtype = torch.float64,
    sizes: tuple[tuple[int, int], ...] = ((5, 2), (3, 1), (9, 4)),
    seeds: list[int] | None = None,
    store_next: bool = True,
    device: str = "cpu",
) -> Learners:
    """One run for each configuration, each with dimensions, bounds and data of its own."""
    sizes = sizes[: len(configs)]
    runs = [RunShape(d, a, 1.0 + 0.5 * i, 0.5, 0.1) for i, (d, a) in enumerate(sizes)]
    seeds = list(range(len(configs))) if seeds is None else seeds
    spec = make_spec(configs, runs)
    state = init_state(spec, configs, runs, seeds, dtype).to(device)
    hyper = make_hyper(spec, configs, runs, seeds, dtype).to(device, dtype)
    data = [toy_data(200 + 10 * d, d, a, seed=d) for d, a in sizes]
    normalisers = [Normaliser.of(x.observations, 1e-3) for x in data]
    replay = Replay(data, normalisers, list(range(len(data))), spec, device, dtype, store_next)
    return Learners(spec, state, hyper, replay)


def eager_stages(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch, last: int) -> dict[str, torch.Tensor]:
    """The stages of a step (``fused.STAGES``) up to number ``last``, by the pure functions, in place on ``state``; what
    they hand on: the TD target y and metrics."""
    found = {}
    if last >= 1:
        state.step.add_(1)
        found["y"] = target_values(spec, state, hyper, batch)
    if last >= 2:
        found |= critic_step(spec, state, hyper, batch, found["y"])
    if last >= 3:
        step, metrics = actor_step(spec, state, hyper, batch, with_gradient_q=True)
        found |= metrics
    if last >= 4:
        found |= meta_step(spec, state, hyper, batch, step)
    if last >= 5:
        move_targets(state, hyper)
    return found


def assert_states_agree(found: AgentState, expected: AgentState, tolerance: float) -> None:
    """Every tensor, within a relative and absolute tolerance; bit for bit for 0."""
    for name, tensor in expected.tensors().items():
        torch.testing.assert_close(
            getattr(found, name), tensor, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_padded_run_equals_alone(made: Learners, alone: Learners, tolerance: float) -> None:
    """Run 1 of a population, of 3 observation and 1 action entries, and the same run alone, after training."""
    weights = [m.spec.shapes.actor_params(m.state.actor).hidden[1].w[r] for m, r in ((made, 1), (alone, 0))]
    torch.testing.assert_close(*weights, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(made.state.rho[1:2], alone.state.rho, rtol=tolerance, atol=tolerance)
