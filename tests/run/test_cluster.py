"""Shards as Ray tasks, one of whose workers is killed half way. Skipped where Ray is not installed."""

import json
import subprocess
import sys

import pytest

from aspc_fast.config import AgentConfig
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from tests.helpers import TOO_LONG, killed_at
from tests.run.test_sweep import assert_same_sweep
from tests.run.test_train import write_data

pytest.importorskip("ray", reason="Ray (the extra [ray]) is not installed")

BASE = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
STEPS = 120

DRIVER = """
import json, sys
from pathlib import Path
from aspc_fast.run.cluster import ray_runner
from aspc_fast.run.sweep import sweep
from tests.run.test_cluster import BASE, settings
out, sources = Path(sys.argv[1]), sys.argv[2:]
runner = ray_runner("local", 0.0, 1.0)  # whatever other cluster there is
sweep(sources, [0, 1], out, base=BASE, settings=settings(), run_shards=runner, parts=2)
"""


def settings() -> SweepSettings:
    return SweepSettings(
        steps=STEPS,
        device="cpu",
        engine="eager",
        log_every=20,
        checkpoint_every=20,
        eval_every=60,
        eval_episodes=2,
        final_episodes=0,
        workers=0,
    )


@pytest.mark.slow
def test_a_lost_worker_s_shard_goes_on_elsewhere(tmp_path):
    sources = [write_data(tmp_path / "hopper-a.hdf5"), write_data(tmp_path / "walker-b.hdf5", 17, 6, "Walker2d-v4")]
    out = tmp_path / "ray"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(out), *map(str, sources)],
        env=killed_at("shards/001/checkpoints/latest.json", 3, tmp_path / "killed"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TOO_LONG,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:]
    assert (tmp_path / "killed").exists(), "no worker was caught at work"
    sweep(sources, [0, 1], tmp_path / "here", base=BASE, settings=settings(), parts=2)
    assert_same_sweep(tmp_path / "here", out)
    assert json.loads((out / "shards/001/done.json").read_text())["step"] == STEPS
