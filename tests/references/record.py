"""Record a run of a reference trainer, any settings and dimensions, as a file in the golden traces' format."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.references.traces import checksum, load_weights, module, replay, weights_of

PRECISIONS = (("f64", torch.float64), ("f32", torch.float32))


def random_data(
    steps: int, batch: int, obs_dim: int, act_dim: int, max_action: float, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Batches [steps, batch, .] of made-up transitions, float32; every 20th ends its episode or so."""

    def normal(width: int) -> torch.Tensor:
        return torch.randn(steps, batch, width, generator=generator)

    def actions() -> torch.Tensor:  # inside the bounds, where a squashed Gaussian has a density
        return (2 * torch.rand(steps, batch, act_dim, generator=generator) - 1) * 0.98 * max_action

    def done() -> torch.Tensor:
        return (torch.rand(steps, batch, 1, generator=generator) < 0.05).float()

    data = {"state": normal(obs_dim), "action": actions(), "reward": normal(1), "next_state": normal(obs_dim)}
    return data | {"done": done(), "next_action": actions()}


def random_batches(trainer: Any, algo: str, **shape: Any) -> dict[str, np.ndarray]:
    """Everything that ``train_step`` reads, for all steps."""
    data = random_data(**shape)
    next_action = data.pop("next_action")
    if algo == "rebrac":
        data["next_action"] = next_action
    if algo == "rapo":
        outer = random_data(**shape)
        data |= {f"outer_{name}": outer[name] for name in ("state", "action", "next_state", "done")}
    draws = [trainer.draw(shape["batch"], shape["generator"]) for _ in range(shape["steps"])]
    data |= {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}
    return {name: value.numpy() for name, value in data.items()}


def meta_of(algo: str, config: Any) -> dict[str, Any]:
    """Settings under the names and at the places of the golden traces; infinite bounds are null."""
    hp = dataclasses.asdict(config)
    hp = {name: None if isinstance(value, float) and math.isinf(value) else value for name, value in hp.items()}
    meta = {name: hp.pop(name) for name in ("lr", "value_lr", "vae_lr") if name in hp}
    if algo == "cql":  # of a different second critic only the weights tell
        hp.pop("second_critic_layers")
        meta["target_entropy"] = hp.pop("target_entropy")
    if algo == "iql":
        meta["policy"] = "deterministic" if hp.pop("iql_deterministic") else "gaussian"
        meta |= {"T_max": hp.pop("max_timesteps"), "dropout": hp.pop("actor_dropout")}
        meta |= {name: hp.pop(name) for name in ("exp_adv_max", "log_std_min", "log_std_max")}
    return meta | {"algo": algo, "hp": hp, "adam": {"b1": 0.9, "b2": 0.999, "eps": 1e-8}}


def record_trace(
    path: Path,
    algo: str,
    config: Any = None,
    *,
    steps: int = 24,
    batch: int = 16,
    obs_dim: int = 5,
    act_dim: int = 2,
    max_action: float = 1.0,
    seed: int = 0,
    gain: float = 2.0,
) -> Path:
    """Run the reference of ``algo`` in both precisions from the same float32 inputs and write what it did to ``path``.

    ``config`` is that reference's ``Config`` (default: its defaults with hidden layers of 16). The file has meta_json,
    init/NET/PARAMETER, batch/NAME [steps, batch, .], and per precision out/NAME [steps] and
    final_checksum/NET/PARAMETER [3]; ``traces.Trace`` reads it. ``gain`` multiplies the initial weight matrices.
    """
    config = module(algo).Config(hidden_dim=16) if config is None else config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = module(algo).Trainer(obs_dim, act_dim, max_action, config)
    # Narrow networks start nearly constant; wider weights let advantages, and with them masks, have both signs.
    initial = {name: w * gain if w.ndim == 2 else w for name, w in weights_of(first, first.initial).items()}
    shape = {"steps": steps, "batch": batch, "obs_dim": obs_dim, "act_dim": act_dim, "max_action": max_action}
    batches = random_batches(first, algo, **shape, generator=torch.Generator().manual_seed(seed))
    arrays = {f"init/{name}": value.numpy() for name, value in initial.items()}
    arrays |= {f"batch/{name}": value for name, value in batches.items()}
    for precision, dtype in PRECISIONS:
        trainer = module(algo).Trainer(obs_dim, act_dim, max_action, config, dtype=dtype)
        load_weights(trainer, initial)
        arrays |= {f"{precision}/out/{name}": series for name, series in replay(trainer, batches, dtype).items()}
        final = weights_of(trainer, (*trainer.initial, *trainer.derived))
        arrays |= {f"{precision}/final_checksum/{name}": checksum(value) for name, value in final.items()}
    meta = {"name": path.name.split(".")[0], "state_dim": obs_dim, "action_dim": act_dim, "n_steps": steps}
    meta |= {"batch": batch, "max_action": max_action, "seed": seed, "source": "tests/references/record.py"}
    np.savez_compressed(path, meta_json=np.array(json.dumps(meta | meta_of(algo, config))), **arrays)
    return path
