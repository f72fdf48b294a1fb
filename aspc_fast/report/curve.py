"""The picture of one run: score with its spread over episodes, and alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.files import replacing

INK, SCORE, ALPHA = "#22262e", "#1f6fb4", "#c2571a"


def plot_curve(records: list[dict[str, Any]], path: Path, curve: str | None = "alpha_after") -> Path:
    """Write curve.png from the records of metrics.jsonl: scores, and the metric ``curve`` (None: the critic's loss).

    UserError if matplotlib is missing or nothing was recorded.
    """
    below = curve or "critic_loss"
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("matplotlib is missing: pip install 'aspc_fast[plot]'") from None
    train = [r for r in records if r["kind"] == "train" and below in r]
    evals = [r for r in records if r["kind"] == "eval"]
    if not train and not evals:
        raise UserError("nothing was recorded yet")
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    if evals:
        steps = np.array([r["step"] for r in evals])
        mean = np.array([r["score"] for r in evals])
        spread = np.array([r["score_std"] for r in evals])
        top.fill_between(steps, mean - spread, mean + spread, color=SCORE, alpha=0.18, lw=0, label="spread (1 std)")
        top.plot(
            steps, mean, color=SCORE, marker="o", ms=3.5, lw=1.8, label=f"mean of {len(evals[-1]['returns'])} episodes"
        )
        top.legend(frameon=False, loc="best")
        top.set_title(f"{evals[-1]['env']}, {evals[-1]['engine']}", color=INK, fontsize=11)
    else:
        top.text(0.5, 0.5, "nothing evaluated", ha="center", transform=top.transAxes)
    top.set_ylabel("normalised score")
    bottom.plot([r["step"] for r in train], [r[below] for r in train], color=ALPHA, lw=1.8)
    bottom.set_ylabel(below.removesuffix("_after").replace("_", " "))
    bottom.set_xlabel("training steps")
    bottom.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    return path
