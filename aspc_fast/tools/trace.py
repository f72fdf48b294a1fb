"""Read a golden trace: inputs of every step, recorded outputs, and final weights (or their checksums)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.state import AgentState, Hyper, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.agent.trace_names import TraceNames
from aspc_fast.config import AgentConfig
from aspc_fast.data.d4rl import one_line
from aspc_fast.data.npz import read_arrays
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm, names
from aspc_fast.tools.trace_weights import draw_weights, weights_hash

MAX_TRACE_BYTES = 8 * 2**30
SHIPPED = Path(__file__).with_name("traces")


@dataclass(frozen=True)
class Trace:
    """One golden trace, read whole. ``arrays`` holds the file's arrays by key; weights there are [out, in]."""

    path: Path
    config: Any
    run: RunShape
    steps: int
    arrays: dict[str, np.ndarray]
    names: TraceNames

    def __post_init__(self) -> None:
        self.outputs("f64")  # a trace without outputs proves nothing

    @property
    def spec(self) -> Spec:
        """The program that replays it."""
        return make_spec([self.config], [self.run])

    def hyper(self, spec: Spec, dtype: torch.dtype) -> Hyper:
        """The run's hyper-parameters (the seed is unused: noise is given)."""
        return make_hyper(spec, [self.config], [self.run], [0], dtype)

    def initial_state(self, spec: Spec, dtype: torch.dtype) -> AgentState:
        """State at step 0 with the recorded initial weights; targets are copies."""
        state = init_state(spec, [self.config], [self.run], [0], dtype)
        for theirs, place in self.names.weights(spec).items():
            if (place.tensor and place.net not in spec.nets) or place.net in self.names.starts:
                continue  # a copy of another network
            if place.tensor or f"init/{theirs}" in self.arrays:
                view = place.view(spec, state)
                view.copy_(self._tensor(f"init/{theirs}", tuple(view.shape)))
        for ours, source in self.names.starts.items():
            getattr(state, ours).copy_(getattr(state, source))
        for name, net in spec.nets.items():
            if net.target:
                getattr(state, f"{name}_target").copy_(getattr(state, name))
        return state

    def batch(self, index: int, dtype: torch.dtype) -> Any:
        """Inputs of the step with 0-based number ``index``, R = 1."""
        spec, fields = self.spec, {}
        for ours, theirs in read_fields(spec, self.names).items():
            value = torch.from_numpy(self.arrays[f"batch/{theirs}"][index]).to(dtype)
            shape = field_shape(spec, ours)
            fields[ours] = self.names.given.get(ours, _as_it_is)(value).reshape(1, *shape)
        return spec.algorithm.batch(**fields)

    def outputs(self, precision: str) -> dict[str, np.ndarray]:
        """Recorded outputs [N] by name, NaN where a quantity does not exist at a step."""
        prefix = f"{precision}/out/"
        found = {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}
        if not found:
            raise UserError(f"{self.path}: no recorded outputs under {prefix!r}")
        return found

    def _tensor(self, key: str, shape: tuple[int, ...]) -> Tensor:
        if key not in self.arrays:
            raise UserError(f"{self.path}: array {key!r} is missing")
        value = self.arrays[key].astype(np.float64)
        value = value.T if len(shape) == 2 else value
        if value.size != int(np.prod(shape)):
            raise UserError(f"{self.path}: array {key!r} has shape {self.arrays[key].shape}, expected {shape[::-1]}")
        return torch.from_numpy(np.ascontiguousarray(value)).reshape(shape)


def _as_it_is(value: Tensor) -> Tensor:
    return value


def read_trace(path: str | Path) -> Trace:
    """Read a trace file; UserError (one sentence) if it is not one."""
    path = Path(path)
    arrays = read_arrays(path, MAX_TRACE_BYTES)
    if "meta_json" not in arrays:
        raise UserError(f"{path}: not a golden trace (array 'meta_json' is missing)")
    try:
        return _trace(path, json.loads(str(arrays.pop("meta_json"))), arrays)
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: meta_json is damaged ({one_line(error)})") from None


def _trace(path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Trace:
    run = RunShape(int(meta["state_dim"]), int(meta["action_dim"]), float(meta["max_action"]))
    steps, batch_size = int(meta["n_steps"]), int(meta["batch"])
    if steps < 1:
        raise UserError(f"{path}: n_steps must be at least 1, got {steps}")
    if "init_seed" in meta:  # its dimensions are small: those of arrays that are there
        for name, width in (("state", run.obs_dim), ("action", run.act_dim)):
            shape = arrays[f"batch/{name}"].shape if f"batch/{name}" in arrays else None
            if shape != (steps, batch_size, width):
                raise UserError(f"{path}: array 'batch/{name}' has shape {shape}, not {(steps, batch_size, width)}")
        arrays = arrays | _drawn_weights(path, meta, run)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise UserError(f"{path}: array {name!r} has dtype {array.dtype}, but numbers are needed")
        if "/out/" in name and array.shape != (steps,):
            raise UserError(f"{path}: array {name!r} has shape {array.shape}, expected {(steps,)}")
    config, named = _config(path, meta, arrays, batch_size)
    spec = make_spec([config], [run])
    for ours, theirs in read_fields(spec, named).items():
        key, shape = f"batch/{theirs}", (steps, *field_shape(spec, ours))
        found = arrays[key].shape if key in arrays else None
        if found is None or found[:2] != shape[:2] or _wide(found) != _wide(shape):
            wanted = shape if len(shape) > 2 else (*shape, 1)
            raise UserError(f"{path}: array {key!r} has shape {found}, expected {wanted}")
    return Trace(path, config, run, steps, arrays, named)


def _drawn_weights(path: Path, meta: dict[str, Any], run: RunShape) -> dict[str, np.ndarray]:
    """Initial weights of a trace that names their seed; UserError if this torch draws others."""
    weights = draw_weights(int(meta["init_seed"]), run.obs_dim, run.act_dim, bool(meta["init_robust"]))
    if weights_hash(weights) != meta["init_sha256"]:
        raise UserError(
            f"{path}: torch {torch.__version__} draws other initial weights from seed {meta['init_seed']} than the"
            " authors' trainer had; use a trace that holds them"
        )
    return weights


def shipped_traces() -> list[Path]:
    """The golden traces that come with the package, see traces/README.md."""
    return sorted(SHIPPED.glob("*.npz"))


def _config(
    path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray], batch_size: int
) -> tuple[AgentConfig, TraceNames]:
    """The run's configuration, and how its authors name things."""
    known = {declared.trace.algo: declared for declared in map(algorithm, names()) if declared.trace is not None}
    algo = meta["algo"]
    if algo not in known:
        raise UserError(f"{path}: algo {algo!r} is not one this package can replay ({', '.join(known)})")
    named, kind, hp = known[algo].trace, known[algo].config, dict(meta["hp"])
    assert named is not None
    unknown = sorted(set(hp) - set(named.hyper))
    if unknown:
        raise UserError(f"{path}: hyper-parameter {unknown[0]!r} in meta_json is unknown")
    adam = meta.get("adam", {})
    settings = {
        "batch_size": batch_size,
        "adam_beta1": float(adam.get("b1", 0.9)),
        "adam_beta2": float(adam.get("b2", 0.999)),
        "adam_eps": float(adam.get("eps", 1e-8)),
        **{named.hyper[name]: value for name, value in hp.items() if named.hyper[name] and value is not None},
        **named.config(meta, arrays),
    }
    return kind(**settings), named


def read_fields(spec: Spec, named: TraceNames) -> dict[str, str]:
    """The batch fields that this program reads -> their names: without draws that its configuration does not have."""
    drawn, optional = {draw.name for draw in spec.draws}, spec.algorithm.batch._field_defaults
    return {ours: theirs for ours, theirs in named.batch.items() if ours in drawn or ours not in optional}


def field_shape(spec: Spec, name: str) -> tuple[int, ...]:
    """[B, ...] of a batch field, one run's."""
    for draw in spec.draws:
        if draw.name == name:
            return (spec.config.batch_size, *map(spec.dims.size, draw.sizes))
    kind = name.removeprefix("outer_").removeprefix("next_")
    width: dict[str, tuple[int, ...]] = {"observations": (spec.dims.obs,), "actions": (spec.dims.act,)}
    return (spec.config.batch_size, *width.get(kind, ()))


def _wide(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes after [N, B] that have more than one entry: their files have an axis of one where we have none."""
    return tuple(size for size in shape[2:] if size != 1)
