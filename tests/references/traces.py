"""Files of recorded runs (``traces``): reading one, and replaying it on the reference trainer of its algorithm."""

from __future__ import annotations

import dataclasses
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ALGORITHMS = ("wpc", "iql", "rebrac", "a2pr", "bc", "rapo", "cql")
# Settings that recordings name otherwise, and settings that no reference has because only one value was ever used.
ALIASES = {"max_timesteps": "T_max", "actor_dropout": "dropout"}
FIXED = {"bc_steps": 0, "execution_score": "bpi", "execution_only": False, "execution_meta_loss": "le"}
FIXED |= {"algorithm": "td3_amo"}


def module(algo: str) -> Any:
    """The reference's file: it has ``Config`` and ``Trainer``."""
    return importlib.import_module(f"tests.references.{algo}")


def config_from_meta(meta: dict[str, Any]) -> Any:
    """The ``Config`` of a trace. A setting that the reference cannot have is a ValueError."""
    config = module(meta["algo"]).Config
    fields = {field.name for field in dataclasses.fields(config)}
    given = {name: meta[key] for name in fields if (key := ALIASES.get(name, name)) in meta} | meta["hp"]
    if "policy" in meta:
        given["iql_deterministic"] = meta["policy"] == "deterministic"
    others = {name: value for name, value in given.items() if name not in fields}
    if unknown := {name: value for name, value in others.items() if name not in FIXED or FIXED[name] != value}:
        raise ValueError(f"the reference of {meta['algo']} has no setting for {unknown}")
    return config(**{name: value for name, value in given.items() if name in fields and value is not None})


@dataclass(frozen=True)
class Trace:
    """One file: settings, initial weights, every step's batch, and per precision the outputs and final checksums."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> Trace:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return cls(json.loads(str(arrays.pop("meta_json"))), arrays)

    @property
    def config(self) -> Any:
        return config_from_meta(self.meta)

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays under ``prefix/``, by the rest of their names."""
        return {name[len(prefix) + 1 :]: array for name, array in self.arrays.items() if name.startswith(f"{prefix}/")}


def trainer_of(trace: Trace, dtype: torch.dtype) -> Any:
    """The reference trainer with the trace's settings and initial weights."""
    meta = trace.meta
    trainer = module(meta["algo"]).Trainer(
        meta["state_dim"], meta["action_dim"], meta["max_action"], trace.config, dtype=dtype
    )
    load_weights(trainer, {name: torch.from_numpy(array) for name, array in trace.group("init").items()})
    return trainer


def load_weights(trainer: Any, weights: dict[str, torch.Tensor]) -> None:
    """Put ``net/parameter`` arrays, every one of the initial networks', into the trainer and reset it."""
    for net in trainer.initial:
        state = {name.split("/", 1)[1]: array for name, array in weights.items() if name.startswith(f"{net}/")}
        getattr(trainer, net).load_state_dict(state)
    if strange := {name.split("/")[0] for name in weights} - {*trainer.initial, *trainer.derived}:
        raise ValueError(f"the trace has networks that the trainer has not: {sorted(strange)}")
    trainer.reset()


def weights_of(trainer: Any, nets: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """``net/parameter`` -> a copy of it."""
    states = {net: getattr(trainer, net).state_dict() for net in nets}
    return {f"{net}/{name}": value.clone() for net, state in states.items() for name, value in state.items()}


def checksum(values: torch.Tensor) -> np.ndarray:
    """[sum, sum of magnitudes, sum of x_i cos(0.37 i)] over the flattened tensor, in float64."""
    x = values.detach().double().flatten().numpy()
    return np.array([x.sum(), np.abs(x).sum(), (x * np.cos(0.37 * np.arange(x.size))).sum()])


def replay(trainer: Any, batches: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Train on batches [N, B, .]; returns every output [N] float64, NaN where a step does not have it."""
    steps = len(next(iter(batches.values())))
    logs = [
        trainer.train_step({name: torch.from_numpy(array[i]).to(dtype) for name, array in batches.items()})
        for i in range(steps)
    ]
    names = sorted(set().union(*logs))
    return {name: np.array([float(log[name]) if name in log else np.nan for log in logs]) for name in names}
