"""Other simulators than the calibrated ones are told in every score; pyproject.toml pins the calibrated ones."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from aspc_fast.evaluation import make_task
from aspc_fast.evaluation.calibration import CALIBRATED, uncalibrated
from aspc_fast.tools import doctor

ROOT = Path(__file__).parents[2]


def test_the_extras_pin_what_was_calibrated() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = dict(word.split(";")[0].split("==") for word in [*extras["eval"], *extras["ogbench"]])
    assert pinned == CALIBRATED


def test_another_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("envpool", reason="envpool is not installed")
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: CALIBRATED.get(name) or real(name))
    assert uncalibrated("envpool") == uncalibrated("ogbench") == ""
    assert "calibrated" not in make_task("Hopper-v4").comparable
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name in ("envpool", "mujoco") else real(name))
    told = "envpool is 9.9, but scores were calibrated with 1.2.5"
    assert make_task("Hopper-v4").comparable.endswith(f"; {told}")
    assert uncalibrated("gymnasium-robotics").count("mujoco is 9.9") == 1
    row = next(row for row in doctor.versions() if row.name == "envpool")
    assert row.state == "ok" and "calibrated with 1.2.5" in row.value and "aspc_fast[eval]" in row.remedy
