"""What a sweep trains, how long and where: its settings, its presets, and the populations its runs are cut into."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError
from aspc_fast.run.converged import with_converged_alpha
from aspc_fast.run.plan import DataSize, MemoryPlan, PlannedRun, card_budget, cross, device_budget, memory, populations
from aspc_fast.run.schedule import Schedule
from aspc_fast.run.settings import Settings, check_whole
from aspc_fast.settings import tuned

PRESETS: dict[str, dict[str, int]] = {
    # eval_every 0 stands for a quarter of the training
    "quick": {"eval_every": 0, "eval_episodes": 5, "final_episodes": 20},
    "paper": {"eval_every": 5000, "eval_episodes": 10, "final_episodes": 0},
    "final": {"eval_every": -1, "eval_episodes": 1, "final_episodes": 100},
}


@dataclass(frozen=True)
class SweepSettings(Settings):
    """How long, where and how a sweep trains; intervals are in training steps."""

    settings: Literal["single", "paper"] = "single"
    """single: one set of hyper-parameters for all datasets; paper: each algorithm's own for a dataset, as published."""
    alpha_from: str | None = None
    """Results folder of ASPC: TD3+BC's runs keep the alpha that it ended with on their dataset (mean over seeds)."""
    preset: str = "quick"
    """quick: 5 episodes four times, 20 at the end; paper: 10 every 5000 steps; final: 100 at the end only."""
    eval_every: int | None = None
    """Steps between evaluations (0: none), instead of the preset's."""
    eval_episodes: int | None = None
    """Episodes per evaluation and run, instead of the preset's."""
    final_episodes: int | None = None
    """Episodes after the last step, instead of the preset's."""
    store_next: bool = True
    """Store next states beside states; without, they are read as the next row (less memory, the same batches)."""
    memory_gb: float | None = None
    """Memory a population may take, in GiB; default: what the device has free."""
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    """Evaluation processes, which give way to training; 0: evaluate in the training process."""
    processes: int = 0
    """Training processes on a CPU, of one thread each; 0: all cores where it is worth it, 1: none beside this one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, lowest in (
            *(("workers", 0), ("processes", 0)),
            *(("eval_every", 0), ("eval_episodes", 1), ("final_episodes", 0)),
        ):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), lowest)
        if self.preset not in PRESETS:
            raise UserError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise UserError(f"memory_gb must be positive, got {self.memory_gb!r}")

    def schedule(self) -> Schedule:
        """When what happens."""
        preset = PRESETS[self.preset]
        every = {0: max(1, self.steps // 4), -1: 0}.get(preset["eval_every"], preset["eval_every"])
        return Schedule(
            steps=self.steps,
            eval_every=every if self.eval_every is None else self.eval_every,
            eval_episodes=preset["eval_episodes"] if self.eval_episodes is None else self.eval_episodes,
            log_every=self.log_every,
            checkpoint_every=self.checkpoint_every,
            checkpoint_seconds=self.checkpoint_seconds,
            final_episodes=preset["final_episodes"] if self.final_episodes is None else self.final_episodes,
        )

    def budget(self) -> int | None:
        """Bytes a population may take."""
        if self.memory_gb is not None:
            return card_budget(self.memory_gb) if self.memory_gb > 2 else int(self.memory_gb * 2**30)
        return device_budget(self.resolved_device)


@dataclass(frozen=True)
class SweepPlan:
    """All runs of a sweep, and the populations (indices of runs) they train in."""

    runs: list[PlannedRun]
    sizes: list[DataSize]
    shards: list[list[int]]
    store_next: bool

    def memory(self, shard: int) -> MemoryPlan:
        """Bytes of one population."""
        return memory([self.runs[i] for i in self.shards[shard]], self.sizes, self.store_next)


def plan_sweep(
    sizes: Sequence[DataSize],
    seeds: Sequence[int],
    base: AgentConfig,
    varied: Mapping[str, Sequence[Any]],
    settings: SweepSettings,
    parts: int = 1,
) -> SweepPlan:
    """Cross everything and cut it into populations that fit, at least ``parts`` of them if there are runs enough."""
    own = (lambda algo, i: tuned(algo, sizes[i].name)) if settings.settings == "paper" else (lambda algo, i: {})
    runs = cross(len(sizes), seeds, base, varied, own)
    if settings.alpha_from is not None:
        runs = with_converged_alpha(runs, sizes, varied, settings.alpha_from)
    shards = populations(runs, sizes, settings.budget(), settings.store_next)
    while len(shards) < min(parts, len(runs)):
        largest = max(shards, key=len)
        shards.remove(largest)
        shards += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    return SweepPlan(runs, list(sizes), sorted(shards), settings.store_next)
