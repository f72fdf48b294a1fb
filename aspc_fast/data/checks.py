"""What a dataset's arrays must be. Every complaint is one sentence naming file, field and value.

Two stages, so that a file's claims are judged before its contents are read: ``check_declared`` looks at shapes and
dtypes only, ``check_values`` at the numbers.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping

import numpy as np

from aspc_fast.errors import UserError

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("next_observations", "timeouts")
MASKS = ("masks", "valids")  # OGBench's
FIELDS = REQUIRED + OPTIONAL + MASKS
MATRICES = ("observations", "actions", "next_observations")
FLAGS = ("terminals", "timeouts")

MAX_BYTES = 64 * 2**30
MAX_WIDTH = 100_000
MAX_RATIO = 1100  # deflate cannot expand a byte to more than 1032
MAX_FILE_RATIO = 60  # zeros may shrink a thousandfold, a dataset's observations and actions do not
FREE_FILE_BYTES = 2**30
FREE_BYTES = 2**20  # below this, no size is worth an objection
ACTION_SLACK = 1e-4  # rounding of a clipped action is far below this; a wrong action scale far above

Declared = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def check_declared(source: str, declared: Declared) -> None:
    """Refuse missing fields, unfit dtypes, ranks and lengths, and absurd sizes, before anything is read.

    declared: field name -> (shape, dtype). Raises UserError.
    """
    for name in REQUIRED:
        if name not in declared:
            there = ", ".join(sorted(declared)) or "none of the known names"
            raise UserError(f"{source}: the array {name!r} is missing (found: {there})")
    for name, (shape, dtype) in declared.items():
        if dtype.kind not in "fiub" or (dtype.kind == "b" and name not in FLAGS + MASKS):
            raise UserError(f"{source}: {name} has dtype {dtype}, but numbers are needed")
        _check_shape(source, name, shape)
    rows = declared["observations"][0][0]
    for name, (shape, _) in declared.items():
        if shape[0] != rows:
            raise UserError(f"{source}: {name} has {shape[0]} rows but observations has {rows}")
    if rows == 0:
        raise UserError(f"{source}: observations is empty (shape {declared['observations'][0]})")
    if "next_observations" in declared and declared["next_observations"][0] != declared["observations"][0]:
        raise UserError(
            f"{source}: next_observations has shape {declared['next_observations'][0]} "
            f"but observations has {declared['observations'][0]}"
        )
    _check_total(source, declared)


def check_names(source: str, names: Iterable[str]) -> None:
    """Refuse a file that lacks an optional field but has one of nearly its name: it would be left out in silence."""
    there = set(names)
    for name in OPTIONAL:
        near = difflib.get_close_matches(name, there - set(FIELDS), n=1, cutoff=0.85) if name not in there else []
        if near:
            raise UserError(
                f"{source}: the array {near[0][:40]!r} is unknown, {name!r} is missing; rename one or remove it"
            )


def _check_shape(source: str, name: str, shape: tuple[int, ...]) -> None:
    if name in MATRICES:
        if len(shape) != 2:
            raise UserError(f"{source}: {name} has shape {shape}, but [rows, entries] is needed")
        if not 1 <= shape[1] <= MAX_WIDTH:
            raise UserError(f"{source}: {name} has {shape[1]} entries per row, but 1 to {MAX_WIDTH} are allowed")
    elif len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise UserError(f"{source}: {name} has shape {shape}, but [rows] or [rows, 1] is needed")


def _check_total(source: str, declared: Declared) -> None:
    limit = min(MAX_BYTES, physical_memory())
    for name, (shape, _) in declared.items():
        if declared_bytes({name: declared[name]}) > limit or declared_bytes(declared) > limit:
            raise UserError(
                f"{source}: {name} declares the shape {shape}, which is more than {limit / 2**30:.0f} GiB in memory"
            )


def declared_bytes(declared: Declared) -> int:
    """Bytes of all declared arrays in memory."""
    # Python integers: a hostile shape must not wrap around
    return sum(dtype.itemsize * math.prod(map(int, shape)) for shape, dtype in declared.values())


def check_unpacked(source: str, total: int, file_bytes: int) -> None:
    """Refuse a file that would unpack to ``total`` bytes where training data cannot be packed into ``file_bytes``."""
    if total > FREE_FILE_BYTES and total > MAX_FILE_RATIO * file_bytes:
        raise UserError(f"{source}: {file_bytes} bytes that declare {total / 2**30:.1f} GiB of arrays, not unpacked")


def physical_memory() -> int:
    """Bytes of RAM, or the general limit where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return MAX_BYTES


def check_expansion(source: str, name: str, stored: int, declared: int) -> None:
    """Refuse a field that claims to unpack from ``stored`` to ``declared`` bytes beyond what compression can do."""
    if declared > FREE_BYTES and declared > MAX_RATIO * stored:
        raise UserError(f"{source}: {name} declares {declared} bytes but only {stored} are stored")


def as_floats(source: str, name: str, array: np.ndarray) -> np.ndarray:
    """``array`` as contiguous float32; UserError naming the first row that is NaN, infinite or too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(cast)
    if not finite.all():
        where = np.unravel_index(int(np.argmin(finite)), cast.shape)
        raise UserError(
            f"{source}: {name} is {array[where]} in row {int(where[0])}, but finite float32 numbers are needed"
        )
    return cast


def as_flags(source: str, name: str, array: np.ndarray) -> np.ndarray:
    """``array`` [N] or [N, 1] of bool, integer or float 0/1 as bool [N]; UserError naming the first other value."""
    flat = array.reshape(len(array))
    if flat.dtype.kind == "b":
        flags = np.ascontiguousarray(flat)
        raw = flags.view(np.uint8)  # a file can hold any byte here, and numpy would count 55 as 55 times True
        if (raw > 1).any():
            row = int(np.argmax(raw > 1))
            raise UserError(f"{source}: {name} is the byte {raw[row]} in row {row}, but only 0 and 1 are allowed")
        return flags
    good = (flat == 0) | (flat == 1)
    if not good.all():
        row = int(np.argmin(good))
        raise UserError(f"{source}: {name} is {flat[row]} in row {row}, but only 0 and 1 are allowed")
    return flat == 1


def as_actions(source: str, array: np.ndarray, max_action: float) -> np.ndarray:
    """``array`` as float32 within +-max_action: rounding excess is clipped, more is a UserError with row and value."""
    actions = as_floats(source, "actions", array)
    size = np.abs(actions)
    if (size > max_action * (1 + ACTION_SLACK)).any():
        row, column = np.unravel_index(int(np.argmax(size > max_action * (1 + ACTION_SLACK))), size.shape)
        raise UserError(
            f"{source}: actions is {actions[row, column]:.6g} in row {int(row)}, outside +-{max_action:g} "
            "(another range can be stated as the attribute or option max_action)"
        )
    if (size > max_action).any():
        actions = np.clip(actions, -np.float32(max_action), np.float32(max_action))
    return actions


def check_max_action(source: str, value: object) -> float:
    """``value`` as a positive finite float, or UserError."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 < number < float(np.finfo(np.float32).max):
        raise UserError(f"{source}: max_action is {str(value)[:40]!r}, but a positive number is needed")
    return number
