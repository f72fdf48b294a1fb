"""Where and how long the benchmarks run: small by default, so that they fit a laptop."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ENGINES = ["reference", "eager", *(["compiled", "fused"] if DEVICE == "cuda" else [])]
STEPS = int(os.environ.get("ASPC_BENCH_STEPS", "20" if DEVICE == "cpu" else "2000"))
ROUNDS = 3


def synchronised(function: Callable[[], object]) -> Callable[[], None]:
    """``function`` with the device's work done when it returns: without it a GPU benchmark times enqueueing."""

    def timed() -> None:
        function()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return timed
