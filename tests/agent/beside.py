"""An algorithm beside a recorded run: stepped on its batches, every output and every final weight compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aspc_fast.agent.state import AgentState, Hyper, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.agent.step import update
from aspc_fast.registry import algorithm
from tests.references.traces import Trace, checksum


def config_of(name: str, trace: Trace) -> Any:
    """Our configuration of the recorded run, by the algorithm's ``TraceNames``."""
    declared, meta = algorithm(name), trace.meta
    assert declared.trace is not None
    names = declared.trace.hyper
    settings = {key: value for key, value in meta.items() if key in names} | meta["hp"]
    given = {names[key]: value for key, value in settings.items() if names[key] and value is not None}
    given |= {"batch_size": meta["batch"]} | declared.trace.config(meta, trace.arrays)
    return declared.config(**given)


def begin(name: str, trace: Trace) -> tuple[Spec, AgentState, Hyper]:
    """The program, its state at step 0 with the recorded initial weights (float64), and the hyper-parameters."""
    config, shape = (
        config_of(name, trace),
        RunShape(*(trace.meta[k] for k in ("state_dim", "action_dim", "max_action"))),
    )
    spec = make_spec([config], [shape])
    state = init_state(spec, [config], [shape], [0], torch.float64)
    given = trace.group("init")
    for theirs, view in weights(spec, state).items():
        if theirs in given:
            view.copy_(torch.from_numpy(given[theirs]).reshape(view.shape))
    for net, other in spec.algorithm.trace.copies.items():
        getattr(state, net).copy_(getattr(state, other))
    for net in spec.nets:
        if hasattr(state, f"{net}_target"):
            getattr(state, f"{net}_target").copy_(getattr(state, net))
    return spec, state, make_hyper(spec, [config], [shape], [0], torch.float64)


def weights(spec: Spec, state: AgentState) -> dict[str, torch.Tensor]:
    """Views of the first run's weights under the authors' names, matrices [out, in]."""
    assert spec.algorithm.trace is not None
    views = {}
    for theirs, (net, copy, tensor) in spec.algorithm.trace.weights(spec).items():
        flat = getattr(state, net)[0]
        if tensor:
            layout = spec.layouts[net.removesuffix("_target")]
            flat = layout.views(flat if copy is None else flat[copy])[layout.names.index(tensor)]
        views[theirs] = flat.T if flat.ndim == 2 else flat
    return views


def batch_of(spec: Spec, trace: Trace, index: int) -> Any:
    """Inputs of the step with 0-based number ``index``, R = 1."""
    names, fields = spec.algorithm.trace.batch, {}
    for ours, theirs in names.items():
        value = torch.from_numpy(trace.arrays[f"batch/{theirs}"][index]).double()[None]
        fields[ours] = value[..., 0] if ours.endswith(("rewards", "terminals")) else value
    return spec.algorithm.batch(**fields)


def replay(name: str, trace: Trace) -> tuple[Spec, AgentState, dict[str, np.ndarray]]:
    """Every recorded output as this package computes it, [N] by name (NaN where it is not there)."""
    spec, state, hyper = begin(name, trace)
    steps = trace.meta["n_steps"]
    expected = trace.group("f64/out")
    ours = {key: np.full(steps, np.nan) for key in expected}
    for i in range(steps):
        with torch.no_grad():
            metrics = update(spec, state, hyper, batch_of(spec, trace, i), spec.parts(i + 1))
        found = {key: float(value[0]) for key, value in metrics.items()}
        found |= spec.algorithm.trace.after(spec, state, hyper, i + 1)
        for key in expected.keys() & found.keys():
            ours[key][i] = found[key]
    return spec, state, ours


def assert_equal(name: str, trace: Trace) -> None:
    """Outputs to rtol 1e-9 (hyper-gradients 1e-8), final checksums to 1e-12 of the sum of magnitudes."""
    spec, state, ours = replay(name, trace)
    for key, series in trace.group("f64/out").items():
        rtol = 1e-8 if key in spec.algorithm.trace.scale_gradient else 1e-9
        np.testing.assert_allclose(ours[key], series, rtol=rtol, atol=0, equal_nan=True, err_msg=key)
    final = weights(spec, state)
    sums = trace.group("f64/final_checksum")
    assert set(sums) <= set(final)
    for key, expected in sums.items():
        np.testing.assert_allclose(checksum(final[key]), expected, rtol=0, atol=1e-12 * expected[1], err_msg=key)
