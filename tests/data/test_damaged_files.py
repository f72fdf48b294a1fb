"""Flipped and missing bytes anywhere in a file: a sentence or a valid dataset, never a traceback or a crash.

The environment variable ASPC_FAST_FUZZ raises the number of damaged files tried per format.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aspc_fast.data.load import load
from aspc_fast.errors import UserError

Save = Callable[..., Path]
Fields = dict[str, np.ndarray]
BOTH = pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
EXAMPLES = int(os.environ.get("ASPC_FAST_FUZZ", "80"))


@BOTH
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_damaged_bytes_never_escape(fields: Fields, save: Save, suffix: str, data: st.DataObject) -> None:
    path = save(fields, suffix, attributes={"env_id": "none", "how": "by hand"})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        loaded = load(path)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite(loaded.observations).all() and (np.abs(loaded.actions) <= 1).all()
