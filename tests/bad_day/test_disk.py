"""A full, broken or write-protected disk: one sentence, exit code 2, nothing lost, and the run goes on afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aspc_fast.results.checkpoint import load_checkpoint
from tests.bad_day.disk import failing
from tests.bad_day.kills import compare
from tests.helpers import exit_code
from tests.run.test_train import assert_same_run, write_data

TRAIN = "--steps 40 --eval-every 0 --log-every 10 --checkpoint-every 20 --hidden-dim 8 --batch-size 8 --device cpu"
TRAIN += " --engine eager --no-tensorboard --resume"
SWEEP = "--steps 20 --eval-every 0 --final-episodes 0 --workers 0 --log-every 10 --checkpoint-every 10 --device cpu"
SWEEP += " --engine eager --no-tensorboard --set hidden_dim=8 batch_size=8"


def command(name: str, data: Path, out: Path) -> list[str]:
    if name == "train":
        return ["train", str(data), *TRAIN.split(), "--out", str(out)]
    return ["sweep", "--data", str(data), *SWEEP.split(), "--out", str(out)]


def run(arguments: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str]:
    return exit_code(*arguments), capsys.readouterr().err.strip()


def sites(name: str, data: Path, out: Path, capsys: pytest.CaptureFixture) -> list[str]:
    with failing(out, None) as disk:
        assert run(command(name, data, out), capsys)[0] == 0
    return disk.asked


EVERY = int(os.environ.get("ASPC_FAST_DISK_EVERY", "15"))


@pytest.mark.parametrize("name", ["train", "sweep"])
def test_the_disk_may_fail_at_any_operation(tmp_path: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    """At every fifteenth here; ASPC_FAST_DISK_EVERY=1 tries them all."""
    data = write_data(tmp_path / "d.hdf5", env=None)
    asked = sites(name, data, tmp_path / "whole", capsys)
    assert {"open", "write", "fsync", "rename", "create", "tensors"} <= set(asked)
    for site in range(0, len(asked), EVERY):
        out = tmp_path / f"at {site}"
        with failing(out, site):
            code, told = run(command(name, data, out), capsys)
        # the last thing asked is to sync the folder after a rename; not every file system can, and the rename stands
        expected = 2 if site < len(asked) - 1 else 0
        assert code == expected and told.count("\n") == 0 and "Traceback" not in told, (site, asked[site], told)
        assert run(command(name, data, out), capsys)[0] == 0, (asked[site], site)
        compare(tmp_path / "whole", out)


def assert_told(told: str) -> None:
    assert told.count("\n") == 0 and told.startswith("aspc-fast: ") and len(told) < 400, told


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG])
def test_every_way_a_disk_fails_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture, code: int) -> None:
    data = write_data(tmp_path / "d.hdf5", env=None)
    with failing(tmp_path / "r", 12, code):
        status, told = run(command("train", data, tmp_path / "r"), capsys)
    assert status == 2
    assert_told(told)
    assert os.strerror(code) in told


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_folder_made_read_only_is_one_sentence_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = write_data(tmp_path / "d.hdf5", env=None)
    whole, out = tmp_path / "whole", tmp_path / "r"
    longer = ["80" if word == "40" else word for word in command("train", data, out)]
    assert run(command("train", data, out), capsys)[0] == 0
    assert run([str(whole) if word == str(out) else word for word in longer], capsys)[0] == 0
    folders = [out, out / "checkpoints"]
    for folder in folders:
        folder.chmod(0o555)
    refused = unprivileged(longer)
    for folder in folders:
        folder.chmod(0o755)
    assert refused.returncode == 2, refused.stderr
    assert_told(refused.stderr.strip())
    assert load_checkpoint(out / "checkpoints").meta["step"] == 40
    assert run(longer, capsys)[0] == 0
    assert_same_run(whole, out)


def unprivileged(arguments: list[str]) -> subprocess.CompletedProcess:
    """The command without root's right to write where the permissions say no."""
    less = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*less, sys.executable, "-m", "aspc_fast", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
