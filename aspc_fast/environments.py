"""Simulator tasks by name, beyond the suite's: D4RL's kitchen, OGBench's single tasks, gymnasium's other runners.

Nothing here imports a simulator: reading a dataset needs only a task's horizon and dimensions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from aspc_fast import suite
from aspc_fast.errors import UserError, nearest

Measure = Literal["score", "success rate", "return"]

KITCHEN = "FrankaKitchen-v1"
KITCHEN_TASKS = (
    "bottom burner",
    "top burner",
    "light switch",
    "slide cabinet",
    "hinge cabinet",
    "microwave",
    "kettle",
)
"""What can be done in the kitchen, in the order of D4RL's goal vector."""

_MKLS = ("microwave", "kettle", "light switch", "slide cabinet")
_MKBL = ("microwave", "kettle", "bottom burner", "light switch")


@dataclass(frozen=True)
class Environment:
    """One task: ``horizon`` in steps, dimensions and the actions' bound (None: ask the package), reference returns.

    ``measure``: what a score means. "score": D4RL's, 0 at ``ref_min`` and 100 at ``ref_max``; "success rate": per cent
    of episodes that reach the goal; "return": the undiscounted return itself, for want of references.
    """

    env: str
    domain: str
    engine: str
    horizon: int | None = None
    obs_dim: int | None = None
    act_dim: int | None = None
    ref_min: float = 0.0
    ref_max: float = 100.0
    max_action: float = 1.0
    measure: Measure = "score"

    @property
    def returns_are_scored(self) -> bool:
        """Whether a dataset's returns have scores; in the kitchen not, where data pays a done task at every step."""
        return self.measure == "score" and self.domain != "Kitchen"

    def score(self, episode_return: float) -> float:
        """D4RL's score: 0 at ``ref_min``, 100 at ``ref_max``."""
        return 100.0 * (episode_return - self.ref_min) / (self.ref_max - self.ref_min)


RUNNERS: dict[str, Environment] = {
    row.env: row
    for row in (
        Environment("Ant-v5", "MuJoCo", "envpool", 1000, 105, 8, measure="return"),
        Environment("Humanoid-v5", "MuJoCo", "envpool", 1000, 348, 17, max_action=0.4, measure="return"),
        Environment("HumanoidStandup-v5", "MuJoCo", "envpool", 1000, 348, 17, max_action=0.4, measure="return"),
        Environment("InvertedDoublePendulum-v5", "MuJoCo", "envpool", 1000, 9, 1, measure="return"),
        Environment("InvertedPendulum-v5", "MuJoCo", "envpool", 1000, 4, 1, max_action=3.0, measure="return"),
        Environment("Pusher-v5", "MuJoCo", "envpool", 100, 23, 7, max_action=2.0, measure="return"),
        Environment("Reacher-v5", "MuJoCo", "envpool", 50, 10, 2, measure="return"),
        Environment("Swimmer-v5", "MuJoCo", "envpool", 1000, 8, 2, measure="return"),
    )
}
"""gymnasium's MuJoCo tasks that have Minari datasets but no reference returns for this version of the task."""


def kitchen(tasks: tuple[str, ...]) -> Environment:
    """D4RL's kitchen with some of its seven tasks: a return of 1 for each that is done, 280 steps."""
    unknown = [name for name in tasks if name not in KITCHEN_TASKS]
    if unknown or not tasks or len(set(tasks)) != len(tasks):
        raise UserError(
            f"{KITCHEN}: {'+'.join(tasks)!r} is no list of tasks; they are {', '.join(KITCHEN_TASKS)}, joined by +"
        )
    ordered = [name for name in KITCHEN_TASKS if name in tasks]
    return Environment(f"{KITCHEN}:{'+'.join(ordered)}", "Kitchen", "envpool", 280, 60, 9, 0.0, float(len(tasks)))


def kitchen_tasks(env: str) -> tuple[str, ...]:
    """The tasks that ``kitchen`` wrote into an environment's name."""
    return tuple(env.split(":", 1)[1].split("+"))


KITCHEN_DATASETS = {
    "kitchen-complete-v0": kitchen(_MKLS).env,
    "kitchen-partial-v0": kitchen(_MKLS).env,
    "kitchen-mixed-v0": kitchen(_MKBL).env,
}
"""D4RL's kitchen datasets -> the name of their task, which says what is to be done."""

_OGBENCH = re.compile(
    r"(?P<env>(?:visual-)?(?:(?:point|ant|humanoid)maze-(?:medium|large|giant|teleport)|antsoccer-(?:arena|medium)"
    r"|cube-(?:single|double|triple|quadruple|octuple)|scene|puzzle-\dx\d|powderworld-\w+))"
    r"(?:-(?P<kind>navigate|stitch|explore|play|noisy))?(?P<single>-singletask(?:-task\d)?)?-v0"
)


def ogbench_name(name: str) -> tuple[str, bool] | None:
    """OGBench's environment of a dataset's or an environment's name, and whether it is a single task; None if neither.

    "antmaze-large-navigate-singletask-task2-v0" -> ("antmaze-large-singletask-task2-v0", True);
    "antmaze-large-navigate-v0" -> ("antmaze-large-v0", False). D4RL's "antmaze-large-play-v2" is neither.
    """
    match = _OGBENCH.fullmatch(name.lower().removesuffix("-val"))
    if match is None:
        return None
    return f"{match['env']}{match['single'] or ''}-v0", match["single"] is not None


def environment(name: str) -> Environment | None:
    """The task that ``name`` names: an environment, a suite id, a kitchen dataset or an OGBench single task."""
    row = suite.for_env(name) or suite.BY_ID.get(name)
    if row is not None:
        return Environment(
            *(row.env, row.domain, row.engine, row.horizon, row.obs_dim, row.act_dim, row.ref_min, row.ref_max)
        )
    if name in RUNNERS:
        return RUNNERS[name]
    if name in KITCHEN_DATASETS:
        name = KITCHEN_DATASETS[name]
    if name.startswith(f"{KITCHEN}:"):
        return kitchen(kitchen_tasks(name))
    single = ogbench_name(name)
    if single is not None and single[1]:
        return Environment(single[0], "OGBench", "ogbench", ref_max=1.0, measure="success rate")
    return None


def find_environment(name: str) -> Environment:
    """``environment``, or UserError with the nearest names."""
    found = environment(name)
    if found is not None:
        return found
    if name == KITCHEN:
        raise UserError(
            f"{KITCHEN} has seven tasks: name those that count, as in {kitchen(_MKLS).env!r}, "
            f"or one of {', '.join(KITCHEN_DATASETS)}"
        )
    several = ogbench_name(name)
    if several is not None:
        fixed = several[0].removesuffix("-v0") + "-singletask-task1-v0"
        raise UserError(f"{name}: OGBench's goals differ by episode there; only single tasks are known, as {fixed}")
    known = [*suite.BY_ID, *dict.fromkeys(row.env for row in suite.SUITE), *RUNNERS, *KITCHEN_DATASETS]
    hint = nearest(name, known)
    raise UserError(f"unknown simulator task or dataset id {name!r}{hint} (aspc-fast data ls shows the suite's ids)")
