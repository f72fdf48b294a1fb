"""Film a trained policy: the episodes that `evaluate` would roll out from the same seed, as a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.evaluation import Evaluation, Policy, Task, make_task
from aspc_fast.evaluation import evaluate as evaluate_policy
from aspc_fast.evaluation.rollout import episode_seeds
from aspc_fast.evaluation.scores import normalised_scores
from aspc_fast.film.opengl import use_opengl
from aspc_fast.film.simulate import Filmed, GymnasiumFilm
from aspc_fast.film.video import check_target, write_video
from aspc_fast.results.export import load_any
from aspc_fast.suite import for_env

PER_SECOND = 25.0  # pictures: GIF counts in hundredths of a second, and every simulator's rate divides well by it
HELD_SECONDS = 0.6  # how long an episode's last picture stays
SIZE = 480  # pixels; ffmpeg wants multiples of 16


@dataclass
class Watched:
    """What was filmed: ``returns`` and ``lengths`` by episode, and the same episodes by `evaluate`.

    ``engine``: environment, packages and what drew it. ``same_start``: the episodes start where ``evaluated``'s do.
    ``note``: why the picture is another than asked for, or empty.
    """

    path: Path
    task: Task
    engine: str
    same_start: bool
    evaluated: Evaluation
    note: str = ""
    pictures: int = 0
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    @property
    def scores(self) -> np.ndarray:
        """D4RL's normalised scores of the filmed episodes, float64 [episodes]."""
        return normalised_scores(np.array(self.returns), self.task)


def watch(
    source: Path,
    *,
    episodes: int = 1,
    seed: int = 0,
    out: Path | None = None,
    run: int | None = None,
    env: str | None = None,
    flat: bool = False,
    speed: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> Watched:
    """Film ``episodes`` episodes of a run's last checkpoint and say what they scored.

    source: a results folder (``run``: which run of a sweep's), or an exported .safetensors file. out: an .mp4 or .gif,
    default episode-seedS.mp4 in the results folder. env: for data that did not tell its simulator. flat: draw a point
    maze from above instead of rendering it (done anyway where OpenGL is missing). speed: 1 is real time. progress:
    receives the fraction done. Raises UserError.
    """
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    if not 0.01 <= speed <= 100:
        raise UserError(f"speed must lie in [0.01, 100], got {speed:g}")
    loaded = load_any(source, run)
    name = env or loaded.task
    if name is None:
        raise UserError(f"{source}: the run's data did not tell its simulator; name it with --env (as Hopper-v4)")
    task = make_task(name, loaded.frame)
    if for_env(task.env) is None:
        raise UserError(f"{task.env} cannot be filmed: only the suite's tasks can; aspc-fast evaluate scores it")
    if flat and not task.env.startswith("PointMaze"):
        raise UserError(f"only point mazes can be drawn flat, and {task.env} is none")
    path = out or _default_path(source, run, seed)
    check_target(path)
    evaluated = evaluate_policy(loaded.policy, name, episodes, seed, frame=loaded.frame)
    film, note = _open(task, flat)
    with closing(film):
        watched = Watched(path, task, film.engine, film.same_start, evaluated, note)
        every = max(1, round(speed / (film.seconds_per_step * PER_SECOND)))
        per_second = speed / (film.seconds_per_step * every)
        frames = _pictures(film, loaded.policy, watched, episode_seeds(seed, episodes), every, per_second, progress)
        watched.pictures = write_video(path, frames, per_second)
    return watched


def _default_path(source: Path, run: int | None, seed: int) -> Path:
    name = f"episode{'' if run is None else f'-run-{run}'}-seed{seed}.mp4"
    return (source if source.is_dir() else source.parent) / name


def _open(task: Task, flat: bool) -> tuple[Filmed, str]:
    """What films the task, and a note if it is not what was asked for."""
    note = ""
    if not flat:
        try:
            return GymnasiumFilm(task, SIZE, use_opengl()), ""
        except UserError as error:
            if not task.env.startswith("PointMaze"):
                raise
            note = f"drawn flat, as {error}"
    from aspc_fast.film.maze_drawing import MazeDrawing

    return MazeDrawing(task, SIZE), note


def _pictures(
    film: Filmed,
    policy: Policy,
    watched: Watched,
    seeds: list[int],
    every: int,
    per_second: float,
    progress: Callable[[float], None] | None,
) -> Iterator[np.ndarray]:
    """One picture every ``every`` steps; returns and lengths go into ``watched`` as episodes end."""
    horizon = watched.task.horizon
    for episode, seed in enumerate(seeds):
        observation, total = film.reset(seed), 0.0
        yield film.picture()
        for step in range(1, horizon + 1):
            action = np.asarray(policy(observation[None].astype(np.float32)), dtype=np.float64)[0]
            observation, reward, terminal = film.step(np.clip(action, -1.0, 1.0))
            total += reward
            if step % every == 0:
                yield film.picture()
            if progress is not None:
                progress((episode + step / horizon) / len(seeds))
            if terminal:
                break
        watched.returns.append(total)
        watched.lengths.append(step)
        last = film.picture()
        for _ in range(max(1, round(HELD_SECONDS * per_second))):
            yield last
