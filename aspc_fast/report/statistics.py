"""Interquartile mean, stratified bootstrap, probability of improvement: rliable's definitions (Agarwal et al. 2021).

Scores come as strata: one array of runs per dataset. Where every dataset has the same number of runs this is rliable's
matrix [runs, tasks]; where not, each run still counts once and is resampled among the runs of its own dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Strata = Sequence[np.ndarray]

RESAMPLES = 10_000
CONFIDENCE = 0.95
_CHUNK_ELEMENTS = 2**22


def iqm(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis: the lowest and highest floor(n / 4) of n scores are cut."""
    n = scores.shape[-1]
    cut = n // 4
    return np.sort(scores, axis=-1)[..., cut : n - cut].mean(axis=-1)


def probability_of_improvement(x: Strata, y: Strata) -> float:
    """P(X > Y) for a random run of each on the same dataset, averaged over datasets; a tie counts one half."""
    return float(np.mean([_better(a[None], b[None])[0] for a, b in zip(x, y, strict=True)]))


def iqm_interval(strata: Strata, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """95 % interval of the IQM (percentiles of the stratified bootstrap); None if no dataset has two runs."""
    if not _resampleable(strata):
        return None

    def estimate(count: int) -> np.ndarray:
        return iqm(np.concatenate([_resample(runs, count, rng) for runs in strata], axis=1))

    return _interval(estimate, resamples, sum(len(runs) for runs in strata))


def mean_interval(strata: Strata, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """95 % interval of the mean over datasets of each dataset's mean over runs; None if no dataset has two runs."""
    if not _resampleable(strata):
        return None

    def estimate(count: int) -> np.ndarray:
        return np.mean([_resample(runs, count, rng).mean(axis=1) for runs in strata], axis=0)

    return _interval(estimate, resamples, sum(len(runs) for runs in strata))


def improvement_interval(
    x: Strata, y: Strata, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """95 % interval of ``probability_of_improvement``, X's and Y's runs resampled independently."""
    if not _resampleable(x) and not _resampleable(y):
        return None

    def estimate(count: int) -> np.ndarray:
        pairs = zip(x, y, strict=True)
        return np.mean([_better(_resample(a, count, rng), _resample(b, count, rng)) for a, b in pairs], axis=0)

    return _interval(estimate, resamples, max(len(a) * len(b) for a, b in zip(x, y, strict=True)))


def _better(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[count]: share of pairs of x [count, n] and y [count, m] in which x is larger, ties one half."""
    left, right = x[:, :, None], y[:, None, :]
    return ((left > right) + 0.5 * (left == right)).mean(axis=(1, 2))


def _resample(runs: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, n]: the n runs of one dataset drawn with replacement, ``count`` times."""
    return runs[rng.integers(0, len(runs), size=(count, len(runs)))]


def _resampleable(strata: Strata) -> bool:
    return any(len(runs) > 1 for runs in strata)


def _interval(estimate: Callable[[int], np.ndarray], resamples: int, width: int) -> tuple[float, float]:
    values = np.concatenate([estimate(count) for count in _chunks(resamples, max(1, _CHUNK_ELEMENTS // width))])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _chunks(total: int, size: int) -> Iterator[int]:
    """Counts that add up to ``total``, none above ``size``: memory stays bounded however many runs there are."""
    for first in range(0, total, size):
        yield min(size, total - first)
