"""Read a golden trace: inputs of every step, recorded outputs, and final weights (or their checksums)."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.state import AgentState, Hyper, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.agent.trace_names import SCRIPT_SETTINGS, Place, TraceNames
from aspc_fast.config import AgentConfig
from aspc_fast.data.d4rl import one_line
from aspc_fast.data.npz import read_arrays
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm, names
from aspc_fast.tools.trace_weights import draw_weights, weights_hash

MAX_TRACE_BYTES = 8 * 2**30
# Entries of meta_json beside the hyper-parameters: what is read here or by an algorithm, and where a file comes from.
META = {"algo", "state_dim", "action_dim", "n_steps", "batch", "max_action", "hp", "adam", "lr", "latent_dim"}
META |= {"init_seed", "init_robust", "init_sha256", "target_entropy", "cut_from"}
META |= {"name", "seed", "source", "repo", "source_sha256", "init_note", "init_last_layer_scale", "config_batch_size"}
META |= {"torch", "torchopt", "actor_adam", "actor_step", "versions", "data_source"}
SHIPPED = Path(__file__).with_name("traces")


@dataclass(frozen=True)
class Trace:
    """One golden trace, read whole. ``arrays`` holds the file's arrays by key; weights there are [out, in].

    unread: entries of meta_json and networks under init/ that nothing here knows.
    """

    path: Path
    config: Any
    run: RunShape
    steps: int
    arrays: dict[str, np.ndarray]
    names: TraceNames
    unread: tuple[str, ...] = ()

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
        """State at step 0 with the recorded initial weights; targets that the file does not have are copies."""
        state = init_state(spec, [self.config], [self.run], [0], dtype)
        places = self.names.weights(spec)
        networks = {theirs.split("/")[0] for theirs in places}
        for key in sorted(self.arrays):
            folder, _, theirs = key.partition("/")
            if folder == "init" and theirs not in places and theirs.split("/")[0] in networks:
                raise UserError(f"{self.path}: array {key!r} is of a layer that this program has not")
        copies = {f"{name}_target": name for name, net in spec.nets.items() if net.target} | dict(self.names.starts)
        for theirs, place in places.items():
            if place.net not in copies and (place.tensor or f"init/{theirs}" in self.arrays):
                self._load(spec, state, theirs, place)
        for ours, source in copies.items():
            getattr(state, ours).copy_(getattr(state, source))
        for theirs, place in places.items():
            if place.net in copies and f"init/{theirs}" in self.arrays:
                self._load(spec, state, theirs, place)
        return state

    def _load(self, spec: Spec, state: AgentState, theirs: str, place: Place) -> None:
        view = place.view(spec, state)
        view.copy_(self._tensor(f"init/{theirs}", tuple(view.shape)))

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
    named, kind = _authors(path, meta)
    bound = float(meta.get("max_action", 1.0)) if named.max_action is None else named.max_action
    run = RunShape(int(meta["state_dim"]), int(meta["action_dim"]), bound)
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
    config = _config(path, meta, arrays, batch_size, named, kind)
    spec = make_spec([config], [run])
    for ours, theirs in read_fields(spec, named).items():
        key, shape = f"batch/{theirs}", (steps, *field_shape(spec, ours))
        found = arrays[key].shape if key in arrays else None
        if found is None or found[:2] != shape[:2] or _wide(found) != _wide(shape):
            wanted = shape if len(shape) > 2 else (*shape, 1)
            raise UserError(f"{path}: array {key!r} has shape {found}, expected {wanted}")
    networks = {theirs.split("/")[0] for theirs in named.weights(spec)}
    strange = {key.split("/")[1] for key in arrays if key.startswith("init/")} - networks
    unread = sorted(set(meta) - META - set(named.hyper)) + sorted(f"init/{network}" for network in strange)
    return Trace(path, config, run, steps, arrays, named, tuple(unread))


def _drawn_weights(path: Path, meta: dict[str, Any], run: RunShape) -> dict[str, np.ndarray]:
    """Initial weights of a trace that names their seed; UserError if this torch draws others."""
    weights = draw_weights(int(meta["init_seed"]), run.obs_dim, run.act_dim, bool(meta["init_robust"]))
    if weights_hash(weights) != meta["init_sha256"]:
        raise UserError(
            f"{path}: torch {torch.__version__} draws other initial weights from seed {meta['init_seed']} than the"
            " authors' trainer had; use a trace that holds them"
        )
    return weights


def shipped_traces(algos: Collection[str] = ()) -> list[Path]:
    """The golden traces that come with the package, see traces/README.md; of all algorithms, or of some."""
    return sorted(path for path in SHIPPED.glob("*.npz") if not algos or path.name.split("_")[0] in algos)


def _authors(path: Path, meta: dict[str, Any]) -> tuple[TraceNames, type[AgentConfig]]:
    """How the file's authors name things, and the class of the configuration that it becomes."""
    known = {declared.trace.algo: declared for declared in map(algorithm, names()) if declared.trace is not None}
    algo = meta["algo"]
    if algo not in known:
        raise UserError(f"{path}: algo {algo!r} is not one this package can replay ({', '.join(known)})")
    named = known[algo].trace
    assert named is not None
    return named, known[algo].config


def _config(
    path: Path,
    meta: dict[str, Any],
    arrays: dict[str, np.ndarray],
    batch_size: int,
    named: TraceNames,
    kind: type[AgentConfig],
) -> AgentConfig:
    """The run's configuration. UserError on a hyper-parameter of which nobody knows what it does."""
    hp = dict(meta["hp"])
    unknown = sorted(set(hp) - set(named.hyper) - SCRIPT_SETTINGS)
    if unknown:
        raise UserError(f"{path}: hyper-parameter {unknown[0]!r} in meta_json is unknown")
    hp = {name: meta[name] for name in named.hyper if name in meta} | hp
    adam = dict(meta.get("adam", {}))
    if strange := sorted(set(adam) - {"b1", "b2", "eps"}):
        raise UserError(f"{path}: Adam's {strange[0]!r} in meta_json is unknown")
    settings = {
        "batch_size": batch_size,
        "adam_beta1": float(adam.get("b1", 0.9)),
        "adam_beta2": float(adam.get("b2", 0.999)),
        "adam_eps": float(adam.get("eps", 1e-8)),
        **{ours: hp[name] for name, ours in named.hyper.items() if ours and hp.get(name) is not None},
        **named.config(meta | {"hp": hp}, arrays),
    }
    return kind(**settings)


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
