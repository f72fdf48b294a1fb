"""Collects D4RL's maze2d recipe in envpool's PointMaze: a scripted controller walks between random goals for ever.

The recipe (D4RL's waypoint_controller.py and generate_maze2d_datasets.py): draw a free cell as goal, walk a shortest
path of cell waypoints with a proportional-derivative controller (p = 10, d = -1), draw the next goal when this one is
reached or the task's time limit has passed. Nothing is ever reset; the row of a goal change carries ``timeouts``.
Rewards are then those of D4RL's one fixed target, which the walker does not know. Actions carry Gaussian noise of
standard deviation 0.5, as with the generator's ``--noisy`` option and in Minari's point mazes: a policy can only be
better than the walker where the data show what other actions do.

Long collections run up to eight such streams side by side in one batch of simulators and store them one after the
other; the last row of each stream is a time-out too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.mazes import POINT_MAZES, TARGET_RADIUS, Maze, fixed_target_rewards

P_GAIN, D_GAIN = 10.0, -1.0
ACTION_NOISE = 0.5  # standard deviation; actions lie in [-1, 1]
REACHED = 0.1  # metres
WAYPOINT_NOISE = 0.2
GOAL_NOISE = 0.1
ROWS_PER_STREAM = 10_000
MAX_STREAMS = 8
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))


class Walker:
    """The scripted controller of one stream: its goal, its waypoints and its random numbers."""

    def __init__(self, maze: Maze, rng: np.random.Generator) -> None:
        self.maze, self.rng = maze, rng
        self.steps = 0
        self.path: list[tuple[float, float]] = []
        self.goal = self.end = (0.0, 0.0)

    def draw_goal(self, x: float, y: float) -> None:
        """Draw a goal cell and the waypoints to it from where the ball is."""
        cells = self.maze.free_cells
        target = cells[int(self.rng.integers(len(cells)))]
        # D4RL's controller walks to the cell's own point; its noise on the goal only shows in infos/goal
        shift = self.rng.uniform(-GOAL_NOISE, GOAL_NOISE, 2)
        self.goal = self.maze.from_d4rl(target[0] + shift[0], target[1] + shift[1])
        self.end = self.maze.from_d4rl(*target)
        self.path = []
        for row, column in shortest_path(self.maze, self.maze.cell(x, y), target)[1:-1]:
            away = self.rng.uniform(0, WAYPOINT_NOISE, 2)
            self.path.append(self.maze.from_d4rl(row - away[0], column - away[1]))
        self.path.append(self.end)
        self.path.reverse()
        self.steps = 0

    def act(self, x: float, y: float, vx: float, vy: float) -> tuple[float, float, bool]:
        """The unclipped action, and whether this step ends the walk to the present goal."""
        done = math.hypot(x - self.end[0], y - self.end[1]) < REACHED
        px, py = self.end if done else self.path[-1]
        if not done and len(self.path) > 1 and math.hypot(x - px, y - py) < REACHED:
            self.path.pop()
        self.steps += 1
        done = done or self.steps > self.maze.time_limit
        return P_GAIN * (px - x) + D_GAIN * vx, P_GAIN * (py - y) + D_GAIN * vy, done


def shortest_path(maze: Maze, start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells from ``start`` to ``end``, both included; breadth first, ties by the order of MOVES."""
    came: dict[tuple[int, int], tuple[int, int]] = {end: end}
    queue = deque([end])
    while queue and start not in came:
        row, column = queue.popleft()
        for down, right in MOVES:
            cell = (row + down, column + right)
            if cell not in came and maze.layout[cell[0]][cell[1]] == ".":
                came[cell] = (row, column)
                queue.append(cell)
    if start not in came:
        return [start, end]
    path = [start]
    while path[-1] != end:
        path.append(came[path[-1]])
    return path


def collect(
    name: str,
    transitions: int,
    seed: int,
    *,
    action_noise: float = ACTION_NOISE,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Collect ``transitions`` rows of a maze's data, the same for the same (name, transitions, seed, action_noise).

    name: a key of POINT_MAZES. action_noise: standard deviation of the Gaussian noise added before clipping to
    +-1; 0 is the bare controller.
    progress: called with the rows done so far.
    Returns (fields, attributes): float32 observations, next_observations [N, 4], actions [N, 2], rewards [N]; bool
    terminals (all False), timeouts [N]; float32 infos/goal [N, 2]. Raises UserError for an unknown name, fewer than
    2 rows, a negative seed, or envpool missing.
    """
    if name not in POINT_MAZES:
        raise UserError(f"data make: name is {name!r}, but one of {', '.join(POINT_MAZES)} is needed")
    if not 2 <= transitions <= 10**9:
        raise UserError(f"data make: transitions is {transitions}, but 2 to 1000000000 are allowed")
    if not 0 <= seed < 2**20:
        raise UserError(f"data make: seed is {seed}, but 0 to {2**20 - 1} are allowed")
    if not 0 <= action_noise < math.inf:
        raise UserError(f"data make: action_noise is {action_noise}, but 0 or more is needed")
    maze = POINT_MAZES[name]
    streams = max(1, min(MAX_STREAMS, transitions // ROWS_PER_STREAM))
    lengths = [transitions // streams + (i < transitions % streams) for i in range(streams)]
    record = _walk(maze, lengths, seed, action_noise, progress)
    fields = {
        key: np.concatenate([np.asarray(array[:length, i]) for i, length in enumerate(lengths)])
        for key, array in record.items()
    }
    fields["rewards"] = fixed_target_rewards(fields["observations"], maze.target)
    fields["terminals"] = np.zeros(transitions, bool)
    if streams > 1:
        fields["timeouts"][np.cumsum(lengths) - 1] = True
    else:
        fields["timeouts"][-1] = True
    return fields, _attributes(maze, fields, seed, action_noise, streams)


def _walk(
    maze: Maze, lengths: list[int], seed: int, action_noise: float, progress: Callable[[int], None] | None
) -> dict[str, np.ndarray]:
    """Arrays [steps, streams, ...] of all streams, stepped together."""
    streams, steps = len(lengths), max(lengths)
    env = _make_env(maze, streams, seed, steps)
    walkers = [Walker(maze, np.random.default_rng([seed, i])) for i in range(streams)]
    noise = np.random.default_rng([seed, MAX_STREAMS])
    record = {
        "observations": np.empty((steps, streams, 4), np.float32),
        "next_observations": np.empty((steps, streams, 4), np.float32),
        "actions": np.empty((steps, streams, 2), np.float32),
        "timeouts": np.empty((steps, streams), bool),
        "infos/goal": np.empty((steps, streams, 2), np.float32),
    }
    state = env.reset()[0]["observation"]
    for walker, (x, y, _, _) in zip(walkers, state.tolist(), strict=True):
        walker.draw_goal(x, y)
    actions = np.empty((streams, 2))
    for t in range(steps):
        record["observations"][t] = state
        for i, (walker, (x, y, vx, vy)) in enumerate(zip(walkers, state.tolist(), strict=True)):
            record["infos/goal"][t, i] = walker.goal
            ax, ay, done = walker.act(x, y, vx, vy)
            actions[i] = ax, ay
            record["timeouts"][t, i] = done
            if done:
                walker.draw_goal(x, y)
        record["actions"][t] = np.clip(actions + action_noise * noise.standard_normal((streams, 2)), -1, 1)
        observed, _, terminated, truncated, _ = env.step(record["actions"][t])
        if terminated.any() or truncated.any():
            raise RuntimeError(f"{maze.env} ended an episode inside a stream: its options have changed")
        state = observed["observation"]
        record["next_observations"][t] = state
        if progress is not None and (t % 250 == 249 or t == steps - 1):
            progress(min((t + 1) * streams, sum(lengths)))
    env.close()
    return record


def _make_env(maze: Maze, streams: int, seed: int, steps: int) -> Any:
    try:
        import envpool
    except ImportError:
        raise UserError("data make needs envpool, which is missing: pip install 'aspc_fast[eval]'") from None
    # continuing_task: reaching envpool's own goal ends nothing; one thread: the rows do not depend on the machine
    return envpool.make_gymnasium(
        maze.env,
        num_envs=streams,
        seed=seed * MAX_STREAMS,
        num_threads=1,
        max_episode_steps=steps + 1,
        continuing_task=True,
        reset_target=False,
    )


def _attributes(
    maze: Maze, fields: dict[str, np.ndarray], seed: int, action_noise: float, streams: int
) -> dict[str, Any]:
    from importlib.metadata import version

    xc, yc = maze.centre
    mean_reward = float(fields["rewards"].mean(dtype=np.float64))
    return {
        "env_id": maze.env,
        "engine": f"envpool {version('envpool')}",
        "frame": "simulator",
        "coordinates": (
            "simulator frame (x,y,vx,vy); D4RL qpos = (yc-y-0.7, x+xc-0.7), qvel = (-vy,vx), action = (-ay,ax), "
            f"(xc,yc)=({xc:g},{yc:g})"
        ),
        "how": (
            "waypoint controller (p=10, d=-1) by D4RL's maze2d recipe; continuing streams without reset; goal re-drawn "
            "when reached or after time_limit steps (timeouts=True there and at each stream's end); rewards[i] = "
            "|observations[i][:2]-target| <= target_radius, the observation before the step"
        ),
        "d4rl_goal_cell": str(list(maze.goal)),
        "target": str(list(maze.target)),
        "target_radius": TARGET_RADIUS,
        "time_limit": maze.time_limit,
        "action_noise": action_noise,
        "seed": seed,
        "streams": streams,
        "transitions": len(fields["rewards"]),
        "segments_ended": int(fields["timeouts"].sum()),
        "mean_reward": mean_reward,
        "return_per_time_limit": mean_reward * maze.time_limit,
        "max_action": 1.0,
    }
