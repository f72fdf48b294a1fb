"""alpha fixed at what an earlier folder's ASPC runs ended with, per dataset."""

import json
from statistics import fmean

import pytest

from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from tests.run.test_sweep import BASE, changed, records, sources  # noqa: F401 (sources: a fixture)

QUIET = {"eval_every": 0, "final_episodes": 0, "tensorboard": False}


def converge(out, sources, **varied):  # noqa: F811
    return sweep(sources, [0, 1], out, base=BASE, varied=varied, settings=changed(**QUIET))


def fix(out, sources, folder, steps=20, **varied):  # noqa: F811
    varied = {"algo": ["td3bc"], "critic": ["robust"]} | varied
    settings: SweepSettings = changed(**QUIET, steps=steps, alpha_from=str(folder))
    return sweep(sources, [0, 1], out, base=AgentConfig(hidden_dim=16, batch_size=16), varied=varied, settings=settings)


def test_every_dataset_has_the_mean_alpha_its_aspc_runs_ended_with(tmp_path, sources):  # noqa: F811
    converge(tmp_path / "aspc", sources, alpha_lr=[0.5])
    last = {r["run"]: r["alpha_after"] for r in records(tmp_path / "aspc", "train")}
    ends = [fmean((last[0], last[1])), fmean((last[2], last[3]))]
    assert len({2.5, *ends}) == 3
    fix(tmp_path / "fixed", sources, tmp_path / "aspc", algo=["aspc", "td3bc"])
    runs = json.loads((tmp_path / "fixed/config.json").read_text())["runs"]
    found = {(r["dataset"], r["algo"], r["setting"]): r["agent"]["alpha"] for r in runs}
    assert found == {
        ("hopper-a", "aspc", "critic=robust"): 2.5,
        ("walker-b", "aspc", "critic=robust"): 2.5,
        ("hopper-a", "td3bc", "alpha=converged critic=robust"): ends[0],
        ("walker-b", "td3bc", "alpha=converged critic=robust"): ends[1],
    }
    used = {r["run"]: r["alpha_used"] for r in records(tmp_path / "fixed", "train")}
    for run in runs:
        if run["algo"] == "td3bc":
            assert used[run["run"]] == pytest.approx(run["agent"]["alpha"], rel=1e-5)


def test_what_is_missing_is_said(tmp_path, sources):  # noqa: F811
    converge(tmp_path / "one", sources[:1])
    with pytest.raises(UserError, match="no finished ASPC run of walker-b"):
        fix(tmp_path / "f", sources, tmp_path / "one")
    with pytest.raises(UserError, match="nowhere: no such results folder"):
        fix(tmp_path / "f", sources, tmp_path / "nowhere")
    with pytest.raises(UserError, match="add --algo td3bc"):
        fix(tmp_path / "f", sources[:1], tmp_path / "one", algo=["aspc"])
    with pytest.raises(UserError, match="by --set and by --alpha-from"):
        fix(tmp_path / "f", sources[:1], tmp_path / "one", alpha=[1.0])
    converge(tmp_path / "two", sources[:1], alpha_freq=[5, 10])
    with pytest.raises(UserError, match=r"alpha_freq=10; alpha_freq=5\): which alpha"):
        fix(tmp_path / "f", sources[:1], tmp_path / "two")
    assert not (tmp_path / "f").exists() or not (tmp_path / "f/config.json").exists()
