"""Whether a population on a CPU is trained by several processes, and how many."""

from __future__ import annotations

import dataclasses
import multiprocessing

from aspc_fast.data.store import Store
from aspc_fast.engine.base import Learners
from aspc_fast.engine.side_by_side import SideBySideEngine
from aspc_fast.evaluation.simulators import cores
from aspc_fast.run.population import Population

ENGINES = ("eager", "compiled")  # those that take a population run by run
WORTH_PROCESSES = 20_000  # run-updates: fewer are done before the processes have begun (some seconds)


def processes_for(asked: int, engine: str, runs: int, updates: int) -> int:
    """How many processes train ``runs`` runs on a CPU, of which ``updates`` run-updates are left; 1: this one alone.

    asked: what the user says; 0: as many as there are cores, where it is worth it.
    """
    if engine not in ENGINES or multiprocessing.current_process().daemon:  # a daemon may start no processes
        return 1
    if asked:
        return min(asked, runs)
    return min(cores(), runs) if updates >= WORTH_PROCESSES else 1


def side_by_side(population: Population, store: Store, processes: int) -> Population:
    """The same population, trained by ``processes`` processes."""
    engine = population.engine
    datasets = list(population.datasets)
    shared = SideBySideEngine(
        *(engine.name, Learners(population.spec, engine.state, engine.hyper), store),
        datasets=datasets,  # type: ignore[arg-type]
        dataset_of_run=[run.dataset for run in population.runs],
        processes=processes,
    )
    return dataclasses.replace(population, engine=shared)
