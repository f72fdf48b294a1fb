"""Published policies reach the scores measured for them; random ones the scores D4RL defines as 0."""

from __future__ import annotations

import numpy as np
import pytest

from aspc_fast import suite
from aspc_fast.evaluation import evaluate
from tests.evaluation.pretrained import Pretrained, Uniform, needs_policies, standard_error

pytest.importorskip("envpool", reason="envpool is not installed")

# policy, environment, measured return and length over 30 episodes (Adroit 40). The last column bounds from below the
# spread of an episode's return, as a share of it: agents that fall do so in some samples of ten and not in others.
MEASURED = [
    ("sac_hopper", "Hopper-v4", 1142, 310, 0.1),
    ("ppo_hopper", "Hopper-v4", 2437, 1000, 0.01),
    ("tqc_hopper", "Hopper-v4", 3399, 928, 0.1),
    ("a2c_halfcheetah", "HalfCheetah-v4", 3046, 1000, 0.03),
    ("ppo_halfcheetah", "HalfCheetah-v4", 5864, 1000, 0.03),
    ("sac_halfcheetah", "HalfCheetah-v4", 9417, 1000, 0.03),
    ("tqc_halfcheetah", "HalfCheetah-v4", 12032, 1000, 0.03),
    ("a2c_walker2d", "Walker2d-v4", 571, 247, 0.1),
    ("ppo_t300_walker2d", "Walker2d-v4", 3153, 844, 0.1),
    ("sac_walker2d", "Walker2d-v4", 3754, 972, 0.1),
    ("tqc_walker2d", "Walker2d-v4", 4104, 937, 0.1),
    ("dapg_pen", "AdroitHandPen-v1", 3256, 100, 0.1),
    ("dapg_door", "AdroitHandDoor-v1", 3013, 200, 0.01),
]


@needs_policies
@pytest.mark.parametrize(("name", "env", "measured", "length", "spread"), MEASURED)
def test_published_policies_reach_their_measured_return(
    name: str, env: str, measured: float, length: float, spread: float
) -> None:
    table, episodes = 40 if env.startswith("Adroit") else 30, 10
    result = evaluate(Pretrained(name), env, episodes)
    deviation = max(float(np.std(result.returns, ddof=1)), spread * measured)
    bound = 3.0 * deviation * np.sqrt(1 / episodes + 1 / table)
    assert abs(result.returns.mean() - measured) < bound
    assert result.lengths.max() <= max(1000 if env.endswith("v4") else length, length)
    if length in (100, 200, 1000):
        assert result.lengths.mean() > 0.9 * length


@pytest.mark.parametrize(
    ("dataset", "act_dim", "uncorrected_shift"),
    [("door-human-v1", 28, 11.0), ("hammer-human-v1", 26, 7.6), ("relocate-human-v1", 30, 13.5)],
)
def test_random_actions_return_what_d4rl_defines_as_zero(dataset: str, act_dim: int, uncorrected_shift: float) -> None:
    """The shift is what forgetting the correction adds to a random return (measured): the bound stays below it."""
    result = evaluate(Uniform(act_dim), dataset, 30)
    bound = 4.0 * standard_error(result.returns)
    assert bound < 0.7 * uncorrected_shift
    assert abs(result.returns.mean() - suite.BY_ID[dataset].ref_min) < bound


def test_random_actions_drop_the_pen_and_score_near_zero() -> None:
    """Without the termination every episode lasts 100 steps and the fallen pen costs 5 a step: a score of -10."""
    result = evaluate(Uniform(24), "pen-human-v1", 40)
    assert abs(result.score) < 5
    assert result.lengths.mean() < 70
