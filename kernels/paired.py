"""Target pass and the online critics' forward layers in one launch: neither needs the other until the TD error."""

# mypy: allow-untyped-defs
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from aspc_fast.agent.state import AgentState, Spec
from aspc_fast.kernels.critic import critic_kernel
from aspc_fast.kernels.problem import Problem, Workspace
from aspc_fast.kernels.target import target_kernel


@triton.jit
def paired_kernel(
    actor_target,
    critic_target,
    hyper,
    next_inputs,
    noise,
    next_actions,
    scratch,
    q_target,
    step,
    clock,
    log2_betas,
    critic,
    inputs,
    outputs,
    activated,
    stats,
    actor_size,
    critic_size,
    width,
    POLICY_FREQ: tl.constexpr,
    PERIOD: tl.constexpr,
    S: tl.constexpr,
):
    """Program (row tile, which, run): which 0 and 1 are the programs of target_kernel, 2 and 3 those of critic_kernel
    up to the error. What they read and write is said there; scratch [R, 2, L, B, H]: the target pass's own."""
    if tl.program_id(1) < 2:
        target_kernel(
            *(actor_target, critic_target, hyper, next_inputs, noise, next_actions, scratch, q_target),
            *(step, clock, log2_betas, actor_size, critic_size, width),
            *(POLICY_FREQ, PERIOD, 0, S.L + 1, S),
        )
    else:  # rewards, terminals, targets, gradients and sums belong to the links that follow
        critic_kernel(
            *(critic, hyper, inputs, inputs, inputs, inputs, outputs, activated, stats, outputs, outputs),
            *(critic_size, 0, width, 2, 0, S.L, S),
        )


def launch_paired(
    problem: Problem, work: Workspace, spec: Spec, state: AgentState, hyper: Tensor, log2_betas: Tensor
) -> None:
    """See launch_target; and the critics' forward layers, which launch_critic takes up. Its twins are theirs."""
    paired_kernel[(problem.row_tiles, 4, problem.runs)](
        *(state.actor_target, state.critic_target, hyper, work["next_inputs"], work["noise"], work["next_actions"]),
        *(work["d_hidden"], work["q_target"], state.step, work.clock, log2_betas),
        *(state.critic, work["inputs"], work["outputs"], work["activated"], work["stats"]),
        *(state.actor.shape[-1], state.critic.shape[-1], problem.shapes.hidden_dim),
        POLICY_FREQ=spec.config.policy_freq,
        PERIOD=spec.period,
        S=problem.sizes,
        **problem.options,
    )
