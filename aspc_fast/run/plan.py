"""What a sweep will take of a device's memory, and how it is cut into populations that fit."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aspc_fast.agent.footprint import footprint
from aspc_fast.agent.state import RunShape, make_spec, own_rates
from aspc_fast.config import AgentConfig, every_field, fields_of, structure_of
from aspc_fast.engine.replay import stored_bytes
from aspc_fast.errors import UserError

RESERVE = 0.1  # share of the device left to its runtime, the compiler's kernels and fragmentation
TRIAL_COPIES = 3
FIXED_BYTES = 600 * 2**20  # CUDA context and libraries


@dataclass(frozen=True)
class DataSize:
    """Rows and dimensions of a dataset: what is known of it before it is loaded."""

    name: str
    rows: int
    obs_dim: int
    act_dim: int


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep: the index of its dataset, hyper-parameters, seed, and the label of what was varied."""

    dataset: int
    config: AgentConfig
    seed: int
    setting: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"dataset": self.dataset, "agent": self.config.to_json(), "seed": self.seed, "setting": self.setting}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device of one population: datasets, learning state and what an update computes on the way."""

    runs: int
    dataset_bytes: int
    state_bytes: int
    activation_bytes: int

    @property
    def copy_bytes(self) -> int:
        """The copies of the learning state that are there at once while engines are tried on a GPU: a candidate trains
        one, and the compiled engine keeps one each while it captures and compiles."""
        return TRIAL_COPIES * self.state_bytes

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.dataset_bytes + self.state_bytes + self.copy_bytes + self.activation_bytes


Tuned = Callable[[str, int], Mapping[str, Any]]
"""An algorithm and the index of a dataset -> what its authors tuned for that dataset."""


def cross(
    datasets: int,
    seeds: Iterable[int],
    base: AgentConfig,
    varied: Mapping[str, Sequence[Any]],
    tuned: Tuned = lambda algo, dataset: {},
) -> list[PlannedRun]:
    """Every dataset x combination of ``varied`` (field -> values) x seed, in this order.

    A field that an algorithm does not have is left out for it. What ``base`` sets goes before what is ``tuned``, and
    what is varied before both. UserError for a field that none of the algorithms has.
    """
    seeds = list(seeds)
    runs = []
    for dataset in range(datasets):
        for config, label in _settings(dataset, base, varied, tuned):
            runs += [PlannedRun(dataset, config, seed, label) for seed in seeds]
    return runs


def _settings(
    dataset: int, base: AgentConfig, varied: Mapping[str, Sequence[Any]], tuned: Tuned
) -> list[tuple[AgentConfig, str]]:
    """The configurations of one dataset, each with the label of what was varied."""
    algos = varied.get("algo", [base.algo])
    settings = [(_tuned(base.changed(algo=algo), tuned(algo, dataset)), "") for algo in algos]
    for name, values in varied.items():
        if name == "algo":
            continue
        if not any(name in fields_of(type(config)) for config, _ in settings):
            known = "" if name in every_field() else ": no algorithm has it"
            raise UserError(f"{name} is no hyper-parameter of {', '.join(algos)}{known}")
        crossed: list[tuple[AgentConfig, str]] = []
        for config, label in settings:
            if name in fields_of(type(config)):
                crossed += [(config.changed(**{name: value}), f"{label} {name}={value}".strip()) for value in values]
            else:
                crossed.append((config, label))
        settings = crossed
    return settings


def _tuned(config: AgentConfig, values: Mapping[str, Any]) -> AgentConfig:
    plain = type(config)()
    return config.changed(**{n: v for n, v in values.items() if getattr(config, n) == getattr(plain, n)})


def populations(
    runs: Sequence[PlannedRun], sizes: Sequence[DataSize], budget: int | None, store_next: bool
) -> list[list[int]]:
    """Indices of runs that train together: those that can share a program, cut so that each part fits ``budget`` bytes.

    UserError if a single run does not fit.
    """
    together: dict[Any, list[int]] = {}
    for i, run in enumerate(runs):
        together.setdefault(structure_of(run.config), []).append(i)
    parts: list[list[int]] = []
    for indices in together.values():
        left = indices
        while left:
            part = left[: _fitting(runs, left, sizes, budget, store_next)]
            if not part:
                run = runs[left[0]]
                need = memory([run], sizes, store_next).total_bytes
                raise UserError(
                    f"{sizes[run.dataset].name}: one run needs {gib(need)}, the device offers {gib(budget or 0)};"
                    " try --no-store-next, a smaller --batch-size or a larger device"
                )
            parts.append(part)
            left = left[len(part) :]
    return parts


def _fitting(
    runs: Sequence[PlannedRun], indices: Sequence[int], sizes: Sequence[DataSize], budget: int | None, store_next: bool
) -> int:
    """How many of ``indices``, from the first on, fit ``budget`` bytes together: more runs never take less."""

    def too_many(count: int) -> bool:
        return memory([runs[i] for i in indices[:count]], sizes, store_next).total_bytes > (budget or 0)

    if budget is None or not too_many(len(indices)):
        return len(indices)
    return bisect.bisect_left(range(1, len(indices)), True, key=too_many)


def memory(runs: Sequence[PlannedRun], sizes: Sequence[DataSize], store_next: bool) -> MemoryPlan:
    """Bytes that one population of ``runs`` takes on the device (float32)."""
    used = [sizes[i] for i in sorted({run.dataset for run in runs})]
    spec = make_spec([run.config for run in runs], [RunShape(s.obs_dim, s.act_dim) for s in used])
    next_actions = "next_actions" in spec.algorithm.data
    each = footprint(own_rates(spec))
    return MemoryPlan(
        runs=len(runs),
        dataset_bytes=sum(stored_bytes(s.rows, s.obs_dim, s.act_dim, store_next, next_actions) for s in used),
        state_bytes=each.state * len(runs),
        activation_bytes=each.working * len(runs),
    )


def device_budget(device: str) -> int | None:
    """Bytes a population may take on ``device``; None on the CPU beyond what /proc tells."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return int(free * (1 - RESERVE))
    available = _available_host_bytes()
    return None if available is None else int(available * (1 - RESERVE))


def card_budget(gigabytes: float) -> int:
    """Bytes a population may take on a card sold as so many gigabytes (2**30)."""
    return int(gigabytes * 2**30 * (1 - RESERVE)) - FIXED_BYTES


def _available_host_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def gib(count: int) -> str:
    """Bytes for people: GiB, or MiB below one."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
