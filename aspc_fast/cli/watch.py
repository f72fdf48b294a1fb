"""`aspc-fast watch`."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.text import Text

from aspc_fast.cli.console import make_console, passing_bar, say
from aspc_fast.film.watch import watch as watch_run


def watch(
    results: tyro.conf.Positional[Path],
    episodes: int = 1,
    seed: int = 0,
    out: Path | None = None,
    run: int | None = None,
    env: str | None = None,
    flat: bool = False,
    speed: float = 1.0,
) -> int:
    """Film a trained run: the episodes `aspc-fast evaluate` rolls out from the same seed, as a video.

    Args:
        results: results folder of a training run or a sweep, or an exported .safetensors file.
        episodes: how many episodes, one after the other.
        seed: seed of their start states, as evaluate's.
        out: .mp4 or .gif file; default episode-seedS.mp4 in the results folder.
        run: number of the run, in a sweep's results folder.
        env: simulator task or suite id, for a run whose data did not tell its own.
        flat: draw a point maze from above, with the ball's trail (done anyway where OpenGL is missing).
        speed: 1 is real time.
    """
    console = make_console()
    with passing_bar(console=console) as progress:
        bar = progress.add_task("filming", total=1.0)
        watched = watch_run(
            results,
            episodes=episodes,
            seed=seed,
            out=out,
            run=run,
            env=env,
            flat=flat,
            speed=speed,
            progress=lambda part: progress.update(bar, completed=part),
        )
    shown, evaluated = watched.scores, watched.evaluated
    if watched.note:
        say(console, watched.note)
    for i, (score, total, length) in enumerate(zip(shown, watched.returns, watched.lengths, strict=True)):
        say(console, f"episode {i}: {evaluated.measure} {score:.1f}, return {total:.1f}, {length} steps")
    starts = "from the same start states" if watched.same_start else "from other start states"
    told = f" in {watched.engine}; evaluate has {evaluated.score:.1f} {starts} ({evaluated.engine})"
    value = (f"{evaluated.measure} {shown.mean():.1f}", "bold")
    say(console, Text.assemble(value, f"{told}; {evaluated.comparable}"))
    say(console, f"written to {watched.path} ({watched.pictures} pictures)")
    return 0


COMMANDS = {"watch": watch}
