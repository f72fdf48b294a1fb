"""`aspc-fast watch`."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

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
    console = Console(soft_wrap=True)
    with Progress(console=console, transient=True) as progress:
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
        console.print(Text(watched.note))
    for i, (score, total, length) in enumerate(zip(shown, watched.returns, watched.lengths, strict=True)):
        console.print(f"episode {i}: score {score:.1f}, return {total:.1f}, {length} steps", highlight=False)
    starts = "from the same start states" if watched.same_start else "from other start states"
    console.print(
        Text.assemble(
            (f"score {shown.mean():.1f}", "bold"),
            f" in {watched.engine}; evaluate has {evaluated.score:.1f} {starts} ({evaluated.engine});"
            f" {evaluated.comparable}",
        )
    )
    console.print(Text(f"written to {watched.path} ({watched.pictures} pictures)"))
    return 0


COMMANDS = {"watch": watch}
