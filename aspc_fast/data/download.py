"""Downloads the suite's files: from D4RL's server, else from a public mirror of the same files.

D4RL publishes no checksums. So trust is on first use: a file is put in place only if it reads as the dataset it should
be (dimensions exactly, rows within 1 %), its sha256 is then written to ``checksums.json`` beside it, and every later
``get`` and ``load`` compares. That catches damage and replacement afterwards, not a wrong file on the first day.

Both sources go through the same hundred lines. The mirror's own client (huggingface_hub) would serve only one of them,
keeps files in a cache of its own, and after a download compares sizes, not digests: resume would be as good, checksums
not. pooch does not resume and knows digests beforehand or not at all: it would only call this downloader, and leave its
temporary files behind when killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from aspc_fast.data import checks, d4rl, minari
from aspc_fast.data.checksums import record, recorded, verify_checksum
from aspc_fast.data.d4rl import one_line
from aspc_fast.data.places import default_data_dir, suite_file, unknown
from aspc_fast.data.transfer import Line, fetch
from aspc_fast.data.writers import sync
from aspc_fast.errors import UserError
from aspc_fast.files import DISK_ERRORS, sha256
from aspc_fast.suite import BY_ID, Dataset

MIRROR = "https://huggingface.co/datasets/imone/D4RL/resolve/main/"
# published row counts differ by trimmed tails between D4RL's releases; another dataset differs by far more
ROW_TOLERANCE = 0.01


def sources(row: Dataset) -> list[str]:
    """Addresses of D4RL's own file, in the order they are tried."""
    return [row.d4rl_url, MIRROR + Path(row.d4rl_file).name]


def get(dataset_id: str, *, data_dir: Path | None = None, progress: bool = True, line: Line | None = None) -> Path:
    """Make a dataset available here: one of the 39 ids, or a Minari id. Does nothing if it already is.

    An interrupted download is resumed where the server allows it. line: shows the progress instead of one of its own.
    Returns the file (for Minari: its folder). Raises
    UserError for an unknown id, a file that is not the dataset, a changed checksum, or when no source can be reached.
    """
    if dataset_id not in BY_ID:
        if "/" in dataset_id and minari.ID_FORM.fullmatch(dataset_id):
            return _get_minari(dataset_id)
        raise UserError(unknown(dataset_id))
    row = BY_ID[dataset_id]
    folder = data_dir or default_data_dir()
    path = suite_file(row, folder)
    if path is None:
        path = folder / f"{row.id}.hdf5"
        if line is not None:
            _download(row, path, line)
        else:
            with Line(progress) as own:
                _download(row, path, own)
    elif recorded(path) is None:
        check_is(row, path)
        record(path, sha256(path), "put here by hand")
    else:
        verify_checksum(path)
    return path


def get_all(
    rows: Sequence[Dataset],
    *,
    data_dir: Path | None = None,
    progress: bool = True,
    told: Callable[[str], None] = lambda sentence: None,
) -> list[Path]:
    """Make all of ``rows`` available here, one after the other under one progress line; what is here stays.

    A dataset that cannot be had does not keep the others; ``told`` hears its sentence at once. Called again, it goes on
    where it was. Returns the files; UserError at the end if any is missing, at once if the folder takes no more.
    """
    paths, missing = [], []
    with Line(progress) as line:
        for number, row in enumerate(rows, 1):
            line.prefix = f"{number} of {len(rows)}  "
            line.begin(row.id)
            try:
                paths.append(get(row.id, data_dir=data_dir, line=line))
            except Unwritable:
                raise  # as it would every other dataset
            except UserError as error:
                missing.append(row.id)
                told(str(error))
    if missing:
        raise UserError(
            f"{len(paths)} of {len(rows)} datasets are here; not {', '.join(missing)}: the same command tries again"
        )
    return paths


class Unwritable(UserError):
    """The folder takes no more: full, or not ours."""


def _download(row: Dataset, path: Path, line: Line) -> None:
    try:
        import requests  # noqa: F401
    except ImportError:
        raise UserError("data get needs requests, which is missing: pip install 'aspc_fast[data]'") from None
    failures = []
    incoming = path.parent / ".incoming"
    fetched = incoming / f"{row.id}.hdf5"
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        for url in sources(row):
            try:
                fetch(url, fetched, line)
            except Exception as error:
                if getattr(error, "errno", None) in DISK_ERRORS:
                    raise  # no other source helps a disk
                failures.append(f"{url} ({reason(error)})")
                continue
            try:
                check_is(row, fetched)
            except UserError as error:
                fetched.unlink(missing_ok=True)
                failures.append(f"{url} (not the dataset: {one_line(error, 200)})")
                continue
            record(path, sha256(fetched), url)
            sync(fetched)
            os.replace(fetched, path)
            _tidy(incoming)
            return
    except OSError as error:
        raise Unwritable(f"{path}: cannot be written: {error.strerror or error}") from None
    _tidy(incoming)
    closest = f"; the closest Minari dataset is {row.minari}" if row.minari else ""
    raise UserError(
        f"{row.id} could not be downloaded: {' and '.join(failures)} failed; "
        f"put {Path(row.d4rl_file).name} from D4RL at {path} by hand{closest}"
    )


def _tidy(incoming: Path) -> None:
    with suppress(OSError):
        incoming.rmdir()  # stays while a partial download waits in it


def reason(error: Exception) -> str:
    """Why a transfer failed, in a few words."""
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke; what has arrived is kept"
    return f"{type(error).__name__}: {one_line(error, 100)}"


def check_is(row: Dataset, path: Path) -> None:
    """UserError unless ``path`` holds HDF5 arrays of the row's dimensions and, within 1 %, its number of rows."""
    d4rl.require_file(path)
    if not h5py.is_hdf5(path):
        raise UserError(f"{path}: is not an HDF5 file ({path.stat().st_size} bytes)")
    try:
        with h5py.File(path, "r", locking=False) as file:
            shapes = {name: tuple(file[name].shape) for name in checks.REQUIRED}
    except Exception as error:
        raise UserError(f"{path}: is not a D4RL file: {one_line(error)}") from None
    for name, width in (("observations", row.obs_dim), ("actions", row.act_dim)):
        shape = shapes[name]
        if len(shape) != 2 or shape[1] != width or abs(shape[0] - row.transitions) > ROW_TOLERANCE * row.transitions:
            raise UserError(f"{path}: {name} has shape {shape}, but {row.id} has ({row.transitions}, {width})")


def _get_minari(dataset_id: str) -> Path:
    folder = minari.datasets_root() / dataset_id
    if minari.is_here(dataset_id):
        return folder
    module = minari.import_minari()
    fetch: Callable[[str], Any] = module.download_dataset
    try:
        with minari.quiet_minari():
            fetch(dataset_id)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{dataset_id} could not be downloaded by Minari ({type(error).__name__}: {one_line(error, 120)}); "
            f"put its folder at {folder} by hand"
        ) from None
    if not minari.is_here(dataset_id):
        raise UserError(f"{dataset_id}: Minari's server has no such dataset; its folder would be {folder}")
    return folder
