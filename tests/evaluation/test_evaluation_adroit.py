"""D4RL's Adroit rewards and episode ends, against its formulas written out and against the untouched simulator."""

from __future__ import annotations

import numpy as np
import pytest

from aspc_fast.evaluation import make_task

envpool = pytest.importorskip("envpool", reason="envpool is not installed")

SEEDS = [7, 8, 9]


def trajectory(env: str, act_dim: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Next observations [T, 3, obs_dim], rewards [T, 3], terminals [T, 3], raw rewards [T, 3] of one random walk."""
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, len(SEEDS), act_dim)).astype(np.float32)
    ours = make_task(env).open(SEEDS)
    raw = envpool.make_gymnasium(env, num_envs=len(SEEDS), env_seed=SEEDS, max_episode_steps=200)
    np.testing.assert_array_equal(ours.reset(), raw.reset()[0])
    rows = []
    for action in actions:
        observations, rewards, terminals = ours.step(action)
        raw_observations, raw_rewards, *_ = raw.step(action)
        np.testing.assert_array_equal(observations, raw_observations)
        rows.append((observations.copy(), rewards, terminals, raw_rewards.copy()))
    ours.close()
    raw.close()
    return tuple(np.array(column) for column in zip(*rows, strict=True))  # type: ignore[return-value]


def test_relocate_far_from_the_ball_costs_a_tenth_of_the_distance() -> None:
    observations, rewards, _, raw = trajectory("AdroitHandRelocate-v1", 30, 30)
    distance = np.linalg.norm(observations[..., 30:33], axis=-1)
    np.testing.assert_allclose(rewards, -0.1 * distance, atol=1e-6)
    np.testing.assert_allclose(raw, 0.1 * distance, atol=1e-6)  # fails when the simulator is mended


def test_door_reward_is_d4rls_formula() -> None:
    """-0.1 |palm - handle| - 0.1 (hinge - 1.57)^2 and a velocity cost too small to see; the door stays shut."""
    observations, rewards, _, raw = trajectory("AdroitHandDoor-v1", 28, 60)
    hinge = observations[..., 28]
    assert np.all(hinge < 0.2)  # no bonus yet
    formula = -0.1 * np.linalg.norm(observations[..., 35:38], axis=-1) - 0.1 * (hinge - 1.57) ** 2
    velocity_cost = formula - rewards
    assert np.all(velocity_cost > -1e-6)
    assert velocity_cost.mean() < 0.02
    assert (raw - rewards).mean() > 0.04


def test_hammer_reward_loses_a_fifth_of_the_palm_hammer_distance() -> None:
    observations, rewards, _, raw = trajectory("AdroitHandHammer-v1", 26, 40)
    palm, hammer = observations[..., 33:36], observations[..., 36:39]
    np.testing.assert_allclose(raw - rewards, 0.2 * np.linalg.norm(palm - hammer, axis=-1), atol=1e-6)
    assert np.all(raw - rewards > 0.001)


def test_pen_ends_when_it_falls_and_its_reward_is_untouched() -> None:
    observations, rewards, terminals, raw = trajectory("AdroitHandPen-v1", 24, 99)
    fallen = observations[..., 26] < 0.075
    assert fallen.any() and not fallen[:5].any()
    np.testing.assert_array_equal(terminals, fallen)
    np.testing.assert_allclose(rewards, raw, atol=1e-6)
    assert np.all(rewards[fallen] < -3)  # D4RL's penalty of 5 belongs to the step that drops the pen


@pytest.mark.parametrize("task", ["Door", "Hammer", "Relocate"])
def test_the_other_hands_never_terminate(task: str) -> None:
    act_dim = {"Door": 28, "Hammer": 26, "Relocate": 30}[task]
    assert not trajectory(f"AdroitHand{task}-v1", act_dim, 40)[2].any()
