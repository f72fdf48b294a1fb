"""Checkpoints: safetensors for the tensors, JSON for the rest; complete, atomic, checked when read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aspc_fast.agent.state import AgentState
from aspc_fast.errors import UserError
from aspc_fast.files import read_json, replacing, write_json

FORMAT_VERSION = 1
LATEST = "latest.json"
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name and the JSON beside them (``step``, and whatever the caller stored)."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write the tensors, then the JSON that names them: a kill in between leaves the previous checkpoint in force."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:010d}.safetensors"
    _write_tensors(path, tensors)
    write_json(
        folder / LATEST,
        {"format_version": FORMAT_VERSION, "step": step, "file": path.name, "sha256": _sha256(path), **meta},
    )
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEEP]:
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> Checkpoint:
    """The latest complete checkpoint; UserError if there is none, it is damaged, or of another format version."""
    latest = folder / LATEST
    if not latest.is_file():
        raise UserError(f"{folder}: no checkpoint here ({LATEST} is missing)")
    meta = read_json(latest)
    if not isinstance(meta, dict) or not isinstance(meta.get("file"), str) or not isinstance(meta.get("step"), int):
        raise UserError(f"{latest}: damaged (fields 'file' and 'step' are needed)")
    if meta.get("format_version") != FORMAT_VERSION:
        version = meta.get("format_version")
        raise UserError(f"{latest}: format version {version!r}, this program reads version {FORMAT_VERSION}")
    name = meta["file"]
    if Path(name).name != name:
        raise UserError(f"{latest}: field 'file' is {name!r}, which lies outside its folder")
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path}: the checkpoint named by {LATEST} is missing")
    if _sha256(path) != meta.get("sha256"):
        raise UserError(f"{path}: damaged (its sha256 differs from the one in {LATEST})")
    try:
        return Checkpoint(load_file(path), meta)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None


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


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        with replacing(path) as temporary:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary)
    except SafetensorError as error:  # how its writer reports a full disk
        raise UserError(f"{path}: cannot be written ({error}); the checkpoint before it is intact") from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
