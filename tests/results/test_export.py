"""Exported policies give the actions of the policy they came from, in programs that do not have this package."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import aspc_fast as af
from aspc_fast.cli import main
from aspc_fast.results.checkpoint import load_checkpoint
from aspc_fast.results.export import export
from tests.helpers import toy_data

TOLERANCE = 1e-6
SMALL = {"steps": 40, "log_every": 40, "eval_every": 0, "hidden_dim": 16, "batch_size": 16, "device": "cpu"}
MAX_ACTION = 0.7


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose normaliser and bound on actions are far from the identity."""
    rng = np.random.default_rng(3)
    data = toy_data(actions=rng.uniform(-MAX_ACTION, MAX_ACTION, (400, 2)), max_action=MAX_ACTION)
    folder = tmp_path_factory.mktemp("export") / "r"
    return af.train(data, out=folder, **SMALL)


@pytest.fixture(scope="module")
def observations():
    return np.random.default_rng(1).normal(1.0, 30.0, size=(33, 5)).astype(np.float32)


def act_elsewhere(tmp_path, program, file, observations):
    """Actions from a program run where this package cannot be imported."""
    np.save(tmp_path / "in.npy", observations)
    refuse = "import sys; sys.modules['aspc_fast'] = None\nimport numpy as np\n"
    code = refuse + program + "\nnp.save(sys.argv[3], actions)"
    words = [sys.executable, "-I", "-c", code, str(file), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "out.npy")


ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
actions = session.run(["actions"], {"observations": np.load(sys.argv[2])})[0]
"""
BARE_NUMPY = """
from safetensors.numpy import load_file
t = load_file(sys.argv[1])
x = (np.load(sys.argv[2]) - t["mean"]) / t["std"]
for i in (0, 1):
    x = np.maximum(x @ t[f"layers.{i}.weight"].T + t[f"layers.{i}.bias"], 0)
actions = 0.7 * np.tanh(x @ t["layers.2.weight"].T + t["layers.2.bias"])
"""


@pytest.mark.parametrize(
    ("kind", "program"),
    [("onnx", ONNX), ("safetensors", BARE_NUMPY)],
    ids=["onnx", "safetensors"],
)
def test_the_same_actions_without_this_package(run, observations, tmp_path, kind, program):
    path = export(run.folder, kind, tmp_path / f"p.{kind}")
    expected = run.policy(observations)
    assert np.abs(expected).max() > 0.5 * MAX_ACTION  # the bound matters
    for n in (33, 1):  # the batch is free
        actions = act_elsewhere(tmp_path, program, path, observations[:n])
        assert actions.dtype == np.float32
        assert actions.shape == (n, 2)
        assert np.abs(actions - expected[:n]).max() <= TOLERANCE


def test_every_format_says_what_it_is(run, tmp_path):
    import onnx

    stored = {}
    stored["onnx"] = {p.key: p.value for p in onnx.load(export(run.folder, "onnx", tmp_path / "a")).metadata_props}
    with safe_open(export(run.folder, "safetensors", tmp_path / "b"), "pt") as file:
        stored["safetensors"] = file.metadata()
    described = [json.loads(found["aspc_fast"]) for found in stored.values()]
    assert described[0] == described[1]
    expected = {"obs_dim": 5, "act_dim": 2, "max_action": MAX_ACTION, "step": 40, "package_version": af.__version__}
    expected |= {"dataset": "arrays", "env": None, "algo": "aspc", "seed": 0}
    assert {name: described[0][name] for name in expected} == expected
    assert stored["onnx"]["obs_dim"] == "5"


def test_load_policy_reads_what_was_exported(run, observations, tmp_path):
    policy = af.load_policy(export(run.folder, "safetensors"))
    assert np.array_equal(policy(observations), run.policy(observations))
    assert np.allclose(policy(observations[0]), run.policy(observations)[0], atol=TOLERANCE)
    again = export(run.folder / "policy.safetensors", "onnx", tmp_path / "again.onnx")
    assert again.read_bytes() == export(run.folder, "onnx", tmp_path / "p.onnx").read_bytes()


def test_the_policy_says_what_it_takes(run):
    with pytest.raises(af.UserError, match=r"\[n, 5\] or \[5\], got an array of shape \(2, 4\)"):
        run.policy(np.zeros((2, 4)))
    with pytest.raises(af.UserError, match="dict with 'observation'"):
        run.policy({"observation": np.zeros(5)})


def test_runs_of_a_sweep(observations, tmp_path):
    """Padded runs of different dimensions in several populations: each policy is cut out of the right place."""
    files = []
    for name, obs_dim, act_dim in (("narrow", 3, 1), ("wide", 5, 2)):
        data = toy_data(obs_dim=obs_dim, act_dim=act_dim, seed=obs_dim)
        fields = ("observations", "actions", "rewards", "terminals", "next_observations")
        np.savez(tmp_path / f"{name}.npz", **{field: getattr(data, field) for field in fields})
        files.append(tmp_path / f"{name}.npz")
    options = SMALL | {"final_episodes": 0, "workers": 0}
    af.sweep(files, [4, 9], out=tmp_path / "s", vary={"hidden_dim": [16, 8]}, **(options | {"hidden_dim": 16}))
    solo = af.train(files[1], **(SMALL | {"hidden_dim": 8, "seed": 9}))
    policy = af.load_policy(tmp_path / "s", run=7)  # wide, hidden_dim 8, seed 9
    assert np.allclose(policy(observations), solo.policy(observations), atol=1e-4)
    narrow = af.load_policy(export(tmp_path / "s", "safetensors", run=0))
    assert np.array_equal(narrow(observations[:, :3]), af.load_policy(tmp_path / "s", run=0)(observations[:, :3]))
    assert (tmp_path / "s" / "policy-run-0.safetensors").is_file()
    assert len({af.load_policy(tmp_path / "s", run=r)(observations).tobytes() for r in (4, 5, 6, 7)}) == 4
    for wrong in (None, 8):
        with pytest.raises(af.UserError, match=r"--run N \(0 = narrow aspc hidden_dim=16 seed 4"):
            af.load_policy(tmp_path / "s", run=wrong)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "--format", "pickle"], "unknown format 'pickle': it is one of onnx, safetensors"),
        (["{tmp}/none", "--format", "onnx"], "none: no such results folder or file"),
        (["{tmp}", "--format", "onnx"], "not a results folder (config.json is missing)"),
        (["{run}", "--format", "onnx", "--out", "{tmp}/no/such/p.onnx"], "p.onnx: cannot be written"),
        (["{run}", "--format", "onnx", "--out", "{tmp}"], "is a folder; name a file with --out"),
        (["{run}", "--format", "onnx", "--run", "3"], "holds a single run; leave out the run's number (3)"),
    ],
)
def test_mistakes_are_one_sentence(run, tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(["export", *(word.format(run=run.folder, tmp=tmp_path) for word in words)])
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in shown
    assert len(shown.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_a_sentence(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(af.UserError, match=r"pip install 'aspc_fast\[export\]'"):
        export(run.folder, "onnx", tmp_path / "p.onnx")


def test_files_that_are_no_export(run, tmp_path):
    good = export(run.folder, "safetensors", tmp_path / "good.safetensors")
    tensors = load_file(good)
    with safe_open(good, "pt") as file:
        meta = file.metadata()
    save_file(tensors, tmp_path / "bare.safetensors")
    save_file(tensors | {"mean": torch.zeros(4)}, tmp_path / "shape.safetensors", metadata=meta)
    huge = {"aspc_fast": json.dumps(json.loads(meta["aspc_fast"]) | {"hidden": [10**12] * 2})}
    save_file(tensors, tmp_path / "huge.safetensors", metadata=huge)
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-100])
    (tmp_path / "p.pt").write_bytes(b"x")
    said = {
        "bare.safetensors": "not a policy exported by aspc_fast",
        "shape.safetensors": r"mean is \(4,\)",
        "huge.safetensors": "layers.0.weight is",
        "cut.safetensors": "not a readable safetensors file",
        "p.pt": "only .safetensors can be read back",
    }
    for name, sentence in said.items():
        with pytest.raises(af.UserError, match=sentence):
            af.load_policy(tmp_path / name)


def test_a_diverged_run_is_not_exported(run, tmp_path, monkeypatch):
    saved = load_checkpoint(run.folder / "checkpoints")
    saved.tensors["state.actor"][0, 3] = float("nan")
    monkeypatch.setattr("aspc_fast.results.load.load_checkpoint", lambda folder: saved)
    with pytest.raises(af.UserError, match="has diverged"):
        export(run.folder, "onnx", tmp_path / "p.onnx")


def test_exports_and_runs_of_a_sweep_are_evaluated(tmp_path, capsys):
    data = toy_data(obs_dim=4, act_dim=2)
    fields = {name: getattr(data, name) for name in ("observations", "actions", "rewards", "terminals")}
    np.savez(tmp_path / "a.npz", **fields)
    af.sweep([tmp_path / "a.npz"], 2, out=tmp_path / "s", final_episodes=0, workers=0, **SMALL)
    scores = []
    for words in (["{s}", "--run", "1"], ["{file}"]):
        file = export(tmp_path / "s", "safetensors", tmp_path / "p.safetensors", run=1)
        options = ["--env", "PointMaze_UMaze-v3", "--episodes", "2"]
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *(word.format(s=tmp_path / "s", file=file) for word in words), *options])
        assert ended.value.code == 0
        scores.append(capsys.readouterr().out.split(";")[0])
    assert scores[0] == scores[1]
    written = [tmp_path / "s" / "evaluation-run-1-2x0.json", tmp_path / "evaluation-2x0.json"]
    assert written[0].read_text() == written[1].read_text()
