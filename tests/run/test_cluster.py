"""Shards as Ray tasks, one of whose workers is killed half way. Skipped where Ray is not installed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aspc_fast.config import AgentConfig
from aspc_fast.run.sweep import sweep
from aspc_fast.run.sweep_plan import SweepSettings
from tests.run.test_sweep import assert_same_sweep
from tests.run.test_train import write_data

pytest.importorskip("ray", reason="Ray (the extra [ray]) is not installed")

BASE = AgentConfig(hidden_dim=16, batch_size=16, alpha_freq=5)
STEPS = 1200

DRIVER = """
import json, sys
from pathlib import Path
from aspc_fast.run.cluster import ray_runner
from aspc_fast.run.sweep import sweep
from tests.run.test_cluster import BASE, settings
out, sources = Path(sys.argv[1]), sys.argv[2:]
runner = ray_runner(None, 0.0, 1.0)
sweep(sources, [0, 1], out, base=BASE, settings=settings(), run_shards=runner, parts=2)
"""


def settings() -> SweepSettings:
    return SweepSettings(
        steps=STEPS,
        device="cpu",
        engine="eager",
        log_every=50,
        checkpoint_every=50,
        eval_every=600,
        eval_episodes=2,
        final_episodes=0,
        workers=0,
    )


def workers_of(shard: Path) -> list[int]:
    """Processes that hold the shard's lock file open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if any(os.readlink(fd) == str(shard / ".lock") for fd in (process / "fd").iterdir()):
                    found.append(int(process.name))
            except OSError:
                continue
    return found


@pytest.mark.slow
def test_a_lost_worker_s_shard_goes_on_elsewhere(tmp_path):
    sources = [write_data(tmp_path / "hopper-a.hdf5"), write_data(tmp_path / "walker-b.hdf5", 17, 6, "Walker2d-v4")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    out = tmp_path / "ray"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(out), *map(str, sources)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    shard, killed = out.resolve() / "shards/001", []
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline and not killed:
        if (shard / "checkpoints/latest.json").exists() and not (shard / "done.json").exists():
            killed = workers_of(shard)
            for worker in killed:
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.02)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output.decode()[-3000:]
    assert killed, "no worker was caught at work"
    sweep(sources, [0, 1], tmp_path / "here", base=BASE, settings=settings(), parts=2)
    assert_same_sweep(tmp_path / "here", out)
    assert json.loads((out / "shards/001/done.json").read_text())["step"] == STEPS
