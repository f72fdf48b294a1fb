"""What sampling costs a step, counted without a GPU."""

import pytest

pytest.importorskip("triton")
from tests.pretend import inductor
from tests.pretend.count import count


@pytest.mark.parametrize("runs", [1, 39])
def test_sampling_is_one_launch_and_little_more_than_its_bytes(runs):
    single, kernel = count(runs)
    assert kernel.launches == 1
    assert single.launches > 10
    batch = 4 * runs * 256 * (2 * 45 + 2 * 24 + 2)
    assert batch < kernel.bytes < 3 * batch  # read, written, padded
    assert single.bytes > 5 * kernel.bytes


@pytest.mark.slow
def test_a_whole_step_of_39_runs_is_at_most_75_launches():
    """Inductor's own code for a GPU, counted in its text."""
    calls = inductor.count(39)
    assert all(c.kernels > 10 and c.library > 10 and not c.single for c in calls.values())
    assert inductor.per_step(calls) <= 75
