"""Rollouts and scores against a scripted simulator: which steps count, which rows, which seeds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aspc_fast.errors import UserError
from aspc_fast.evaluation import Task, evaluate, rollout, scores
from aspc_fast.evaluation.rollout import episode_seeds


@dataclass
class Script:
    """Environment with seed s ends after lengths[s] steps and, like envpool, goes on with a new episode at once.

    Observations are (seed, step of the episode, episode number); the reward is 1 + seed + the first action.
    """

    lengths: dict[int, int]
    seeds: list[int]
    seen: list[np.ndarray] = field(default_factory=list)
    closed: bool = False

    def reset(self) -> np.ndarray:
        self.steps = np.zeros(len(self.seeds))
        self.episode = np.zeros(len(self.seeds))
        return self._observe()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.seen.append(actions)
        self.steps += 1
        ends = np.array([self.steps[i] >= self.lengths[s] for i, s in enumerate(self.seeds)])
        observations = self._observe()
        self.steps[ends], self.episode[ends] = 0, self.episode[ends] + 1
        return observations, 1.0 + np.array(self.seeds) + actions[:, 0], ends

    def close(self) -> None:
        self.closed = True

    def _observe(self) -> np.ndarray:
        return np.stack([np.array(self.seeds, dtype=float), self.steps, self.episode], axis=1)


@dataclass(frozen=True)
class ScriptedTask(Task):
    lengths: dict[int, int] = field(default_factory=dict)
    opened: list[Script] = field(default_factory=list)

    def open(self, seeds: list[int], threads: int | None = None) -> Script:
        self.opened.append(Script(self.lengths, seeds))
        return self.opened[-1]


def scripted(lengths: list[int], horizon: int = 20) -> ScriptedTask:
    return ScriptedTask(
        env="Script-v0",
        obs_dim=3,
        act_dim=2,
        horizon=horizon,
        ref_min=-10.0,
        ref_max=40.0,
        engine="script 1",
        frame="simulator",
        comparable="not comparable: a script",
        lengths=dict(enumerate(lengths)),
    )


def still(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_each_environment_gives_its_first_episode_and_nothing_more(lengths: list[int]) -> None:
    episodes = rollout(still, scripted(lengths), len(lengths), seed=0)
    expected = np.minimum(lengths, 20)
    np.testing.assert_array_equal(episodes.lengths, expected)
    np.testing.assert_array_equal(episodes.returns, expected * (1.0 + np.arange(len(lengths))))
    assert episodes.returns.dtype == np.float64 and episodes.lengths.dtype == np.int64


def test_the_policy_sees_every_row_in_order_at_every_step_until_the_last_episode_ends() -> None:
    calls = []

    def policy(observations: np.ndarray) -> np.ndarray:
        assert observations.dtype == np.float32
        calls.append(observations.copy())
        observations[:] = np.nan  # a policy may use its argument as scratch space
        return np.zeros((3, 2))

    rollout(policy, scripted([2, 7, 4]), 3, seed=0)
    assert len(calls) == 7
    assert all(np.array_equal(call[:, 0], [0, 1, 2]) for call in calls)
    assert all(np.isfinite(call).all() for call in calls)


def test_actions_are_clipped_and_those_of_ended_rows_do_not_matter() -> None:
    task = scripted([1, 3])

    def policy(observations: np.ndarray) -> np.ndarray:
        ended = observations[:, 2:] > 0
        return np.where(ended, np.nan, [[5.0, -7.0]] * len(observations))

    episodes = rollout(policy, task, 2, seed=0)
    np.testing.assert_array_equal(episodes.returns, [2.0, 9.0])
    sent = np.array(task.opened[0].seen)
    assert np.isfinite(sent).all() and np.abs(sent).max() == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_policy_is_a_sentence_or_a_nan_return(bad: float) -> None:
    def policy(observations: np.ndarray) -> np.ndarray:
        actions = np.zeros((len(observations), 2))
        actions[1, 1] = bad if observations[1, 1] == 3 else 0.0
        return actions

    task = scripted([6, 9, 5])
    with pytest.raises(UserError, match=r"NaN or infinite actions in 1 of 3 episodes at step 3 of Script-v0"):
        rollout(policy, task, 3, seed=0)
    assert task.opened[0].closed
    episodes = rollout(policy, task, 3, seed=0, strict=False)
    np.testing.assert_array_equal(episodes.returns, [6.0, np.nan, 15.0])
    np.testing.assert_array_equal(episodes.lengths, [6, 3, 5])


@pytest.mark.parametrize("shape", [(3, 1), (2, 2), (3,), (3, 2, 1)])
def test_actions_of_the_wrong_shape_name_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"shape .* for Script-v0, which needs \(3, 2\)"):
        rollout(lambda _: np.zeros(shape), scripted([1, 1, 1]), 3, seed=0)


def test_torch_policies_may_return_tensors_with_gradients() -> None:
    torch = pytest.importorskip("torch")
    weights = torch.full((3, 2), 0.125, requires_grad=True)

    def policy(observations: np.ndarray) -> torch.Tensor:
        return (torch.as_tensor(observations) @ weights).to(torch.bfloat16)

    episodes = rollout(policy, scripted([2, 2]), 2, seed=0)
    np.testing.assert_array_equal(episodes.returns, [2 + 0.125, 4 + 0.125 * 3])


@given(st.integers(0, 2**19 - 1), st.integers(0, 2**19 - 1), st.integers(1, 4096), st.integers(1, 4096))
def test_seeds_never_overlap(a: int, b: int, n: int, m: int) -> None:
    first, second = episode_seeds(a, n), episode_seeds(b, m)
    assert len(set(first)) == n
    assert min(first) >= 0 and max(first) < 2**31
    assert bool(set(first) & set(second)) == (a == b)


@given(st.integers(0, 2**40), st.integers(1, 500), st.integers(1, 500))
def test_seeds_of_pieces_and_of_batched_runs_are_those_of_the_whole(seed: int, n: int, size: int) -> None:
    whole = episode_seeds(seed, n)
    pieces = [s for first in range(0, n, size) for s in episode_seeds(seed, min(size, n - first), first=first)]
    assert pieces == whole
    assert episode_seeds(seed, 3 * n, episodes_per_run=n) == whole * 3


def test_impossible_seeds_are_refused() -> None:
    with pytest.raises(UserError, match="seed -1 is negative"):
        episode_seeds(-1, 3)
    with pytest.raises(UserError, match="4097 episodes"):
        episode_seeds(0, 4097)


@pytest.mark.parametrize("max_envs", [1, 3, 7, 100])
def test_scores_do_not_depend_on_how_many_step_together(max_envs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = scripted([3, 9, 1, 20, 5, 5, 2])
    monkeypatch.setattr(scores, "make_task", lambda name, frame: replace(task, frame=frame))
    fractions: list[float] = []
    result = evaluate(
        lambda o: 0.1 * o[:, :2] / 20, "script-v1", 7, frame="d4rl", max_envs=max_envs, progress=fractions.append
    )
    reference = evaluate(lambda o: 0.1 * o[:, :2] / 20, "script-v1", 7)
    np.testing.assert_array_equal(result.returns, reference.returns)
    np.testing.assert_array_equal(result.lengths, [3, 9, 1, 20, 5, 5, 2])
    assert max(len(opened.seeds) for opened in task.opened[:-1]) == min(max_envs, 7)
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert result.frame == "d4rl"


def test_evaluation_reports_d4rls_score_and_writes_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "make_task", lambda name, frame: scripted([10, 10]))
    result = evaluate(still, "script-v1", 2, seed=0)
    np.testing.assert_array_equal(result.returns, [10.0, 20.0])
    np.testing.assert_allclose(result.normalised_scores, [40.0, 60.0])  # 100 * (10 + 10) / 50, 100 * (20 + 10) / 50
    assert (result.score, result.score_std) == (pytest.approx(50.0), pytest.approx(10.0))
    written = json.loads(json.dumps(result.to_json()))
    assert written["returns"] == [10.0, 20.0] and written["lengths"] == [10, 10]
    assert {"env", "engine", "comparable", "seed", "score", "score_std", "dataset", "frame"} <= written.keys()


@pytest.mark.parametrize(("episodes", "max_envs"), [(0, 5), (-3, 5), (5, 0)])
def test_nothing_to_evaluate_is_refused(episodes: int, max_envs: int) -> None:
    with pytest.raises(UserError, match="at least 1"):
        evaluate(still, "hopper-medium-v2", episodes, max_envs=max_envs)
