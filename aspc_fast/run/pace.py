"""How long things take and how much the disk gets, from measured rates: what a plan says beside its memory."""

from __future__ import annotations

from aspc_fast import suite
from aspc_fast.engine.kinds import ALGORITHMS
from aspc_fast.evaluation.rates import simulator_steps_per_second
from aspc_fast.evaluation.simulators import cores
from aspc_fast.results.checkpoint import KEEP
from aspc_fast.run.plan import gib
from aspc_fast.run.schedule import Schedule
from aspc_fast.run.sweep_plan import PRESETS, SweepPlan, SweepSettings
from aspc_fast.settings import source

NATIVE_UPDATES = 200.0
"""Run-updates per second and core of the native engine (docs/benchmarks.md)."""
CPU_UPDATES = 100.0
"""The same of the others."""
GPU_UPDATES = 150_000.0
"""Run-updates per second of many runs on one GPU: what the kernels are planned for, not measured."""
NAMED = 4  # datasets that a sentence names
RECORD_BYTES = 650  # a training record of metrics.jsonl; its event takes as much


def training_seconds(plan: SweepPlan, settings: SweepSettings) -> float:
    """A guess, to compare evaluation with."""
    if settings.resolved_device.startswith("cuda"):
        return settings.steps * len(plan.runs) / GPU_UPDATES
    native = settings.engine in ("auto", "native")
    rates = [NATIVE_UPDATES if native and run.config.algo in ALGORITHMS else CPU_UPDATES for run in plan.runs]
    return sum(settings.steps / rate for rate in rates) / cores()


def evaluation_core_seconds(plan: SweepPlan, schedule: Schedule) -> float:
    """Core-seconds of all evaluations; datasets whose simulator is unknown count nothing."""
    times = schedule.steps // schedule.eval_every if schedule.eval_every else 0
    episodes = times * schedule.eval_episodes + schedule.final_episodes
    total = 0.0
    for run in plan.runs:
        row = suite.BY_ID.get(plan.sizes[run.dataset].name)
        if row is not None:
            total += episodes * row.horizon / simulator_steps_per_second(row.id)
    return total


def disk_bytes(plan: SweepPlan, settings: SweepSettings) -> tuple[int, int]:
    """Bytes of a checkpoint of the largest population, and of what lies in the folder in the end."""
    states = [plan.memory(i).state_bytes for i in range(len(plan.shards))]
    records = len(plan.runs) * (settings.steps // settings.log_every) * RECORD_BYTES
    # a merged copy of the records; TensorBoard's events
    return max(states), KEEP * sum(states) + records * (3 if settings.tensorboard else 2)


def outlook(plan: SweepPlan, settings: SweepSettings) -> list[str]:
    """Sentences: what the disk gets, which datasets lack published settings that were asked for, how long evaluation
    takes, and what to do where that is longer than training."""
    one, everything = disk_bytes(plan, settings)
    when = f"every {settings.checkpoint_every:,} steps" if settings.checkpoint_every else ""
    when = when or f"every {settings.checkpoint_seconds:g} s"
    said = [f"disk: about {gib(everything)} in the end; a checkpoint of up to {gib(one)} is written {when}"]
    said += _without_tuned(plan) if settings.settings == "paper" else []
    workers = max(settings.workers, 1)
    work, training = evaluation_core_seconds(plan, settings.schedule()), training_seconds(plan, settings)
    if not work:
        return said
    told = f"evaluation: about {_minutes(work / workers)} on {workers} core(s),"
    told += f" beside about {_minutes(training)} of training"
    if work / workers > training:
        fits = _preset_that_fits(plan, settings, training * workers)
        preset = f"--preset {fits} or " if fits else ""
        told += f"; {preset}{int(work / training) + 1} cores (--workers) would keep up"
    return [*said, told]


def _without_tuned(plan: SweepPlan) -> list[str]:
    """A sentence if published settings were asked for and some datasets have none."""
    foreign = [size.name for size in plan.sizes if size.name not in suite.BY_ID]
    algos = dict.fromkeys(run.config.algo for run in plan.runs if source(run.config.algo))
    if not foreign or not algos:
        return []
    named = ", ".join(foreign[:NAMED]) + f" and {len(foreign) - NAMED} more" * (len(foreign) > NAMED)
    told = f"settings paper: {named}: none of the 39 datasets, so {', '.join(algos)} train there with their defaults"
    return [told]


def _preset_that_fits(plan: SweepPlan, settings: SweepSettings, core_seconds: float) -> str | None:
    """The most thorough preset that takes no longer."""
    costs = {}
    for name in PRESETS:
        asked = vars(settings) | {"preset": name, "eval_every": None, "eval_episodes": None, "final_episodes": None}
        costs[name] = evaluation_core_seconds(plan, SweepSettings(**asked).schedule())
    fitting = {name: cost for name, cost in costs.items() if cost <= core_seconds}
    return max(fitting, key=lambda name: fitting[name]) if fitting else None


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )
