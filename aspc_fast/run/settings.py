"""What single runs and sweeps are told alike: how long and where to train, and when to log and to save."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import torch

from aspc_fast.config import Precision
from aspc_fast.errors import UserError


@dataclass(frozen=True)
class Settings:
    """How long and where to train; intervals are in training steps. Raises UserError for values that do not work."""

    steps: int = 1_000_000
    """Training steps (critic updates) of every run."""
    device: str = "auto"
    """cpu, cuda, cuda:N; auto: cuda if there is one."""
    engine: str = "auto"
    """How updates are executed: eager, compiled, native, fused; auto: the fastest that works here."""
    precision: Precision = "tf32"
    """Matrix products on a GPU: tf32, fp32 (IEEE), or bf16 (fused only); on a CPU always fp32."""
    log_every: int = 1000
    """Steps over which logged metrics are averaged."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: by time."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints, written beside training; there is always one at the end."""
    tensorboard: bool = True
    """Write TensorBoard events into the results folder, for `tensorboard --logdir`; of a sweep, one folder per run."""
    wandb: str | None = None
    """Project of Weights & Biases to log to as well, every run of a sweep apart (needs the extra wandb)."""

    def __post_init__(self) -> None:
        for name, lowest in (("steps", 1), ("log_every", 1), ("checkpoint_every", 0)):
            check_whole(name, getattr(self, name), lowest)
        seconds = self.checkpoint_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise UserError(f"checkpoint_seconds must be positive, got {seconds!r}")
        if self.precision not in get_args(Precision):
            raise UserError(f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}")

    @property
    def resolved_device(self) -> str:
        """The device once ``auto`` is resolved."""
        return resolve_device(self.device)


def resolve_device(device: str) -> str:
    """The device once ``auto`` is resolved: cuda if there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_whole(name: str, value: Any, lowest: int) -> None:
    """UserError unless ``value`` is a whole number of at least ``lowest``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise UserError(f"{name} must be a whole number of at least {lowest}, got {value!r}")
