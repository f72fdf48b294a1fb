"""One door to all data: a file, one of the 39 ids, or a Minari id -> ``Transitions``."""

from __future__ import annotations

from pathlib import Path

from aspc_fast.data import arrays, checks, d4rl, minari, npz
from aspc_fast.data.checksums import verify_checksum
from aspc_fast.data.places import default_data_dir, suite_file, unknown
from aspc_fast.data.tasks import guess_task, known_task
from aspc_fast.data.transitions import Transitions
from aspc_fast.errors import UserError
from aspc_fast.suite import BY_ID, Dataset

HDF5_SUFFIXES = (".hdf5", ".h5")
NPZ_SUFFIXES = (".npz",)


def load(
    source: str | Path,
    *,
    data_dir: Path | None = None,
    max_action: float | None = None,
    env: str | None = None,
) -> Transitions:
    """Load and validate a dataset. Nothing is downloaded.

    Args:
        source: a path to .hdf5, .h5 or .npz; one of the 39 suite ids (looked up in ``data_dir``); or a Minari id
            (namespace/name-vN, from Minari's own folder).
        data_dir: folder of the suite's files; default $ASPC_FAST_DATA, else ~/.cache/aspc_fast/datasets.
        max_action: the actions' bound; default the file's attribute of that name, else 1.
        env: the simulator task ("Hopper-v4") or suite id the data belongs to; default what the file or its name tells.

    Raises:
        UserError: one sentence naming file, field and value.
    """
    path = Path(source).expanduser()
    name = str(source)
    if name in BY_ID and not path.exists():
        return _load_suite(BY_ID[name], data_dir, max_action)
    if path.exists() or path.suffix.lower() in HDF5_SUFFIXES + NPZ_SUFFIXES:
        return load_file(path, max_action=max_action, env=env)
    if "/" in name and (minari.is_here(name) or minari.ID_FORM.fullmatch(name)):
        return minari.load_minari(name, max_action=max_action, env=env)
    raise UserError(unknown(name))


def load_file(
    path: Path, *, max_action: float | None = None, env: str | None = None, dataset_id: str | None = None
) -> Transitions:
    """Load a .hdf5, .h5 or .npz file; the suffix decides, and the content must agree. Raises UserError."""
    fields, attributes = (npz if path.suffix.lower() in NPZ_SUFFIXES else d4rl).read(path)
    stated = dataset_id or env
    task = known_task(stated) if stated is not None else guess_task(attributes.get("env_id"), path.stem)
    bound = max_action if max_action is not None else attributes.get("max_action", 1.0)
    return arrays.build(
        fields,
        source=str(path),
        task=task,
        max_action=checks.check_max_action(str(path), bound),
        frame=attributes.get("frame") or ("simulator" if "coordinates" in attributes else None),
        attributes=attributes,
    )


def _load_suite(row: Dataset, data_dir: Path | None, max_action: float | None) -> Transitions:
    path = suite_file(row, data_dir)
    if path is None:
        folder = data_dir or default_data_dir()
        raise UserError(
            f"{row.id} is not here: aspc-fast data get {row.id} downloads it, "
            f"or put {row.d4rl_url} at {folder / f'{row.id}.hdf5'}"
        )
    verify_checksum(path)
    return load_file(path, max_action=max_action, dataset_id=row.id)
