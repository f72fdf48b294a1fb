"""What holds for every algorithm there is: padding, engines, resuming, footprint and configuration."""

import json
import warnings

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aspc_fast import registry
from aspc_fast.agent.footprint import footprint
from aspc_fast.config import AgentConfig, columns_of, fields_of
from aspc_fast.engine.base import Learners
from aspc_fast.engine.compiled import CompiledEngine
from aspc_fast.engine.eager import EagerEngine
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.engine.replay import Replay
from aspc_fast.results.checkpoint import load_checkpoint, restore_state, save_checkpoint, state_tensors
from aspc_fast.run.population import RunSpec, build_population
from tests.helpers import toy_data

STEPS = 12  # a whole period of every algorithm below, or several
SMALL = {"hidden_dim": 16, "vae_hidden_dim": 16, "batch_size": 16, "alpha_freq": 2, "meta_interval": 4}
SMALL |= {"cql_actions": 3}
CASES = {name: (name, {}) for name in registry.names()} | {
    "aspc, plain": ("aspc", {"critic": "plain"}),
    "wpc, plain": ("wpc", {"critic": "plain", "policy_freq": 3}),
    "cql, lagrange, best of K": ("cql", {"lagrange": True, "max_target_backup": True, "target_update_period": 2}),
    "cql, two depths": ("cql", {"critic_depth": 3, "second_critic_depth": 2}),
    "rapo, original": ("rapo", {"bootstrap_loss": "l1_l2_rms", "critic_target": "bootstrap"}),
    "iql, deterministic": ("iql", {"policy": "deterministic"}),
    "iql, dropout": ("iql", {"policy": "deterministic", "actor_dropout": 0.2}),
    "rebrac, actor with LayerNorm": ("rebrac", {"actor_ln": True, "critic_ln": False, "normalise_q": False}),
}
# bounds that runs on toy data never reach, and the gap of CQL without Lagrange
NOT_BINDING = {"exp_adv_max", "log_std_min", "log_std_max", "clip_min", "clip_max", "cql_gap"}
every_case = pytest.mark.parametrize("case", CASES)


def config_of(case: str, **changes: object) -> AgentConfig:
    algo, own = CASES[case]
    known = fields_of(registry.algorithm(algo).config)
    small = {name: value for name, value in SMALL.items() if name in known}
    return AgentConfig(algo=algo, **(small | own | changes))


def population(case: str, datasets, dtype=torch.float64, **options):
    """A run for each dataset, each with a discount and a seed of its own."""
    configs = [config_of(case, discount=0.99 - 0.01 * i) for i in range(len(datasets))]
    runs = [RunSpec(i, config, 7 + i) for i, config in enumerate(configs)]
    return build_population(datasets, runs, dtype=dtype, **options)


def two_datasets():
    return [toy_data(), toy_data(rows=300, obs_dim=7, act_dim=3, seed=1)]


def owner(nets, name: str) -> str | None:
    """The network with which a tensor of the state comes; None for a scalar."""
    stems = [name, *(name.removesuffix(end) for end in ("_target", "_m", "_v") if name.endswith(end))]
    return next((stem for stem in stems if stem in nets), None)


def others_of(config: AgentConfig) -> dict[str, AgentConfig]:
    """The same but for one per-run hyper-parameter each."""
    values = {name: getattr(config, name) for name in columns_of(type(config))}
    return {name: config.changed(**{name: type(v)(v * 0.9) if v else 0.1}) for name, v in values.items()}


@every_case
def test_a_padded_run_equals_the_run_alone(case):
    """Two runs of different dimensions, of which the other differs in every per-run hyper-parameter as well."""
    datasets, config = two_datasets(), config_of(case)
    changed = {name: getattr(other, name) for name, other in others_of(config).items()}
    runs = [RunSpec(0, config, 7), RunSpec(1, config.changed(**changed), 8)]
    made = build_population(datasets, runs, dtype=torch.float64)
    replay = Replay(made.datasets, made.normalisers, [0, 1], made.spec, dtype=torch.float64)
    together = EagerEngine(Learners(made.spec, made.state, made.engine.hyper, replay))  # one batched program
    means, own_means = MetricMeans(), MetricMeans()
    together.advance(STEPS, means)
    wide_metrics = means.take()
    for i, run in enumerate(runs):
        alone = build_population([datasets[i]], [RunSpec(0, run.config, run.seed)], dtype=torch.float64)
        alone.engine.advance(STEPS, own_means)
        own_metrics = own_means.take()
        assert wide_metrics.keys() == own_metrics.keys()
        for name, values in own_metrics.items():
            assert wide_metrics[name][i] == pytest.approx(values[0], rel=1e-9, abs=1e-12), name
        for name, tensor in alone.state.tensors().items():
            wide, net = getattr(made.state, name), owner(made.spec.nets, name)
            if name == "step":
                assert int(wide) == int(tensor) == STEPS
                continue
            mine = wide[i]
            if net is not None:
                narrow, padded = alone.spec.layouts[net], made.spec.layouts[net]
                rows = wide[i].reshape(-1, padded.size)
                mine = torch.stack([narrow.unpad_from(padded, row) for row in rows]).reshape(tensor[0].shape)
                assert rows.count_nonzero() == mine.count_nonzero(), f"{name} learnt something in its padding"
            torch.testing.assert_close(mine, tensor[0], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("case", [*registry.names(), "iql, dropout", "cql, lagrange, best of K", "cql, two depths"])
def test_compiled_equals_eager(case, quick_compiler):
    eager, compiled = (population(case, [toy_data()], engine=engine) for engine in ("eager", "compiled"))
    both = [MetricMeans(), MetricMeans()]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="torch.compile does not work")
        for made, means in ((eager, both[0]), (compiled, both[1])):
            made.engine.advance(STEPS, means)
    assert isinstance(compiled.engine, CompiledEngine)
    assert compiled.engine.compiles
    for name, tensor in eager.state.tensors().items():
        torch.testing.assert_close(getattr(compiled.state, name), tensor, rtol=1e-9, atol=1e-12, msg=name)
    expected, found = both[0].take(), both[1].take()
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-9, abs=1e-12), name


@pytest.mark.slow
@pytest.mark.parametrize("case", ["iql", "rapo"])  # for all, above: Dynamo without generating code
def test_generated_code_equals_eager(case):
    eager, compiled = (population(case, [toy_data()], engine=engine) for engine in ("eager", "compiled"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="torch.compile does not work")
        for made in (eager, compiled):
            made.engine.advance(STEPS, MetricMeans())
    assert compiled.engine.compiles
    for name, tensor in eager.state.tensors().items():
        torch.testing.assert_close(getattr(compiled.state, name), tensor, rtol=1e-7, atol=1e-10, msg=name)


@every_case
def test_a_resumed_training_is_the_same_bit_for_bit(case, tmp_path):
    through, before, after = (population(case, two_datasets(), torch.float32) for _ in range(3))
    through.engine.advance(40, MetricMeans())
    before.engine.advance(20, MetricMeans())
    save_checkpoint(tmp_path, 20, state_tensors(before.state), {})
    restore_state(after.state, load_checkpoint(tmp_path), tmp_path)
    after.engine.restored()
    after.engine.advance(20, MetricMeans())
    for name, tensor in through.state.tensors().items():
        assert torch.equal(getattr(after.state, name), tensor), name
        assert torch.isfinite(tensor).all(), name
    actor = through.spec.algorithm.policy
    assert not torch.equal(getattr(before.state, actor), getattr(through.state, actor))


@every_case
def test_every_algorithm_has_a_footprint(case):
    made = population(case, [toy_data()], torch.float32)
    found = footprint(made.spec)
    assert found.state == made.state.nbytes()
    assert found.flops > 2 * made.spec.config.batch_size * sum(made.spec.layouts[made.spec.algorithm.policy].sizes)
    assert found.traffic > 0
    assert found.working > 0


@every_case
def test_the_footprint_s_operations_are_those_of_a_period(case):
    made = population(case, [toy_data()], torch.float32)
    with FlopCounterMode(display=False) as counter:
        made.engine.advance(made.spec.period, MetricMeans())
    assert counter.get_total_flops() / made.spec.period == pytest.approx(footprint(made.spec).flops, rel=1e-12)


@every_case
def test_a_configuration_survives_json(case):
    config = config_of(case, discount=0.97)
    again = AgentConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    assert type(again) is registry.algorithm(config.algo).config


@every_case
def test_what_a_person_is_shown_exists(case):
    made = population(case, [toy_data()])
    means = MetricMeans()
    made.engine.advance(STEPS, means)
    declared, found = made.spec.algorithm, means.take()
    assert {*declared.shown, *([declared.curve] if declared.curve else [])} <= found.keys()
    assert made.policy(0).weights.numel() == made.spec.layouts[declared.policy].size


@every_case
def test_every_hyper_parameter_in_which_runs_may_differ_reaches_the_update(case):
    config = config_of(case)
    changed = others_of(config)
    seed = 15  # one with which A2PR finds actions better than V(s), for which its masks are on
    runs = [RunSpec(0, one, seed) for one in (config, *changed.values())]
    made = build_population([toy_data()], runs, dtype=torch.float64)
    for net in made.spec.nets:  # narrow networks start nearly constant: wider weights give advantages both signs
        getattr(made.state, net).mul_(3.0)
    made.engine.advance(STEPS, MetricMeans())
    learnt = [torch.cat([t[r].flatten() for t in made.state.tensors().values() if t.ndim]) for r in range(len(runs))]
    without_effect = {name for name, own in zip(changed, learnt[1:], strict=True) if torch.equal(own, learnt[0])}
    assert without_effect <= NOT_BINDING | ({"discount"} if CASES[case][0] == "bc" else set())
