"""How far a GPU's approximate division, square root, exp and log alone move the kernels' errors: hence FACTOR.

The interpreter computes them exactly rounded. Here each result is wrong by a random amount within what PTX allows for
div.full, sqrt.approx, rsqrt.approx, ex2.approx and lg2.approx: at most two units in the last place.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.kernels import interpreter

# isort: split
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from tests.kernels import support, test_gather_and_outer, test_passes, test_weights

pytestmark = pytest.mark.skipif(interpreter.ON_GPU, reason="emulates a GPU's arithmetic")
UNITS = 2.0
APPROXIMATE = ("create_fdiv", "create_sqrt", "create_exp", "create_exp2", "create_log", "create_log2", "create_rsqrt")
SHAPE = "three runs, odd batch"
CASES = {
    "critic weights": lambda: test_weights.test_weights(SHAPE, torch.float32, "critic"),
    "actor weights": lambda: test_weights.test_weights(SHAPE, torch.float32, "actor"),
    "critic pass": lambda: test_passes.test_critic(SHAPE, torch.float32, "robust"),
    "policy pass": lambda: test_passes.test_policy_and_its_motion(SHAPE, torch.float32, "robust"),
    "actor backward": lambda: test_passes.test_actor_backward(SHAPE, torch.float32),
    "outer loss": lambda: test_gather_and_outer.test_outer_loss_and_alpha(SHAPE, torch.float32, 4),
}


@pytest.fixture
def hardware(monkeypatch):
    """The interpreter's functions with errors as a GPU's may have."""
    monkeypatch.setattr(support, "FACTOR", 4.0)
    rng = np.random.default_rng(0)

    def wrong(original):
        def run(self, *args):
            result = original(self, *args)
            if result.data.dtype != np.float32:
                return result
            error = rng.uniform(-UNITS, UNITS, result.data.shape) * np.finfo(np.float32).eps
            return TensorHandle((result.data * (1 + error)).astype(np.float32), result.dtype)

        return run

    for name in APPROXIMATE:
        monkeypatch.setattr(InterpreterBuilder, name, wrong(getattr(InterpreterBuilder, name)))


@pytest.mark.parametrize("case", CASES)
def test_four_times_is_room_for_it(hardware, case):
    CASES[case]()
