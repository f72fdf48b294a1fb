"""Critic pass: TD error, forward and backward of both critics down to the gradients before the activations."""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.networks import critic_backward as network_backward
from aspc_fast.agent.networks import critic_forward as network_forward
from aspc_fast.agent.state import AgentState, Batch, Spec
from aspc_fast.agent.td3bc import both_critics
from aspc_fast.kernels.common import HYPER_COLUMNS, load_tile
from aspc_fast.kernels.mlp import critic_backward, critic_forward
from aspc_fast.kernels.problem import Problem, Workspace
from aspc_fast.kernels.target import td_target


@triton.jit
def critic_kernel(
    critic,
    hyper,
    inputs,
    rewards,
    terminals,
    q_target,
    outputs,
    activated,
    d_hidden,
    sums,
    critic_size,
    sums_size,
    width,
    D: tl.constexpr,
    A: tl.constexpr,
    H: tl.constexpr,
    L: tl.constexpr,
    NORM: tl.constexpr,
    B: tl.constexpr,
    KP: tl.constexpr,
    AP: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Program (row tile, critic, run) with T row tiles.

    Reads critic [R, 2, P_critic], hyper [R, 16], inputs [R, B, KP], rewards and terminals [R, B], q_target [R, 2, B].
    Writes outputs, activated, d_hidden [R, 2, L, B, H] and sums [R, 2, T, S], the tile's part of: the gradients of
    [bias, gain, shift] of each hidden layer, of the last weight [H] and bias, then the sums of squared errors and of Q.
    """
    tile, which, run = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    VECTORS: tl.constexpr = 3 if NORM else 1
    first, count = tile * BM, B - tile * BM
    network = run * 2 + which
    critic += network * critic_size
    inputs += (run * B + first) * KP
    outputs += (network * L * B + first) * H
    activated += (network * L * B + first) * H
    d_hidden += (network * L * B + first) * H
    sums += (network * tl.num_programs(0) + tile) * sums_size
    q = critic_forward(
        critic,
        *(inputs, KP, inputs + D, KP, outputs, activated, count, width),
        *(D, A, H, L, NORM, B, BM, BK, PRECISION, True),
    )
    rows, n = tl.arange(0, BM), tl.arange(0, H)
    at = run * B + first
    y = td_target(
        q_target + run * 2 * B + first, rewards + at, terminals + at, hyper + run * HYPER_COLUMNS, rows, count, B
    )
    exists = rows < count
    error = tl.where(exists, q - y, 0.0)
    d_q = error * (2.0 / B)
    last = load_tile(outputs + (L - 1) * B * H, H, count, BM, H)
    tail = sums + L * VECTORS * H
    tl.store(tail + n, tl.sum(last * d_q[:, None], 0))
    tl.store(tail + H, tl.sum(d_q, 0))
    tl.store(tail + H + 1, tl.sum(error * error, 0))
    tl.store(tail + H + 2, tl.sum(tl.where(exists, q, 0.0), 0))
    kept = activated if NORM else outputs
    critic_backward(critic, d_q, kept, d_hidden, sums, count, width, D, A, H, L, NORM, B, BM, BK, PRECISION, True)


def launch_critic(problem: Problem, work: Workspace, critic: Tensor, hyper: Tensor) -> None:
    """The critic pass on the batch in ``work``; critic [R, 2, P_critic], hyper [R, 16]."""
    critic_kernel[(problem.row_tiles, 2, problem.runs)](
        *(critic, hyper, work["inputs"], work["rewards"], work["terminals"], work["q_target"]),
        *(work["outputs"], work["activated"], work["d_hidden"], work["critic_sums"]),
        *(critic.shape[-1], problem.critic_partials, problem.shapes.hidden_dim),
        **problem.constants,
        **problem.options,
    )


def critic_twin(spec: Spec, state: AgentState, batch: Batch, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient [R, 2, P_critic] of MSE(Q1, y) + MSE(Q2, y), that loss [R], and the mean [R] of Q1, in plain PyTorch."""
    params = state.views(spec.shapes).critic
    q, tape = network_forward(params, *both_critics(batch.observations, batch.actions))
    error = q - y.unsqueeze(1)
    gradients = network_backward(params, tape, error * (2.0 / error.shape[-1]))
    return spec.shapes.critic.flatten(gradients), error.square().mean(-1).sum(-1), q[:, 0].mean(-1)


def critic_gradient(problem: Problem, work: Workspace) -> tuple[Tensor, Tensor, Tensor]:
    """The same three from what the critic pass left in ``work`` (what the weight kernel does with it)."""
    shapes, h = problem.shapes, problem.shapes.hidden_dim
    sums = work["critic_sums"].sum(2)
    first = work["inputs"][:, None, :, : shapes.obs_dim + shapes.act_dim]
    tensors, at = [], 0
    for depth in range(problem.layers):
        x = work["outputs"][:, :, depth - 1] if depth else first
        tensors.append(torch.matmul(x.mT, work["d_hidden"][:, :, depth]))
        tensors += sums[..., at : at + problem.vectors * h].split(h, dim=-1)
        at += problem.vectors * h
    tensors += [sums[..., at : at + h], sums[..., at + h]]
    loss, q_sum = sums[..., at + h + 1] / problem.batch, sums[..., at + h + 2] / problem.batch
    return shapes.critic.flatten(tensors), loss.sum(1), q_sum[:, 0]
