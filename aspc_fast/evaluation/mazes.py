"""Where D4RL's mazes lie in the simulators' coordinates: cells, centres, targets and the two frames.

Cells are (row, column) of the map, row 0 at the top. gymnasium-robotics and envpool put the map's centre at the origin,
x along the columns and y AGAINST the rows. D4RL does neither, and differs between its two maze families:
in Maze2d its first coordinate runs along the rows and its second along the columns (a quarter turn of the simulator's);
in AntMaze x runs along the columns and y along the rows from the start cell (a mirror image, not a turn).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POINT_OFFSET = 0.7
"""D4RL Maze2d: walls are centred at cell + 1 and the ball's joint zero lies at 1.2, so a cell's centre reads
cell - 0.2. With the half cell between a cell's index and its centre that makes 0.7."""

ANT_CELL = 4.0
"""Side of one AntMaze cell in metres; Maze2d cells have side 1."""


@dataclass(frozen=True)
class Maze:
    """One map: its size in cells, D4RL's goal cell, and the cell where D4RL's ants start."""

    rows: int
    columns: int
    goal: tuple[int, int]
    start: tuple[int, int] = (1, 1)

    @property
    def centre(self) -> np.ndarray:
        """(xc, yc) in cells, float64 [2]: half the map's width and height."""
        return np.array([self.columns / 2, self.rows / 2])

    @property
    def point_target(self) -> np.ndarray:
        """Maze2d's fixed target in the simulator's frame, float64 [2]: the point D4RL writes as (row, column)."""
        xc, yc = self.centre
        row, column = self.goal
        return np.array([column + POINT_OFFSET - xc, yc - POINT_OFFSET - row])


_UMAZE = Maze(5, 5, goal=(1, 1))
_MEDIUM = Maze(8, 8, goal=(6, 6))
_LARGE = Maze(9, 12, goal=(7, 9))
_ANT_UMAZE = Maze(5, 5, goal=(3, 1))

MAZES: dict[str, Maze] = {
    "PointMaze_UMaze-v3": _UMAZE,
    "PointMaze_Medium-v3": _MEDIUM,
    "PointMaze_Large-v3": _LARGE,
    "AntMaze_UMaze-v4": _ANT_UMAZE,
    "AntMaze_Medium-v4": _MEDIUM,
    "AntMaze_Medium_Diverse_GR-v4": _MEDIUM,
    "AntMaze_Large-v4": _LARGE,
    "AntMaze_Large_Diverse_GR-v4": _LARGE,
}
"""The maze of every maze environment in the suite."""


def point_observations_to_d4rl(observations: np.ndarray, maze: Maze) -> np.ndarray:
    """(x, y, vx, vy) of the simulator, [n, 4], as D4RL's Maze2d writes it: (yc - y - 0.7, x + xc - 0.7, -vy, vx)."""
    x, y, vx, vy = observations.T
    xc, yc = maze.centre
    return np.stack([yc - y - POINT_OFFSET, x + xc - POINT_OFFSET, -vy, vx], axis=1)


def point_actions_to_simulator(actions: np.ndarray) -> np.ndarray:
    """Forces chosen in D4RL's Maze2d frame, [n, 2], turned into the simulator's: D4RL's (a0, a1) = (-ay, ax)."""
    return np.stack([actions[:, 1], -actions[:, 0]], axis=1)
