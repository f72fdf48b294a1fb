import numpy as np
import pytest

from aspc_fast.report.statistics import (
    improvement_interval,
    iqm,
    iqm_interval,
    mean_interval,
    probability_of_improvement,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 6.0], 3.0),  # floor(3 / 4) = 0: nothing is cut
        ([100.0, 1.0, 2.0, -50.0], 1.5),
        ([0, 1, 2, 3, 4, 5, 6, 7], 3.5),
        ([-1000, 1, 2, 3, 4, 5, 6, 7, 1000], 4.0),  # 9: two from each end
    ],
)
def test_iqm_of_known_data(scores, expected):
    assert iqm(np.array(scores, dtype=float)) == pytest.approx(expected)


def test_iqm_ignores_outliers_order_and_works_along_the_last_axis():
    scores = rng().normal(size=40)
    wild = np.sort(scores)
    wild[:10], wild[-10:] = -1e9, 1e9
    assert iqm(scores) == pytest.approx(iqm(wild))
    assert iqm(np.stack([scores, scores + 7])) == pytest.approx([iqm(scores), iqm(scores) + 7])


def test_probability_of_improvement_by_hand():
    x, y = [np.array([1.0, 3.0]), np.array([5.0])], [np.array([2.0, 2.0]), np.array([4.0, 6.0, 5.0])]
    assert probability_of_improvement(x, y) == pytest.approx((0.5 + (1 + 0 + 0.5) / 3) / 2)
    assert probability_of_improvement(y, x) == pytest.approx(1 - probability_of_improvement(x, y))


def test_ties_count_one_half():
    same = [np.array([1.0, 2.0, 3.0]), np.array([7.0, 7.0])]
    assert probability_of_improvement(same, same) == 0.5
    assert probability_of_improvement([np.zeros(4)], [np.zeros(3)]) == 0.5


def test_resampling_stays_within_a_dataset():
    """Datasets far apart, equal runs inside each: every resample is the same, so the interval has no width."""
    strata = [np.full(3, value) for value in (0.0, 100.0, 200.0, 300.0)]
    assert iqm_interval(strata, rng()) == (150.0, 150.0)
    assert iqm_interval([np.array([1.0]), np.array([2.0])], rng()) is None
    assert improvement_interval([np.array([1.0])], [np.array([2.0])], rng()) is None
    assert iqm_interval([np.array([1.0, 3.0]), np.array([2.0])], rng()) is not None


def test_interval_is_repeatable_and_holds_the_estimate():
    strata = [rng(i).normal(i, 1, size=6) for i in range(5)]
    low, high = iqm_interval(strata, rng())
    assert (low, high) == iqm_interval(strata, rng())
    assert low < iqm(np.concatenate(strata)) < high


def test_interval_covers_the_truth_about_95_percent_of_the_time():
    generator, hits, trials = rng(1), 0, 200
    for _ in range(trials):
        strata = [generator.normal(0, 1, size=20) for _ in range(3)]
        low, high = iqm_interval(strata, generator, resamples=400)
        hits += low <= 0 <= high
    assert 0.9 <= hits / trials <= 0.99


def test_mean_interval_weighs_datasets_equally_and_covers_the_truth():
    assert mean_interval([np.array([1.0]), np.array([2.0])], rng()) is None
    assert mean_interval([np.full(9, 0.0), np.full(1, 10.0)], rng()) == (5.0, 5.0)
    generator, hits, trials = rng(5), 0, 200
    for _ in range(trials):
        strata = [generator.normal(place, 1, size=20) for place in (0, 4)]
        low, high = mean_interval(strata, generator, resamples=400)
        hits += low <= 2 <= high
    assert 0.9 <= hits / trials <= 0.99


def test_improvement_interval_covers_the_truth():
    generator, hits, trials = rng(2), 0, 150
    for _ in range(trials):
        x, y = ([generator.normal(shift, 1, size=15) for _ in range(4)] for shift in (0.5, 0.0))
        low, high = improvement_interval(x, y, generator, resamples=300)
        hits += low <= 0.6382 <= high  # P(N(0.5, 2) > 0) = Phi(0.5 / sqrt 2)
    assert 0.88 <= hits / trials <= 1.0


def test_many_runs_are_resampled_in_bounded_memory():
    strata = [rng(i).normal(size=200) for i in range(39)]
    low, high = iqm_interval(strata, rng(), resamples=1500)
    assert high - low < 0.1


def rliable_data():
    x, y = rng(3).normal(1, 2, size=(7, 6)), rng(4).normal(0, 2, size=(5, 6))
    y[:3, 2] = x[:3, 2]  # ties across algorithms
    return x, y


def test_agrees_with_rliable():
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed")
    x, y = rliable_data()
    assert iqm(x.ravel()) == pytest.approx(metrics.aggregate_iqm(x))
    ours = probability_of_improvement(list(x.T), list(y.T))
    assert ours == pytest.approx(metrics.probability_of_improvement(x, y))


def test_intervals_agree_with_rliable():
    try:
        from rliable import library, metrics

        library.StratifiedBootstrap(np.zeros((2, 2)))
    except Exception as error:  # absent, or broken: rliable 1.2's bootstrap needs arch < 8, which needs pandas < 3
        pytest.skip(f"rliable's bootstrap does not work here: {type(error).__name__}: {error}")
    x, y = rliable_data()
    np.random.seed(0)
    _, theirs = library.get_interval_estimates({"x": x}, lambda s: np.array([metrics.aggregate_iqm(s)]), reps=1500)
    assert iqm_interval(list(x.T), rng()) == pytest.approx(theirs["x"].ravel(), abs=0.15)
    _, theirs = library.get_interval_estimates(
        {"xy": (x, y)}, lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), reps=400
    )
    assert improvement_interval(list(x.T), list(y.T), rng()) == pytest.approx(theirs["xy"].ravel(), abs=0.04)
