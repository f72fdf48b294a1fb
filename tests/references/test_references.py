"""Every reference trainer equals the recordings of its authors' code, and what we record replays."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from aspc_fast import reference
from aspc_fast.tools.trace import shipped_traces
from tests.helpers import SHARED, random_batches
from tests.references.authors import AUTHORS
from tests.references.record import record_trace
from tests.references.traces import ALGORITHMS, Trace, checksum, module, replay, trainer_of, weights_of

GOLDEN = [*shipped_traces(AUTHORS), *sorted((SHARED / "rivals").glob("*.npz"))]


def assert_replays(trace: Trace) -> None:
    """Every output of every step and every final checksum, in float64."""
    trainer = trainer_of(trace, torch.float64)
    outputs = replay(trainer, trace.group("batch"), torch.float64)
    expected = trace.group("f64/out")
    assert set(outputs) == set(expected)
    for name, series in expected.items():
        rtol = 1e-8 if name in ("scale_E_grad", "scale_B_grad") else 1e-9
        np.testing.assert_allclose(outputs[name], series, rtol=rtol, atol=0, equal_nan=True, err_msg=name)
    final = weights_of(trainer, (*trainer.initial, *trainer.derived))
    sums = trace.group("f64/final_checksum")
    assert set(sums) == set(final)
    for name, expected_sums in sums.items():
        limit = 1e-12 * expected_sums[1]
        np.testing.assert_allclose(checksum(final[name]), expected_sums, rtol=0, atol=limit, err_msg=name)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name.split(".")[0])
def test_reference_equals_the_authors_recording(path: Path) -> None:
    assert_replays(Trace.read(path))


@pytest.mark.parametrize(("algo", "names"), [("wpc", ["bc_ratio"]), ("a2pr", ["vae_adv_frac", "bc_on_frac"])])
def test_masks_of_a_recording_are_neither_empty_nor_full(tmp_path: Path, algo: str, names: list[str]) -> None:
    trace = Trace.read(record_trace(tmp_path / "t.npz", algo))
    for name in names:
        assert 0.05 < np.nanmean(trace.arrays[f"f64/out/{name}"]) < 0.95, name


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_what_we_record_replays_and_a_changed_setting_does_not(tmp_path: Path, algo: str) -> None:
    """What we record replays; and the comparison can fail: Adam's rate 1 % larger shows."""
    small = {"hidden_dim": 16} | ({"vae_hidden_dim": 16} if algo == "a2pr" else {})
    small |= {"cql_n_actions": 4} if algo == "cql" else {}
    config = module(algo).Config(**small)
    trace = Trace.read(record_trace(tmp_path / "t.npz", algo, config))
    assert trace.config == config
    assert_replays(trace)
    for name, series in trace.group("f64/out").items():  # the two precisions told apart, and close before they drift
        single = trace.arrays[f"f32/out/{name}"][:4]
        np.testing.assert_allclose(single, series[:4], rtol=2e-2, atol=1e-3, equal_nan=True, err_msg=name)
    rate = {"wpc": "lr", "bc": "lr", "rebrac": "actor_learning_rate", "cql": "policy_lr"}.get(algo, "actor_lr")
    settings = trace.meta if rate in trace.meta else trace.meta["hp"]
    settings[rate] *= 1.01
    with pytest.raises(AssertionError):
        assert_replays(trace)


def test_an_unknown_setting_is_refused() -> None:
    trace = Trace.read(*shipped_traces(["cql"]))
    trace.meta["hp"]["bc_steps"] = 5
    with pytest.raises(ValueError, match="bc_steps"):
        trainer_of(trace, torch.float64)


def test_behaviour_cloning_is_td3_bc_without_its_critic_term() -> None:
    torch.manual_seed(0)
    td3bc = reference.Trainer(5, 2, 1.5, reference.Config(algo="td3bc", policy_freq=1), dtype=torch.float64)
    with torch.no_grad():
        td3bc.raw_alpha.fill_(-math.inf)  # alpha = softplus(raw) = 0
    bc = module("bc").Trainer(5, 2, 1.5, dtype=torch.float64)
    bc.actor.load_state_dict(td3bc.actor.state_dict())
    bc.reset()
    arrays = random_batches(20, 16, 5, 2, 1.5)
    for i in range(20):
        batch = {name: torch.from_numpy(array[i]).double() for name, array in arrays.items()}
        names = ("state", "action", "reward", "next_state", "done", "noise_raw")
        log = td3bc.train_step(*(batch[name] for name in names))
        torch.testing.assert_close(bc.train_step(batch)["bc_mse"], log["bc_mse"], rtol=1e-12, atol=0)
    for p, expected in zip(bc.actor.parameters(), td3bc.actor.parameters(), strict=True):
        torch.testing.assert_close(p, expected, rtol=1e-11, atol=1e-14)
