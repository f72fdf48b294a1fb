"""The 39 D4RL datasets of the paper: one row each. A new dataset is one more row."""

from __future__ import annotations

from dataclasses import dataclass

D4RL_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"


@dataclass(frozen=True)
class Dataset:
    """One dataset of the suite.

    ``transitions`` counts rows; ``horizon`` is D4RL's episode limit in steps; ``ref_min`` and ``ref_max`` are D4RL's
    reference returns (random and expert), between which scores are normalised to 0 and 100; ``env`` is the simulator
    task whose returns are compared; ``minari`` is the closest Minari dataset, if there is one; ``d4rl_file`` is the
    path on D4RL's server; ``paper_aspc`` is the paper's normalised score where the paper states it per dataset.
    """

    id: str
    domain: str
    obs_dim: int
    act_dim: int
    transitions: int
    horizon: int
    ref_min: float
    ref_max: float
    env: str
    minari: str | None
    d4rl_file: str
    paper_aspc: float | None

    @property
    def d4rl_url(self) -> str:
        """Where D4RL publishes the file."""
        return D4RL_SERVER + self.d4rl_file

    @property
    def engine(self) -> str:
        """The package that simulates ``env``."""
        return "gymnasium-robotics" if self.domain == "AntMaze" else "envpool"


# fmt: off
SUITE: tuple[Dataset, ...] = (
    Dataset("halfcheetah-random-v2", "MuJoCo", 17, 6, 1000000, 1000, -280.178953, 12135.0, "HalfCheetah-v4",
            None, "gym_mujoco_v2/halfcheetah_random-v2.hdf5", 20.8),
    Dataset("halfcheetah-medium-v2", "MuJoCo", 17, 6, 1000000, 1000, -280.178953, 12135.0, "HalfCheetah-v4",
            "mujoco/halfcheetah/medium-v0", "gym_mujoco_v2/halfcheetah_medium-v2.hdf5", 58.7),
    Dataset("halfcheetah-expert-v2", "MuJoCo", 17, 6, 1000000, 1000, -280.178953, 12135.0, "HalfCheetah-v4",
            "mujoco/halfcheetah/expert-v0", "gym_mujoco_v2/halfcheetah_expert-v2.hdf5", 105.1),
    Dataset("halfcheetah-medium-expert-v2", "MuJoCo", 17, 6, 2000000, 1000, -280.178953, 12135.0, "HalfCheetah-v4",
            None, "gym_mujoco_v2/halfcheetah_medium_expert-v2.hdf5", None),
    Dataset("halfcheetah-medium-replay-v2", "MuJoCo", 17, 6, 202000, 1000, -280.178953, 12135.0, "HalfCheetah-v4",
            None, "gym_mujoco_v2/halfcheetah_medium_replay-v2.hdf5", None),
    Dataset("halfcheetah-full-replay-v2", "MuJoCo", 17, 6, 1000000, 1000, -280.178953, 12135.0, "HalfCheetah-v4",
            None, "gym_mujoco_v2/halfcheetah_full_replay-v2.hdf5", None),
    Dataset("hopper-random-v2", "MuJoCo", 11, 3, 999996, 1000, -20.272305, 3234.3, "Hopper-v4",
            None, "gym_mujoco_v2/hopper_random-v2.hdf5", None),
    Dataset("hopper-medium-v2", "MuJoCo", 11, 3, 999906, 1000, -20.272305, 3234.3, "Hopper-v4",
            "mujoco/hopper/medium-v0", "gym_mujoco_v2/hopper_medium-v2.hdf5", None),
    Dataset("hopper-expert-v2", "MuJoCo", 11, 3, 999494, 1000, -20.272305, 3234.3, "Hopper-v4",
            "mujoco/hopper/expert-v0", "gym_mujoco_v2/hopper_expert-v2.hdf5", None),
    Dataset("hopper-medium-expert-v2", "MuJoCo", 11, 3, 1999400, 1000, -20.272305, 3234.3, "Hopper-v4",
            None, "gym_mujoco_v2/hopper_medium_expert-v2.hdf5", None),
    Dataset("hopper-medium-replay-v2", "MuJoCo", 11, 3, 402000, 1000, -20.272305, 3234.3, "Hopper-v4",
            None, "gym_mujoco_v2/hopper_medium_replay-v2.hdf5", None),
    Dataset("hopper-full-replay-v2", "MuJoCo", 11, 3, 1000000, 1000, -20.272305, 3234.3, "Hopper-v4",
            None, "gym_mujoco_v2/hopper_full_replay-v2.hdf5", None),
    Dataset("walker2d-random-v2", "MuJoCo", 17, 6, 999997, 1000, 1.629008, 4592.3, "Walker2d-v4",
            None, "gym_mujoco_v2/walker2d_random-v2.hdf5", None),
    Dataset("walker2d-medium-v2", "MuJoCo", 17, 6, 999995, 1000, 1.629008, 4592.3, "Walker2d-v4",
            "mujoco/walker2d/medium-v0", "gym_mujoco_v2/walker2d_medium-v2.hdf5", None),
    Dataset("walker2d-expert-v2", "MuJoCo", 17, 6, 999214, 1000, 1.629008, 4592.3, "Walker2d-v4",
            "mujoco/walker2d/expert-v0", "gym_mujoco_v2/walker2d_expert-v2.hdf5", None),
    Dataset("walker2d-medium-expert-v2", "MuJoCo", 17, 6, 1999209, 1000, 1.629008, 4592.3, "Walker2d-v4",
            None, "gym_mujoco_v2/walker2d_medium_expert-v2.hdf5", None),
    Dataset("walker2d-medium-replay-v2", "MuJoCo", 17, 6, 302000, 1000, 1.629008, 4592.3, "Walker2d-v4",
            None, "gym_mujoco_v2/walker2d_medium_replay-v2.hdf5", None),
    Dataset("walker2d-full-replay-v2", "MuJoCo", 17, 6, 1000000, 1000, 1.629008, 4592.3, "Walker2d-v4",
            None, "gym_mujoco_v2/walker2d_full_replay-v2.hdf5", None),
    Dataset("maze2d-umaze-v1", "Maze2d", 4, 2, 1000000, 300, 23.85, 161.86, "PointMaze_UMaze-v3",
            "D4RL/pointmaze/umaze-v2", "maze2d/maze2d-umaze-sparse-v1.hdf5", None),
    Dataset("maze2d-medium-v1", "Maze2d", 4, 2, 2000000, 600, 13.13, 277.39, "PointMaze_Medium-v3",
            "D4RL/pointmaze/medium-v2", "maze2d/maze2d-medium-sparse-v1.hdf5", None),
    Dataset("maze2d-large-v1", "Maze2d", 4, 2, 4000000, 800, 6.7, 273.99, "PointMaze_Large-v3",
            "D4RL/pointmaze/large-v2", "maze2d/maze2d-large-sparse-v1.hdf5", None),
    Dataset("antmaze-umaze-v2", "AntMaze", 29, 8, 999000, 700, 0.0, 1.0, "AntMaze_UMaze-v4",
            "D4RL/antmaze/umaze-v1", "ant_maze_v2/Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5", None),
    Dataset("antmaze-umaze-diverse-v2", "AntMaze", 29, 8, 999000, 700, 0.0, 1.0, "AntMaze_UMaze-v4",
            "D4RL/antmaze/umaze-diverse-v1", "ant_maze_v2/Ant_maze_u-maze_noisy_multistart_True_multigoal_True_sparse_fixed.hdf5", None),
    Dataset("antmaze-medium-play-v2", "AntMaze", 29, 8, 999000, 1000, 0.0, 1.0, "AntMaze_Medium-v4",
            "D4RL/antmaze/medium-play-v1", "ant_maze_v2/Ant_maze_big-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5", None),
    Dataset("antmaze-medium-diverse-v2", "AntMaze", 29, 8, 999000, 1000, 0.0, 1.0, "AntMaze_Medium_Diverse_GR-v4",
            "D4RL/antmaze/medium-diverse-v1", "ant_maze_v2/Ant_maze_big-maze_noisy_multistart_True_multigoal_True_sparse_fixed.hdf5", None),
    Dataset("antmaze-large-play-v2", "AntMaze", 29, 8, 999000, 1000, 0.0, 1.0, "AntMaze_Large-v4",
            "D4RL/antmaze/large-play-v1", "ant_maze_v2/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5", None),
    Dataset("antmaze-large-diverse-v2", "AntMaze", 29, 8, 999000, 1000, 0.0, 1.0, "AntMaze_Large_Diverse_GR-v4",
            "D4RL/antmaze/large-diverse-v1", "ant_maze_v2/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_True_sparse_fixed.hdf5", None),
    Dataset("pen-human-v1", "Adroit", 45, 24, 5000, 100, 96.262799, 3076.8331017826877, "AdroitHandPen-v1",
            "D4RL/pen/human-v2", "hand_dapg_v1/pen-human-v1.hdf5", None),
    Dataset("pen-cloned-v1", "Adroit", 45, 24, 500000, 100, 96.262799, 3076.8331017826877, "AdroitHandPen-v1",
            "D4RL/pen/cloned-v2", "hand_dapg_v1/pen-cloned-v1.hdf5", None),
    Dataset("pen-expert-v1", "Adroit", 45, 24, 500000, 100, 96.262799, 3076.8331017826877, "AdroitHandPen-v1",
            "D4RL/pen/expert-v2", "hand_dapg_v1/pen-expert-v1.hdf5", None),
    Dataset("door-human-v1", "Adroit", 39, 28, 6729, 200, -56.512833, 2880.5693087298737, "AdroitHandDoor-v1",
            "D4RL/door/human-v2", "hand_dapg_v1/door-human-v1.hdf5", None),
    Dataset("door-cloned-v1", "Adroit", 39, 28, 1000000, 200, -56.512833, 2880.5693087298737, "AdroitHandDoor-v1",
            "D4RL/door/cloned-v2", "hand_dapg_v1/door-cloned-v1.hdf5", None),
    Dataset("door-expert-v1", "Adroit", 39, 28, 1000000, 200, -56.512833, 2880.5693087298737, "AdroitHandDoor-v1",
            "D4RL/door/expert-v2", "hand_dapg_v1/door-expert-v1.hdf5", None),
    Dataset("hammer-human-v1", "Adroit", 46, 26, 11310, 200, -274.856578, 12794.134825156867, "AdroitHandHammer-v1",
            "D4RL/hammer/human-v2", "hand_dapg_v1/hammer-human-v1.hdf5", None),
    Dataset("hammer-cloned-v1", "Adroit", 46, 26, 1000000, 200, -274.856578, 12794.134825156867, "AdroitHandHammer-v1",
            "D4RL/hammer/cloned-v2", "hand_dapg_v1/hammer-cloned-v1.hdf5", None),
    Dataset("hammer-expert-v1", "Adroit", 46, 26, 1000000, 200, -274.856578, 12794.134825156867, "AdroitHandHammer-v1",
            "D4RL/hammer/expert-v2", "hand_dapg_v1/hammer-expert-v1.hdf5", None),
    Dataset("relocate-human-v1", "Adroit", 39, 30, 9942, 200, -6.425911, 4233.877797728884, "AdroitHandRelocate-v1",
            "D4RL/relocate/human-v2", "hand_dapg_v1/relocate-human-v1.hdf5", None),
    Dataset("relocate-cloned-v1", "Adroit", 39, 30, 1000000, 200, -6.425911, 4233.877797728884, "AdroitHandRelocate-v1",
            "D4RL/relocate/cloned-v2", "hand_dapg_v1/relocate-cloned-v1.hdf5", None),
    Dataset("relocate-expert-v1", "Adroit", 39, 30, 1000000, 200, -6.425911, 4233.877797728884, "AdroitHandRelocate-v1",
            "D4RL/relocate/expert-v2", "hand_dapg_v1/relocate-expert-v1.hdf5", None),
)
# fmt: on

BY_ID: dict[str, Dataset] = {row.id: row for row in SUITE}


def for_env(env: str) -> Dataset | None:
    """Some row whose simulator task is ``env`` (they share horizon and reference scores), or None."""
    return next((row for row in SUITE if row.env == env), None)
