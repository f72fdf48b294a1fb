"""Scores of this package against reference.py: same data, same initial weights, same batches and noise, same episodes.

python -m benchmarks.score_parity DATA.hdf5 ... --steps 20000 --seeds 3 --trainer ours|reference --out FILE.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from aspc_fast import reference
from aspc_fast.agent.trace_names import layer_names
from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.engine.metrics import MetricMeans
from aspc_fast.evaluation import evaluate
from aspc_fast.run.population import Population, RunSpec, build_population
from benchmarks.parts import write_result


def reference_of(population: Population) -> reference.Trainer:
    """The reference trainer with run 0's initial weights."""
    data, shapes, state = population.datasets[0], population.spec.shapes, population.state
    trainer = reference.Trainer(data.obs_dim, data.act_dim, data.max_action)
    for module, layout, flat in (
        (trainer.actor, shapes.actor, state.actor[0]),
        (trainer.critic_1, shapes.critic, state.critic[0, 0]),
        (trainer.critic_2, shapes.critic, state.critic[0, 1]),
    ):
        views = dict(zip(layer_names(layout), layout.views(flat), strict=True))
        current = module.state_dict()
        module.load_state_dict(
            {k: (views[k].T if views[k].ndim == 2 else views[k]).reshape(v.shape) for k, v in current.items()}
        )
    trainer.reset()
    return trainer


def train_reference(population: Population, steps: int) -> None:
    """Train the reference on the population's own batches, then copy its actor back for evaluation."""
    trainer, replay, engine = reference_of(population), population.engine.replay, population.engine
    step = 1
    while step <= steps:
        chunk = min(64, steps - step + 1)
        for b in replay.sample(population.spec, engine.hyper, step, chunk):
            reward, done = b.rewards[0][:, None], b.terminals[0][:, None]
            trainer.train_step(b.observations[0], b.actions[0], reward, b.next_observations[0], done, b.noise[0])
        step += chunk
    layout = population.spec.shapes.actor
    weights = trainer.actor.state_dict()
    tensors = [weights[name].T if weights[name].ndim == 2 else weights[name] for name in layer_names(layout)]
    population.state.actor[0].copy_(layout.flatten(tensors))


def main() -> None:
    """Train and evaluate every (dataset, seed); append to the JSON after each, so that a kill loses one run at most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--trainer", choices=("ours", "reference"), required=True)
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    done = {(row["data"], row["seed"]) for row in rows}
    for path in options.data:
        data, name = load(path), Path(path).stem
        for seed in range(options.seeds):
            if (name, seed) in done:
                continue
            population = build_population([data], [RunSpec(0, AgentConfig(), seed)], engine=options.engine)
            start = time.perf_counter()
            if options.trainer == "ours":
                population.engine.advance(options.steps, MetricMeans())
            else:
                train_reference(population, options.steps)
            seconds = time.perf_counter() - start
            result = evaluate(population.policy(0), data.env or name, options.episodes, seed)
            rows.append(
                {"data": name, "seed": seed, "score": result.score, "episode_std": result.score_std, "seconds": seconds}
            )
            rows[-1]["engine"] = population.engine.name if options.trainer == "ours" else "reference"
            print(rows[-1], flush=True)
            how = {name: getattr(options, name) for name in ("trainer", "steps", "episodes")}
            write_result(options.out, {**how, "rows": rows})
    for name in sorted({row["data"] for row in rows}):
        scores = [row["score"] for row in rows if row["data"] == name]
        print(f"{name}: {np.mean(scores):.1f} +- {np.std(scores):.1f} over {len(scores)} seeds")


if __name__ == "__main__":
    main()
