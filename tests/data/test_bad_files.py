"""Every mistake a file can hold costs one clear sentence, never a traceback, memory or another file's contents."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from aspc_fast.data.arrays import from_arrays
from aspc_fast.data.load import load
from aspc_fast.errors import UserError

Save = Callable[..., Path]
Fields = dict[str, np.ndarray]
BOTH = pytest.mark.parametrize("suffix", [".hdf5", ".npz"])


def complaint(source: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


def put(name: str, row: int, value: float) -> Callable[[Fields], Fields]:
    def change(data: Fields) -> Fields:
        array = data[name].astype(np.float64)
        array[row] = value
        return {**data, name: array}

    return change


def replaced(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Fields], Fields]:
    return lambda data: {**data, name: make(data[name])}


def without(name: str) -> Callable[[Fields], Fields]:
    return lambda data: {key: value for key, value in data.items() if key != name}


CASES = {
    "no observations": (without("observations"), ["'observations' is missing"]),
    "no actions": (without("actions"), ["'actions' is missing"]),
    "no rewards": (without("rewards"), ["'rewards' is missing"]),
    "no terminals": (without("terminals"), ["'terminals' is missing"]),
    "short rewards": (replaced("rewards", lambda a: a[:-1]), ["rewards", "29", "30"]),
    "short timeouts": (replaced("timeouts", lambda a: a[:-1]), ["timeouts", "29", "30"]),
    "narrow successors": (replaced("next_observations", lambda a: a[:, 1:]), ["next_observations", "(30, 4)"]),
    "flat observations": (replaced("observations", lambda a: a[:, 0]), ["observations", "(30,)"]),
    "cubic actions": (replaced("actions", lambda a: a[:, :, None]), ["actions", "(30, 2, 1)"]),
    "wide rewards": (replaced("rewards", lambda a: np.stack([a, a], 1)), ["rewards", "(30, 2)"]),
    "scalar terminals": (replaced("terminals", lambda a: np.array(False)), ["terminals", "()"]),
    "no entries": (replaced("actions", lambda a: a[:, :0]), ["actions", "0 entries"]),
    "NaN": (put("observations", 7, np.nan), ["observations", "nan", "row 7"]),
    "infinity": (put("rewards", 29, -np.inf), ["rewards", "-inf", "row 29"]),
    "NaN successor": (put("next_observations", 4, np.nan), ["next_observations", "nan", "row 4"]),
    "beyond float32": (put("rewards", 5, 1e300), ["rewards", "1e+300", "row 5"]),
    "terminal of 2": (put("terminals", 11, 2), ["terminals", "2.0", "row 11"]),
    "terminal of 0.5": (put("terminals", 11, 0.5), ["terminals", "0.5", "row 11"]),
    "terminal of NaN": (put("terminals", 11, np.nan), ["terminals", "nan", "row 11"]),
    "timeout of -1": (put("timeouts", 2, -1), ["timeouts", "-1", "row 2"]),
    "large action": (put("actions", 13, -1.5), ["actions", "-1.5", "row 13", "+-1"]),
    "no rows": (lambda data: {key: value[:0] for key, value in data.items()}, ["observations", "empty"]),
    "only timeouts": (replaced("timeouts", np.ones_like), ["no transitions", "30"]),
    "complex rewards": (replaced("rewards", lambda a: a.astype(complex)), ["rewards", "complex128"]),
    "text rewards": (replaced("rewards", lambda a: a.astype("S8")), ["rewards", "S8"]),
    "bool observations": (replaced("observations", lambda a: a > 0), ["observations", "bool"]),
}


@pytest.mark.parametrize("where", [".hdf5", ".npz", "memory"])
@pytest.mark.parametrize("case", CASES)
def test_bad_arrays(fields: Fields, save: Save, where: str, case: str) -> None:
    change, words = CASES[case]
    changed = change(fields)
    if where != "memory":
        path = save(changed, where)
        text, source = complaint(path), str(path)
    elif len(changed) == len(fields):  # else the signature asks for it
        with pytest.raises(UserError) as caught:
            from_arrays(**changed, name="mine")
        text, source = str(caught.value), "mine: "
    else:
        return
    assert text.startswith(source)
    for word in words:
        assert word in text, text


def test_ragged_and_object_arrays_in_memory(fields: Fields) -> None:
    with pytest.raises(UserError, match="not a regular array"):
        from_arrays(**{**fields, "observations": [[1.0], [1.0, 2.0]]})
    with pytest.raises(UserError, match=r"rewards has dtype object"):
        from_arrays(**{**fields, "rewards": np.array([object()] * 30)})


@pytest.mark.parametrize("value", [0, -1, "nan", "wide", float("inf")])
def test_bad_max_action(fields: Fields, save: Save, value: object) -> None:
    assert "max_action" in complaint(save(fields, attributes={"max_action": value}))


def test_the_wrong_dimensions_for_a_stated_task(fields: Fields, save: Save) -> None:
    assert "Hopper-v4 has 11 and 3" in complaint(save(fields, attributes={"env_id": "Hopper-v4"}))
    assert "Hopper-v4 has 11 and 3" in complaint(save(fields), env="Hopper-v4")
    assert "nearest: hopper-medium-v2" in complaint(save(fields), env="hoper-medium-v2")


@BOTH
def test_things_that_are_no_dataset_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    assert "no such file" in complaint(path)
    path.write_bytes(b"")
    assert "is empty" in complaint(path)
    path.write_bytes(b"hello, world" * 100)
    assert "is not an" in complaint(path)
    path.unlink()
    path.mkdir()
    assert "is a directory" in complaint(path)


@BOTH
def test_a_pipe_is_refused_unread(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"x{suffix}")
    assert "not a regular file" in complaint(tmp_path / f"x{suffix}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(fields: Fields, save: Save) -> None:
    path = save(fields)
    path.chmod(0)
    assert "cannot be opened" in complaint(path)


@BOTH
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files(fields: Fields, save: Save, suffix: str, share: float) -> None:
    path = save(fields, suffix)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    assert str(path) in complaint(path)


@pytest.mark.parametrize(
    "source", ["hoper-medium-v2", "hopper-medium-v9", "nonsense", "no/such", "a/../b-v0", "../etc/passwd", ""]
)
def test_unknown_names(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    text = complaint(source)
    assert ("nearest: hopper-medium-v2" in text) == source.startswith("hop")


def test_a_missing_suite_file_says_where_to_put_which(tmp_path: Path) -> None:
    text = complaint("hopper-medium-v2", data_dir=tmp_path)
    assert "aspc-fast data get hopper-medium-v2" in text and str(tmp_path / "hopper-medium-v2.hdf5") in text
    assert "hopper_medium-v2.hdf5" in text


def test_npz_never_unpickles(fields: Fields, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "fired",))

    path = tmp_path / "x.npz"
    np.savez(path, **{**fields, "rewards": np.array([Bomb()] * 30, dtype=object)})
    assert "rewards has dtype object" in complaint(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in fields.items():
            archive.writestr(f"{name}.npy", pickle.dumps(Bomb()) if name == "rewards" else npy(array))
    complaint(path)
    path.write_bytes(pickle.dumps(Bomb()))
    complaint(path)
    assert not (tmp_path / "fired").exists()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_npz_bombs_are_refused_unread(fields: Fields, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    header = npy(np.zeros((30, 5), np.float32))[:128].replace(b"(30, 5)", b"(9000000000, 5)".ljust(7))
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in fields.items():
            archive.writestr(f"{name}.npy", header if name == "observations" else npy(array))
    assert str(path) in complaint(path)


def test_hdf5_declarations_without_contents_are_refused(fields: Fields, save: Save) -> None:
    path = save(without("next_observations")(fields))
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", shape=(30, 90_000), dtype="f4", chunks=(30, 1000))
    assert "10800000 bytes but only 0 are stored" in complaint(path)
    with h5py.File(path, "w") as file:
        for name in fields:
            shape = (10**12, 5) if fields[name].ndim == 2 else (10**12,)
            file.create_dataset(name, shape=shape, dtype="f4", chunks=(1024, 5)[: len(shape)])
    assert "GiB" in complaint(path)


def test_hdf5_links_and_foreign_storage_are_refused(fields: Fields, save: Save, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(120))
    other = save(fields, name="other")

    def attempt(make: Callable[[h5py.File], object]) -> str:
        path = save(without("rewards")(fields))
        with h5py.File(path, "a") as file:
            make(file)
        return complaint(path)

    layout = h5py.VirtualLayout((30,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "rewards", (30,))
    assert "link" in attempt(lambda f: f.__setitem__("rewards", h5py.ExternalLink(str(other), "rewards")))
    assert "link" in attempt(lambda f: f.__setitem__("rewards", h5py.SoftLink("/terminals")))
    assert "other files" in attempt(
        lambda f: f.create_dataset("rewards", (30,), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    )
    assert "other files" in attempt(lambda f: f.create_virtual_dataset("rewards", layout))
    assert "is a group" in attempt(lambda f: f.create_group("rewards"))
    assert "null" in attempt(lambda f: f.create_dataset("rewards", data=h5py.Empty("f4")))
    assert "dtype object" in attempt(lambda f: f.create_dataset("rewards", data=["a"] * 30, dtype=h5py.string_dtype()))
    reference = h5py.ref_dtype
    assert "dtype object" in attempt(lambda f: f.create_dataset("rewards", (30,), reference))
