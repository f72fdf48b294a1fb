"""Results folders as sweeps and single runs write them, with invented numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from aspc_fast.config import AgentConfig
from aspc_fast.registry import names
from aspc_fast.report.content import Content
from aspc_fast.report.tables import Row

DATASETS: dict[str, tuple[str | None, str | None, float, float]] = {
    # display name -> dataset id, environment, final score, final alpha
    "halfcheetah-medium": ("halfcheetah-medium-v2", "HalfCheetah-v4", 57.0, 6.0),
    "hopper-random": ("hopper-random-v2", "Hopper-v4", 18.0, 9.0),
    "hopper-medium": ("hopper-medium-v2", "Hopper-v4", 82.0, 2.2),
    "hopper-mixed": (None, "Hopper-v4", 99.0, 3.0),
    "hopper-expert": ("hopper-expert-v2", "Hopper-v4", 109.0, 0.4),
    "hopper-medium-expert": ("hopper-medium-expert-v2", "Hopper-v4", 107.0, 0.6),
    "walker2d-medium": ("walker2d-medium-v2", "Walker2d-v4", 88.0, 3.5),
    "maze2d-umaze": ("maze2d-umaze-v1", "PointMaze_UMaze-v3", 140.0, 14.0),
    "maze2d-medium": ("maze2d-medium-v1", "PointMaze_Medium-v3", 165.0, 12.0),
    "pen-expert": ("pen-expert-v1", "AdroitHandPen-v1", 138.0, 0.12),
    "door-human": ("door-human-v1", "AdroitHandDoor-v1", -0.1, 0.3),
}
CLOSE = "close to D4RL's numbers, not identical: {env} in envpool 1.2.5, where D4RL ran -v2 on an older MuJoCo"


def write_sweep(
    path: Path,
    datasets: dict[str, tuple[str | None, str | None, float, float]] | None = None,
    *,
    seeds: int = 2,
    algos: tuple[str, ...] = ("aspc", "td3bc"),
    settings: tuple[str, ...] = ("",),
    steps: int = 100_000,
    points: int = 20,
    final: int = 100,
    episodes: int = 10,
    diverged: tuple[int, ...] = (),
    unevaluated: tuple[int, ...] = (),
    finished: bool = True,
    comparable: str = CLOSE,
    rng_seed: int = 0,
) -> Path:
    """A sweep folder. Run numbers in ``diverged`` stop at 40 %, those in ``unevaluated`` have no eval records."""
    rng = np.random.default_rng(rng_seed)
    path.mkdir(parents=True)
    runs: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    for name, (dataset_id, env, goal, alpha) in (DATASETS if datasets is None else datasets).items():
        for algo in algos:
            plain = AgentConfig(algo=algo).to_json() if algo in names() else {"algo": algo}
            for words in dict.fromkeys(_known(setting, plain) for setting in settings):
                setting, agent = " ".join(words), plain | dict(map(_parsed, words))
                for seed in range(seeds):
                    run = len(runs)
                    entry = {"run": run, "dataset": name, "dataset_id": dataset_id, "env": env, "algo": algo}
                    runs.append(entry | {"seed": seed, "setting": setting, "agent": agent})
                    top = goal * (1.0 if algo == "aspc" else 0.9) + rng.normal(0, 6)
                    speed = rng.uniform(4, 9)
                    last = 0.4 if run in diverged else 1.0 if finished else 0.55
                    scores = []
                    for i in range(1, points + 1):
                        part = i / points
                        if part > last:
                            break
                        step = round(part * steps)
                        a = 2.5 * (alpha / 2.5) ** (1 - math.exp(-4 * part)) if algo == "aspc" else 2.5
                        train = {"kind": "train", "run": run, "step": step, "alpha_after": a * rng.uniform(0.97, 1.03)}
                        theory = {"delta_q": 0.1 * a, "bc_sup": 0.5, "delta_bc_sup": 0.02, "eq3": 1e-4 * a * a}
                        lines.append(train | {"critic_loss": 1.0, "q1_mean": 10.0} | (theory if algo == "aspc" else {}))
                        if run not in unevaluated:
                            score = top * (1 - math.exp(-speed * part)) + rng.normal(0, 6)
                            scores.append(score)
                            lines.append(evaluation(run, step, score, episodes, env, comparable))
                    state, score_final = "done" if finished else "running", None
                    if run in diverged:
                        state, step = "diverged", round(0.4 * steps) + 37
                        lines.append({"kind": "diverged", "run": run, "step": step, "quantity": "critic_loss"})
                    elif run not in unevaluated and finished and final:
                        score_final = top + rng.normal(0, 1)
                        lines.append(evaluation(run, steps, score_final, final, env, comparable, True))
                    record = {"run": run, "state": state, "step": round(last * steps), "final_score": score_final}
                    record |= {"score": scores[-1] if scores else None, "episodes": episodes}
                    summary.append(record | {"alpha": alpha})
    lines.sort(key=lambda line: line["step"])
    for i in range(1, points + 1):
        rate = 2200 + 80 * math.sin(i)
        system = {"kind": "system", "step": round(i / points * steps), "run_updates_per_second": rate}
        system |= {"updates_per_second": rate / max(1, len(runs)), "wall_seconds": i * 61.0, "device_bytes": None}
        lines.append(system)
    config = {
        "format_version": 1, "kind": "sweep", "runs": runs,
        "settings": {"steps": steps, "device": "cpu", "engine": "eager", "eval_every": steps // points},
        "versions": {"aspc_fast": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "envpool": "1.2.5"},
        "machine": {"platform": "Linux-6.1-x86_64", "cpus": 2, "gpu": None}, "commit": "c2a57fc00000",
        "command": ["/somewhere/private/bin/aspc-fast", "sweep", "--data", "a b.hdf5", "--seeds", str(seeds)],
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        plan = {"dataset_bytes": 312_000_000, "state_bytes": 141_000_000, "populations": 1}
        totals = {"wall_seconds": points * 61.0, "run_updates_per_second": 2210.0, "plan": plan}
        (path / "summary.json").write_text(json.dumps({"runs": summary, **totals}))
    return path


def _known(setting: str, plain: dict[str, Any]) -> tuple[str, ...]:
    """The "name=value" words of a setting that an algorithm has; its text as it is if it is none of such words."""
    words = tuple(setting.split())
    return tuple(w for w in words if w.split("=")[0] in plain) if all("=" in w for w in words) else (setting,)


def _parsed(word: str) -> tuple[str, Any]:
    name, _, value = word.partition("=")
    return name, json.loads(value) if value[:1].isdigit() else value


def evaluation(
    run: int | None, step: int, score: float, episodes: int, env: str | None, comparable: str, final: bool = False
) -> dict[str, Any]:
    """An eval record; ``run`` None as in a single run's folder."""
    record = {"kind": "eval", "run": run, "step": step, "score": score, "score_std": 4.0, "env": env, "final": final}
    record |= {"returns": [1.0] * episodes, "engine": "envpool 1.2.5", "frame": "d4rl"}
    record |= {"comparable": comparable.format(env=env)}
    return record if run is not None else {k: v for k, v in record.items() if k != "run"}


def write_single(
    path: Path,
    *,
    dataset_id: str | None = "hopper-medium-v2",
    source: str = "/data/hopper-medium.hdf5",
    seed: int = 0,
    scores: tuple[float, ...] = (10.0, 20.0, 30.0),
    finished: bool = True,
    **agent: Any,
) -> Path:
    """The folder of one run as `aspc-fast train` writes it: an evaluation every 1000 steps."""
    path.mkdir(parents=True)
    steps = 1000 * max(1, len(scores))
    dataset = {"source": source, "id": dataset_id, "env": "Hopper-v4", "frame": "d4rl"}
    settings = {"steps": steps, "seed": seed, "device": "cpu", "engine": "eager"}
    config = {"format_version": 1, "dataset": dataset, "agent": AgentConfig(**agent).to_json(), "settings": settings}
    (path / "config.json").write_text(json.dumps(config | {"versions": {}, "machine": {}, "commit": None}))
    lines = []
    for i, score in enumerate(scores, 1):
        train = {"kind": "train", "step": 1000 * i, "alpha_after": 2.5 - 0.1 * i, "updates_per_second": 250.0}
        lines += [train, evaluation(None, 1000 * i, score, 10, "Hopper-v4", CLOSE)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        mean = float(np.mean(scores)) if scores else None
        summary = {"steps": steps, "score": scores[-1] if scores else None, "mean_of_last_evaluations": mean}
        (path / "summary.json").write_text(json.dumps(summary | {"episodes": 10, "evaluations_in_mean": len(scores)}))
    return path


def rows_of(content: Content) -> dict[tuple[str, str], Row]:
    """Every row of scores by (dataset, algorithm with setting)."""
    return {(row.dataset, row.variant.label): row for table in content.tables for row in table.rows}
