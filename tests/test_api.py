import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aspc_fast as af

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"hidden_dim": 16, "batch_size": 16, "device": "cpu"}


def arrays(rows: int = 300):
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(rows, 3)),
        "actions": rng.uniform(-1, 1, size=(rows, 2)),
        "rewards": rng.normal(size=rows),
        "terminals": np.arange(rows) % 30 == 29,
    }


def test_numpy_arrays_train_without_files():
    seen = []
    data = af.from_arrays(**arrays())
    run = af.train(data, steps=40, log_every=20, eval_every=0, callback=seen.append, **SMALL)
    assert [record["step"] for record in seen] == [20, 40]
    assert run.policy(np.zeros((5, 3))).shape == (5, 2)
    assert run.policy(np.zeros(3)).shape == (2,)
    assert np.abs(run.policy(np.random.default_rng(1).normal(size=(50, 3)) * 100)).max() <= 1


def test_saved_policy_comes_back(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    run = af.train(tmp_path / "mine.npz", steps=20, log_every=20, eval_every=0, out=tmp_path / "r", **SMALL)
    observations = np.random.default_rng(2).normal(size=(7, 3))
    assert np.array_equal(af.load_policy(tmp_path / "r")(observations), run.policy(observations))


def test_sweep_from_python(tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays())
    options = {"steps": 20, "log_every": 10, "eval_every": 0, "final_episodes": 0, "workers": 0}
    summary = af.sweep(
        [tmp_path / "mine.npz"], 2, out=tmp_path / "s", vary={"discount": [0.9, 0.99]}, **options, **SMALL
    )
    assert [row["state"] for row in summary["runs"]] == ["done"] * 4


def test_unknown_options_are_named():
    with pytest.raises(af.UserError, match="lerning_rate"):
        af.train(af.from_arrays(**arrays()), lerning_rate=1.0)


def test_a_bare_clone_runs_without_simulators_and_friends():
    """Training must not import what only evaluation, data sources or plots need."""
    forbidden = ["envpool", "gymnasium", "minari", "requests", "matplotlib", "ray", "tyro", "triton", "mujoco"]
    program = (
        f"import sys; forbidden = {set(forbidden)!r}\n"
        "from importlib.machinery import PathFinder as Finder\n"
        "find = Finder.find_spec  # a package that is not installed is not found; torch asks whether triton is\n"
        "absent = lambda kind, name, *more: None if name.split('.')[0] in forbidden else find(name, *more)\n"
        "Finder.find_spec = classmethod(absent)\n"
        "import numpy as np, aspc_fast as af, aspc_fast.kernels\n"
        "rng = np.random.default_rng(0)\n"
        "data = af.from_arrays(rng.normal(size=(99, 3)), rng.uniform(-1, 1, (99, 2)), np.ones(99), np.zeros(99))\n"
        "run = af.train(data, steps=20, log_every=10, hidden_dim=16, batch_size=16, device='cpu')\n"
        "assert not forbidden & {name.split('.')[0] for name in sys.modules}\n"
        "print(len(run.records))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2", done.stderr


def test_module_runs_from_a_bare_clone():
    done = subprocess.run(
        [sys.executable, "-m", "aspc_fast", "--version"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"aspc-fast {af.__version__}"
