"""wPC equals its authors' recording and, for other settings, its plain reference."""

import json

import numpy as np
import pytest
import torch

from aspc_fast.errors import UserError
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import SHARED, needs_shared
from tests.references.record import record_trace
from tests.references.wpc import Config

OUTPUTS = {"critic_loss", "q1_mean", "q2_mean", "target_q_mean", "vnet_loss", "bc_ratio", "v_mean", "q1_after_mean"}
OUTPUTS |= {"adv_mean", "actor_loss", "q_pi_mean", "q_abs_mean", "alpha_used", "lmbda", "bc_mse", "bc_weighted"}
VARIANTS = {
    "defaults": ({}, {}),
    "plain, slow policy": ({"robust_critic": False, "policy_freq": 3, "alpha": 1.5}, {"max_action": 1.5}),
    "noisy": ({"policy_noise": 0.5, "noise_clip": 0.2, "policy_freq": 1, "lr": 1e-3}, {"obs_dim": 9, "act_dim": 4}),
    "one action": ({"discount": 0.9, "tau": 0.05}, {"obs_dim": 1, "act_dim": 1, "max_action": 0.4}),
}


@needs_shared
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_authors_recording(dtype):
    checks = verify(read_trace(SHARED / "rivals/wpc_d11x3.mini.npz"), dtype)
    assert {check.quantity.split(",")[0] for check in checks} >= OUTPUTS
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_settings_equal_the_reference(tmp_path, variant):
    settings, shape = VARIANTS[variant]
    path = record_trace(tmp_path / "t.npz", "wpc", Config(**settings, hidden_dim=16), **shape)
    checks = verify(read_trace(path))
    assert {check.quantity for check in checks} >= OUTPUTS
    assert sum(check.quantity.startswith("final") for check in checks) == 7
    assert not [check for check in checks if not check.passed]


@pytest.mark.parametrize("name", ["alpha", "discount", "tau", "policy_noise", "noise_clip", "policy_freq"])
def test_a_changed_setting_does_not_pass(tmp_path, name):
    path = record_trace(tmp_path / "t.npz", "wpc")
    arrays = dict(np.load(path))
    meta = json.loads(str(arrays.pop("meta_json")))
    meta["hp"][name] = meta["hp"][name] + 1 if name == "policy_freq" else meta["hp"][name] * 0.99
    np.savez(path, meta_json=np.array(json.dumps(meta)), **arrays)
    assert [check for check in verify(read_trace(path)) if not check.passed]


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
