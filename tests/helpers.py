"""What several tests share: small datasets, random batches, traces recorded from the reference trainer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aspc_fast import reference
from aspc_fast.data.arrays import from_arrays
from aspc_fast.data.transitions import Transitions
from aspc_fast.engine.kinds import ALGORITHMS
from aspc_fast.tools.trace import shipped_traces
from aspc_fast.tools.trace_weights import weights_hash

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared development data is not beside this checkout")


TOO_LONG = 900.0  # seconds: against a hang only, no outcome may depend on it
AT_EVENT = Path(__file__).parent / "bad_day" / "at_event"


def wait_for(what: Callable[[], Any], alive: Callable[[], bool] = lambda: True) -> None:
    """Return once ``what()`` is true; AssertionError if ``alive()`` becomes false before, or never."""
    deadline = time.monotonic() + TOO_LONG
    while not what():
        assert alive() or what(), "it ended before what was waited for"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def killed_at(path: str, count: int, once: Path, group: bool = False) -> dict[str, str]:
    """An environment in which a Python process is killed when the ``count``-th file ``path`` is about to appear."""
    wish = {"path": path, "count": count, "once": str(once), "group": group}
    folders = [str(AT_EVENT), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    more = {"PYTHONPATH": os.pathsep.join(filter(None, folders)), "ASPC_FAST_TEST_KILL": json.dumps(wish)}
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


def exit_code(*words: object) -> int:
    """Run ``aspc-fast WORDS`` in this process."""
    from aspc_fast.cli import main

    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def golden_traces() -> list[Path]:
    """Of ASPC and TD3+BC: those that ship with the package, and the long ones where they are beside the checkout."""
    return [*shipped_traces(ALGORITHMS), *sorted((SHARED / "traces").glob("*.npz"))]


def cut_trace(source: Path, target: Path, steps: int) -> Path:
    """The first ``steps`` of a golden trace as the package ships it: compressed, the initial weights by their seed.

    What follows the last step (final weights, or their checksums) is of another moment and left out.
    """
    arrays = dict(np.load(source))
    meta = json.loads(str(arrays.pop("meta_json")))
    weights = {name: arrays.pop(name) for name in list(arrays) if name.startswith("init/")}
    arrays = {name: array[:steps] for name, array in arrays.items() if name.startswith("batch/") or "/out/" in name}
    meta |= {"n_steps": steps, "cut_from": f"{meta['name']}, {meta['n_steps']} steps", "init_seed": meta["seed"]}
    meta |= {"init_robust": "init/critic_1/net.9.weight" in weights, "init_sha256": weights_hash(weights)}
    np.savez_compressed(target, meta_json=np.array(json.dumps(meta)), **arrays)
    return target


def toy_data(rows: int = 400, obs_dim: int = 5, act_dim: int = 2, seed: int = 0, **changes: Any) -> Transitions:
    """A small random dataset with episodes of 50 steps."""
    rng = np.random.default_rng(seed)
    arrays = {
        "observations": rng.normal(size=(rows, obs_dim)).astype(np.float32) * 3 + 1,
        "actions": rng.uniform(-1, 1, size=(rows, act_dim)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.arange(rows) % 50 == 49,
        "timeouts": np.zeros(rows, dtype=bool),
    }
    return from_arrays(**(arrays | changes))


def random_batches(
    steps: int, batch: int, obs_dim: int, act_dim: int, max_action: float = 1.0, seed: int = 0
) -> dict[str, np.ndarray]:
    """float32 batches under the golden traces' names, [steps, batch, .] each."""
    rng = np.random.default_rng(seed)
    return {
        "state": rng.normal(size=(steps, batch, obs_dim)).astype(np.float32),
        "action": (rng.uniform(-1, 1, size=(steps, batch, act_dim)) * max_action).astype(np.float32),
        "reward": rng.normal(size=(steps, batch, 1)).astype(np.float32),
        "next_state": rng.normal(size=(steps, batch, obs_dim)).astype(np.float32),
        "done": (rng.uniform(size=(steps, batch, 1)) < 0.05).astype(np.float32),
        "noise_raw": rng.normal(size=(steps, batch, act_dim)).astype(np.float32),
    }


def record_trace(
    path: Path,
    config: reference.Config,
    *,
    steps: int = 24,
    batch: int = 16,
    obs_dim: int = 5,
    act_dim: int = 2,
    max_action: float = 1.0,
) -> Path:
    """Run ``reference.Trainer`` in both precisions and write a file in the golden traces' format."""
    torch.manual_seed(0)
    seed_trainer = reference.Trainer(obs_dim, act_dim, max_action, config)
    nets = ("actor", "critic_1", "critic_2")
    weights = {net: {k: v.clone() for k, v in getattr(seed_trainer, net).state_dict().items()} for net in nets}
    batches = random_batches(steps, batch, obs_dim, act_dim, max_action)
    arrays: dict[str, np.ndarray] = {f"batch/{name}": value for name, value in batches.items()}
    for net in nets:
        arrays |= {f"init/{net}/{name}": value.numpy() for name, value in weights[net].items()}
    for precision, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        trainer = reference.Trainer(obs_dim, act_dim, max_action, config, dtype=dtype)
        for net in nets:
            getattr(trainer, net).load_state_dict(weights[net])
        trainer.reset()
        logs = []
        for i in range(steps):
            names = ("state", "action", "reward", "next_state", "done", "noise_raw")
            logs.append(trainer.train_step(*(torch.from_numpy(batches[name][i]).to(dtype) for name in names)))
        for name in sorted(set().union(*logs)):
            series = [float(log[name]) if name in log else np.nan for log in logs]
            arrays[f"{precision}/out/{name}"] = np.array(series)
        for net in (*nets, "actor_target", "critic_1_target", "critic_2_target"):
            for name, value in getattr(trainer, net).state_dict().items():
                arrays[f"{precision}/final/{net}/{name}"] = value.numpy()
    hp = {
        name: getattr(config, name)
        for name in ("discount", "tau", "policy_noise", "noise_clip", "policy_freq", "alpha")
    }
    if config.algo == "aspc":
        hp |= {"alpha_freq": config.alpha_freq, "ema_alpha": config.ema, "loss_function": config.loss_function}
    hp["reward_mean"] = config.reward_mean
    meta = {"algo": "aspc" if config.algo == "aspc" else "td3_bc", "state_dim": obs_dim, "action_dim": act_dim}
    meta |= {"n_steps": steps, "batch": batch, "max_action": max_action, "hp": hp, "lr": config.lr}
    np.savez(path, meta_json=np.array(json.dumps(meta)), **arrays)
    return path
