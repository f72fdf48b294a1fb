import dataclasses

import numpy as np
import pytest
import torch

from aspc_fast.agent.state import RunShape, make_hyper, make_spec
from aspc_fast.config import AgentConfig
from aspc_fast.data.normaliser import Normaliser
from aspc_fast.engine.replay import Replay, stored_bytes
from tests.helpers import toy_data


def build(datasets, dataset_of_run, seeds=None, batch_size=32, dtype=torch.float32):
    runs = [RunShape(datasets[i].obs_dim, datasets[i].act_dim) for i in dataset_of_run]
    configs = [AgentConfig(batch_size=batch_size)] * len(runs)
    spec = make_spec(configs, runs)
    hyper = make_hyper(spec, configs, runs, seeds or range(len(runs)), dtype)
    normalisers = [Normaliser.of(d.observations, 1e-3) for d in datasets]
    return spec, hyper, Replay(datasets, normalisers, dataset_of_run, spec, dtype=dtype)


def test_batches_are_rows_of_the_run_s_own_dataset():
    datasets = [toy_data(rows=60, obs_dim=3, act_dim=1), toy_data(rows=90, obs_dim=6, act_dim=4, seed=1)]
    spec, hyper, replay = build(datasets, [0, 1, 1])
    rows, noise = replay.draw(spec, hyper, torch.tensor([5]))
    batch = replay.gather(spec, rows[0], noise[0])
    for run, index in enumerate([0, 1, 1]):
        data, picked = datasets[index], rows[0, run].numpy()
        d, a = data.obs_dim, data.act_dim
        mean, std = data.observations.mean(0, dtype=np.float64), data.observations.std(0, dtype=np.float64)
        for ours, raw in ((batch.observations, data.observations), (batch.next_observations, data.next_observations)):
            expected = (raw[picked] - mean) / (std + 1e-3)
            np.testing.assert_allclose(ours[run, :, :d], expected, rtol=1e-5, atol=1e-6)
            assert not ours[run, :, d:].any()
        np.testing.assert_array_equal(batch.actions[run, :, :a], data.actions[picked])
        assert not batch.actions[run, :, a:].any()
        np.testing.assert_array_equal(batch.rewards[run], data.rewards[picked])
        np.testing.assert_array_equal(batch.terminals[run], data.terminals[picked])


def test_normalised_states_have_mean_0_and_nearly_std_1():
    data = toy_data(rows=5000)
    normalised = Normaliser.of(data.observations, 1e-3)(data.observations)
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(0), 1, atol=2e-3)


def test_constant_state_entries_do_not_divide_by_zero():
    observations = toy_data().observations.copy()
    observations[:, 2] = 7.0
    assert np.isfinite(Normaliser.of(observations, 1e-3)(observations)).all()


@pytest.mark.parametrize("first", [1, 17])
def test_sampling_does_not_depend_on_how_many_steps_are_drawn_at_once(first):
    spec, hyper, replay = build([toy_data()], [0, 0], seeds=[3, 4])
    together = list(replay.sample(spec, hyper, first, 6))
    one_by_one = [next(iter(replay.sample(spec, hyper, first + t, 1))) for t in range(6)]
    for left, right in zip(together, one_by_one, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_every_dataset_is_stored_once():
    data = toy_data(rows=1000, obs_dim=11, act_dim=3)
    _, _, one = build([data], [0])
    _, _, many = build([data], [0] * 5)
    assert one.buffer.numel() == many.buffer.numel() == 1 + len(data) * (2 * 11 + 3 + 2)


def test_every_row_can_be_drawn_and_none_beside_them():
    data = toy_data(rows=40)
    spec, hyper, replay = build([data], [0], batch_size=256)
    rows, _ = replay.draw(spec, hyper, torch.arange(1, 40))
    assert set(rows.flatten().tolist()) == set(range(len(data)))


def test_without_stored_next_states_the_same_batches_come_out():
    datasets = [toy_data(rows=300, obs_dim=6, act_dim=2), toy_data(rows=200, obs_dim=3, act_dim=1, seed=1)]
    jumps = datasets[0].next_observations.copy()
    jumps[[4, 5, 77, 298]] += 1.0  # s' that is no row's state, as at a time-out whose row was dropped
    datasets[0] = dataclasses.replace(datasets[0], next_observations=jumps)
    spec, hyper, whole = build(datasets, [0, 1, 0])
    normalisers = [Normaliser.of(d.observations, 1e-3) for d in datasets]
    lean = Replay(datasets, normalisers, [0, 1, 0], spec, store_next=False)
    assert lean.buffer.numel() < 0.75 * whole.buffer.numel()
    for left, right in zip(whole.sample(spec, hyper, 1, 40), lean.sample(spec, hyper, 1, 40), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_shuffled_data_keeps_its_next_states():
    data = toy_data(rows=300)
    order = np.random.default_rng(0).permutation(len(data))
    fields = ("observations", "actions", "rewards", "next_observations", "terminals")
    shuffled = dataclasses.replace(data, **{name: getattr(data, name)[order] for name in fields})
    spec, hyper, whole = build([shuffled], [0])
    lean = Replay([shuffled], [Normaliser.of(shuffled.observations, 1e-3)], [0], spec, store_next=False)
    for left, right in zip(whole.sample(spec, hyper, 1, 5), lean.sample(spec, hyper, 1, 5), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("store_next", [True, False])
def test_the_store_takes_the_datasets_bytes_and_little_beside(store_next):
    datasets = [toy_data(rows=20_000, obs_dim=d, act_dim=a, seed=d) for d, a in ((11, 3), (45, 24), (4, 2))]
    spec, _, _ = build([toy_data(obs_dim=45, act_dim=24)], [0])
    normalisers = [Normaliser.of(d.observations, 1e-3) for d in datasets]
    replay = Replay(datasets, normalisers, [0, 1, 2, 0, 1, 2], spec, store_next=store_next)
    payload = sum(stored_bytes(len(d), d.obs_dim, d.act_dim, store_next) for d in datasets)
    assert payload <= replay.nbytes() <= 1.05 * payload
