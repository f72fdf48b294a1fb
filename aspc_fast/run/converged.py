"""alpha fixed where ASPC left it: the paper's ablation, from the results folder of an earlier sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from aspc_fast.errors import UserError
from aspc_fast.report.model import Run
from aspc_fast.report.read import read_folders
from aspc_fast.run.plan import DataSize, PlannedRun

FIXED = "td3bc"  # the algorithm in which alpha is what ASPC learns, and stays


def with_converged_alpha(
    runs: Sequence[PlannedRun], sizes: Sequence[DataSize], varied: Mapping[str, Sequence[Any]], folder: str
) -> list[PlannedRun]:
    """The runs, those of TD3+BC with alpha as ASPC's runs of the same dataset in ``folder`` left it.

    UserError if none is TD3+BC's, if alpha is set by hand as well, or if ``folder`` lacks a dataset.
    """
    mine = {sizes[run.dataset].name for run in runs if run.config.algo == FIXED}
    if not mine:
        raise UserError(f"--alpha-from fixes alpha of {FIXED}, which this sweep does not train: add --algo {FIXED}")
    if "alpha" in varied:
        raise UserError("alpha is given by --set and by --alpha-from: leave one of them out")
    alphas = {name: alpha for name, alpha in converged(folder).items() if name in mine}
    missing = sorted(mine - set(alphas))
    if missing:
        raise UserError(f"{folder}: holds no finished ASPC run of {', '.join(missing)}, so no alpha to take from it")

    def fixed(run: PlannedRun) -> PlannedRun:
        config = run.config.changed(alpha=alphas[sizes[run.dataset].name])
        return dataclasses.replace(run, config=config, setting=f"alpha=converged {run.setting}".strip())

    return [fixed(run) if run.config.algo == FIXED else run for run in runs]


def converged(folder: str) -> dict[str, float]:
    """Dataset (its id, or the name of its file) -> mean over ASPC's finished runs of alpha in their last record."""
    found: dict[str, list[Run]] = {}
    for run in (run for read in read_folders([Path(folder)]) for run in read.runs):
        if run.algo == "aspc" and run.state == "done" and run.alphas:
            found.setdefault(run.key, []).append(run)
    for name, runs in found.items():
        settings = sorted({run.setting or "none" for run in runs})
        if len(settings) > 1:
            raise UserError(
                f"{folder}: ASPC trained on {name} with several settings ({'; '.join(settings)}): which alpha?"
            )
    return {name: fmean(run.alphas[-1][1] for run in runs) for name, runs in found.items()}
