"""Ways to damage a file: bytes anywhere, arrays by name, JSON values. Each takes a generator and says what it did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aspc_fast.files import write_json

Rng = np.random.Generator
HOSTILE = [
    "",
    "x",
    "../../outside",
    "/etc/hostname",
    "\0",
    0,
    -1,
    1,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
]
HOSTILE += [[], {}, [[]], {"a": {"b": []}}, [0] * 50, "9" * 5000, "\ud800", 2.5, "1", [None, "x"]]


def in_bytes(rng: Rng, path: Path) -> tuple[str, int]:
    """One kind of damage anywhere in the file; the number of bytes that are no longer what they were (-1: many)."""
    raw = bytearray(path.read_bytes())
    kind = str(rng.choice(["flip", "overwrite", "truncate", "zeros", "garbage", "cut", "double", "swap", "append"]))
    at, length = int(rng.integers(len(raw))), int(rng.integers(1, 64))
    count = -1
    if kind in ("flip", "overwrite"):
        places = rng.integers(len(raw), size=int(rng.integers(1, 9)))
        # half of the damage goes where the format is described, which is what readers trip over
        places = np.where(rng.random(len(places)) < 0.5, places, places % min(len(raw), 4096))
        for place in map(int, places):
            raw[place] = raw[place] ^ (1 << int(rng.integers(8))) if kind == "flip" else int(rng.integers(256))
        count = len(places)
    elif kind == "truncate":
        del raw[at:]
    elif kind in ("zeros", "garbage"):
        end = min(at + length, len(raw))
        raw[at:end] = bytes(end - at) if kind == "zeros" else rng.bytes(end - at)
        count = end - at
    elif kind == "cut":
        del raw[at : at + length]
    elif kind == "double":
        raw[at:at] = raw[at : at + length]
    elif kind == "swap":
        other = int(rng.integers(len(raw)))
        size = max(1, min(length, len(raw) - max(at, other), abs(at - other)))
        raw[at : at + size], raw[other : other + size] = raw[other : other + size], raw[at : at + size]
        count = 2 * size
    else:
        raw += rng.bytes(length)
    path.write_bytes(raw)
    return f"bytes: {kind}", count


def wrong_array(rng: Rng, array: np.ndarray) -> tuple[str, np.ndarray]:
    """An array that is not what its name promises: dtype, rank, length or values."""
    kind = str(
        rng.choice(["complex", "text", "structured", "float16", "short", "long", "flat", "cubic", "scalar", "value"])
    )
    changed: Any = array
    if kind == "complex":
        changed = array.astype(np.complex64)
    elif kind == "text":
        changed = array.astype("S8")
    elif kind == "structured":
        changed = np.zeros(array.shape, [("a", "f4"), ("b", "i2")])
    elif kind == "float16":
        changed = array.astype(np.float16)
    elif kind == "short":
        changed = array[: int(rng.integers(len(array)))] if array.ndim else array[None]
    elif kind == "long":
        changed = np.concatenate([array, array]) if array.ndim else array[None]
    elif kind == "flat":
        changed = array.reshape(-1)
    elif kind == "cubic":
        changed = array[None]
    elif kind == "scalar":
        changed = np.asarray(array.reshape(-1)[0])
    elif array.dtype.kind in "fiub":
        changed = array.astype(np.float64)
        changed.reshape(-1)[int(rng.integers(changed.size))] = float(
            rng.choice([np.nan, np.inf, -1e300, 2.0, 0.5, -1.0])
        )
    return f"array: {kind}", changed


def in_npz(rng: Rng, path: Path) -> str:
    """Arrays of an .npz renamed, lost or wrong; the archive itself is whole, so no checksum speaks."""
    arrays = dict(np.load(path, allow_pickle=False))
    name = str(rng.choice(sorted(arrays)))
    kind = str(rng.choice(["renamed", "removed", "array"]))
    array = arrays.pop(name)
    if kind == "renamed":
        arrays[name[:-1] + "?" if rng.random() < 0.5 else "x" + name] = array
    elif kind == "array":
        kind, arrays[name] = wrong_array(rng, array)
    np.savez(path, **arrays)
    return kind


def in_hdf5(rng: Rng, path: Path) -> str:
    """Arrays of an HDF5 file renamed, lost, wrong, huge or elsewhere; attributes of hostile size or kind."""
    kind = str(
        rng.choice(["renamed", "removed", "array", "attribute", "soft link", "external link", "bomb", "outside"])
    )
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
        name = str(rng.choice(names))
        array = file[name][()]
        if kind == "attribute":
            _hostile_attribute(rng, file)
            return kind
        del file[name]
        if kind == "renamed":
            file[name[:-1] + "_"] = array
        elif kind == "array":
            kind, changed = wrong_array(rng, array)
            file[name] = changed
        elif kind == "soft link":
            file[name] = h5py.SoftLink("/" + next(other for other in names if other != name))
        elif kind == "external link":
            file[name] = h5py.ExternalLink(str(path.parent / "secret.hdf5"), name)
        elif kind == "bomb":
            shape = (int(rng.choice([2**24, 2**33, 2**50])), *array.shape[1:])
            made = file.create_dataset(name, shape, array.dtype, chunks=(2**16, *array.shape[1:]), compression="gzip")
            made.id.write_direct_chunk((0,) * len(shape), bytes(100))
        elif kind == "outside":
            outside = [(str(path.parent / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset(name, array.shape, array.dtype, external=outside)
    return kind


def _hostile_attribute(rng: Rng, file: h5py.File) -> None:
    choice = int(rng.integers(5))
    if choice == 0:
        file.attrs["env_id"] = "x" * 60_000
    elif choice == 1:
        file.attrs["env_id"] = np.arange(8000)
    elif choice == 2:
        file.attrs["max_action"] = rng.choice([np.nan, -1.0, 0.0, 1e308])
    elif choice == 3:
        file.attrs["max_action"] = ["a", "b"]
    else:
        for i in range(300):
            file.attrs[f"a{i}"] = "y" * 50


def in_json(rng: Rng, path: Path) -> str:
    """A value anywhere in the JSON replaced, removed or added; half the time its checksum is made to fit again."""
    value = json.loads(path.read_text())
    node, kind = value, str(rng.choice(["replaced", "replaced", "removed", "added"]))
    parents: list[tuple[Any, Any]] = []
    while isinstance(node, dict | list) and node and (not parents or rng.random() < 0.8):
        key = list(node)[int(rng.integers(len(node)))] if isinstance(node, dict) else int(rng.integers(len(node)))
        parents.append((node, key))
        node = node[key]
    owner, key = parents[-1]
    hostile = HOSTILE[int(rng.integers(len(HOSTILE)))]
    if kind == "replaced":
        owner[key] = hostile
    elif kind == "removed":
        del owner[key]
    elif isinstance(owner, dict):
        owner["unknown"] = hostile
    else:
        owner.append(hostile)
    if isinstance(value, dict) and "checksum" in value and rng.random() < 0.5:
        write_json(path, value, seal=True)
        return f"json: {kind}, sealed"
    path.write_text(json.dumps(value))
    return f"json: {kind}"


def in_lines(rng: Rng, path: Path) -> str:
    """One line of a .jsonl file damaged as JSON."""
    lines = path.read_text().splitlines(keepends=True)
    at = int(rng.integers(len(lines)))
    one = path.with_name("line.json")
    one.write_text(lines[at])
    kind = in_json(rng, one)
    lines[at] = one.read_text() + "\n"
    os.unlink(one)
    path.write_text("".join(lines))
    return kind.replace("json", "line")


STRUCTURE: dict[str, Callable[[Rng, Path], str]] = {
    ".npz": in_npz,
    ".hdf5": in_hdf5,
    ".json": in_json,
    ".jsonl": in_lines,
}


def damage(rng: Rng, path: Path) -> tuple[str, int]:
    """Damage ``path`` somehow: what was done, and how many bytes differ (-1: unknown)."""
    change = STRUCTURE.get(path.suffix)
    if change is None or rng.random() < 0.6:
        return in_bytes(rng, path)
    return change(rng, path), -1
