"""The files of a Minari dataset, read without Minari and without trust.

Minari's own reader follows links to other files, builds the environment that ``metadata.json`` names where a space is
missing (an entry point is any function of any module), and lets the HDF5 library read attributes, which damage can turn
into a crash. A dataset of numbers needs none of that: the spaces' bounds are JSON, the episodes are plain arrays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aspc_fast.data import checks
from aspc_fast.data.d4rl import one_line, require_file
from aspc_fast.data.hdf5 import check_end, check_stored, plain_dataset, plain_group
from aspc_fast.errors import UserError
from aspc_fast.files import read_json

MAX_EPISODES = 10_000_000
MAX_KEYS = 32


@dataclass(frozen=True)
class Episode:
    """One episode as stored: observations [T+1, .] or a dict of such ("goal/part" where nested), the rest [T, .]."""

    observations: np.ndarray | dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray


@dataclass(frozen=True)
class MinariFiles:
    """Episodes in order, the metadata, the id of the recorded environment and the bound of the actions, if stated."""

    episodes: list[Episode]
    metadata: dict[str, Any]
    env_id: str | None
    max_action: float | None


def read(folder: Path) -> MinariFiles:
    """The dataset in ``folder`` (main_data.hdf5 and metadata.json). Raises UserError naming file, field and value."""
    described = folder / "metadata.json"
    metadata = read_json(described)
    if not isinstance(metadata, dict):
        raise UserError(f"{described}: is not a Minari dataset's description")
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise UserError(f"{described}: data_format is {metadata['data_format']!r}, but only hdf5 can be read")
    count = metadata.get("total_episodes")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_EPISODES:
        raise UserError(f"{described}: total_episodes is {str(count)[:40]!r}, but a whole number is needed")
    path = folder / "main_data.hdf5"
    require_file(path)
    try:
        check_end(path)
        with h5py.File(path, "r", locking=False) as file:
            episodes = _episodes(file, path, count)
    except UserError:
        raise
    except Exception as error:
        # h5py reports damage by a dozen exception types
        raise UserError(f"{path}: cannot be read as HDF5, damaged or cut short: {one_line(error)}") from None
    return MinariFiles(episodes, metadata, _env_id(described, metadata), _max_action(described, metadata))


def _episodes(file: h5py.File, path: Path, count: int) -> list[Episode]:
    source, size = str(path), path.stat().st_size
    stored = sum(name.startswith("episode_") for name in file)
    if stored != count:
        raise UserError(f"{source}: holds {stored} episodes, but metadata.json states {count}")
    total = 0
    found = []
    for number in range(count):
        group = plain_group(file, f"episode_{number}", source)
        nodes = {name: _dataset(group, name, source) for name in ("actions", "rewards", "terminations", "truncations")}
        kind = group.get("observations", getclass=True)
        parts = {}
        if kind is h5py.Group:
            inner = plain_group(group, "observations", source)
            for key in list(inner)[: MAX_KEYS + 1]:
                if inner.get(key, getclass=True) is h5py.Group:  # the kitchen's goals are nested one deep
                    nested = plain_group(inner, str(key), source)
                    for name in list(nested)[: MAX_KEYS + 1]:
                        parts[f"{key}/{name}"] = _dataset(nested, str(name), source)
                else:
                    parts[str(key)] = _dataset(inner, str(key), source)
            if len(parts) > MAX_KEYS:
                raise UserError(f"{source}: observations have more than {MAX_KEYS} parts")
        else:
            nodes["observations"] = _dataset(group, "observations", source)
        every = [*nodes.values(), *parts.values()]
        total += sum(int(node.nbytes) for node in every)
        if total > min(checks.MAX_BYTES, checks.physical_memory()):
            raise UserError(f"{source}: declares more than {total / 2**30:.0f} GiB of arrays")
        checks.check_unpacked(source, total, size)
        arrays = {name: np.asarray(node[()]) for name, node in nodes.items()}
        observations = {name: np.asarray(node[()]) for name, node in parts.items()} or arrays.pop("observations")
        episode = Episode(observations, **arrays)
        _check_lengths(episode, f"{source}: episode {number}")
        found.append(episode)
    return found


def _dataset(group: h5py.Group, name: str, source: str) -> h5py.Dataset:
    label = f"{str(group.name)[:60]}/{name}"
    if name not in group:
        raise UserError(f"{source}: the array {label} is missing")
    node = plain_dataset(group, name, source, label)
    if node.dtype.kind not in "fiub":
        raise UserError(f"{source}: {label} has dtype {node.dtype}, but numbers are needed")
    axes = 1 if name in ("rewards", "terminations", "truncations") else 2
    if len(node.shape) != axes:
        raise UserError(f"{source}: {label} has shape {node.shape}, but an array of {axes} axes is needed")
    check_stored(node, source, label)
    return node


def _check_lengths(episode: Episode, where: str) -> None:
    steps = len(episode.rewards)
    for name in ("actions", "terminations", "truncations"):
        if len(getattr(episode, name)) != steps:
            raise UserError(f"{where}: {name} has {len(getattr(episode, name))} rows but rewards has {steps}")
    observations = episode.observations
    for key, part in (observations if isinstance(observations, dict) else {"observations": observations}).items():
        if len(part) != steps + 1:
            raise UserError(f"{where}: {key} has {len(part)} rows, but {steps} rewards need {steps + 1}")


def _parsed(described: Path, metadata: dict[str, Any], name: str) -> dict[str, Any]:
    """A field of the metadata that holds JSON as text; empty if it is missing."""
    value = metadata.get(name)
    if value is None:
        return {}
    try:
        parsed = json.loads(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{described}: {name} is not readable JSON ({one_line(error, 80)})") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{described}: {name} is {str(value)[:40]!r}, but a JSON object is needed")
    return parsed


def _env_id(described: Path, metadata: dict[str, Any]) -> str | None:
    name = metadata.get("aspc_env_id") or _parsed(described, metadata, "env_spec").get("id")
    if name is not None and (not isinstance(name, str) or len(name) > 200):
        raise UserError(f"{described}: the environment's id is {str(name)[:40]!r}, but a name is needed")
    return name


def _max_action(described: Path, metadata: dict[str, Any]) -> float | None:
    """The bound of a Box of actions that is the same for every entry; None if there is no such bound."""
    space = _parsed(described, metadata, "action_space")
    try:
        high = np.asarray(space.get("high", []), np.float64)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{described}: the bound 'high' of action_space is not an array of numbers") from None
    if not high.size or not np.isfinite(high).all() or np.ptp(high) != 0:
        return None
    return float(high.flat[0])
