"""A point maze drawn flat from above: needs no OpenGL, and shows where the ball has been. Import this lazily."""

from __future__ import annotations

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.evaluation.simulators import Simulator
from aspc_fast.evaluation.tasks import Task
from aspc_fast.mazes import MAZES, TARGET_RADIUS

WALL, INK, TRAIL, TARGET, BALL = "#8b93a1", "#22262e", "#1f6fb4", "#2f9e62", "#c2571a"
STEP_SECONDS = 0.01  # PointMaze-v3's


class MazeDrawing:
    """``Filmed`` (see aspc_fast.film.simulate) of evaluation's own simulator, so of the very same episode."""

    same_start = True
    seconds_per_step = STEP_SECONDS

    def __init__(self, task: Task, size: int) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
            from matplotlib.patches import Circle, Rectangle
        except ImportError:
            raise UserError(
                "drawing a maze needs matplotlib, which is missing: pip install 'aspc_fast[plot]'"
            ) from None
        self.engine = f"{task.env} in {task.engine} (drawn flat)"
        self._task, self._maze = task, MAZES[task.env]
        self._simulator: Simulator | None = None
        layout, (xc, yc) = self._maze.layout, self._maze.centre
        figure = Figure(figsize=(size / 100, size / 100), dpi=100)
        self._canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 0.94))
        axes.set(xlim=(-xc, xc), ylim=(-yc, yc), aspect="equal")
        axes.axis("off")
        for row, cells in enumerate(layout):
            for column, kind in enumerate(cells):
                if kind == "#":
                    axes.add_patch(Rectangle((column - xc, yc - row - 1), 1, 1, color=WALL, lw=0))
        axes.add_patch(Circle(self._maze.target, TARGET_RADIUS, color=TARGET, alpha=0.35, lw=0))
        (self._trail,) = axes.plot([], [], color=TRAIL, lw=1.6, alpha=0.8)
        (self._start,) = axes.plot([], [], "o", mfc="none", mec=INK, ms=8)
        (self._ball,) = axes.plot([], [], "o", color=BALL, ms=9)
        self._title = figure.text(0.5, 0.965, "", ha="center", va="center", color=INK, fontsize=11)
        self._places: list[tuple[float, float]] = []
        self._return = 0.0

    def reset(self, seed: int) -> np.ndarray:
        """First observation of the episode evaluation starts from ``seed``."""
        self.close()
        self._simulator = self._task.open([seed], 1)
        first = self._simulator.reset()[0]
        self._places, self._return = [self._place(first)], 0.0
        return first

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """One step by D4RL's rules."""
        assert self._simulator is not None
        observations, rewards, terminals = self._simulator.step(action[None])
        self._places.append(self._place(observations[0]))
        self._return += float(rewards[0])
        return observations[0], float(rewards[0]), bool(terminals[0])

    def picture(self) -> np.ndarray:
        """Walls, target (green), start (ring), trail and ball: uint8 [size, size, 3]."""
        self._trail.set_data(*zip(*self._places, strict=True))
        self._start.set_data(*zip(*self._places[:1], strict=True))
        self._ball.set_data(*zip(*self._places[-1:], strict=True))
        self._title.set_text(f"{self._task.env}   step {len(self._places) - 1}   return {self._return:.0f}")
        self._canvas.draw()
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        """Free the simulator."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    def _place(self, observation: np.ndarray) -> tuple[float, float]:
        """(x, y) in the simulator's frame, which the picture is drawn in."""
        first, second = float(observation[0]), float(observation[1])
        return self._maze.from_d4rl(first, second) if self._task.frame == "d4rl" else (first, second)
