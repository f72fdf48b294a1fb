"""D4RL's AntMaze on gymnasium-robotics' AntMaze-v4, under gymnasium's vector API. Import this module lazily."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import gymnasium_robotics
import mujoco
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium_robotics.envs.maze import maps

from aspc_fast.evaluation.corrections import TARGET_RADIUS
from aspc_fast.mazes import ANT_CELL, MAZES

OBS_DIM, POSITIONS = 29, 15
D4RL_TIMESTEP, D4RL_TORQUE, D4RL_SOLIMP, D4RL_RESET_NOISE = 0.02, 30.0, (0.8, 0.8, 0.01), 0.1
"""D4RL's ant.xml and reset: seconds, N m, contact impedance, joint noise. AntMaze-v4: 0.01, 150, MuJoCo's own, 0."""

gymnasium.register_envs(gymnasium_robotics)


class D4RLAntMaze(gymnasium.Wrapper):
    """One episode of D4RL's AntMaze: 29-entry observations, the fixed goal cell, reward 1 and the end at the goal.

    ``frame`` "simulator": AntMaze-v4's own ant, orientation and start noise (+-1 m about the start cell's centre).
    ``frame`` "d4rl": D4RL's layout and coordinates, by turning the map upside down (the two are mirror images, so no
    turn of observations would do), and D4RL's ant: time step, torques, contacts and start noise.
    In both the goal is D4RL's: the goal cell's centre plus U(0, 1) + U(0, 0.5) along D4RL's x and along its y,
    drawn anew for every episode.

    Once the goal is reached the ant stands still and costs no more simulation.
    """

    def __init__(self, env: gymnasium.Env, env_name: str, frame: str) -> None:
        super().__init__(env)
        maze = MAZES[env_name]
        self._d4rl = frame == "d4rl"
        self.observation_space = Box(-np.inf, np.inf, (OBS_DIM,), np.float64)
        row = (lambda i: maze.rows - 1 - i) if self._d4rl else (lambda i: i)
        self._goal_cell = np.array([row(maze.goal[0]), maze.goal[1]])
        self._start_cell = np.array([row(maze.start[0]), maze.start[1]])
        # D4RL's origin is the centre of the start cell, whose index is (1, 1) in every maze
        self._origin = (np.array(maze.centre) - 1.5) * ANT_CELL if self._d4rl else np.zeros(2)
        if self._d4rl:
            base: Any = env.unwrapped
            base.position_noise_range = 0.0
            base.ant_env._reset_noise_scale = D4RL_RESET_NOISE
            model = base.ant_env.model
            model.opt.timestep = D4RL_TIMESTEP
            model.actuator_gear[:, 0] = D4RL_TORQUE
            model.geom_solimp[:, :3] = D4RL_SOLIMP
        self._last = np.zeros(OBS_DIM)
        self._reached = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """The ant at the start cell and the goal drawn; ``options`` is ignored."""
        cells = {"goal_cell": self._goal_cell, "reset_cell": self._start_cell}
        observations, _ = self.env.reset(seed=seed, options=cells)
        base: Any = self.env.unwrapped
        noise = base.np_random.uniform(0.0, 1.0, 2) + base.np_random.uniform(0.0, 0.5, 2)
        base.goal = base.maze.cell_rowcol_to_xy(self._goal_cell) + noise * (1.0, 1.0 if self._d4rl else -1.0)
        self._reached = False
        self._last = self._flat(observations)
        return self._last.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """D4RL's step. ``terminated`` stays False, as gymnasium's vector API would refuse to go on: reward 1 tells."""
        if self._reached:
            return self._last.copy(), 0.0, False, False, {}
        observations = self.env.step(action)[0]
        base: Any = self.env.unwrapped
        self._reached = bool(np.linalg.norm(observations["achieved_goal"] - base.goal) <= TARGET_RADIUS)
        self._last = self._flat(observations)
        return self._last.copy(), float(self._reached), False, False, {}

    def advance(self, action: np.ndarray, observation: np.ndarray) -> float:
        """``step`` without what nobody reads of it: the observation [29] is written in place, the reward returned.

        Gymnasium's five wrappers, infos and dictionaries are left out, and the contact forces that MuJoCo would compute
        after the step: AntMaze-v4 shows none, and the next step does not depend on them.
        """
        if self._reached:
            observation[:] = self._last
            return 0.0
        base: Any = self.env.unwrapped
        ant = base.ant_env
        ant.data.ctrl[:] = action
        mujoco.mj_step(ant.model, ant.data, nstep=ant.frame_skip)
        observation[:POSITIONS] = ant.data.qpos
        observation[POSITIONS:] = ant.data.qvel
        away = observation[:2] - base.goal
        self._reached = bool(np.sqrt(away.dot(away)) <= TARGET_RADIUS)
        observation[:2] += self._origin
        if self._reached:
            self._last = observation.copy()
        return float(self._reached)

    def _flat(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([observations["achieved_goal"] + self._origin, observations["observation"]])


def make_antmaze(env: str, horizon: int, frame: str, **options: Any) -> D4RLAntMaze:
    """One environment; its time limit is ``horizon`` steps. ``options``: gymnasium's, as render_mode."""
    if frame == "d4rl":
        options["maze_map"] = _upside_down(env)
    with warnings.catch_warnings():
        # "out of date": AntMaze-v5 has 105 observation entries and is another task
        warnings.simplefilter("ignore", DeprecationWarning)
        made = gymnasium.make(env, max_episode_steps=horizon, disable_env_checker=True, **options)
    base: Any = made.unwrapped
    Path(base.tmp_xml_file_path).unlink(missing_ok=True)  # the package leaves one in the temporary folder per ant
    return D4RLAntMaze(made, env, frame)


def _upside_down(env: str) -> list[list[int | str]]:
    size = env.split("_")[1].split("-", maxsplit=1)[0]
    maze_map = {"UMaze": maps.U_MAZE, "Medium": maps.MEDIUM_MAZE, "Large": maps.LARGE_MAZE}[size]
    return maze_map[::-1]


class AntMazeSimulator:
    """n ants; ``seeds`` as for EnvpoolSimulator. 10 ms to build; 2,500 steps per core-second, 9/10 of it physics."""

    def __init__(self, env: str, horizon: int, frame: str, seeds: list[int]) -> None:
        self._seeds: list[int | None] = list(seeds)
        self.envs = SyncVectorEnv(
            [lambda: make_antmaze(env, horizon, frame) for _ in seeds], autoreset_mode=AutoresetMode.DISABLED
        )
        self._ants: list[Any] = list(self.envs.envs)

    def reset(self) -> np.ndarray:
        """First observations, float64 [n, 29]."""
        return self.envs.reset(seed=self._seeds)[0]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of every ant: next observations, rewards (1 at the goal), terminals (the goal ends the episode)."""
        observations = np.empty((len(self._ants), OBS_DIM))
        rewards = np.array(list(map(D4RLAntMaze.advance, self._ants, actions.astype(np.float32), observations)))
        return observations, rewards, rewards > 0

    def close(self) -> None:
        """Frees the ants."""
        self.envs.close()
