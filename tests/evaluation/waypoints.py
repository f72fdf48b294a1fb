"""A scripted maze policy, written from D4RL's description and sharing no code with the package.

Walls are the maps as D4RL prints them; breadth-first search gives the next cell, a PD law (D4RL's gains) drives there.
``Waypoints`` keeps one plan per row, waits at every waypoint and so is as slow as D4RL's own controller.
"""

from __future__ import annotations

from collections import deque

import numpy as np

MAPS = {
    "PointMaze_UMaze-v3": ["#####", "#GOO#", "###O#", "#OOO#", "#####"],
    "PointMaze_Medium-v3": [
        "########",
        "#OO##OO#",
        "#OO#OOO#",
        "##OOO###",
        "#OO#OOO#",
        "#O#OO#O#",
        "#OOO#OG#",
        "########",
    ],
    "PointMaze_Large-v3": [
        "############",
        "#OOOO#OOOOO#",
        "#O##O#O#O#O#",
        "#OOOOOO#OOO#",
        "#O####O###O#",
        "#OO#O#OOOOO#",
        "##O#O#O#O###",
        "#OO#OOO#OGO#",
        "############",
    ],
}
SIMULATOR_TARGETS = {
    "PointMaze_UMaze-v3": (-0.8, 0.8),
    "PointMaze_Medium-v3": (2.7, -2.7),
    "PointMaze_Large-v3": (3.7, -3.2),
}


def next_cells(env: str) -> tuple[dict[tuple[int, int], tuple[int, int]], tuple[int, int]]:
    """For every free cell the next one on a shortest way to the goal; and the goal."""
    rows = MAPS[env]
    free = {(i, j) for i, row in enumerate(rows) for j, tile in enumerate(row) if tile != "#"}
    goal = next((i, j) for i, j in free if rows[i][j] == "G")
    ahead, queue = {goal: goal}, deque([goal])
    while queue:
        i, j = queue.popleft()
        for cell in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if cell in free and cell not in ahead:
                ahead[cell] = (i, j)
                queue.append(cell)
    return ahead, goal


class Waypoints:
    """Actions float64 [n, 2] for observations [n, 4], both in ``frame``."""

    def __init__(self, env: str, frame: str) -> None:
        self.ahead, self.goal = next_cells(env)
        self.d4rl = frame == "d4rl"
        self.centre = (len(MAPS[env][0]) / 2, len(MAPS[env]) / 2)
        self.target = np.array(self.goal, dtype=float) if self.d4rl else np.array(SIMULATOR_TARGETS[env])
        self.plans: list[list[np.ndarray]] = []
        self.last: np.ndarray | None = None

    def position(self, cell: tuple[int, int]) -> np.ndarray:
        i, j = cell
        if self.d4rl:
            return np.array([i - 0.2, j - 0.2])
        return np.array([j + 0.5 - self.centre[0], self.centre[1] - i - 0.5])

    def cell(self, position: np.ndarray) -> tuple[int, int]:
        return min(self.ahead, key=lambda cell: float(np.sum((self.position(cell) - position) ** 2)))

    def plan(self, position: np.ndarray) -> list[np.ndarray]:
        cell, way = self.cell(position), []
        while cell != self.goal:
            cell = self.ahead[cell]
            way.append(self.position(cell))
        return [*way[:-1], self.target]

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        observations = np.asarray(observations, dtype=np.float64)
        places, velocities = observations[:, :2], observations[:, 2:]
        if not self.plans:
            self.plans = [self.plan(place) for place in places]
        actions = 10.0 * (np.array([plan[0] for plan in self.plans]) - places) - velocities
        moved = np.zeros(len(places)) if self.last is None else np.linalg.norm(places - self.last, axis=1)
        for plan, place, speed in zip(self.plans, places, moved, strict=True):
            if len(plan) > 1 and speed < 0.1 and np.linalg.norm(place - plan[0]) < 0.1:
                plan.pop(0)
        self.last = places.copy()
        return np.clip(actions, -1.0, 1.0)
