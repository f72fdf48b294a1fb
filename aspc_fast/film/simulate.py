"""One environment of a task in gymnasium, with pictures: the same episodes as evaluation's. Import this lazily.

Evaluation steps envpool, which has no pictures. gymnasium's environments of the same names are the same simulators:
from the same start state PointMaze-v3 agrees to the last bit for whole episodes, Hopper-v4 and Walker2d-v4 to 1e-6 over
20 random steps and HalfCheetah-v4 to 3e-4 over 60, drifting apart later as chaos has it: trained policies' returns
differed by 0 to 3.5 % (-v5 would not do: Walker2d's feet differ, and Hopper's last reward). So an episode starts where
envpool starts it. Adroit's start states cannot be read from its observations: there gymnasium draws its own.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.evaluation.corrections import TARGET_RADIUS, d4rl_rewards, d4rl_terminals
from aspc_fast.evaluation.simulators import EnvpoolSimulator, require
from aspc_fast.evaluation.tasks import Task
from aspc_fast.mazes import ANT_CELL, MAZES, point_actions_to_simulator, point_observations_to_d4rl


class Filmed(Protocol):
    """One environment that can be looked at.

    ``engine`` names environment, packages and what draws; ``same_start``: episodes start where evaluation's do;
    ``seconds_per_step``: the simulated time of one step.
    """

    engine: str
    same_start: bool
    seconds_per_step: float

    def reset(self, seed: int) -> np.ndarray:
        """First observation, float64 [obs_dim], of the episode evaluation starts from ``seed``."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Action [act_dim] in [-1, 1] to next observation [obs_dim], D4RL's reward, D4RL's terminal."""

    def picture(self) -> np.ndarray:
        """What it looks like now: uint8 [size, size, 3]."""

    def close(self) -> None:
        """Free the environment."""


class GymnasiumFilm:
    """``Filmed`` by MuJoCo's renderer. Call ``use_opengl`` first. UserError if a package is missing."""

    def __init__(self, task: Task, size: int, backend: str) -> None:
        gymnasium, mujoco = _needed("gymnasium"), _needed("mujoco")
        self._task, self._ant, self._maze = task, task.env.startswith("AntMaze"), task.env.startswith("PointMaze")
        robotics = self._ant or self._maze or task.env.startswith("Adroit")
        packages = ["gymnasium", *(["gymnasium-robotics"] if robotics else []), "mujoco"]
        self.engine = f"{task.env} in {', '.join(f'{p} {importlib.metadata.version(p)}' for p in packages)} ({backend})"
        self.same_start = not task.env.startswith("Adroit")
        mujoco.set_mju_user_warning(lambda text: None)  # else a note on an old XML goes to a log file where we run
        options: dict[str, Any] = {"render_mode": "rgb_array", "width": size, "height": size}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # -v4 is "out of date", and the one that agrees
            if self._ant:
                from aspc_fast.evaluation.antmaze import make_antmaze

                self._env: Any = make_antmaze(task.env, task.horizon, task.frame, **options)
            else:
                if robotics:
                    gymnasium.register_envs(_needed("gymnasium-robotics"))
                if self._maze:
                    options |= {"continuing_task": True, "reset_target": False}
                if not robotics:
                    options["camera_name"] = "track"  # the model's camera that goes with the torso
                self._env = gymnasium.make(
                    task.env, max_episode_steps=task.horizon + 1, disable_env_checker=True, **options
                )
        base = self._env.unwrapped
        if self._maze:
            Path(base.tmp_xml_file_path).unlink(missing_ok=True)
        self._mujoco: Any = base.ant_env if self._ant else base.point_env if self._maze else base
        self.seconds_per_step = float(self._mujoco.dt)
        if not robotics:
            model = self._mujoco.model  # a floor as wide as runners get, its squares as they were; physics has no edge
            floor = int(np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)[0])
            model.geom_size[floor, :2] *= 20
            model.mat_texrepeat[model.geom_matid[floor]] *= 20
        if self._ant or self._maze:
            self._mujoco.mujoco_renderer.default_cam_config = self._camera()

    def reset(self, seed: int) -> np.ndarray:
        """First observation of the episode evaluation starts from ``seed``."""
        first, _ = self._env.reset(seed=seed)
        if self._ant or self._maze:
            base = self._env.unwrapped
            if self._maze:
                base.goal = np.array(MAZES[self._task.env].target)
            base.update_target_site_pos()
            self._show_target(base.target_site_id)
        if self._ant or not self.same_start:
            return np.asarray(first, dtype=np.float64)
        with closing(EnvpoolSimulator(self._task.env, self._task.horizon, "simulator", [seed], 1)) as simulator:
            start = simulator.reset()[0]
        positions = self._mujoco.model.nq
        if not self._maze:
            start = np.concatenate([[0.0], start])  # the place along the track, which no observation tells
        self._mujoco.set_state(start[:positions], start[positions:])
        return self._shown(start if self._maze else start[1:])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """One step by D4RL's rules."""
        if self._maze and self._task.frame == "d4rl":
            action = point_actions_to_simulator(action[None])[0]
        observed, reward, terminal, _, _ = self._env.step(action.astype(self._env.action_space.dtype))
        if self._ant:
            return observed, float(reward), reward > 0
        raw = np.asarray(observed["observation"] if self._maze else observed, dtype=np.float64)[None]
        rewards = d4rl_rewards(self._task.env, raw, np.array([reward], dtype=np.float64))
        terminals = d4rl_terminals(self._task.env, raw, np.array([terminal], dtype=bool))
        return self._shown(raw[0]), float(rewards[0]), bool(terminals[0])

    def picture(self) -> np.ndarray:
        """What the camera sees: uint8 [size, size, 3]."""
        return np.asarray(self._env.render(), dtype=np.uint8)

    def close(self) -> None:
        """Free the environment."""
        self._env.close()

    def _camera(self) -> dict[str, Any]:
        """A maze from above, where its walls hide nothing."""
        maze, cell = MAZES[self._task.env], ANT_CELL if self._ant else 1.0
        distance = 2.8 * cell * max(maze.centre)
        return {"distance": distance, "elevation": -80.0, "azimuth": 90.0, "lookat": np.zeros(3)}

    def _show_target(self, site: int) -> None:
        """A disc of D4RL's radius on the floor, instead of a ball that hides what reaches it."""
        import mujoco

        model = self._mujoco.model
        model.site_type[site] = mujoco.mjtGeom.mjGEOM_CYLINDER
        model.site_size[site] = (TARGET_RADIUS, 0.005, 0.0)
        model.site_pos[site, 2] = 0.01
        model.site_rgba[site] = (1.0, 0.25, 0.15, 0.7)

    def _shown(self, raw: np.ndarray) -> np.ndarray:
        if self._maze and self._task.frame == "d4rl":
            return point_observations_to_d4rl(raw[None], MAZES[self._task.env])[0]
        return raw


def _needed(package: str) -> ModuleType:
    try:
        return require(package)
    except UserError as error:
        raise UserError(f"pictures need the package {package}: pip install 'aspc_fast[video]'") from error
