"""Target pass: pi_bar(s') with clipped noise, then both target critics. Also the clock of the step.

Its twin is ``agent.td3bc.target_values``.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.state import AgentState, Hyper, Spec
from aspc_fast.kernels.common import (
    ACTOR_K1,
    ACTOR_K2,
    CRITIC_K1,
    CRITIC_K2,
    DISCOUNT,
    HYPER_COLUMNS,
    MAX_ACTION,
    META_K1,
    META_K2,
    NOISE_CLIP,
    POLICY_NOISE,
    REWARD_FACTOR,
    REWARD_SHIFT,
    TRUE_ACT_DIM,
    at_row,
    load_tile,
    store_tile,
)
from aspc_fast.kernels.mlp import actor_forward, critic_forward, q_value
from aspc_fast.kernels.problem import Problem, Workspace


@triton.jit
def power(base_log2, n):
    """base ** n in float64, from the base's binary logarithm."""
    return tl.exp2(base_log2 * n.to(tl.float64))


@triton.jit
def target_kernel(
    actor,
    critic,
    hyper,
    next_inputs,
    noise,
    next_actions,
    outputs,
    q_target,
    step,
    clock,
    log2_betas,
    actor_size,
    critic_size,
    width,
    POLICY_FREQ: tl.constexpr,
    PERIOD: tl.constexpr,
    FROM: tl.constexpr,
    TO: tl.constexpr,
    S: tl.constexpr,
):
    """Program (row tile, critic, run); links FROM to TO - 1 of the chain: target actor, then L critic layers.

    In one launch both critics' programs run the actor: that is shorter than a launch more. The actor alone is launched
    for critic 0, whose actions then serve both.

    Reads actor [R, P_actor] and critic [R, 2, P_critic] (the targets), hyper [R, 16], next_inputs [R, B, KP], noise
    [R, B, AP], log2_betas float64 [2]. Writes q_target [R, 2, B]; next_actions [R, 2, B, AP] and outputs
    [R, 2, L, B, H] are scratch. step int64 [] goes up by one and clock float64 [8] gets the step's bias corrections.
    """
    tile, which, run = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    if (FROM == 0) & (tile == 0) & (which == 0) & (run == 0):
        now = tl.load(step) + 1
        tl.store(step, now)
        log_beta1, log_beta2 = tl.load(log2_betas), tl.load(log2_betas + 1)
        tl.store(clock + CRITIC_K1, 1.0 - power(log_beta1, now))
        tl.store(clock + CRITIC_K2, 1.0 - power(log_beta2, now))
        tl.store(clock + ACTOR_K1, 1.0 - power(log_beta1, now // POLICY_FREQ))
        tl.store(clock + ACTOR_K2, 1.0 - power(log_beta2, now // POLICY_FREQ))
        tl.store(clock + META_K1, 1.0 - power(log_beta1, now // PERIOD))
        tl.store(clock + META_K2, 1.0 - power(log_beta2, now // PERIOD))
    first, count = tile * S.BM, S.B - tile * S.BM
    network = run * 2 + which
    next_inputs = at_row(next_inputs, run, first, S.B, S.KP)
    next_actions = at_row(next_actions, network if FROM == 0 else run * 2, first, S.B, S.AP)
    outputs = at_row(outputs, network * S.L, first, S.B, S.H)
    critic += network * critic_size
    if FROM == 0:
        hyper += run * HYPER_COLUMNS
        # the critic's scratch serves as the actor's: L >= 2 layers
        squashed = actor_forward(actor + run * actor_size, next_inputs, S.KP, outputs, count, width, S)
        bound = tl.load(hyper + MAX_ACTION)
        clip = tl.load(hyper + NOISE_CLIP) * bound
        scale = tl.load(hyper + POLICY_NOISE) * bound
        shift = load_tile(at_row(noise, run, first, S.B, S.AP), count, S.BM, S.AP) * scale
        shift = tl.where(shift > clip, clip, tl.where(shift < -clip, -clip, shift))
        exists = tl.arange(0, S.AP)[None, :] < tl.load(hyper + TRUE_ACT_DIM)
        actions = squashed * bound + tl.where(exists, shift, 0.0)
        actions = tl.where(actions > bound, bound, tl.where(actions < -bound, -bound, actions))
        store_tile(next_actions, actions, count)
        tl.debug_barrier()
    if TO > 1:
        x = critic_forward(
            critic,
            *(next_inputs, S.KP, next_actions, S.AP, outputs, outputs, outputs, count, width),
            *(FROM - 1 if FROM > 0 else 0, TO - 1, S, False),
        )
        if TO == S.L + 1:
            rows = tl.arange(0, S.BM)
            q = q_value(x, critic, S)
            tl.store(q_target + network * S.B + first + rows, q, mask=rows < count)


@triton.jit
def td_target(q_target, rewards, terminals, hyper, rows, count, B: tl.constexpr):
    """y = r + gamma (1 - d) min(Q1_bar, Q2_bar) of the tile's rows; q_target at critic 0 and the tile's first row."""
    exists = rows < count
    q_0 = tl.load(q_target + rows, mask=exists, other=0.0)
    q_1 = tl.load(q_target + B + rows, mask=exists, other=0.0)
    least = tl.minimum(q_0, q_1, propagate_nan=tl.PropagateNan.ALL)
    reward = tl.load(rewards + rows, mask=exists, other=0.0)
    reward = reward * tl.load(hyper + REWARD_FACTOR) + tl.load(hyper + REWARD_SHIFT)
    alive = 1.0 - tl.load(terminals + rows, mask=exists, other=0.0)
    return reward + tl.load(hyper + DISCOUNT) * alive * least


def launch_target(
    problem: Problem, work: Workspace, spec: Spec, state: AgentState, hyper: Tensor, log2_betas: Tensor
) -> None:
    """The target pass on the batch in ``work``; hyper [R, 16], log2_betas float64 [2] = log2 of Adam's betas."""
    for start, end in problem.cuts((1, 0, *(1,) * (problem.layers - 1))):
        target_kernel[(problem.row_tiles, 1 if end == 1 else 2, problem.runs)](
            *(state.actor_target, state.critic_target, hyper, work["next_inputs"], work["noise"]),
            *(work["next_actions"], work["outputs"], work["q_target"], state.step, work.clock, log2_betas),
            *(state.actor.shape[-1], state.critic.shape[-1], problem.shapes.hidden_dim),
            POLICY_FREQ=spec.config.policy_freq,
            PERIOD=spec.period,
            FROM=start,
            TO=end,
            S=problem.sizes,
            **problem.options,
        )


def td_target_twin(work: Workspace, hyper: Hyper) -> Tensor:
    """y [R, B] from what the target pass left in ``work``: the part of it that the critic kernel does."""
    reward = work["rewards"] * hyper.reward_factor[:, None] + hyper.reward_shift[:, None]
    return reward + hyper.discount[:, None] * (1.0 - work["terminals"]) * work["q_target"].amin(dim=1)
