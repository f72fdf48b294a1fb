"""A random problem for the kernels, and the rule they are judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aspc_fast.agent.state import (
    AgentState,
    Batch,
    Hyper,
    RunShape,
    Spec,
    init_state,
    make_hyper,
    make_spec,
    own_rates,
)
from aspc_fast.config import AgentConfig
from aspc_fast.kernels.problem import TILES, Problem, Tiles, Workspace, fit, hyper_table, make_problem
from tests.kernels.interpreter import DEVICE, ON_GPU

# A kernel's error may be so many times plain PyTorch's own. On a GPU division, square root and exp are the hardware's
# approximations, wrong by up to two units in the last place: alone they make up to 3.4 times (test_approximations.py).
FACTOR = 4.0 if ON_GPU else 2.0

GPU_LIKE = Tiles(rows=16, depth=16, weight_rows=32, weight_cols=32, actor_weight_cols=32, weight_depth=16)
THROUGHPUT = replace(GPU_LIKE, rows=64, chain=1)

# observations, actions, batch, runs, hidden width, tiles (None: large ones, quick in the interpreter)
SHAPES: dict[str, tuple[int, int, int, int, int, Tiles | None]] = {
    "hopper-like, batch of 1": (4, 2, 1, 1, 32, None),
    "three runs, odd batch": (11, 3, 255, 3, 32, None),
    "GPU tiles, odd batch": (17, 6, 18, 3, 32, GPU_LIKE),
    "antmaze, full width": (29, 8, 64, 1, 256, None),
    "pen, full batch": (45, 24, 256, 1, 32, None),
    "relocate, GPU tiles": (46, 30, 17, 1, 64, GPU_LIKE),
    "one layer per launch, odd batch": (11, 3, 67, 3, 32, THROUGHPUT),
    "one layer per launch, full width": (29, 8, 65, 2, 256, replace(THROUGHPUT, depth=32)),
    "two layers per launch, odd batch": (4, 2, 33, 2, 32, replace(THROUGHPUT, rows=32, chain=2)),
}


@dataclass
class Case:
    """State, hyper-parameters and batch in one dtype, with the kernels' workspace."""

    spec: Spec
    problem: Problem
    state: AgentState
    hyper: Hyper
    batch: Batch
    work: Workspace
    table: Tensor

    def in_dtype(self, dtype: torch.dtype) -> Case:
        """A copy; float32 numbers become float64 ones exactly."""
        state = AgentState(**{k: t.to(dtype) if t.is_floating_point() else t.clone() for k, t in _state(self).items()})
        hyper = self.hyper.to(DEVICE, dtype)
        batch = Batch(*(t.to(dtype) for t in self.batch))
        problem = make_problem(self.spec, self.problem.runs, dtype, "fp32", self.problem.tiles)
        return _case(self.spec, problem, state, hyper, batch)


def _state(case: Case) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in case.state.tensors().items()}


def _case(spec: Spec, problem: Problem, state: AgentState, hyper: Hyper, batch: Batch) -> Case:
    dtype = state.actor.dtype
    work = Workspace(problem, dtype, DEVICE)
    work.load(batch)
    return Case(spec, problem, state, hyper, batch, work, hyper_table(hyper, dtype))


def make_case(shape: str, seed: int = 0, **config: Any) -> Case:
    """float32 case: weights away from their start, targets unlike them, non-zero moments, the last step of a period."""
    obs, act, batch_size, runs, hidden, tiles = SHAPES[shape]
    base = dict(hidden_dim=hidden, batch_size=batch_size, alpha_freq=3, **config)
    configs = [AgentConfig(**base, actor_lr=3e-4 * (i + 1), tau=0.005 * (i + 1)) for i in range(runs)]
    # the first run has all entries, the others fewer: they are padded
    shapes = [RunShape(max(1, obs - 3 * i), max(1, act - i), 1.0 + 0.5 * i, 2.0 + i, 0.1 * i) for i in range(runs)]
    spec = own_rates(make_spec(configs, shapes))  # as the kernels: each run's own
    generator = torch.Generator().manual_seed(seed)
    state = init_state(spec, configs, shapes, list(range(runs)), torch.float32)
    for name, tensor in state.tensors().items():
        live = tensor != 0  # padding stays zero
        if name in ("actor_target", "critic_target"):
            tensor.add_(0.02 * torch.randn(tensor.shape, generator=generator) * live)
        elif name.endswith(("r_m", "c_m")):
            online = getattr(state, name[:-2])
            tensor.copy_(1e-3 * torch.randn(tensor.shape, generator=generator) * (online != 0))
            getattr(state, name[:-1] + "v").copy_(tensor.square() * 2)
    for critic in (state.critic, state.critic_target):  # a last layer whose output is not almost 0
        spec.shapes.critic_params(critic).w.mul_(100)
    state.ema_q.fill_(0.1)
    state.step.fill_(spec.period * 3 - 1)
    rows, cols = torch.ones(runs, 1, spec.shapes.obs_dim), torch.ones(runs, 1, spec.shapes.act_dim)
    for i, s in enumerate(shapes):
        rows[i, :, s.obs_dim :], cols[i, :, s.act_dim :] = 0, 0
    size = (runs, batch_size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    batch = Batch(
        normal(*size, spec.shapes.obs_dim) * rows,
        torch.rand(*size, spec.shapes.act_dim, generator=generator) * 2 * cols - cols,
        normal(*size),
        normal(*size, spec.shapes.obs_dim) * rows,
        (torch.rand(*size, generator=generator) < 0.2).float(),
        normal(*size, spec.shapes.act_dim),
    )
    state = AgentState(**{k: t.to(DEVICE) for k, t in state.tensors().items()})
    hyper = make_hyper(spec, configs, shapes, list(range(runs)), torch.float32).to(DEVICE, torch.float32)
    problem = make_problem(spec, runs, torch.float32, "fp32", tiles or fit(TILES["latency"], spec))
    return _case(spec, problem, state, hyper, Batch(*(t.to(DEVICE) for t in batch)))


def assert_as_exact_as(
    kernel: Tensor, torch_own: Tensor, truth: Tensor, slack: float = 4.0, scale: Tensor | None = None
) -> None:
    """The kernel's largest error against the float64 truth is at most FACTOR times plain PyTorch's own.

    Where PyTorch happens to be exact, ``slack`` units in the last place of the largest entry are allowed
    (of ``scale``, where the numbers are differences of larger ones).
    """
    own = (torch_own.double() - truth).abs().max()
    error = (kernel.double() - truth).abs().max()
    allowed = torch.maximum(
        FACTOR * own, slack * torch.finfo(kernel.dtype).eps * (truth if scale is None else scale).abs().max()
    )
    assert truth.dtype == torch.float64
    assert torch.isfinite(truth).all()
    assert error <= allowed, f"error {error:.2e}, PyTorch's own {own:.2e}"


def assert_same(kernel: Tensor, truth: Tensor, rtol: float = 1e-11) -> None:
    """Equal to rounding in float64, relative to the largest entry."""
    assert truth.dtype == kernel.dtype == torch.float64
    error = (kernel - truth).abs().max()
    assert error <= rtol * truth.abs().max(), f"error {error:.2e} of {truth.abs().max():.2e}"
