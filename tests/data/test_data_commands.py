"""``aspc-fast data``: what its tables say, and that loading for training needs no optional package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tyro.extras import subcommand_cli_from_dict

from aspc_fast.cli.data import COMMANDS, get, info, ls, make
from aspc_fast.data.arrays import from_arrays
from aspc_fast.data.describe import describe
from aspc_fast.errors import UserError
from aspc_fast.suite import SUITE

Save = Callable[..., Path]


def run(*arguments: str) -> None:
    subcommand_cli_from_dict(COMMANDS, args=list(arguments))


def test_ls_shows_all_39_and_what_is_here(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "pen-human-v1.hdf5").write_bytes(b"x")
    run("ls", "--data-dir", str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    for row in SUITE:
        line = next(line for line in lines if line.startswith(row.id + " "))
        assert f"{row.transitions:,}" in line and ("yes" in line.split()) == (row.id == "pen-human-v1")
        assert row.minari is None or row.minari in line
    assert any("1 of 39 here" in line for line in lines)


def test_ls_fits_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("aspc_fast.cli.data.WIDE", 10_000)
    ls(Path("nowhere"))
    assert max(len(line.rstrip()) for line in capsys.readouterr().out.splitlines()) <= 80
    ls(minari=True)
    assert "D4RL/pen/human-v2" in capsys.readouterr().out


def test_info_shows_the_numbers(fields: dict, save: Save, capsys: pytest.CaptureFixture) -> None:
    run("info", str(save(fields)))
    text = capsys.readouterr().out
    lines = {line[:13].strip(): line[13:].strip() for line in text.splitlines()}
    assert lines["transitions"].startswith("28 (") and lines["terminals"] == "1" and lines["episodes"] == "3"
    assert lines["time-outs"].startswith("2 ") and lines["observations"].startswith("5 entries")
    assert lines["task"] == "unknown" and "min 10, mean 10.0, max 10" in lines["lengths"]
    bars = [line for line in text.splitlines() if ".." in line]
    assert sum(int(line.split()[3]) for line in bars) == 3
    assert sum(line.count("#") > 0 for line in bars) == sum(int(line.split()[3]) > 0 for line in bars)
    assert max(map(len, text.splitlines())) <= 120


def test_descriptions_count_right() -> None:
    rows = 40
    rewards = np.repeat([1.0, 2.0, 3.0, 4.0], 10)
    timeouts = np.arange(rows) % 10 == 9
    actions = np.zeros((rows, 3))
    actions[:10] = 1.0
    data = from_arrays(np.zeros((rows, 11)), actions, rewards, np.zeros(rows), timeouts=timeouts, env="Hopper-v4")
    facts = describe(data)
    assert facts.returns == (10, 25, 40) and facts.lengths == (10, 10, 10) and facts.share_at_bound == 0.25
    assert facts.scores is not None
    np.testing.assert_allclose(facts.scores[1], 100 * (25 + 20.272305) / (3234.3 + 20.272305))
    assert (facts.episodes, facts.terminals, facts.timeouts) == (4, 0, 4)
    assert facts.histogram[0].tolist() == [1, 0, 0, 1, 0, 0, 1, 0, 0, 1]


def test_equal_returns_make_one_bar() -> None:
    data = from_arrays(np.zeros((6, 3)), np.zeros((6, 1)), np.zeros(6), np.arange(6) % 2)
    assert describe(data).histogram[0].tolist() == [3]


def test_make_writes_a_file_that_info_reads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("envpool")
    out = tmp_path / "deep" / "umaze.hdf5"
    run("make", "maze2d-umaze", "--transitions", "600", "--seed", "2", "--out", str(out))
    info(str(out))
    text = capsys.readouterr().out
    assert "600 transitions" in text and "PointMaze_UMaze-v3, simulator frame" in text and "reward rate" in text


def test_make_refuses_before_it_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "x.hdf5"):
        with pytest.raises(UserError, match=str(tmp_path)):
            make("maze2d-umaze", transitions=10**8, out=str(out))


def test_get_names_the_nearest_ids() -> None:
    with pytest.raises(UserError, match="nearest: maze2d-umaze-v1"):
        get("maze2d-umaz-v1")
    with pytest.raises(UserError, match=r"kitchen-mixed-v0\.hdf5, or take Minari's, as D4RL/kitchen/mixed-v2"):
        get("kitchen-mixed-v0")


def test_loading_imports_no_optional_package(fields: dict, save: Save) -> None:
    code = (
        "import sys; from aspc_fast.data.load import load; load(sys.argv[1]);"
        "print([m for m in ('minari','envpool','gymnasium','requests','tqdm','torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(save(fields))], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["envpool", "requests"])
def test_missing_packages_are_named(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"needs {missing}, .*pip install 'aspc_fast\["):
        if missing == "envpool":
            make("maze2d-umaze", transitions=10, out=str(tmp_path / "x.hdf5"))
        else:
            get("hopper-medium-v2", data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
