"""One contender of ``benchmarks/peers.py`` in a process of its own: for each number of seconds on standard input it
runs a window of about that length and answers with one line of JSON.

python benchmarks/peer_workers.py CORES CONTENDER [FOLDER]; started by peers.py, in the contender's own environment:
nothing but the standard library is imported before a contender asks for it. The peers' modules are loaded as they are;
what they import only to simulate, log or read options is replaced by mocks, and what equal work needs (the critic; the
authors' missing field) is set from here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

ROWS, OBS_DIM, ACT_DIM, BATCH = 100_000, 17, 6, 256
QUANTUM = 40  # updates: windows are multiples, so that whole periods and whole jitted calls fit
ROBUST_WIDTHS = (256, 256, 256)

Advance = Callable[[int], None]


def load(folder: str, file: str, mocked: tuple[str, ...]) -> Any:
    """A peer's module from its repository in ``folder``."""
    for name in mocked:
        sys.modules[name] = MagicMock()
    spec = importlib.util.spec_from_file_location(f"peer_{Path(file).stem}", Path(folder) / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def arrays() -> dict[str, Any]:
    """Random transitions in D4RL's layout, float32: speed does not depend on what they say."""
    import numpy as np

    rng = np.random.default_rng(0)
    return {
        "observations": rng.standard_normal((ROWS, OBS_DIM), dtype=np.float32),
        "actions": 2 * rng.random((ROWS, ACT_DIM), dtype=np.float32) - 1,
        "rewards": rng.standard_normal(ROWS, dtype=np.float32),
        "next_observations": rng.standard_normal((ROWS, OBS_DIM), dtype=np.float32),
        "terminals": np.zeros(ROWS, dtype=np.float32),
    }


def ours(engine: str, algo: str, runs: str) -> Advance:
    """This package, as ``aspc-fast bench`` runs it; engine "reference" is reference.py."""
    import torch

    from aspc_fast.tools.bench import Rung, prepare, synthetic_data

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return prepare(Rung(engine, algo, int(runs)), synthetic_data(ROWS, OBS_DIM, ACT_DIM), "cpu")[0]


def authors(folder: str) -> Advance:
    """The ASPC authors' trainer with their own buffer, as their ``train`` calls it; ``reward_mean``, which it reads and
    never assigns, is 0."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    theirs = load(folder, "algorithms/offline/aspc.py", ("d4rl", "gym", "pyrallis", "wandb"))
    buffer = theirs.ReplayBuffer(OBS_DIM, ACT_DIM, ROWS, "cpu")
    buffer.load_d4rl_dataset(arrays())
    actor = theirs.Actor(OBS_DIM, ACT_DIM, 1.0)
    others = {"critic_1": theirs.Critic(OBS_DIM, ACT_DIM), "critic_2": theirs.Critic(OBS_DIM, ACT_DIM)}
    others["vnet"] = theirs.Vnet(OBS_DIM)
    optimisers = {f"{name}_optimizer": torch.optim.Adam(net.parameters(), lr=3e-4) for name, net in others.items()}
    trainer = theirs.Adaptive_TD3_BC(
        **(others | optimisers | {"max_action": 1.0, "actor": actor}),
        actor_optimizer=theirs.torchopt.adam(lr=3e-4, use_accelerated_op=True),
    )
    trainer.reward_mean = 0.0

    def advance(steps: int) -> None:
        for _ in range(steps):
            trainer.train([tensor.to("cpu") for tensor in buffer.sample(BATCH)])

    return advance


def jax_corl(folder: str, jitted: str) -> Advance:
    """JAX-CORL's TD3+BC, ``jitted`` updates in one call, as its main program calls it; its critics get three hidden
    layers of 256 with LayerNorm after ReLU."""
    theirs = load(folder, "algos/td3bc.py", ("d4rl", "distrax", "gym", "omegaconf", "tqdm", "wandb"))
    jax, jnp, nn = theirs.jax, theirs.jnp, theirs.nn

    class RobustCritics(nn.Module):  # type: ignore[misc, name-defined]
        hidden_dims: Any

        @nn.compact
        def __call__(self, observation: Any, action: Any) -> Any:
            def value(x: Any) -> Any:
                for width in ROBUST_WIDTHS:
                    x = nn.LayerNorm()(nn.relu(nn.Dense(width, kernel_init=theirs.default_init())(x)))
                return nn.Dense(1, kernel_init=theirs.default_init())(x)

            inputs = jnp.concatenate([observation, action], axis=-1)
            return value(inputs), value(inputs)

    theirs.DoubleCritic = RobustCritics
    config = theirs.TD3BCConfig(n_jitted_updates=int(jitted), batch_size=BATCH)
    made = {("dones" if name == "terminals" else name): jnp.asarray(x) for name, x in arrays().items()}
    data = theirs.Transition(**made)
    rng, key = jax.random.split(jax.random.PRNGKey(0))
    state = theirs.create_td3bc_train_state(key, data.observations[0], data.actions[0], config)
    update = jax.jit(theirs.TD3BC().update_n_times, static_argnums=(3,))

    def advance(steps: int) -> None:
        nonlocal rng, state
        for _ in range(steps // config.n_jitted_updates):
            rng, key = jax.random.split(rng)
            state, _ = update(state, data, key, config)
        jax.block_until_ready(state)

    return advance


CONTENDERS: dict[str, Callable[..., Advance]] = {"ours": ours, "authors": authors, "jax-corl": jax_corl}


def timed(advance: Advance, steps: int) -> dict[str, float]:
    """One window: updates, seconds, and seconds of all this process's threads."""
    begin, cpu = time.perf_counter(), time.process_time()
    advance(steps)
    return {"updates": steps, "seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}


def versions() -> dict[str, str]:
    """Of the libraries that this contender runs on."""
    return {name: metadata.version(name) for name in ("torch", "torchopt", "jax", "flax") if name in sys.modules}


def main() -> None:
    """Build, warm up, then one window for each line of standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a peer prints is no answer
    os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})  # before any library counts the cores

    def answer(told: dict[str, Any]) -> None:
        print(json.dumps(told), file=answers, flush=True)

    try:
        name, *words = sys.argv[2:]
        advance = CONTENDERS[name](*words)
        advance(QUANTUM)
        last = timed(advance, QUANTUM)
        answer({"versions": versions()})
        for line in sys.stdin:
            steps = last["updates"] / last["seconds"] * float(line)
            last = timed(advance, max(1, round(steps / QUANTUM)) * QUANTUM)
            answer(last)
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    main()
