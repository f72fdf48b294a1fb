"""`aspc-fast evaluate`."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.text import Text

from aspc_fast.cli.console import make_console, passing_bar, say
from aspc_fast.errors import UserError
from aspc_fast.evaluation import evaluate as evaluate_policy
from aspc_fast.files import write_json
from aspc_fast.results.export import load_any


def evaluate(
    results: tyro.conf.Positional[Path],
    episodes: int = 100,
    seed: int = 0,
    env: str | None = None,
    run: int | None = None,
) -> int:
    """Roll out a trained run's last checkpoint in its simulator and print the normalised score.

    Args:
        results: results folder of a training run or a sweep, or an exported .safetensors file.
        episodes: how many episodes.
        seed: seed of their start states.
        env: simulator task or suite id, for a run whose data did not tell its own.
        run: number of the run, in a sweep's results folder.
    """
    console = make_console()
    if episodes < 1:
        raise UserError(f"episodes must be at least 1, got {episodes}")
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    loaded = load_any(results, run)
    name = env or loaded.task
    if name is None:
        raise UserError(f"{results}: the run's data did not tell its simulator; name it with --env (as Hopper-v4)")
    with passing_bar(console=console) as progress:
        task = progress.add_task(f"{episodes} episodes of {name}", total=1.0)
        result = evaluate_policy(
            loaded.policy,
            name,
            episodes,
            seed,
            frame=loaded.frame,
            progress=lambda part: progress.update(task, completed=part),
        )
    name = f"evaluation{'' if run is None else f'-run-{run}'}-{episodes}x{seed}.json"
    path = (results if results.is_dir() else results.parent) / name
    write_json(path, {"step": loaded.step, **result.to_json()})
    its_return = "" if result.measure == "return" else f", return {result.returns.mean():.1f}"
    told = f" +- {result.score_std:.1f} (std over {episodes} episodes){its_return}, length {result.lengths.mean():.0f}"
    where = f"; step {loaded.step:,}; {result.env} ({result.engine}), {result.comparable}"
    say(console, Text.assemble((f"{result.measure} {result.score:.1f}", "bold"), told, where))
    say(console, f"written to {path}")
    return 0


COMMANDS = {"evaluate": evaluate}
