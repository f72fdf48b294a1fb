"""Whether the ``native`` engine may be chosen on this machine: it can be built, and agrees with the eager engine."""

from __future__ import annotations

import warnings
from functools import cache

import torch

from aspc_fast.agent.state import Batch, RunShape, Spec, init_state, make_hyper, make_spec
from aspc_fast.config import AgentConfig
from aspc_fast.engine.base import Learners
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.native import NativeEngine
from aspc_fast.engine.native_build import NativeUnavailable, compiler, library
from aspc_fast.errors import UserError

FAST_VECTOR_BYTES = 32  # with AVX2 and AVX-512 it was measured to be the faster engine; narrower ones are correct only
AGREEMENT = 1e-2
"""Norm of a difference to the eager engine, over the norm of what the step changed, that counts as rounding."""


@cache
def works_here() -> bool:
    """Whether the engine can be built on this machine, agrees with eager and has vectors that make it the faster one.

    Builds the library if need be. One sentence is warned where a compiler is at hand and yet something fails.
    """
    if compiler() is None:
        return False
    try:
        if library("float").aspc_vector_bytes() < FAST_VECTOR_BYTES:
            return False
        for config in (AgentConfig(batch_size=60), AgentConfig(algo="td3bc", batch_size=60)):
            runs = [RunShape(17, 6)]
            spec = make_spec([config], runs)
            state = init_state(spec, [config], runs, [0], torch.float32)
            hyper = make_hyper(spec, [config], runs, [0], torch.float32)
            for layout, v in ((spec.shapes.actor, state.actor_v), (spec.shapes.critic, state.critic_v)):
                for view in layout.views(v):  # from zero, Adam's step is a sign and its slope nothing but rounding
                    view.fill_(1e-4)
            if not agrees(NativeEngine(Learners(spec, state, hyper), threads=1)):
                raise NativeUnavailable("engine native disagrees with engine eager on this machine")
    except (UserError, MemoryError) as error:
        warnings.warn(f"going on without engine native: {error}", stacklevel=2)
        return False
    return True


def agrees(engine: NativeEngine) -> bool:
    """Whether a step with all its parts of the first run gives what the eager engine gives; both work on copies."""
    spec, hyper = engine.spec, engine.hyper.run(0)
    before = engine.state.run(0).clone()
    before.step.fill_(spec.period - 1)
    states, batch = (before.clone(), before.clone()), _random_batch(spec, engine.state.dtype)
    for make, state in zip((NativeEngine, EagerEngine), states, strict=True):
        make(Learners(spec, state, hyper)).step(batch)
    found, wanted, started = (state.tensors() for state in (*states, before))
    norm = torch.linalg.vector_norm
    return all(bool(norm(found[n] - t) <= AGREEMENT * norm(t - started[n])) for n, t in wanted.items() if t.ndim)


def _random_batch(spec: Spec, dtype: torch.dtype) -> Batch:
    d, a, b = spec.shapes.obs_dim, spec.shapes.act_dim, spec.config.batch_size
    source = torch.Generator().manual_seed(0)
    sizes = ((1, b, d), (1, b, a), (1, b), (1, b, d), (1, b), (1, b, a))
    tensors = [torch.randn(size, generator=source, dtype=dtype) for size in sizes]
    tensors[1].tanh_()
    tensors[4] = (tensors[4] > 1.5).to(dtype)
    return Batch(*tensors)
