"""Checkpoints: safetensors for the tensors, JSON for the rest; complete, atomic, checked when read."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aspc_fast.agent.state import AgentState
from aspc_fast.errors import UserError
from aspc_fast.files import check_seal, read_json, replacing, sha256, write_json
from aspc_fast.results.tensors import save_file

FORMAT_VERSION = 2
READABLE = (1, 2)  # 1 had no checksum of its JSON, and kept that of the latest checkpoint only
LATEST = "latest.json"
KEEP = 2
_PENDING = re.compile(r"pending-(\d{10})(-final)?\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name and the JSON beside them (``step``, and whatever the caller stored)."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write the tensors, then the JSON that names them: a kill in between leaves the previous checkpoint in force.

    No file that a checkpoint in force needs is written over, even if that one is of the same step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = _free_stem(folder, step)
    path = folder / f"{stem}.safetensors"
    digest = _write_tensors(path, tensors)
    described = {"format_version": FORMAT_VERSION, "step": step, "file": path.name, "sha256": digest, **meta}
    for name in (f"{stem}.json", LATEST):
        write_json(folder / name, described, seal=True)
    _prune(folder, keep=path)
    return path


def has_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint was ever completed here, whatever became of it."""
    return (folder / LATEST).exists() or bool(_described(folder))


def load_checkpoint(folder: Path) -> Checkpoint:
    """The latest complete checkpoint; UserError if there is none, it is damaged, or of another format version.

    A training that goes on meanwhile may replace the one being read; then the newer one is read.
    """
    described = folder / LATEST
    while True:
        if not described.is_file():
            raise UserError(f"{folder}: no checkpoint here ({LATEST} is missing)")
        before = described.read_bytes()
        try:
            return _load(described)
        except UserError:
            if described.read_bytes() == before:
                raise


def load_or_step_back(folder: Path) -> tuple[Checkpoint, str | None]:
    """The latest checkpoint, or the one before it if it is damaged, with a sentence that says so.

    UserError if none can be read, or the latest is of another format version: what a newer program wrote is not
    damage to step back from.
    """
    try:
        return load_checkpoint(folder), None
    except _OtherVersion:
        raise
    except UserError as error:
        for older in reversed(_described(folder)):
            try:
                saved = _load(older)
            except UserError:
                continue
            return saved, f"{error}; going back to the checkpoint of step {saved.meta['step']}"
        raise


class _OtherVersion(UserError):
    pass


def _load(described: Path) -> Checkpoint:
    folder, meta = described.parent, read_json(described, check=False)
    if not isinstance(meta, dict) or not isinstance(meta.get("file"), str) or not isinstance(meta.get("step"), int):
        raise UserError(f"{described}: damaged (fields 'file' and 'step' are needed)")
    version, name = meta.get("format_version"), meta["file"]
    if version not in READABLE:
        shown = " and ".join(map(str, READABLE))
        raise _OtherVersion(f"{described}: format version {version!r}, this program reads versions {shown}")
    if Path(name).name != name:
        raise UserError(f"{described}: field 'file' is {name!r}, which lies outside its folder")
    check_seal(described, meta)
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path}: the checkpoint named by {described.name} is missing")
    if sha256(path) != meta.get("sha256"):
        raise UserError(f"{path}: damaged (its sha256 differs from the one in {described.name})")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    step = tensors.get("state.step")
    if step is not None and (step.numel() != 1 or int(step) != meta["step"]):
        raise UserError(f"{described}: field 'step' is {meta['step']}, but {name} holds another step")
    return Checkpoint(tensors, meta)


def _described(folder: Path) -> list[Path]:
    """The JSON of every complete checkpoint, oldest first."""
    return sorted(folder.glob("step-*.json"), key=lambda path: path.stem)


def _free_stem(folder: Path, step: int) -> str:
    stem, again = f"step-{step:010d}", 1
    name = stem
    while (folder / f"{name}.safetensors").exists() or (folder / f"{name}.json").exists():
        name, again = f"{stem}-{again:03d}", again + 1
    return name


def _prune(folder: Path, keep: Path) -> None:
    """Remove all but the last KEEP checkpoints up to ``keep``, and tensors without JSON (their writer was killed)."""
    stay = {keep.stem, *[path.stem for path in _described(folder) if path.stem <= keep.stem][-KEEP:]}
    for path in [*folder.glob("step-*.json"), *folder.glob("step-*.safetensors")]:
        if path.stem not in stay:
            path.unlink(missing_ok=True)
    _prune_pending(folder, newest=int(keep.stem.split("-")[1]))


def _prune_pending(folder: Path, newest: int) -> None:
    """Remove waiting snapshots up to step ``newest`` that no checkpoint names: their evaluations are recorded."""
    files = [(found, path) for path in folder.glob("pending-*") if (found := _PENDING.fullmatch(path.name))]
    if not files:
        return
    named: set[Any] = set()
    for described in _described(folder):
        with contextlib.suppress(UserError, TypeError, AttributeError):  # a damaged one is not gone back to
            named |= {entry[3] for entry in read_json(described).get("pending", ()) if len(entry) > 3}
    for found, path in files:
        if int(found[1]) <= newest and path.name not in named:
            path.unlink(missing_ok=True)


def write_pending(folder: Path, step: int, final: bool, actors: Tensor) -> Path:
    """Keep a snapshot of all runs' actors [R, P_actor] that waits for evaluation in a file that checkpoints name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pending-{step:010d}{'-final' if final else ''}.safetensors"
    _write_tensors(path, {"actors": actors})
    return path


def read_pending(path: Path) -> Tensor:
    """The actors of a file of ``write_pending``; UserError if it is missing or damaged."""
    try:
        return load_file(path)["actors"]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a readable snapshot ({error})") from None


def pending_path(folder: Path, name: Any) -> Path:
    """The file of a waiting snapshot that a checkpoint calls ``name``; UserError unless it is such a name."""
    if not isinstance(name, str) or not _PENDING.fullmatch(name):
        raise UserError(f"{folder}: a checkpoint names the snapshot {str(name)[:80]!r}, which is no such name")
    return folder / name


def state_tensors(state: AgentState) -> dict[str, Tensor]:
    """The learning state under the names it has in a checkpoint."""
    return {f"state.{name}": tensor for name, tensor in state.tensors().items()}


def restore_state(state: AgentState, checkpoint: Checkpoint, where: Path) -> None:
    """Overwrite ``state`` in place; UserError if a tensor is missing or of another shape or dtype."""
    for name, tensor in state.tensors().items():
        saved = checkpoint.tensors.get(f"state.{name}")
        if saved is None or saved.shape != tensor.shape or saved.dtype != tensor.dtype:
            found = "missing" if saved is None else f"{tuple(saved.shape)} {saved.dtype}"
            raise UserError(f"{where}: tensor state.{name} is {found}, expected {tuple(tensor.shape)} {tensor.dtype}")
        tensor.copy_(saved)


def unfinite_runs(state: AgentState) -> list[int]:
    """Runs whose state holds NaN or infinity."""
    sums = [t.flatten(1).sum(1) if t.ndim > 1 else t for t in state.tensors().values() if t.ndim]
    return [int(run) for run in torch.nonzero(~torch.isfinite(torch.stack([s.double() for s in sums])).all(0))]


def keep_run(folder: Path, run: int, runs: int) -> Path | None:
    """Copy one run's share of the latest checkpoint (its last good state) to a file of its own; None without one."""
    if not (folder / LATEST).exists():
        return None
    saved = load_checkpoint(folder)
    path = folder / f"diverged-run-{run:04d}-step-{saved.meta['step']:010d}.safetensors"
    own = {n: t[run].clone() for n, t in saved.tensors.items() if n.startswith("state.") and t.ndim and len(t) == runs}
    _write_tensors(path, own)
    return path


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    with replacing(path) as temporary:
        return save_file(tensors, temporary)


def checkpoint_normaliser(saved: Checkpoint, dataset: int) -> tuple[Tensor | None, Tensor | None]:
    """Mean and std [obs_dim] of the dataset with index ``dataset`` in a checkpoint written by the training loop."""
    return saved.tensors.get(f"normaliser.{dataset}.mean"), saved.tensors.get(f"normaliser.{dataset}.std")
