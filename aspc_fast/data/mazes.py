"""Facts about D4RL's three point mazes: layout, fixed target, reward, and the two coordinate frames.

Cells are (row, column) of the layout, row 0 on top. The simulators (envpool, gymnasium-robotics) centre the maze:
cell (r, c) has its middle at x = c + 0.5 - width / 2, y = height / 2 - r - 0.5. D4RL's own files measure from the
layout's corner instead, with rows as the first coordinate and the origin 0.2 off the cell middles, so D4RL's
position (p, q) is y = height / 2 - 0.7 - p, x = q + 0.7 - width / 2 here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TARGET_RADIUS = 0.5


@dataclass(frozen=True)
class Maze:
    """One point maze: ``layout`` rows of '#' (wall) and '.' (free), ``goal`` D4RL's fixed goal cell."""

    name: str
    env: str
    time_limit: int
    goal: tuple[int, int]
    layout: tuple[str, ...]

    @property
    def centre(self) -> tuple[float, float]:
        """Half the layout's width and height in cells: (xc, yc)."""
        return len(self.layout[0]) / 2, len(self.layout) / 2

    @property
    def target(self) -> tuple[float, float]:
        """D4RL's fixed target (x, y) in the simulators' frame."""
        return self.from_d4rl(*self.goal)

    @property
    def free_cells(self) -> list[tuple[int, int]]:
        """All free (row, column), top to bottom, left to right."""
        return [(r, c) for r, row in enumerate(self.layout) for c, kind in enumerate(row) if kind == "."]

    def from_d4rl(self, p: float, q: float) -> tuple[float, float]:
        """D4RL's position (p, q) as (x, y) in the simulators' frame."""
        xc, yc = self.centre
        return round(q - xc + 0.7, 12), round(yc - p - 0.7, 12)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """The (row, column) that holds (x, y)."""
        xc, yc = self.centre
        return int(yc - y), int(x + xc)


MAZES: dict[str, Maze] = {
    maze.name: maze
    for maze in (
        Maze("maze2d-umaze", "PointMaze_UMaze-v3", 300, (1, 1), ("#####", "#...#", "###.#", "#...#", "#####")),
        Maze(
            "maze2d-medium",
            "PointMaze_Medium-v3",
            600,
            (6, 6),
            ("########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########"),
        ),
        Maze(
            "maze2d-large",
            "PointMaze_Large-v3",
            800,
            (7, 9),
            (
                "############",
                "#....#.....#",
                "#.##.#.#.#.#",
                "#......#...#",
                "#.####.###.#",
                "#..#.#.....#",
                "##.#.#.#.###",
                "#..#...#...#",
                "############",
            ),
        ),
    )
}
BY_ENV: dict[str, Maze] = {maze.env: maze for maze in MAZES.values()}


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
