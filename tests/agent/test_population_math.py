"""A run in a population equals the same run alone: dimensions, seeds, order and hyper-parameters varied."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aspc_fast.agent.layout import Dims, Shapes
from aspc_fast.agent.state import Batch, RunShape, init_state, make_hyper, make_spec
from aspc_fast.agent.step import update
from aspc_fast.config import AgentConfig

B, STEPS = 8, 8


def inputs(run: RunShape, seed: int, shapes: Shapes, dtype: torch.dtype) -> list[Batch]:
    """Batches [1, B, .] of one run, padded to ``shapes``; the same numbers whatever the padding."""
    generator = torch.Generator().manual_seed(seed)

    def draw(width: int, padded: int) -> torch.Tensor:
        out = torch.zeros(1, B, padded, dtype=dtype)
        out[..., :width] = torch.randn(1, B, width, generator=generator, dtype=torch.float64).to(dtype)
        return out

    batches = []
    for _ in range(STEPS):
        obs, actions = (
            draw(run.obs_dim, shapes.obs_dim),
            draw(run.act_dim, shapes.act_dim).clamp(-1, 1) * run.max_action,
        )
        rewards, next_obs = draw(1, 1)[..., 0], draw(run.obs_dim, shapes.obs_dim)
        terminals, noise = (draw(1, 1)[..., 0] > 1).to(dtype), torch.randn(1, B, shapes.act_dim, dtype=dtype) * 0
        noise[..., : run.act_dim] = draw(run.act_dim, run.act_dim)
        noise[..., run.act_dim :] = 3.0  # noise in padded entries must not matter
        batches.append(Batch(obs, actions, rewards, next_obs, terminals, noise))
    return batches


@torch.no_grad()
def train(configs, runs, seeds, dtype):
    spec = make_spec(configs, runs)
    state = init_state(spec, configs, runs, seeds, dtype)
    hyper = make_hyper(spec, configs, runs, seeds, dtype)
    per_run = [inputs(run, seed, spec.shapes, dtype) for run, seed in zip(runs, seeds, strict=True)]
    for t in range(STEPS):
        batch = Batch(*(torch.cat(parts) for parts in zip(*(batches[t] for batches in per_run), strict=True)))
        metrics = update(spec, state, hyper, batch, spec.parts(t + 1))
    return spec, state, metrics


def unpad(flat, net, run, spec):
    """One run's own weights of a padded network."""
    return spec.nets[net].mlp.layout(Dims(run.obs_dim, run.act_dim)).unpad_from(spec.layouts[net], flat)


run_strategy = st.tuples(
    st.integers(1, 7),
    st.integers(1, 5),
    st.sampled_from([1.0, 2.5]),
    st.integers(0, 2**40),
    st.integers(1, 4),
    st.sampled_from([0.9, 0.99]),
)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(run_strategy, min_size=2, max_size=4),
    st.sampled_from(["robust", "plain"]),
    st.sampled_from(["aspc", "td3bc"]),
)
def test_a_run_does_not_depend_on_its_population(drawn, critic, algo):
    runs = [RunShape(d, a, bound) for d, a, bound, *_ in drawn]
    seeds = [seed for *_, seed, _, _ in drawn]
    sizes = {"critic": critic, "hidden_dim": 16, "batch_size": B}
    configs = [
        AgentConfig(
            algo=algo, discount=gamma, **sizes, **({"alpha_freq": 2, "loss_function": loss} if algo == "aspc" else {})
        )
        for *_, loss, gamma in drawn
    ]
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-3)):
        spec, together, metrics = train(configs, runs, seeds, dtype)
        for i, run in enumerate(runs):
            _, alone, solo_metrics = train(configs[i : i + 1], runs[i : i + 1], seeds[i : i + 1], dtype)
            flat = unpad(together.actor[i], "actor", run, spec)
            torch.testing.assert_close(flat, alone.actor[0], rtol=tolerance, atol=tolerance * 0.1)
            for c in (0, 1):
                flat = unpad(together.critic[i, c], "critic", run, spec)
                torch.testing.assert_close(flat, alone.critic[0, c], rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(together.rho[i], alone.rho[0], rtol=tolerance, atol=tolerance)
            for name in solo_metrics:
                torch.testing.assert_close(metrics[name][i], solo_metrics[name][0], rtol=tolerance, atol=tolerance)


def test_padded_weights_stay_zero():
    runs = [RunShape(3, 1), RunShape(7, 5)]
    configs = [AgentConfig(hidden_dim=16, batch_size=B, alpha_freq=1)] * 2
    spec, state, _ = train(configs, runs, [1, 2], torch.float32)
    small = unpad(state.actor[0], "actor", runs[0], spec)
    assert state.actor[0].count_nonzero() == small.count_nonzero() > 0
    assert state.actor_target[0].count_nonzero() == small.count_nonzero()


def test_td3bc_keeps_alpha_and_aspc_does_not():
    for algo, own in (("td3bc", {}), ("aspc", {"alpha_freq": 1})):
        config = AgentConfig(algo=algo, critic="robust", hidden_dim=16, batch_size=B, **own)
        _, _, metrics = train([config], [RunShape(3, 2)], [1], torch.float64)
        assert (float(metrics["alpha_after"][0]) == pytest.approx(2.5, abs=1e-12)) == (algo == "td3bc")


def test_learning_state_takes_16_bytes_per_parameter():
    configs, runs = [AgentConfig()] * 3, [RunShape(17, 6), RunShape(11, 3), RunShape(46, 26)]
    spec = make_spec(configs, runs)
    state = init_state(spec, configs, runs, [0, 1, 2], torch.float32)
    parameters = 3 * (spec.shapes.actor.size + 2 * spec.shapes.critic.size)
    assert 16 * parameters <= state.nbytes() <= 1.01 * 16 * parameters
