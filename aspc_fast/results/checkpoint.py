"""Checkpoints: safetensors for the tensors, JSON for the rest; complete, atomic, checked when read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aspc_fast.agent.state import AgentState
from aspc_fast.errors import UserError
from aspc_fast.files import check_seal, read_json, replacing, sha256, write_json

FORMAT_VERSION = 2
READABLE = (1, 2)  # 1 had no checksum of its JSON, and kept that of the latest checkpoint only
LATEST = "latest.json"
KEEP = 2


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
    _write_tensors(path, tensors)
    described = {"format_version": FORMAT_VERSION, "step": step, "file": path.name, "sha256": sha256(path), **meta}
    for name in (f"{stem}.json", LATEST):
        write_json(folder / name, described, seal=True)
    _prune(folder, keep=path)
    return path


def has_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint was ever completed here, whatever became of it."""
    return (folder / LATEST).exists() or bool(_described(folder))


def load_checkpoint(folder: Path) -> Checkpoint:
    """The latest complete checkpoint; UserError if there is none, it is damaged, or of another format version."""
    if not (folder / LATEST).is_file():
        raise UserError(f"{folder}: no checkpoint here ({LATEST} is missing)")
    return _load(folder / LATEST)


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


def checkpoint_normaliser(saved: Checkpoint, dataset: int) -> tuple[Tensor | None, Tensor | None]:
    """Mean and std [obs_dim] of the dataset with index ``dataset`` in a checkpoint written by the training loop."""
    return saved.tensors.get(f"normaliser.{dataset}.mean"), saved.tensors.get(f"normaliser.{dataset}.std")
