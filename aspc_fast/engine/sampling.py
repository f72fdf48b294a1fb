"""Sampling on a GPU in one launch per step: the Triton gather for engines that are no Triton program themselves.

Drawn by PyTorch's own operations a step's batch costs dozens of launches and many times the bytes of the batch: Philox
works on 64-bit words there, each operation a pass over memory. The kernel keeps them in registers.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch

from aspc_fast.agent.algorithm import NOISE
from aspc_fast.agent.state import Batch, Spec
from aspc_fast.engine.base import Learners


class TritonSampler:
    """Calling it draws the batch of the step after ``state.step``: views of its memory, overwritten each time.

    observations and actions lie in one array [R, B, K], next_observations [R, B, K] and noise [R, B, K'] in others with
    rows a multiple of 16 entries apart, as matrix products on tensor cores like them.
    """

    def __init__(self, learners: Learners) -> None:
        from aspc_fast.kernels.gather import make_source
        from aspc_fast.kernels.problem import Problem

        spec, state, hyper, replay = learners
        assert replay is not None, "sampling needs a replay store"
        self._state, self._hyper, self._source = state, hyper, make_source(replay)
        self._problem = p = Problem(state.runs, spec.config.batch_size, spec.shapes)
        rows, like = (p.runs, p.batch), next(iter(state.tensors().values()))
        self._memory = {
            "inputs": like.new_zeros(*rows, p.input_stride),
            "next_inputs": like.new_zeros(*rows, p.input_stride),
            "rewards": like.new_zeros(rows),
            "terminals": like.new_zeros(rows),
            "noise": like.new_zeros(*rows, p.action_stride),
        }

    def __call__(self) -> Batch:
        """One launch."""
        from aspc_fast.kernels.gather import launch_gather

        launch_gather(self._problem, self._memory, self._state, self._hyper, self._source)
        m, d, a = self._memory, self._problem.shapes.obs_dim, self._problem.shapes.act_dim
        inputs = m["inputs"]
        return Batch(
            *(inputs[..., :d], inputs[..., d : d + a], m["rewards"]),
            *(m["next_inputs"][..., :d], m["terminals"], m["noise"][..., :a]),
        )


def triton_sampler(learners: Learners) -> TritonSampler | None:
    """A sampler where there is one to be had: a CUDA device, a replay store and a Triton that compiles."""
    device = learners.state.device
    if learners.replay is None or device.type != "cuda" or not _fits(learners.spec):
        return None
    try:
        import triton  # noqa: F401
    except ImportError:
        return None
    from aspc_fast.kernels.common import INTERPRETED, MIXED

    if INTERPRETED or MIXED:
        return None
    sampler = TritonSampler(learners)
    try:
        with on_device(device):
            sampler()  # changes nothing but its own memory
    except Exception as error:  # whatever a compiler on a user's machine may raise
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        warnings.warn(f"Triton does not work here, sampling by PyTorch's operations: {line}", stacklevel=2)
        return None
    return sampler


def _fits(spec: Spec) -> bool:
    """Whether the kernel draws all that the algorithm's batch has."""
    declared = spec.algorithm
    return declared.batch is Batch and declared.draws == (NOISE,) and not declared.data


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Launches, streams and graphs go to the current device: make it the one the state lies on."""
    return torch.cuda.device(device) if device.type == "cuda" and device.index is not None else nullcontext()
