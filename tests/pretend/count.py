"""Launches and bytes of sampling one step, by PyTorch's operations and by the kernel: python -m tests.pretend.count

The suite's widths (45 observation and 24 action entries), batch 256. Bytes: what each launch is given to read or write;
of the replay store only the rows that are drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from aspc_fast.agent.state import RunShape, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.engine.base import Learners
from aspc_fast.engine.replay import Replay
from aspc_fast.engine.sampling import TritonSampler
from tests.helpers import toy_data
from tests.pretend.device import Capture, pretend_cuda
from tests.pretend.populations import move

OBS, ACT = 45, 24


class Count(NamedTuple):
    """Of one training step: kernel launches and bytes."""

    launches: float
    bytes: float


def count(runs: int) -> tuple[Count, Count]:
    """By single operations, per step of a draw of several steps; and by the kernel."""
    config, shape = AgentConfig(), RunShape(OBS, ACT)
    configs, shapes, seeds = [config] * runs, [shape] * runs, list(range(runs))
    spec = make_spec(configs, shapes)
    data = toy_data(600, OBS, ACT)
    replay = Replay([data], [Normaliser.of(data.observations, 1e-3)], [0] * runs, spec)
    hyper = make_hyper(spec, configs, shapes, seeds, torch.float32)
    made = Learners(spec, init_state(spec, configs, shapes, seeds, torch.float32), hyper, replay)
    with pretend_cuda() as pretend:
        learners = spec, state, hyper, replay = move(pretend, made)
        drawn = 4 * runs * spec.config.batch_size * (2 * OBS + ACT + 2)
        steps = min(spec.period, replay.steps_per_draw(spec))
        with pretend.capturing(Capture()) as single:
            drawn_numbers = replay.draw(spec, hyper, state.step + torch.arange(1, steps + 1, device=state.device))
            for t in range(steps):
                replay.gather(spec, *(values[t] for values in drawn_numbers))
        sampler = TritonSampler(learners)
        with pretend.capturing(Capture()) as kernel:
            sampler()
        whole = replay.buffer.numel() * replay.buffer.element_size()
    return (
        Count(single.total / steps, (single.bytes - steps * whole) / steps + drawn),
        Count(kernel.total, kernel.bytes - whole + drawn),
    )


def main() -> None:
    """Print the table."""
    print("runs | single operations: launches, MB | kernel: launches, MB")
    for runs in (1, 39, 195):
        single, kernel = count(runs)
        print(
            f"{runs:4} | {single.launches:6.1f} {single.bytes / 1e6:8.1f} | {kernel.launches} {kernel.bytes / 1e6:7.2f}"
        )


if __name__ == "__main__":
    main()
