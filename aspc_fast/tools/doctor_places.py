"""The doctor's rows on datasets, folders and simulators."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aspc_fast.errors import UserError
from aspc_fast.suite import SUITE, Dataset
from aspc_fast.tools.doctor_row import Row, run_python, told

LITTLE_DISK = 2**30  # bytes; the learning state of the whole suite with five seeds is 1.14 GiB
SIMULATOR_SECONDS = 60.0
SIMULATE = """
import sys
import numpy as np
from aspc_fast.errors import UserError
from aspc_fast.evaluation import make_task
try:
    task = make_task(sys.argv[1])
    simulator = task.open([0], 1)
    simulator.reset()
    observations, _, _ = simulator.step(np.zeros((1, task.act_dim)))
    assert observations.shape == (1, task.obs_dim), f"observations of shape {observations.shape}"
    simulator.close()
except UserError as error:
    sys.exit(str(error))
print(task.engine)
"""


def datasets(data_dir: Path | None = None) -> list[Row]:
    """Where datasets are looked for, and per domain which of the 39 are here; damaged files get a row each."""
    from aspc_fast.data import minari
    from aspc_fast.data.download import check_is
    from aspc_fast.data.places import default_data_dir, suite_file

    folder = data_dir or default_data_dir()
    origin = "--data-dir" if data_dir else "$ASPC_FAST_DATA" if os.environ.get("ASPC_FAST_DATA") else "the default"
    rows = [Row("datasets", "looked for in", "ok", f"{folder} ({origin})")]
    damaged = []
    for domain in domains():
        of_domain = [row for row in SUITE if row.domain == domain]
        here = []
        for row in of_domain:
            path = suite_file(row, folder)
            if path is None:
                continue
            try:
                check_is(row, path)
                here.append(row.id)
            except UserError as error:
                damaged.append(
                    Row("datasets", row.id, "missing", str(error), f"delete it; aspc-fast data get {row.id}")
                )
        value = f"{len(here)} of {len(of_domain)} here" + (f": {', '.join(here)}" if here else "")
        lacking = next((row.id for row in of_domain if row.id not in here), None)
        remedy = f"aspc-fast data get {lacking} (all ids: aspc-fast data ls)" if lacking else ""
        rows.append(Row("datasets", domain, "missing" if lacking else "ok", value, remedy))
    of_minari = sorted({row.minari for row in SUITE if row.minari and minari.is_here(row.minari)})
    if of_minari:
        rows.append(Row("datasets", "Minari", "ok", f"{', '.join(of_minari)} in {minari.datasets_root()}"))
    return rows + damaged


def domains() -> list[str]:
    """MuJoCo, Maze2d, AntMaze, Adroit, in the suite's order."""
    return list(dict.fromkeys(row.domain for row in SUITE))


def folders(results: Path, data_dir: Path | None = None) -> list[Row]:
    """Whether results and datasets can be written, and how much disk is free there. Nothing is left behind."""
    from aspc_fast.data.places import default_data_dir

    other = "choose another folder: train --out FOLDER (ask again with doctor --results FOLDER)"
    rows = [_folder("results", results, other, needed=True)]
    rows.append(_folder("datasets", data_dir or default_data_dir(), "set ASPC_FAST_DATA to another folder"))
    return rows


def _folder(name: str, folder: Path, remedy: str, needed: bool = False) -> Row:
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as handle:
            handle.write(b"0")
            handle.flush()
        free = shutil.disk_usage(place).free
    except OSError as error:
        value = f"{folder} cannot be written: {error.strerror or told(error)}"
        return Row("files", name, "failed" if needed else "missing", value, remedy)
    value = f"{folder}: can be written, {free / 2**30:.1f} GiB free"
    if free < LITTLE_DISK:
        return Row("files", name, "missing", value, f"little room; {remedy}")
    return Row("files", name, "ok", value)


def simulators(progress: Callable[[str], None] = lambda what: None) -> list[Row]:
    """Build and step one environment per domain, each in a process of its own: a crash of a simulator is a row."""
    chosen = [next(row for row in SUITE if row.domain == domain) for domain in domains()]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(min(len(chosen), os.cpu_count() or 1)) as pool:
        waiting = [pool.submit(_simulator, row, Path(folder)) for row in chosen]
        rows = []
        for row, future in zip(chosen, waiting, strict=True):
            progress(f"simulator of {row.domain}")
            rows.append(future.result())
    return rows


def _simulator(row: Dataset, folder: Path) -> Row:
    done = run_python(SIMULATE, row.env, folder=folder, seconds=SIMULATOR_SECONDS)
    if done.returncode == 0:
        return Row("simulators", row.domain, "ok", f"{done.stdout.strip().splitlines()[-1]} ({row.env})")
    said = done.stderr.strip().splitlines()
    value = f"crashed (signal {-done.returncode})" if done.returncode < 0 else said[-1] if said else "failed"
    remedy = "pip install --upgrade 'aspc_fast[eval]'; training works without, evaluation does not"
    return Row("simulators", row.domain, "missing", value[:300], remedy)
