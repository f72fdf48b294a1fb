"""Wrong commands: each is one sentence that names what is wrong, exit code 2, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aspc_fast.cli import main
from aspc_fast.errors import UserError
from tests.helpers import toy_data

SMALL = "--steps 20 --hidden-dim 16 --batch-size 16 --eval-every 0 --device cpu --no-tensorboard"
SWEEP = "sweep --out out --steps 20 --eval-every 0 --final-episodes 0 --device cpu --data mine.npz"


def code_of(words: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit_info:
        main(words.split())
    return exit_info.value.code


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a dataset, an empty file, a text file and an empty folder."""
    data = toy_data()
    np.savez(
        tmp_path / "mine.npz",
        **{name: getattr(data, name) for name in ("observations", "actions", "rewards", "terminals")},
    )
    (tmp_path / "empty.hdf5").touch()
    (tmp_path / "text.hdf5").write_text("hello\n")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train nothing.hdf5 --out out", "there is no such file"),
        ("train empty.hdf5 --out out", "is empty"),
        ("train text.hdf5 --out out", "is not an HDF5 file"),
        ("train folder --out out", "is a directory"),
        ("train hoper-medium-v2 --out out", "nearest: hopper-medium-v2"),
        ("train mine.npz --algo apsc --out out", "did you mean aspc?"),
        ("train mine.npz --steps -5 --out out", "steps must be"),
        ("train mine.npz --tau 2 --out out", "tau must lie in"),
        (
            "train mine.npz --env Hoper-v4 --out out",
            "unknown simulator task or dataset id 'Hoper-v4'; nearest",
        ),
        (f"train mine.npz {SMALL} --device gpu --out out", "device 'gpu'"),
        (f"train mine.npz {SMALL} --engine fast --out out", "engine must be one of"),
        (f"train mine.npz {SMALL} --out mine.npz/x", "cannot write here"),
        ("train mine.npz --batch-size 9000000 --out out", "batch_size must lie in [1, 1,048,576], got 9000000"),
        ("trian mine.npz", "did you mean train?"),
        ("evaluate folder", "not a results folder"),
        ("report folder", "not a results folder"),
        ("report nowhere", "no such results folder"),
        ("export nowhere --format onnx", "no such results folder or file"),
        ("verify mine.npz", "not a golden trace"),
        ("data info text.hdf5", "is not an HDF5 file"),
        (f"{SWEEP} mine.npz", "datasets: mine.npz is there twice"),
        (f"{SWEEP} --algo aspc,td3bc,aspc", "aspc is there twice"),
        (f"{SWEEP} --set tau=0.1,0.1", "0.1 is there twice"),
        (f"{SWEEP} --set alpha_frq=5", "did you mean alpha_freq?"),
        (f"{SWEEP} --seeds 0", "seeds must be at least 1"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_leaves_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str
) -> None:
    before = sorted(place.rglob("*"))
    assert code_of(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert sorted(place.rglob("*")) == before


def test_a_run_that_the_memory_cannot_hold_is_not_begun(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aspc_fast.run.memory.physical_memory", lambda: 2**20)
    assert code_of(f"train mine.npz {SMALL} --batch-size 4096 --out out") == 2
    assert "but this machine has 1.0 MiB of memory; lower --batch-size" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_a_folder_of_the_other_kind_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(f"train mine.npz {SMALL} --out one") == 0
    assert code_of(SWEEP) == 0
    capsys.readouterr()
    assert code_of(SWEEP.replace("--out out", "--out one")) == 2
    assert "one: holds a single run, so a sweep needs another --out" in capsys.readouterr().err
    assert code_of(f"train mine.npz {SMALL} --out out --resume") == 2
    assert "out: holds a sweep, so a single run needs another --out" in capsys.readouterr().err


def test_resuming_where_nothing_is_says_that_it_begins(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(f"train mine.npz {SMALL} --out one --resume") == 0
    assert "one: no checkpoint to go on from, so training begins at step 0" in capsys.readouterr().out
    assert code_of(f"train mine.npz {SMALL} --out one --resume") == 0
    assert "no checkpoint" not in capsys.readouterr().out


def test_square_brackets_are_printed_as_they_are(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich would take the bracket of aspc_fast[plot] for a style."""

    def missing(*_: object) -> None:
        raise UserError("matplotlib is missing: pip install 'aspc_fast[plot]'")

    monkeypatch.setattr("aspc_fast.cli.train.plot_curve", missing)
    assert code_of(f"train mine.npz {SMALL} --out run[bold]1") == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "'aspc_fast[plot]'" in said
    assert "results in run[bold]1" in said
