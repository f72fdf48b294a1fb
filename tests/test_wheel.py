"""The built wheel, unpacked in a bare folder, works outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TRAIN = """
import numpy as np
import aspc_fast as af
import aspc_fast.kernels.problem

rng = np.random.default_rng(0)
data = af.from_arrays(
    rng.normal(size=(300, 3)), rng.uniform(-1, 1, size=(300, 2)), rng.normal(size=300), np.arange(300) % 50 == 49
)
run = af.train(data, steps=20, hidden_dim=16, batch_size=16, eval_every=0, device="cpu", out="run")
same = af.load_policy("run")(np.zeros((4, 3), np.float32))
assert same.shape == (4, 2) and np.array_equal(same, run.policy(np.zeros((4, 3), np.float32)))
print(af.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds."""
    pytest.importorskip("build")
    if int(version("setuptools").split(".")[0]) < 77:  # not imported: it and whoever had distutils before quarrel
        pytest.skip("the licence's notation needs setuptools 77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if files.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).is_file():  # a copy: building leaves folders behind
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    made = subprocess.run(build, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def call(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-u", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_package_and_nothing_else(installed: Path) -> None:
    top = {path.name for path in installed.iterdir()}
    assert {name.split("-")[0] for name in top} == {"aspc_fast"}
    for part in (
        "py.typed",
        "kernels/mlp.py",
        "cli/doctor.py",
        "engine/fused_tiles.py",
        "report/page.py",
        "report/published.json",
        "report/templates/page.html",
    ):
        assert (installed / "aspc_fast" / part).is_file(), part


def test_it_trains_and_loads_a_policy_far_from_the_repository(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path, "-c", TRAIN)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.split()[-1]).is_relative_to(installed)


def test_its_command_line_works(installed: Path, tmp_path: Path) -> None:
    version = call(installed, tmp_path, "-m", "aspc_fast", "--version")
    assert version.returncode == 0 and version.stdout.startswith("aspc-fast ")
    mistake = call(installed, tmp_path, "-m", "aspc_fast", "train", "nothing.hdf5")
    assert mistake.returncode == 2 and "no such file" in mistake.stderr and "Traceback" not in mistake.stderr


def test_a_clone_shows_its_kernels_and_nothing_else_of_what_lies_beside_the_package(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u, aspc_fast, aspc_fast.kernels.problem as p\n"
        "assert p.__name__ == 'aspc_fast.kernels.problem'\n"
        "print([n for n in ('tests', 'benchmarks', 'examples', 'docs') if u.find_spec(f'aspc_fast.{n}')])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
