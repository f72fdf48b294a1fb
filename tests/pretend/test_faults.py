"""Planted faults: each is a mistake that only a GPU would show, and each must be found without one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from aspc_fast.agent import philox, td3bc
from aspc_fast.engine import compiled as compiled_module
from aspc_fast.engine import replay as replay_module
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.tools import verify as verify_module
from tests.pretend import test_engines
from tests.pretend.device import Fault, pretend_cuda
from tests.pretend.populations import build, move

pytest.importorskip("triton")
from aspc_fast.engine import fused_program
from aspc_fast.engine.fused_tiles import candidates
from aspc_fast.kernels import gather, target

TILES = candidates(1)
CASE = "aspc, 3 runs of two sizes"


def after(function, change):
    """``function`` whose result goes through ``change``."""
    return lambda *args, **kwargs: change(function(*args, **kwargs))


def before(function, first):
    """``function`` with ``first`` called before it."""

    def both(*args, **kwargs):
        first(*args, **kwargs)
        return function(*args, **kwargs)

    return both


def on_cpu(tensor):
    return torch.empty_like(tensor, device="cpu")


def alpha_is_read_back(patch):
    patch.setattr(td3bc, "bc_errors", before(td3bc.bc_errors, lambda hyper, *_: float(hyper.tau[0])))


def branch_on_a_value(patch):
    patch.setattr(td3bc, "move_targets", before(td3bc.move_targets, lambda s, h: bool((s.rho > 0).all())))


def constant_from_the_host(patch):
    patch.setattr(td3bc, "actor_updates", after(td3bc.actor_updates, lambda n: n * torch.tensor([1.0])))


def counter_made_on_the_host(patch):
    arange = SimpleNamespace(**vars(torch) | {"arange": lambda n, device: torch.arange(n)})
    patch.setattr(philox, "torch", arange)


def metrics_are_copied_to_the_host(patch):
    patch.setattr(compiled_module, "_stacked", after(compiled_module._stacked, lambda t: t.cpu().to("cuda:0")))


def offsets_stay_on_the_host(patch):
    patch.setattr(compiled_module, "triton_sampler", lambda *_: None)
    batches = CompiledEngine.period_batches
    patch.setattr(CompiledEngine, "period_batches", lambda self, o: batches(self, torch.arange(1, len(o) + 1)))


def store_tables_stay_on_the_host(patch):
    patch.setattr(replay_module.Replay, "__init__", with_columns_on_cpu(replay_module.Replay.__init__))


def with_columns_on_cpu(init):
    def run(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.columns = on_cpu(self.columns)

    return run


def batch_of_verify_stays_on_the_host(patch):
    def step(trace, engine, index, dtype, on_step):
        return {name: float(value[0]) for name, value in engine.step(trace.batch(index, dtype)).items()}

    patch.setattr(verify_module, "_step", step)


def hyper_table_on_the_host(patch):
    patch.setattr(fused_program, "hyper_table", after(fused_program.hyper_table, on_cpu))


def plan_on_the_host(patch):
    patch.setattr(fused_program, "critic_plan", after(fused_program.critic_plan, on_cpu))


def source_on_the_host(patch):
    patch.setattr(
        fused_program,
        "make_source",
        after(fused_program.make_source, lambda s: s._replace(widths=on_cpu(s.widths))),
    )


def weights_with_strides(patch):
    patch.setattr(fused_program, "launch_target", before_with_strided_targets(fused_program.launch_target))


def before_with_strided_targets(launch):
    def run(problem, work, spec, state, *rest):
        state.actor_target = state.actor_target.mT.contiguous().mT
        launch(problem, work, spec, state, *rest)

    return run


class Launched:
    """A kernel whose launches go through ``change``: (arguments, keywords) -> the same, wrong."""

    def __init__(self, kernel, change):
        self.kernel, self.change = kernel, change

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            args, kwargs = self.change(args, kwargs)
            return self.kernel[grid](*args, **kwargs)

        return launch


def argument_forgotten(patch):
    patch.setattr(gather, "gather_kernel", Launched(gather.gather_kernel, lambda a, k: (a[:-1], k)))


def option_misspelled(patch):
    patch.setattr(gather, "gather_kernel", Launched(gather.gather_kernel, lambda a, k: (a, k | {"num_warp": 4})))


def number_beyond_32_bits(patch):
    patch.setattr(target, "target_kernel", Launched(target.target_kernel, lambda a, k: ((*a[:-1], 2**31), k)))


def empty_grid(patch):
    patch.setattr(fused_program, "critic_plan", after(fused_program.critic_plan, lambda plan: plan[:0]))


def sampling_by_single_operations(patch):
    patch.setattr(compiled_module, "triton_sampler", lambda *_: None)


READ, MIXED = "reads a value back to the host", "on cpu|two devices"
FAULTS = [
    (alpha_is_read_back, "eager", READ),
    (branch_on_a_value, "eager", READ),
    (constant_from_the_host, "eager", MIXED),
    (counter_made_on_the_host, "eager", MIXED),
    (metrics_are_copied_to_the_host, "compiled", MIXED),
    (offsets_stay_on_the_host, "compiled", MIXED),
    (sampling_by_single_operations, "compiled", "assert 0 == 20"),
    (store_tables_stay_on_the_host, "replay", "cpu"),
    (batch_of_verify_stays_on_the_host, "verify", MIXED),
    (hyper_table_on_the_host, "fused", "hyper is on cpu"),
    (plan_on_the_host, "fused", "plan is on cpu"),
    (source_on_the_host, "fused", "widths is on cpu"),
    (weights_with_strides, "fused", "actor has strides"),
    (argument_forgotten, "fused", r"arguments \['noise'\] are missing"),
    (option_misspelled, "fused", "num_warp"),
    (number_beyond_32_bits, "fused", "no 32-bit number"),
    (empty_grid, "fused", r"grid \(0, 2, 3\)"),
]


@pytest.mark.parametrize(("fault", "where", "message"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS])
def test_a_planted_fault_is_found(fault, where, message, monkeypatch, tmp_path):
    checks = {
        "eager": lambda: test_engines.test_eager_steps_need_nothing_of_the_host(CASE),
        "compiled": lambda: test_engines.test_compiled_captures_a_period_with_its_sampling(CASE),
        "fused": lambda: test_engines.test_fused_launches_are_legal_in_every_shape(CASE, "latency"),
        "replay": lambda: test_engines.test_a_replay_store_is_built_on_the_device(True),
        "verify": lambda: test_engines.test_verify_works_there("eager", torch.float64, tmp_path),
    }
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises((Fault, RuntimeError, AssertionError), match=message):
            checks[where]()


def test_more_runs_than_a_grid_holds_are_found():
    made = build(runs=1)
    with pretend_cuda() as pretend:
        learners = move(pretend, made)
        state = learners.state
        wide = {n: t if n == "step" else t.new_empty(70_000, *t.shape[1:]) for n, t in state.tensors().items()}
        learners = learners._replace(state=type(state)(**wide))
        engine = test_engines.FusedEngine(learners, tiles=TILES["latency"])
        with pytest.raises(Fault, match="gather_kernel: grid"):
            engine.advance(1, MetricMeans())
