"""Critic pass: TD error, forward and backward of both critics down to the gradients before the activations."""

# mypy: allow-untyped-defs
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.networks import critic_forward as network_forward
from aspc_fast.agent.networks import mlp_backward as network_backward
from aspc_fast.agent.state import AgentState, Batch, Spec
from aspc_fast.agent.td3bc import both_critics
from aspc_fast.kernels.common import HYPER_COLUMNS, at_row
from aspc_fast.kernels.mlp import critic_backward, critic_forward, last_layer, q_value, read_output
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
    stats,
    d_hidden,
    sums,
    critic_size,
    sums_size,
    width,
    BEHIND: tl.constexpr,
    FROM: tl.constexpr,
    TO: tl.constexpr,
    S: tl.constexpr,
):
    """Program (row tile, critic, run) with T row tiles; links FROM to TO - 1 of the chain: layers 0 to L - 1 forward;
    the error and the way back through the last layer; layers L - 2 to 0 backward. BEHIND: other programs before
    critic 0.

    Reads critic [R, 2, P_critic], hyper [R, 16], inputs [R, B, KP], rewards and terminals [R, B], q_target [R, 2, B].
    Writes outputs, activated, d_hidden [R, 2, L, B, H], stats [R, 2, L, 2, B] and sums [R, 2, T, N]: the tile's part
    of the gradients of [bias, gain, shift] of each hidden layer, of the last weight [H] and bias, then the sums of
    squared errors and of Q.
    """
    tile, which, run = tl.program_id(0), tl.program_id(1) - BEHIND, tl.program_id(2).to(tl.int64)
    first, count = tile * S.BM, S.B - tile * S.BM
    network = run * 2 + which
    critic += network * critic_size
    inputs = at_row(inputs, run, first, S.B, S.KP)
    outputs = at_row(outputs, network * S.L, first, S.B, S.H)
    activated = at_row(activated, network * S.L, first, S.B, S.H)
    stats = at_row(stats, network * S.L * 2, first, S.B, 1)
    d_hidden = at_row(d_hidden, network * S.L, first, S.B, S.H)
    sums += (network * tl.num_programs(0) + tile) * sums_size
    d_q = tl.full([S.BM], 0.0, critic.dtype.element_ty)
    if FROM < S.L:
        x = critic_forward(
            critic,
            *(inputs, S.KP, inputs + S.D, S.KP, outputs, activated, stats, count, width),
            *(FROM, TO if TO < S.L else S.L, S, True),
        )
    elif FROM == S.L:
        vectors = last_layer(critic, S) - S.VECTORS * S.H
        x = read_output(vectors, outputs, activated, stats, count, S.L - 1, S)
    if FROM <= S.L and TO > S.L:
        rows, at = tl.arange(0, S.BM), run * S.B + first
        targets, exists = q_target + run * 2 * S.B + first, rows < count
        y = td_target(targets, rewards + at, terminals + at, hyper + run * HYPER_COLUMNS, rows, count, S.B)
        q = q_value(x, critic, S)
        error = tl.where(exists, q - y, 0.0)
        d_q = error * (2.0 / S.B)
        tail = sums + S.L * S.VECTORS * S.H
        tl.store(tail + tl.arange(0, S.H), tl.sum(x * d_q[:, None], 0))
        tl.store(tail + S.H, tl.sum(d_q, 0))
        tl.store(tail + S.H + 1, tl.sum(error * error, 0))
        tl.store(tail + S.H + 2, tl.sum(tl.where(exists, q, 0.0), 0))
    if TO > S.L:
        critic_backward(
            critic,
            *(d_q, activated if S.NORM else outputs, stats, d_hidden, sums, count, width),
            *(S.L if FROM <= S.L else 2 * S.L - FROM, 2 * S.L - TO, S, True),
        )


def launch_critic(problem: Problem, work: Workspace, critic: Tensor, hyper: Tensor) -> None:
    """The critic pass on the batch in ``work``; critic [R, 2, P_critic], hyper [R, 16]. Where the tiles are paired,
    from the error on: its forward layers went beside the target pass."""
    layers = problem.layers
    whole = problem.cuts((0, *(1,) * (layers - 2), 0.5, 0.5, *(1,) * (layers - 1)))  # no launch ends before the error
    for start, end in [(layers, 2 * layers)] if problem.tiles.paired else whole:
        critic_kernel[(problem.row_tiles, 2, problem.runs)](
            *(critic, hyper, work["inputs"], work["rewards"], work["terminals"], work["q_target"]),
            *(work["outputs"], work["activated"], work["stats"], work["d_hidden"], work["critic_sums"]),
            *(critic.shape[-1], problem.critic_partials, problem.shapes.hidden_dim),
            BEHIND=0,
            FROM=start,
            TO=end,
            S=problem.sizes,
            **problem.options,
        )


def critic_twin(spec: Spec, state: AgentState, batch: Batch, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient [R, 2, P_critic] of MSE(Q1, y) + MSE(Q2, y), that loss [R], and the mean [R] of Q1, in plain PyTorch."""
    params = state.params(spec, "critic")
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
