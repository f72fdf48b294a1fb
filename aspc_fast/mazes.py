"""D4RL's mazes: layouts, goals, and where both lie in the simulators' coordinates.

Cells are (row, column) of the layout, row 0 on top. gymnasium-robotics and envpool put the layout's centre at the
origin, x along the columns and y AGAINST the rows. D4RL does neither, and differs between its two maze families: in
Maze2d its first coordinate runs along the rows and its second along the columns (a quarter turn of the simulator's); in
AntMaze x runs along the columns and y along the rows from the start cell (a mirror image, not a turn).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aspc_fast.suite import SUITE, for_env

TARGET_RADIUS = 0.5
"""Distance to the target, in metres, within which D4RL's mazes pay 1 per step."""

POINT_OFFSET = 0.7
"""D4RL Maze2d: walls are centred at cell + 1 and the ball's joint zero lies at 1.2, so a cell's centre reads
cell - 0.2. With the half cell between a cell's index and its centre that makes 0.7."""

ANT_CELL = 4.0
"""Side of one AntMaze cell in metres; Maze2d cells have side 1."""

_U = ("#####", "#...#", "###.#", "#...#", "#####")
_MEDIUM = ("########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########")
_LARGE = (
    "############",
    "#....#.....#",
    "#.##.#.#.#.#",
    "#......#...#",
    "#.####.###.#",
    "#..#.#.....#",
    "##.#.#.#.###",
    "#..#...#...#",
    "############",
)


@dataclass(frozen=True)
class Maze:
    """One simulator task: ``layout`` rows of '#' (wall) and '.' (free), D4RL's goal cell, and where its ants start."""

    env: str
    layout: tuple[str, ...]
    goal: tuple[int, int]
    start: tuple[int, int] = (1, 1)

    @property
    def time_limit(self) -> int:
        """D4RL's episode limit in steps."""
        row = for_env(self.env)
        assert row is not None, f"{self.env} is not in the suite"
        return row.horizon

    @property
    def rows(self) -> int:
        """Height of the layout in cells."""
        return len(self.layout)

    @property
    def centre(self) -> tuple[float, float]:
        """Half the layout's width and height in cells: (xc, yc)."""
        return len(self.layout[0]) / 2, self.rows / 2

    @property
    def target(self) -> tuple[float, float]:
        """Maze2d's fixed target (x, y) in the simulators' frame."""
        return self.from_d4rl(*self.goal)

    @property
    def free_cells(self) -> list[tuple[int, int]]:
        """All free (row, column), top to bottom, left to right."""
        return [(r, c) for r, row in enumerate(self.layout) for c, kind in enumerate(row) if kind == "."]

    def from_d4rl(self, p: float, q: float) -> tuple[float, float]:
        """D4RL Maze2d's position (p, q) as (x, y) in the simulators' frame."""
        xc, yc = self.centre
        return round(q - xc + POINT_OFFSET, 12), round(yc - p - POINT_OFFSET, 12)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """The (row, column) of Maze2d that holds (x, y)."""
        xc, yc = self.centre
        return int(yc - y), int(x + xc)


MAZES: dict[str, Maze] = {
    maze.env: maze
    for maze in (
        Maze("PointMaze_UMaze-v3", _U, goal=(1, 1)),
        Maze("PointMaze_Medium-v3", _MEDIUM, goal=(6, 6)),
        Maze("PointMaze_Large-v3", _LARGE, goal=(7, 9)),
        Maze("AntMaze_UMaze-v4", _U, goal=(3, 1)),
        Maze("AntMaze_Medium-v4", _MEDIUM, goal=(6, 6)),
        Maze("AntMaze_Medium_Diverse_GR-v4", _MEDIUM, goal=(6, 6)),
        Maze("AntMaze_Large-v4", _LARGE, goal=(7, 9)),
        Maze("AntMaze_Large_Diverse_GR-v4", _LARGE, goal=(7, 9)),
    )
}
"""The maze of every maze task in the suite."""

POINT_MAZES: dict[str, Maze] = {
    row.id.rsplit("-", 1)[0]: MAZES[row.env] for row in SUITE if row.env.startswith("PointMaze")
}
"""The same for Maze2d, by D4RL's names without version: maze2d-umaze, maze2d-medium, maze2d-large."""


def fixed_target_rewards(observations: np.ndarray, target: tuple[float, float]) -> np.ndarray:
    """D4RL's maze2d reward: 1 while the ball is within 0.5 of the target, else 0.

    observations: [N, 4], the states BEFORE the steps (x, y, vx, vy), as D4RL's relabelling script has it.
    Returns float32 [N]. Distances are taken in float64 of the float32 positions, so that relabelling stored data
    again gives the same rewards.
    """
    offset = observations[:, :2].astype(np.float32).astype(np.float64) - np.asarray(target, np.float64)
    return (np.hypot(offset[:, 0], offset[:, 1]) <= TARGET_RADIUS).astype(np.float32)


def frame_of(env: str | None, observations: np.ndarray, stated: str | None) -> str:
    """Whose coordinates a maze dataset uses: "simulator" or "d4rl".

    The file's own ``frame`` attribute decides where there is one. Otherwise the positions tell: the simulators put
    the origin in the middle of the maze, so data that covers a maze has positions well below zero, whereas D4RL
    counts maze2d cells from 1 (every coordinate above 0) and puts AntMaze's origin in the first free cell, whose
    walls stand 2 away (every coordinate above -2.5). Tasks that are no mazes are "simulator".
    """
    if stated in ("simulator", "d4rl"):
        return stated
    if env is None or not len(observations) or not ("PointMaze" in env or "AntMaze" in env):
        return "simulator"
    lowest = float(observations[:, :2].min())
    return "d4rl" if lowest > (-2.5 if "AntMaze" in env else 0.0) else "simulator"


def point_observations_to_d4rl(observations: np.ndarray, maze: Maze) -> np.ndarray:
    """(x, y, vx, vy) of the simulator, [n, 4], as D4RL's Maze2d writes it: (yc - y - 0.7, x + xc - 0.7, -vy, vx)."""
    x, y, vx, vy = observations.T
    xc, yc = maze.centre
    return np.stack([yc - y - POINT_OFFSET, x + xc - POINT_OFFSET, -vy, vx], axis=1)


def point_actions_to_simulator(actions: np.ndarray) -> np.ndarray:
    """Forces chosen in D4RL's Maze2d frame, [n, 2], turned into the simulator's: D4RL's (a0, a1) = (-ay, ax)."""
    return np.stack([actions[:, 1], -actions[:, 0]], axis=1)
