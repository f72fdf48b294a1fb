"""benchmarks.real: train without simulators, carry the policies elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import aspc_fast as af
from aspc_fast.errors import UserError
from benchmarks import real
from tests.run.test_train import write_data

ROOT = Path(__file__).parents[1]
# what a GPU machine may lack: none of it is needed to train
LACKING = ("tyro", "gymnasium", "envpool", "minari", "requests", "tensorboard")


def test_policies_come_back_from_a_machine_without_simulators(tmp_path: Path) -> None:
    data = write_data(tmp_path / "hopper-a.hdf5")
    script = f"import sys; sys.modules.update(dict.fromkeys({LACKING})); from benchmarks.real import main; main()"
    words = f"{data} --steps 20 --seeds 2 --device cpu --engine eager --out {tmp_path / 'out'}".split()
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "real.json").read_text())
    assert [(r["dataset"], r["seed"], r["step"]) for r in written["runs"]] == [("hopper-a", 0, 20), ("hopper-a", 1, 20)]
    acts = [af.load_policy(tmp_path / "out" / f"hopper-a-seed{i}.safetensors")(np.ones(11)) for i in (0, 1)]
    for seed, action in enumerate(acts):
        np.testing.assert_array_equal(action, af.load_policy(tmp_path / "out-work", run=seed)(np.ones(11)))
    assert not np.array_equal(*acts)


def test_a_mistake_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["real", str(tmp_path / "none.hdf5"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"^benchmarks\.real: .*no such file"):
        real.main()


def test_no_more_files_than_are_kept_and_policies_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four datasets, as on the GPU machine; what is there half-way is what a cut would leave."""
    data = [write_data(tmp_path / f"hopper-{name}.hdf5") for name in "abcd"]
    out, seen = tmp_path / "out", []
    real_export = real.export

    def export(*arguments: Any) -> Any:
        seen.append(len(list(out.rglob("*"))))
        return real_export(*arguments)

    options = SimpleNamespace(data=data, seeds=1, out=out, work=None, steps=20, engine="eager", device="cpu")
    monkeypatch.setattr(real, "SAVES", 10)
    monkeypatch.setattr(real, "export", export)
    real.train(options)
    assert {path.name for path in out.rglob("*")} == {"real.json", *(f"hopper-{n}-seed0.safetensors" for n in "abcd")}
    # a checkpoint is on the disk before the next but one is begun: at least after those of steps 2 to 16
    assert len(seen) >= 4 * 8
    assert max(seen) < real.MAX_FILES
    assert len(list((tmp_path / "out-work").rglob("*"))) > real.MAX_FILES


def test_more_policies_than_are_kept_are_refused_at_once(tmp_path: Path) -> None:
    options = SimpleNamespace(data=["x"] * 4, seeds=2, out=tmp_path / "out", work=None, steps=1)
    with pytest.raises(UserError, match="8 runs make 8 policies"):
        real.train(options)
