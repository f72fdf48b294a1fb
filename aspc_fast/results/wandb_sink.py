"""Records to Weights & Biases: one W&B run per training run. Nothing here imports wandb; the module is handed in."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aspc_fast.errors import UserError
from aspc_fast.files import read_json, write_json
from aspc_fast.results.logged_run import LoggedRun, first_line, scalars
from aspc_fast.results.records import Observer, Record

IDS = "wandb.json"


class WandbSink(Observer):
    """Begins W&B's runs at once, so that a missing login is known before training; UserError if it cannot.

    A resumed run goes on in the W&B run whose id ``folder``/wandb.json keeps; steps that W&B has already are not sent
    again. Records of the whole population (speed, memory) go to every one of its runs.
    """

    def __init__(
        self, wandb: Any, project: str, runs: Mapping[int | None, LoggedRun], folder: Path | None, group: str | None
    ) -> None:
        ids: dict[str, str] = read_json(folder / IDS) if folder is not None and (folder / IDS).exists() else {}
        if not isinstance(ids, dict) or not all(isinstance(value, str) for value in ids.values()):
            raise UserError(f"{folder}/{IDS}: damaged, it must map names to ids; delete it to begin new runs in W&B")
        self._new = {key for key, run in runs.items() if run.name not in ids}
        ids |= {runs[key].name: uuid.uuid4().hex[:16] for key in self._new}
        if folder is not None and self._new:
            write_json(folder / IDS, ids)
        # console off: the live table is no log; silent: hundreds of runs would print their addresses over it
        several = {"reinit": "create_new"} if len(runs) > 1 else {}
        settings = {"console": "off", "silent": len(runs) > 1}
        self._runs: dict[int | None, Any] = {}
        try:
            for key, run in runs.items():
                self._runs[key] = wandb.init(
                    project=project,
                    name=run.name,
                    id=ids[run.name],
                    resume="allow",
                    config={**run.hparams, **run.config},
                    group=group,
                    dir=None if folder is None else str(folder),
                    settings=settings,
                    **several,
                )
                for kind in ("train", "eval", "final", "system"):
                    self._runs[key].define_metric(f"{kind}/*", step_metric=f"{kind}_step")
        except Exception as error:
            self.close(True)
            raise UserError(
                f"--wandb {project}: W&B cannot begin ({first_line(error)}); log in with `wandb login`, or set"
                " WANDB_MODE=offline"
            ) from None

    def on_restore(self, step: int, records: list[Record], pending: list[int]) -> None:
        """A run that W&B does not know yet gets all that was recorded before."""
        for record in records:
            for key in self._targets(record):
                if key in self._new:
                    self._send(key, record)

    def on_record(self, record: Record) -> None:
        """Send a record."""
        for key in self._targets(record):
            self._send(key, record)

    def close(self, failed: bool = False) -> None:
        """Finish W&B's runs (waits for the upload)."""
        for run in self._runs.values():
            run.finish(exit_code=int(failed))

    def _targets(self, record: Record) -> list[int | None]:
        key = record.get("run")
        return [key] if key in self._runs else list(self._runs)

    def _send(self, key: int | None, record: Record) -> None:
        run = self._runs[key]
        if record["kind"] == "diverged":
            run.summary["diverged"] = f"{record['quantity']} is not finite at step {record['step']}"
            return
        step_name = f"{'final' if record.get('final') else record['kind']}_step"
        # what a killed process sent after its last checkpoint comes again, with the same values
        if record["step"] > (run.summary.get(step_name) or -1):
            run.log({step_name: record["step"], **scalars(record)})
