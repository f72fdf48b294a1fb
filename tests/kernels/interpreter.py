"""Put Triton's interpreter in place before anything imports triton; without a GPU the kernels run in it.

Imported first by every test module that runs kernels. Triton decides at its own import how its functions are made:
where another module imported it before without the interpreter, these tests are skipped, and say so.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"

os.environ.setdefault("ASPC_FAST_TILES", "rule")  # engines here are not to spend minutes on timing tiles

if not ON_GPU:
    if "triton" in sys.modules and not sys.modules["triton"].knobs.runtime.interpret:
        pytest.skip("triton was imported before these tests, without its interpreter", allow_module_level=True)
    os.environ["TRITON_INTERPRET"] = "1"

DTYPES = [torch.float32] if ON_GPU else [torch.float32, torch.float64]
