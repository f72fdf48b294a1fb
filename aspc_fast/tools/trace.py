"""Read a golden trace: inputs of every step, recorded outputs, and final weights (or their checksums)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aspc_fast.agent.layout import Layout, Shapes
from aspc_fast.agent.state import AgentState, Batch, Hyper, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.data.d4rl import one_line
from aspc_fast.data.npz import read_arrays
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm
from aspc_fast.tools.trace_weights import draw_weights, weights_hash

MAX_TRACE_BYTES = 8 * 2**30
SHIPPED = Path(__file__).with_name("traces")

_HP_NAMES = {"ema_alpha": "ema"} | {
    name: name
    for name in (
        *("discount", "tau", "policy_noise", "noise_clip", "policy_freq", "alpha", "alpha_freq"),
        *("loss_function", "reward_mean"),
    )
}


@dataclass(frozen=True)
class Trace:
    """One golden trace, read whole. ``arrays`` holds the file's arrays by key; weights there are [out, in]."""

    path: Path
    config: Any
    run: RunShape
    steps: int
    arrays: dict[str, np.ndarray]

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
        state.actor.copy_(self._flat("init/actor", spec.layouts["actor"])[None])
        for i, critic in enumerate(("critic_1", "critic_2")):
            state.critic[:, i].copy_(self._flat(f"init/{critic}", spec.layouts["critic"])[None])
        state.actor_target.copy_(state.actor)
        state.critic_target.copy_(state.critic)
        return state

    def batch(self, index: int, dtype: torch.dtype) -> Batch:
        """Inputs of the step with 0-based number ``index``, R = 1."""

        def get(name: str) -> Tensor:
            return torch.from_numpy(self.arrays[f"batch/{name}"][index]).to(dtype)[None]

        reward, done = get("reward")[..., 0], get("done")[..., 0]
        return Batch(get("state"), get("action"), reward, get("next_state"), done, get("noise_raw"))

    def outputs(self, precision: str) -> dict[str, np.ndarray]:
        """Recorded outputs [N] by name, NaN where a quantity does not exist at a step."""
        prefix = f"{precision}/out/"
        found = {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}
        if not found:
            raise UserError(f"{self.path}: no recorded outputs under {prefix!r}")
        return found

    def _flat(self, prefix: str, layout: Layout) -> Tensor:
        names = layer_names(layout)
        tensors = []
        for name, shape in zip(names, layout.shapes, strict=True):
            key = f"{prefix}/{name}"
            if key not in self.arrays:
                raise UserError(f"{self.path}: array {key!r} is missing")
            value = self.arrays[key].astype(np.float64)
            value = value.T if len(shape) == 2 else value
            if value.size != int(np.prod(shape)):
                raise UserError(
                    f"{self.path}: array {key!r} has shape {self.arrays[key].shape}, expected {shape[::-1]}"
                )
            tensors.append(torch.from_numpy(np.ascontiguousarray(value)).reshape(shape))
        return layout.flatten(tensors)


def layer_names(layout: Layout) -> list[str]:
    """The authors' parameter names (nn.Sequential indices) in the layout's order."""
    names = []
    robust = any(name.startswith("gain") for name in layout.names)
    stride = 3 if robust else 2
    depth_last = sum(name.startswith("w") for name in layout.names) - 1
    for name in layout.names:
        depth = depth_last if name.endswith("_last") else int(name[-1])
        kind = name.rstrip("0123456789").removesuffix("_last")
        index = stride * depth + (2 if kind in ("gain", "shift") else 0)
        names.append(f"net.{index}.{'weight' if kind in ('w', 'gain') else 'bias'}")
    return names


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
    hp, algo = dict(meta["hp"]), meta["algo"]
    run = RunShape(int(meta["state_dim"]), int(meta["action_dim"]), float(meta["max_action"]))
    steps, batch_size = int(meta["n_steps"]), int(meta["batch"])
    if algo not in ("aspc", "td3_bc"):
        raise UserError(f"{path}: algo {algo!r} is not one this package trains (aspc, td3_bc)")
    unknown = sorted(set(hp) - set(_HP_NAMES))
    if unknown:
        raise UserError(f"{path}: hyper-parameter {unknown[0]!r} in meta_json is unknown")
    given = {"state": run.obs_dim, "action": run.act_dim, "reward": 1, "next_state": run.obs_dim, "done": 1}
    for name, width in (given | {"noise_raw": run.act_dim}).items():
        shape = arrays[f"batch/{name}"].shape if f"batch/{name}" in arrays else None
        if shape != (steps, batch_size, width):
            raise UserError(f"{path}: array 'batch/{name}' has shape {shape}, expected {(steps, batch_size, width)}")
    if "init_seed" in meta:
        arrays = arrays | _drawn_weights(path, meta, run)
    robust = any(key.startswith("init/critic_1/net.9.") for key in arrays)
    adam = meta.get("adam", {})
    kind: Any = algorithm("aspc" if algo == "aspc" else "td3bc").config
    config = kind(
        critic="robust" if robust else "plain",
        hidden_dim=int(arrays["init/actor/net.0.bias"].size) if "init/actor/net.0.bias" in arrays else 256,
        batch_size=batch_size,
        actor_lr=float(meta.get("lr", 3e-4)),
        critic_lr=float(meta.get("lr", 3e-4)),
        adam_beta1=float(adam.get("b1", 0.9)),
        adam_beta2=float(adam.get("b2", 0.999)),
        adam_eps=float(adam.get("eps", 1e-8)),
        **{_HP_NAMES[name]: value for name, value in hp.items()},
    )
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise UserError(f"{path}: array {name!r} has dtype {array.dtype}, but numbers are needed")
        if "/out/" in name and array.shape != (steps,):
            raise UserError(f"{path}: array {name!r} has shape {array.shape}, expected {(steps,)}")
    return Trace(path, config, run, steps, arrays)


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


def shapes_of(trace: Trace) -> Shapes:
    """Sizes of the trace's networks."""
    return trace.spec.shapes
