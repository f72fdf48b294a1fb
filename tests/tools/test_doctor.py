import json
import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from aspc_fast.cli import main
from aspc_fast.engine.select import WORTH_COMPILING, WORTH_MEASURING
from aspc_fast.suite import BY_ID, SUITE
from aspc_fast.tools import doctor, doctor_places, doctor_row
from aspc_fast.tools.doctor import can_train, diagnose
from aspc_fast.tools.doctor_row import Row


def rows_of(rows: list[Row]) -> dict[str, Row]:
    assert len({(row.section, row.name) for row in rows}) == len(rows)
    return {row.name: row for row in rows}


def broken_package(folder: Path, name: str, error: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"raise {error}\n")
    return folder


def ask(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_info:
        main(["doctor", *arguments])
    return exit_info.value.code


def test_a_stranger_without_data_may_train(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ASPC_FAST_DATA", str(tmp_path / "none"))
    code = ask("--json", "--no-simulators", "--results", str(tmp_path / "results"))
    said = json.loads(capsys.readouterr().out)
    assert (code, said["can_train"]) == (0, True)
    found = {(row["section"], row["name"]): row for row in said["rows"]}
    assert found["versions", "python"]["value"].startswith(sys.version.split()[0])
    assert found["versions", "torch"]["state"] == "ok"
    assert found["engine", "training"]["value"].startswith("20 updates on c")
    assert found["datasets", "looked for in"]["value"] == f"{tmp_path / 'none'} ($ASPC_FAST_DATA)"
    for domain in ("MuJoCo", "Maze2d", "AntMaze", "Adroit"):
        assert found["datasets", domain]["state"] == "missing"
        assert "aspc-fast data get" in found["datasets", domain]["remedy"]
    assert all(row["remedy"] for row in said["rows"] if row["state"] == "missing" and row["name"] != "GPU")
    assert list(tmp_path.iterdir()) == []


def test_the_table_shows_every_row_and_remedy(capsys):
    from aspc_fast.cli.doctor import show

    rows = [Row("a", "one", "ok", "1.2"), Row("a", "two", "missing", "gone", "fetch it"), Row("b", "three", "ok", "x")]
    show(rows, True)
    said = capsys.readouterr().out
    for word in ("one", "1.2", "two", "gone", "-> fetch it", "three", "1 optional"):
        assert word in said
    show([*rows, Row("b", "torch", "failed", "broken [red]")], False)
    assert "training cannot work here: torch" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_a_failure_with_a_remedy(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    results = tmp_path / "file/results"
    row = rows_of(doctor_places.folders(results, tmp_path))["results"]
    assert row.state == "failed"
    assert str(results) in row.value
    assert "--out" in row.remedy
    assert ask("--no-simulators", "--results", str(results)) == 1
    assert "training cannot work here: results" in capsys.readouterr().out
    row = rows_of(doctor_places.folders(tmp_path, tmp_path / "file/data"))["datasets"]
    assert row.state == "missing"


def test_little_disk_is_said(tmp_path, monkeypatch):
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**8, 10**8))
    row = rows_of(doctor_places.folders(tmp_path / "new", tmp_path))["results"]
    assert row.state == "missing"
    assert "0.1 GiB free" in row.value
    assert "little room" in row.remedy


def test_broken_triton_does_not_stop_training(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(broken_package(tmp_path, "triton", 'RuntimeError("undefined symbol")'))
    for name in [n for n in sys.modules if n.split(".")[0] == "triton"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(doctor, "version", lambda name: "3.6.0")
    row = rows_of(doctor.versions())["triton"]
    assert row.state == "missing"
    assert "undefined symbol" in row.value
    assert "triton==3.6.0" in row.remedy
    assert doctor.training()[0].state == "ok"


def test_broken_torch_is_a_row_and_exit_code_1(tmp_path):
    broken_package(tmp_path, "torch", 'OSError("libcudart.so.12: cannot open shared object file")')
    code = "import sys; from aspc_fast.cli import main; sys.path.insert(0, sys.argv[1])\n"
    code += "main(['doctor', '--json', '--no-simulators'])"
    done = doctor_row.run_python(code, str(tmp_path), folder=tmp_path, seconds=60)
    assert done.returncode == 1, done.stderr
    found = {(row["section"], row["name"]): row for row in json.loads(done.stdout)["rows"]}
    assert "libcudart" in found["versions", "torch"]["value"]
    assert "pip install" in found["versions", "torch"]["remedy"]
    assert found["engine", "training"]["state"] == "failed"
    assert found["datasets", "looked for in"]["state"] == "ok"


def test_a_package_that_is_missing_names_its_extra(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: None)
    found = rows_of(doctor.versions())
    assert "aspc_fast[eval]" in found["envpool"].remedy
    assert "aspc_fast[log]" in found["tensorboard"].remedy
    assert can_train(list(found.values()))


def test_a_check_that_trips_is_a_row(tmp_path, monkeypatch):
    def trip() -> list[Row]:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(doctor, "devices", trip)
    monkeypatch.setattr(doctor, "training", list)
    heard: list[str] = []
    rows = diagnose(tmp_path, tmp_path, simulators=False, progress=heard.append)
    assert Row("devices", "check", "missing", "could not look: ZeroDivisionError: oops") in rows
    assert heard == ["versions", "devices", "engine", "trials", "training", "datasets", "files"]


def test_training_that_fails_is_told(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: no kernel image is available\nfor this device")

    monkeypatch.setattr("aspc_fast.run.train.train", fail)
    (row,) = doctor.training()
    assert row.state == "failed"
    assert "no kernel image is available for this device" in row.value


def test_why_auto_picks_what_it_picks(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    works = iter((True, True, False, False, False, False))
    monkeypatch.setattr("aspc_fast.engine.select.works_here", lambda: next(works))
    assert all(row.value.startswith("native on cpu: C++ built for this processor") for row in doctor.engines())
    monkeypatch.setattr("aspc_fast.engine.select.shutil.which", lambda name: None)
    short, long = doctor.engines()
    assert short.value.startswith(f"eager on cpu: below {WORTH_COMPILING:,} updates")
    assert long.value == "eager on cpu: no C++ compiler, so nothing can be compiled"
    monkeypatch.setattr("aspc_fast.engine.select.shutil.which", lambda name: "/bin/" + name)
    assert doctor.engines()[1].value.startswith(f"compiled on cpu: at least {WORTH_COMPILING:,}")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    short, long = doctor.engines()
    assert short.value.startswith(f"compiled on cuda: below {WORTH_MEASURING:,} updates")
    assert long.value.startswith("measured on cuda: every engine is checked and timed on this GPU once")


def test_compilers_that_are_missing_or_lack_headers(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    row = doctor.compiler()
    assert (row.state, row.value) == ("missing", "neither g++ nor clang++ is here")
    fake = tmp_path / "g++"
    fake.write_text("#!/bin/sh\necho 'fatal error: Python.h: No such file' >&2\nexit 1\n")
    fake.chmod(0o755)
    row = doctor.compiler()
    assert row.state == "missing"
    assert "Python.h" in row.value
    assert "python3-dev" in row.remedy
    fake.write_text("#!/bin/sh\necho 'g++ 99.1'\n")
    assert doctor.compiler() == Row("devices", "C++ compiler", "ok", "g++ 99.1")


def test_a_gpu_without_a_cuda_build_gets_advice(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "without CUDA" in doctor._no_gpu("2.13.0+cpu", None).remedy
    assert "CUDA 13.0" in doctor._no_gpu("2.13.0", "13.0").remedy


def write_like(row, path: Path, rows: int | None = None) -> None:
    """An HDF5 file of the row's shapes that takes no room."""
    n = rows or row.transitions
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        widths = {"observations": (n, row.obs_dim), "actions": (n, row.act_dim), "rewards": (n,), "terminals": (n,)}
        for name, shape in widths.items():
            file.create_dataset(name, shape, np.float32, chunks=True)


def test_datasets_that_are_here_damaged_or_absent(tmp_path):
    write_like(BY_ID["pen-human-v1"], tmp_path / "pen-human-v1.hdf5")
    write_like(BY_ID["door-human-v1"], tmp_path / "door-human-v1.hdf5", rows=10)
    (tmp_path / "hopper-medium-v2.hdf5").write_bytes(b"<html>404</html>")
    found = rows_of(doctor_places.datasets(tmp_path))
    assert found["looked for in"].value == f"{tmp_path} (--data-dir)"
    assert found["Adroit"].value == "1 of 12 here: pen-human-v1"
    assert found["MuJoCo"].value == "0 of 18 here"
    assert "door-human-v1.hdf5" in found["door-human-v1"].value
    assert "delete it" in found["hopper-medium-v2"].remedy
    assert sum(int(found[domain].value.split()[2]) for domain in doctor_places.domains()) == len(SUITE) == 39


def test_simulators_are_really_built(tmp_path, monkeypatch):
    assert doctor_places.domains() == ["MuJoCo", "Maze2d", "AntMaze", "Adroit"]
    monkeypatch.setattr(doctor_places, "domains", lambda: ["Maze2d", "AntMaze"])  # one of each package
    monkeypatch.chdir(tmp_path)
    heard: list[str] = []
    rows = doctor_places.simulators(heard.append)
    assert [(row.name, row.state) for row in rows] == [("Maze2d", "ok"), ("AntMaze", "ok")]
    assert rows[0].value.startswith("envpool ")
    assert heard == ["simulator of Maze2d", "simulator of AntMaze"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "crashed (signal 6)"),
        ("import sys; sys.exit('evaluation needs the package envpool')", "evaluation needs the package envpool"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_a_simulator_that_does_not_work_is_a_row(monkeypatch, code, said):
    monkeypatch.setattr(doctor_places, "SIMULATE", code)
    if "sleep" in code:
        monkeypatch.setattr(doctor_places, "SIMULATOR_SECONDS", 1.0)
    rows = doctor_places.simulators()
    assert [row.value for row in rows] == [said] * 4
    assert all(row.state == "missing" and "aspc_fast[eval]" in row.remedy for row in rows)
