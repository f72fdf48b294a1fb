"""Replay a golden trace of the authors' own trainer and compare every recorded quantity.

float64: the whole trace, relative deviation at most 1e-9 (1e-8 for hyper-gradients of tiny size, 1e-12 of sum|x| for
checksums of the final weights). float32: two correct programs drift apart within a hundred
steps (Adam's first steps are sign-like), so the first 20 steps are compared freely, and all steps one by one, each
started from the float64 replay's state ("forced"). Where the authors' own float32 run strays further from their float64
run than the fixed bound, four times their deviation is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from aspc_fast.agent.state import AgentState, Spec
from aspc_fast.engine.base import Engine, Learners
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.errors import UserError
from aspc_fast.tools.trace import Trace

FLOAT64_ALLOWED = 1e-9
SCALE_GRADIENT_ALLOWED = 1e-8
CHECKSUM_ALLOWED = 1e-12
FLOAT32_FREE_STEPS = 20
FLOAT32_ALLOWED = 1e-3
FLOAT32_SLACK = 4.0

EngineFactory = Callable[[Learners], Engine]
StepCallback = Callable[[int], None]
NoteCallback = Callable[[str], None]


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
    on_note: NoteCallback = lambda note: None,
) -> list[Check]:
    """Replay ``trace`` (its first ``steps`` if given) and compare; ``on_step`` is called with each finished step.

    ``on_note`` is told in a sentence what was not compared because the file lacks it, and what in it nobody here knows.
    """
    steps = trace.steps if steps is None else min(steps, trace.steps)
    if trace.unread:
        on_note(f"unknown here and ignored: {', '.join(trace.unread)}")
    if dtype == torch.float64:
        engine = _engine(trace, dtype, make_engine, device)
        produced = [_step(trace, engine, i, dtype, on_step) for i in range(steps)]
        checks = _compare(trace, produced, FLOAT64_ALLOWED)
        lacking = sorted(set().union(*produced) - set(trace.outputs("f64")))
        if steps == trace.steps:
            checks += _final_weights(trace, engine)
            lacking += _unrecorded(trace, engine.spec)
        if lacking:
            on_note(f"not in the file and so not compared: {', '.join(lacking)}")
        return checks
    free = _engine(trace, dtype, make_engine, device)
    free_steps = min(steps, FLOAT32_FREE_STEPS)
    produced = [_step(trace, free, i, dtype, lambda step: None) for i in range(free_steps)]
    checks = _compare(trace, produced, FLOAT32_ALLOWED, f", first {free_steps}", trace.outputs("f32"))
    return checks + _forced(trace, dtype, make_engine, device, steps, on_step)


def _engine(trace: Trace, dtype: torch.dtype, make_engine: EngineFactory, device: str) -> Engine:
    spec = trace.spec
    state = trace.initial_state(spec, dtype)
    state = AgentState(**{name: t.to(device) for name, t in state.tensors().items()})
    return make_engine(Learners(spec, state, trace.hyper(spec, dtype).to(device, dtype)))


def _step(trace: Trace, engine: Engine, index: int, dtype: torch.dtype, on_step: StepCallback) -> dict[str, float]:
    batch = trace.batch(index, dtype)
    metrics = engine.step(type(batch)(*(t.to(engine.state.device) for t in batch)))
    values = {name: float(value[0]) for name, value in metrics.items()}
    on_step(index + 1)
    return values | trace.names.after(engine.spec, engine.state, engine.hyper, index + 1)


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
    return _compare(trace, produced, FLOAT32_ALLOWED, ", forced", trace.outputs("f32"))


def _compare(
    trace: Trace,
    produced: list[dict[str, float]],
    allowed: float,
    suffix: str = "",
    authors_float32: dict[str, np.ndarray] | None = None,
) -> list[Check]:
    """One check per recorded quantity; relative entry by entry in float64, to the largest entry in float32."""
    checks = []
    for name, series in trace.outputs("f64").items():
        theirs = series[: len(produced)]
        exists = ~np.isnan(theirs)
        if not exists.any():
            continue
        ours = np.array([values.get(name, np.nan) for values in produced])[exists]
        theirs, bound = theirs[exists], allowed
        if name in trace.names.scale_gradient:
            bound = max(bound, SCALE_GRADIENT_ALLOWED)
        scale = np.abs(theirs)
        if authors_float32 is not None:
            scale = np.full_like(scale, scale.max())
            if name not in authors_float32:
                raise UserError(f"{trace.path}: array 'f32/out/{name}' is missing")
            own = _relative(authors_float32[name][: len(produced)][exists], theirs, scale)
            bound = max(bound, FLOAT32_SLACK * own)
        checks.append(Check(name + suffix, _relative(ours, theirs, scale), bound))
    return checks


def _relative(ours: np.ndarray, theirs: np.ndarray, scale: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        difference = np.where(ours == theirs, 0.0, np.abs(ours - theirs) / np.where(scale == 0, 1.0, scale))
    return float(difference.max())


def _final_weights(trace: Trace, engine: Engine) -> list[Check]:
    """Final weights, or the three checksums of each tensor, relative to the tensor's size."""
    found: dict[tuple[str, str], list[float]] = {}
    known = set()
    for theirs, place in trace.names.weights(engine.spec).items():
        view = place.view(engine.spec, engine.state)
        ours = (view.T if view.ndim == 2 else view).cpu().double().numpy().reshape(-1)
        for folder, values, scale in (
            ("final", ours, np.abs(ours).max()),
            ("final_checksum", _checksum(ours), np.abs(ours).sum()),
        ):
            key = f"f64/{folder}/{theirs}"
            if key in trace.arrays:
                deviation = _deviation(trace, key, values, max(float(scale), 1e-12))
                found.setdefault((folder, theirs.split("/")[0]), []).append(deviation)
                known.add(key)
    for name, (values, scales) in trace.names.final(engine.spec, engine.state).items():
        key = f"f64/final/{name}"
        if key in trace.arrays:
            found.setdefault(("final", name.split("/")[0]), []).append(_deviation(trace, key, values, scales))
            known.add(key)
    strange = sorted(key for key in trace.arrays if key.startswith("f64/final") and key not in known)
    if strange:
        raise UserError(f"{trace.path}: array {strange[0]!r} is of no network that this program has")
    allowed = {"final": FLOAT64_ALLOWED, "final_checksum": CHECKSUM_ALLOWED}
    return [
        Check(f"final {network} ({len(worst)} tensors)", max(worst), allowed[folder])
        for (folder, network), worst in found.items()
    ]


def _unrecorded(trace: Trace, spec: Spec) -> list[str]:
    """Networks (or single tensors of them) whose final weights the file does not have."""
    tensors: dict[str, list[bool]] = {}
    for theirs in trace.names.weights(spec):
        recorded = any(f"f64/{folder}/{theirs}" in trace.arrays for folder in ("final", "final_checksum"))
        tensors.setdefault(theirs.split("/")[0], []).append(recorded)
    return [f"final {network} ({found.count(False)} tensors)" for network, found in tensors.items() if not all(found)]


def _deviation(trace: Trace, key: str, ours: np.ndarray, scale: np.ndarray | float) -> float:
    theirs = trace.arrays[key]
    _check_size(trace, key, theirs, ours.size)
    return float((np.abs(ours - theirs.reshape(-1).astype(np.float64)) / scale).max())


def _check_size(trace: Trace, key: str, array: np.ndarray, expected: int) -> None:
    if array.size != expected:
        raise UserError(f"{trace.path}: array {key!r} has {array.size} entries, expected {expected}")


def _checksum(values: np.ndarray) -> np.ndarray:
    weights = np.cos(0.37 * np.arange(values.size))
    return np.array([values.sum(), np.abs(values).sum(), (values * weights).sum()])
