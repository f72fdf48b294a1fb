"""An algorithm that this package does not know: declared here, registered, and used like any other."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import aspc_fast as af
from aspc_fast import registry
from aspc_fast.agent.bc import ALGORITHM as BC
from aspc_fast.agent.bc import BCConfig, clone
from aspc_fast.agent.state import AgentState, Batch, Hyper, Spec
from aspc_fast.config import AgentConfig, hyper
from aspc_fast.report.build import build_report
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.results.export import export
from aspc_fast.run.loop import Interrupted
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from aspc_fast.run.train import TrainSettings, train
from tests.helpers import toy_data
from tests.run.test_train import write_data

SIZES = {"hidden_dim": 16, "batch_size": 16}


@dataclass(frozen=True)
class NoisyConfig(BCConfig):
    """Cloning of actions with noise on them."""

    algo: str = "noisy-bc"
    spread: float = hyper(0.1, 0, 1)
    """Standard deviation of the noise, in units of the action."""


def clone_noisily(spec: Spec, state: AgentState, hyper: Hyper, batch: Batch) -> dict[str, torch.Tensor]:
    noise = batch.noise * hyper.spread[:, None, None] * hyper.action_mask[:, None]
    return clone(spec, state, hyper, batch._replace(actions=batch.actions + noise))


@pytest.fixture(autouse=True)
def registered():
    registry.register(
        replace(BC, name="noisy-bc", title="Noisy BC", config=NoisyConfig, parts={"clone": clone_noisily})
    )
    yield
    registry._ADDED.clear()


def test_it_trains_is_cut_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config, data = AgentConfig(algo="noisy-bc", spread=0.2, **SIZES), toy_data()
    settings = TrainSettings(steps=300, eval_every=0, log_every=100, engine="eager", tensorboard=False)
    train(data, config, settings, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(data, config, settings, out=tmp_path / "cut", stop=lambda: True)
    train(data, config, settings, out=tmp_path / "cut", resume=True)
    whole, cut = (load_checkpoint(tmp_path / name / "checkpoints").tensors for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_compiled_and_eager_agree(quick_compiler: None) -> None:
    both = [
        af.train(toy_data(), algo="noisy-bc", steps=20, eval_every=0, engine=e, **SIZES) for e in ("eager", "compiled")
    ]
    torch.testing.assert_close(both[0].policy.weights, both[1].policy.weights, rtol=1e-4, atol=1e-6)


def test_it_is_swept_reported_and_exported(tmp_path: Path) -> None:
    sources = [write_data(tmp_path / f"{name}.hdf5", obs_dim=11, act_dim=3) for name in ("a", "b")]
    settings = SweepSettings(steps=20, log_every=10, eval_every=0, final_episodes=0, device="cpu", tensorboard=False)
    varied = {"algo": ["aspc", "noisy-bc"], "spread": [0.1, 0.3]}
    base = AgentConfig(**SIZES)
    summary = sweep(sources, [0], tmp_path / "s", base=base, varied=varied, settings=settings)
    assert len(summary["runs"]) == 2 * (1 + 2)
    described = json.loads((tmp_path / "s" / "config.json").read_text())["runs"]
    assert [r["setting"] for r in described[:3]] == ["", "spread=0.1", "spread=0.3"]
    build_report([tmp_path / "s"], tmp_path / "report")
    assert "Noisy BC" in (tmp_path / "report" / "report.md").read_text()
    assert af.load_policy(export(tmp_path / "s", "safetensors", tmp_path / "p.safetensors", 1)).dims.act == 3


def test_what_it_does_not_fit_is_said() -> None:
    with pytest.raises(af.UserError, match="has kernels for aspc and td3bc, not for noisy-bc"):
        af.train(toy_data(), algo="noisy-bc", steps=20, eval_every=0, engine="native", **SIZES)
    with pytest.raises(af.UserError, match="spread must lie in"):
        AgentConfig(algo="noisy-bc", spread=2.0)
    with pytest.raises(af.UserError, match="is this package's own"):
        registry.register(BC)
