"""What sampling costs a step, counted without a GPU."""

import pytest

pytest.importorskip("triton")
from tests.pretend.count import count


@pytest.mark.parametrize("runs", [1, 39, 195])
def test_sampling_is_one_launch_and_little_more_than_its_bytes(runs):
    single, kernel = count(runs)
    assert kernel.launches == 1
    assert single.launches > 10
    batch = 4 * runs * 256 * (2 * 45 + 2 * 24 + 2)
    assert batch < kernel.bytes < 3 * batch  # read, written, padded
    assert single.bytes > 5 * kernel.bytes
