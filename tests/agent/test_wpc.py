"""What a recording of wPC must not hold."""

import numpy as np
import pytest

from aspc_fast.errors import UserError
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.references.record import record_trace


def test_a_setting_that_nobody_knows_is_refused(tmp_path):
    path = record_trace(tmp_path / "t.npz", "wpc")
    arrays = dict(np.load(path))
    arrays["meta_json"] = np.array(str(arrays["meta_json"]).replace('"alpha"', '"alpfa"'))
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="'alpfa' in meta_json is unknown"):
        read_trace(path)


def test_an_array_of_an_unknown_network_is_refused(tmp_path):
    path = record_trace(tmp_path / "t.npz", "wpc")
    np.savez(path, **dict(np.load(path)), **{"f64/final_checksum/vnet_target/l1.bias": np.zeros(3)})
    with pytest.raises(UserError, match="vnet_target"):
        verify(read_trace(path))
