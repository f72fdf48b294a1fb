import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from aspc_fast.config import AgentConfig
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.errors import UserError
from aspc_fast.run.plan import TRIAL_COPIES, DataSize, PlannedRun, card_budget, cross, memory, populations
from aspc_fast.run.population import RunSpec, build_population
from aspc_fast.suite import SUITE
from tests.engine.test_engines import lockstep
from tests.helpers import toy_data

SUITE_SIZES = [DataSize(row.id, row.transitions, row.obs_dim, row.act_dim) for row in SUITE]


def peak_bytes(engine, steps: int) -> int:
    """Largest sum of live bytes that the profiler saw being allocated during ``steps`` updates."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        engine.advance(steps, MetricMeans())
    live = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


@pytest.mark.parametrize("critic", ["robust", "plain"])
def test_plan_agrees_with_real_allocations(critic):
    data = [toy_data(rows=3000, obs_dim=11, act_dim=3), toy_data(rows=2000, obs_dim=29, act_dim=8, seed=1)]
    config = AgentConfig(critic=critic, batch_size=64, hidden_dim=64, alpha_freq=1)
    runs = cross(2, range(2), config, {})
    made = build_population(data, [RunSpec(r.dataset, r.config, r.seed) for r in runs])
    plan = memory(runs, [DataSize(d.source, len(d), d.obs_dim, d.act_dim) for d in data], store_next=True)
    assert made.engine.replay.buffer.numel() * 4 == pytest.approx(plan.dataset_bytes, rel=1e-3)
    assert made.state.nbytes() == pytest.approx(plan.state_bytes, rel=0.02)
    engine = lockstep(made)  # all runs at once, as on a GPU; a CPU takes them one after the other
    engine.advance(2, MetricMeans())
    draws = made.engine.replay.draw(made.spec, made.engine.hyper, torch.arange(1, 5))
    drawn = sum(t.numel() * t.element_size() for t in draws)
    peak = peak_bytes(engine, 4) - drawn
    assert plan.activation_bytes * 0.5 < peak < plan.activation_bytes * 1.5
    # and while engines are tried there are copies of the state (counted in tests/engine/test_select.py)
    assert plan.total_bytes == plan.dataset_bytes + (1 + TRIAL_COPIES) * plan.state_bytes + plan.activation_bytes


def test_runs_are_crossed_in_order():
    runs = cross(2, [0, 1], AgentConfig(), {"algo": ["aspc", "td3bc"], "alpha_freq": [5, 10]})
    assert len(runs) == 12  # TD3+BC has no alpha_freq
    assert [(r.dataset, r.config.algo, r.config.alpha_freq, r.seed) for r in runs[:3]] == [
        (0, "aspc", 5, 0),
        (0, "aspc", 5, 1),
        (0, "aspc", 10, 0),
    ]
    assert [r.setting for r in runs[:6:2]] == ["alpha_freq=5", "alpha_freq=10", ""]
    with pytest.raises(UserError, match="alpha_freq is no hyper-parameter of td3bc"):
        cross(1, [0], AgentConfig(algo="td3bc"), {"alpha_freq": [5]})


def test_runs_that_cannot_share_a_program_are_parted():
    runs = cross(1, [0], AgentConfig(), {"alpha_freq": [5, 10], "discount": [0.9, 0.99]})
    parts = populations(runs, [DataSize("d", 1000, 3, 1)], None, True)
    assert sorted(map(len, parts)) == [2, 2]
    for part in parts:
        assert len({runs[i].config.alpha_freq for i in part}) == 1


def test_a_sweep_is_cut_to_the_budget_and_nothing_is_lost():
    runs = cross(len(SUITE_SIZES), range(5), AgentConfig(), {})
    for gigabytes in (8, 24, 80):
        budget = card_budget(gigabytes)
        parts = populations(runs, SUITE_SIZES, budget, store_next=False)
        assert sorted(i for part in parts for i in part) == list(range(len(runs)))
        for part in parts:
            assert memory([runs[i] for i in part], SUITE_SIZES, False).total_bytes <= budget


def test_the_suite_has_the_bytes_it_is_known_to_have():
    """38.9 million transitions in float32, each row [s, a, s', r, d] or [s, a, r, d]."""
    runs = [PlannedRun(i, AgentConfig(), 0) for i in range(len(SUITE_SIZES))]
    assert sum(s.rows for s in SUITE_SIZES) == pytest.approx(38.9e6, rel=2e-3)
    assert memory(runs, SUITE_SIZES, True).dataset_bytes == sum(
        4 * s.rows * (2 * s.obs_dim + s.act_dim + 2) for s in SUITE_SIZES
    )
    assert memory(runs, SUITE_SIZES, False).dataset_bytes == sum(
        4 * s.rows * (s.obs_dim + s.act_dim + 2) for s in SUITE_SIZES
    )


def test_what_never_fits_is_refused_with_a_sentence():
    with pytest.raises(UserError, match=r"giant: one run needs .* GiB"):
        populations([PlannedRun(0, AgentConfig(), 0)], [DataSize("giant", 10**9, 50, 50)], card_budget(24), True)
