"""Put Triton's interpreter in place before anything imports triton; without a GPU the kernels run in it.

Imported by tests/conftest.py before anything else: Triton decides at its own import how its functions are made, and
torch.compile imports it. Where it came too late, that is an error: these tests must not be skipped silently.
"""

from __future__ import annotations

import os
import sys

import torch

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"

os.environ.setdefault("ASPC_FAST_TILES", "rule")  # engines here are not to spend minutes on timing tiles

if not ON_GPU:
    if "triton" in sys.modules and not sys.modules["triton"].knobs.runtime.interpret:
        raise RuntimeError("triton was imported before the tests could put its interpreter in place")
    os.environ["TRITON_INTERPRET"] = "1"

DTYPES = [torch.float32] if ON_GPU else [torch.float32, torch.float64]
