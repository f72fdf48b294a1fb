"""Replay a golden trace of the authors' own trainer and compare every recorded quantity.

float64: the whole trace, relative deviation at most 1e-9. float32: two correct programs drift apart within a hundred
steps (Adam's first steps are sign-like), so the first 20 steps are compared freely, and all steps one by one, each
started from the float64 replay's state ("forced"). Where the authors' own float32 run strays further from their float64
run than the fixed bound, four times their deviation is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.layout import Layout
from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.engine.base import Engine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.errors import UserError
from aspc_fast.tools.trace import Trace, layer_names

FLOAT64_ALLOWED = 1e-9
FLOAT32_FREE_STEPS = 20
FLOAT32_ALLOWED = 1e-3
FLOAT32_SLACK = 4.0

EngineFactory = Callable[[Spec, AgentState, Hyper], Engine]
StepCallback = Callable[[int], None]


@dataclass(frozen=True)
class Check:
    """One compared quantity: the largest relative deviation found and the largest allowed."""

    quantity: str
    deviation: float
    allowed: float

    @property
    def passed(self) -> bool:
        """False also where the deviation is NaN (a quantity that was not produced)."""
        return self.deviation <= self.allowed


def verify(
    trace: Trace,
    dtype: torch.dtype = torch.float64,
    make_engine: EngineFactory = EagerEngine,
    device: str = "cpu",
    steps: int | None = None,
    on_step: StepCallback = lambda step: None,
) -> list[Check]:
    """Replay ``trace`` (its first ``steps`` if given) and compare; ``on_step`` is called with each finished step."""
    steps = trace.steps if steps is None else min(steps, trace.steps)
    if dtype == torch.float64:
        engine = _engine(trace, dtype, make_engine, device)
        produced = [_step(trace, engine, i, dtype, on_step) for i in range(steps)]
        checks = _compare(trace.outputs("f64"), produced, FLOAT64_ALLOWED)
        return checks + (_final_weights(trace, engine) if steps == trace.steps else [])
    free = _engine(trace, dtype, make_engine, device)
    free_steps = min(steps, FLOAT32_FREE_STEPS)
    produced = [_step(trace, free, i, dtype, lambda step: None) for i in range(free_steps)]
    checks = _compare(trace.outputs("f64"), produced, FLOAT32_ALLOWED, f", first {free_steps}", trace.outputs("f32"))
    return checks + _forced(trace, dtype, make_engine, device, steps, on_step)


def _engine(trace: Trace, dtype: torch.dtype, make_engine: EngineFactory, device: str) -> Engine:
    spec = trace.spec
    state = trace.initial_state(spec, dtype)
    state = AgentState(**{name: t.to(device) for name, t in state.tensors().items()})
    return make_engine(spec, state, trace.hyper(spec, dtype).to(device, dtype))


def _step(trace: Trace, engine: Engine, index: int, dtype: torch.dtype, on_step: StepCallback) -> dict[str, float]:
    device = engine.state.rho.device
    metrics = engine.step(type(trace.batch(0, dtype))(*(t.to(device) for t in trace.batch(index, dtype))))
    values = {name: float(value[0]) for name, value in metrics.items()}
    if trace.config.algo == "aspc":
        done = (index + 1) // trace.spec.period
        values["alpha_raw_after"] = float(engine.state.rho[0])
        values["alpha_after"] = float(torch.nn.functional.softplus(engine.state.rho[0]))
        values["alpha_lr_after"] = trace.config.alpha_lr_initial * trace.config.alpha_lr_decay**done
    on_step(index + 1)
    return values


def _forced(
    trace: Trace, dtype: torch.dtype, make_engine: EngineFactory, device: str, steps: int, on_step: StepCallback
) -> list[Check]:
    truth = _engine(trace, torch.float64, EagerEngine, device)
    engine = _engine(trace, dtype, make_engine, device)
    produced = []
    for i in range(steps):
        engine.state.copy_(truth.state)
        produced.append(_step(trace, engine, i, dtype, lambda step: None))
        _step(trace, truth, i, torch.float64, on_step)
    return _compare(trace.outputs("f64"), produced, FLOAT32_ALLOWED, ", forced", trace.outputs("f32"))


def _compare(
    recorded: dict[str, np.ndarray],
    produced: list[dict[str, float]],
    allowed: float,
    suffix: str = "",
    authors_float32: dict[str, np.ndarray] | None = None,
) -> list[Check]:
    """One check per recorded quantity; relative entry by entry in float64, to the largest entry in float32."""
    checks = []
    for name, series in recorded.items():
        theirs = series[: len(produced)]
        exists = np.isfinite(theirs)
        if not exists.any():
            continue
        ours = np.array([values.get(name, np.nan) for values in produced])[exists]
        theirs, bound = theirs[exists], allowed
        scale = np.abs(theirs)
        if authors_float32 is not None:
            scale = np.full_like(scale, scale.max())
            own = _relative(authors_float32[name][: len(produced)][exists], theirs, scale)
            bound = max(allowed, FLOAT32_SLACK * own)
        checks.append(Check(name + suffix, _relative(ours, theirs, scale), bound))
    return checks


def _relative(ours: np.ndarray, theirs: np.ndarray, scale: np.ndarray) -> float:
    difference = np.abs(ours - theirs)
    return float(np.where(difference == 0, 0.0, difference / np.where(scale == 0, 1.0, scale)).max())


def _final_weights(trace: Trace, engine: Engine) -> list[Check]:
    """Final weights, or the three checksums of each tensor, relative to the tensor's size."""
    shapes, state = engine.spec.shapes, engine.state
    networks: dict[str, tuple[Tensor, Layout]] = {
        "actor": (state.actor[0], shapes.actor),
        "actor_target": (state.actor_target[0], shapes.actor),
    }
    for i in (0, 1):
        networks[f"critic_{i + 1}"] = (state.critic[0, i], shapes.critic)
        networks[f"critic_{i + 1}_target"] = (state.critic_target[0, i], shapes.critic)
    checks = []
    for network, (flat, layout) in networks.items():
        worst, compared = 0.0, 0
        for name, view in zip(layer_names(layout), layout.views(flat), strict=True):
            ours = (view.T if view.ndim == 2 else view.reshape(-1)).cpu().double().numpy().reshape(-1)
            for folder, summary in (("final", lambda x: x), ("final_checksum", _checksum)):
                theirs = trace.arrays.get(f"f64/{folder}/{network}/{name}")
                if theirs is not None:
                    _check_size(trace, f"f64/{folder}/{network}/{name}", theirs, summary(ours).size)
                    scale = max(
                        float(np.abs(ours).sum()) if folder == "final_checksum" else float(np.abs(ours).max()), 1e-12
                    )
                    deviation = np.abs(summary(ours) - theirs.reshape(-1).astype(np.float64)).max() / scale
                    worst, compared = max(worst, float(deviation)), compared + 1
        if compared:
            checks.append(Check(f"final {network} ({compared} tensors)", worst, FLOAT64_ALLOWED))
    return checks + _adam_sums(trace, engine)


def _adam_sums(trace: Trace, engine: Engine) -> list[Check]:
    layout, worst, compared = engine.spec.shapes.actor, 0.0, 0
    moments = zip(layout.views(engine.state.actor_m[0]), layout.views(engine.state.actor_v[0]), strict=True)
    for name, (m, v) in zip(layer_names(layout), moments, strict=True):
        theirs = trace.arrays.get(f"f64/final/actor_adam_sums/{name}")
        if theirs is not None:
            _check_size(trace, f"f64/final/actor_adam_sums/{name}", theirs, 3)
            ours = np.array([float(m.sum()), float(m.abs().sum()), float(v.sum())])
            scale = np.maximum(np.array([ours[1], ours[1], ours[2]]), 1e-300)
            worst, compared = max(worst, float((np.abs(ours - theirs) / scale).max())), compared + 1
    return [Check(f"final actor Adam moments ({compared} tensors)", worst, FLOAT64_ALLOWED)] if compared else []


def _check_size(trace: Trace, key: str, array: np.ndarray, expected: int) -> None:
    if array.size != expected:
        raise UserError(f"{trace.path}: array {key!r} has {array.size} entries, expected {expected}")


def _checksum(values: np.ndarray) -> np.ndarray:
    weights = np.cos(0.37 * np.arange(values.size))
    return np.array([values.sum(), np.abs(values).sum(), (values * weights).sum()])
