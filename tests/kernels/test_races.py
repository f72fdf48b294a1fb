"""Every launch of a training step under the race detector; and that the detector sees what it should."""

from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

from tests.kernels import interpreter

# isort: split
from aspc_fast.engine.fused import FusedEngine
from tests.engine.test_fused import population, small
from tests.kernels.races import watched
from tests.kernels.support import GPU_LIKE, THROUGHPUT

pytestmark = pytest.mark.skipif(interpreter.ON_GPU, reason="watches the interpreter")
TILES = {
    "chained": GPU_LIKE,
    "paired": replace(GPU_LIKE, paired=True),
    "a layer per launch": THROUGHPUT,
    "two layers": replace(GPU_LIKE, chain=2),
}


@pytest.mark.parametrize(
    ("tiles", "critic"), [*((tiles, "robust") for tiles in TILES), ("chained", "plain"), ("paired", "plain")]
)
def test_no_program_reads_what_may_not_be_there_yet(tiles, critic):
    learners = spec, state, *_ = population([small(critic=critic), small(critic=critic)])
    engine = FusedEngine(learners, precision="fp32", tiles=TILES[tiles])
    state.step.fill_(spec.period - 1)  # the step to come has all stages
    with watched() as watch:
        for launch in engine.program.launches("meta"):
            seen = watch.loads
            launch.call()
            assert watch.loads > seen
            assert not watch.found, (launch.name, watch.found[:3])


@triton.jit
def _turned(x, y, WAITS: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(x + i, i.to(tl.float32))
    if WAITS:
        tl.debug_barrier()
    tl.store(y + i, tl.load(x + N - 1 - i))


@triton.jit
def _overwritten(x, WAITS: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    value = tl.load(x + N - 1 - i)
    if WAITS:
        tl.debug_barrier()
    tl.store(x + i, value)


@triton.jit
def _neighbour(x, N: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(x + i, tl.load(x + i + N))


def test_the_detector_sees_a_missing_barrier_and_a_neighbours_memory():
    x, y = torch.zeros(64), torch.zeros(64)
    for waits in (True, False):
        with watched() as watch:
            _turned[(1,)](x, y, WAITS=waits, N=16)
        assert bool(watch.found) != waits
        with watched() as watch:
            _overwritten[(1,)](x, WAITS=waits, N=16)
        assert bool(watch.found) != waits
    for programs in (1, 2):
        with watched() as watch:
            _neighbour[(programs,)](x, N=16)
        assert bool(watch.found) == (programs > 1)
