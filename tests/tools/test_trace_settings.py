"""What a trace's meta_json may say, and where: every setting that changes the update counts, others do not matter."""

import json

import numpy as np
import pytest

from aspc_fast.cli import main
from aspc_fast.errors import UserError
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.references import cql, iql, rapo, rebrac, wpc
from tests.references.record import record_trace

SMALL = {"steps": 6, "batch": 7, "obs_dim": 4, "act_dim": 1}
# The dataclasses of the authors' scripts, as far as they change no update on given batches.
SCRIPT = {
    "device": "cuda",
    "env": "antmaze-umaze-v2",
    "seed": 0,
    "eval_freq": 5000,
    "n_episodes": 10,
    "buffer_size": 10,
}
SCRIPT |= {"normalize": True, "normalize_reward": True, "reward_scale": 10.0, "reward_bias": -5.0, "expl_noise": 0.1}
SCRIPT |= {"checkpoints_path": None, "load_model": "", "project": "P", "group": "G", "name": "", "batch_size": 256}
SCRIPT |= {"dataset_name": "x", "num_epochs": 1000, "normalize_states": False, "eval_every": 5, "train_seed": 0}


def failing(path):
    return [check.quantity for check in verify(read_trace(path)) if not check.passed]


def change(path, hp=None, drop=(), arrays=None, **meta):
    """Rewrite a trace without some settings, with others in meta_json and its hp, and other arrays (None: none)."""
    old = dict(np.load(path))
    said = json.loads(str(old.pop("meta_json")))
    for name in drop:
        said.pop(name, None)
        said["hp"].pop(name, None)
    said |= meta
    said["hp"] |= hp or {}
    old |= arrays or {}
    np.savez(path, meta_json=np.array(json.dumps(said)), **{k: v for k, v in old.items() if v is not None})
    return path


@pytest.mark.parametrize("algo", ["wpc", "iql", "rebrac", "a2pr", "rapo", "cql"])
def test_settings_of_the_script_that_change_no_update_are_accepted(tmp_path, algo):
    path = change(record_trace(tmp_path / "t.npz", algo, **SMALL), hp=SCRIPT)
    assert not failing(path)


@pytest.mark.parametrize(
    ("algo", "name"), [("rapo", "meta_interval"), ("a2pr", "mask"), ("iql", "beta"), ("wpc", "tau")]
)
def test_a_setting_counts_in_hp_and_beside_it(tmp_path, algo, name):
    path = record_trace(tmp_path / "t.npz", algo, **SMALL)
    value = json.loads(str(np.load(path)["meta_json"]))["hp"][name]
    assert not failing(change(path, drop=[name], **{name: value}))
    other = read_trace(change(path, **{name: type(value)(2 * value)})).config
    assert other != read_trace(change(path, **{name: value})).config


def test_iql_under_the_names_of_its_script(tmp_path):
    config = iql.Config(hidden_dim=16, iql_deterministic=True, actor_dropout=0.25, max_timesteps=5)
    path = record_trace(tmp_path / "t.npz", "iql", config, **SMALL)
    change(path, drop=["policy", "T_max", "dropout"])
    change(path, hp={"iql_deterministic": True, "actor_dropout": 0.25, "max_timesteps": 5})
    assert not failing(path)
    assert read_trace(path).config.horizon == 5
    assert not failing(change(path, drop=["iql_deterministic"]))  # without log_std it is no Gaussian
    assert failing(change(path, hp={"max_timesteps": 50}))
    assert read_trace(change(path, T_max=7)).config.horizon == 7  # what its schedule was given


def test_wpcs_networks_may_have_rates_of_their_own(tmp_path):
    path = record_trace(tmp_path / "t.npz", "wpc", wpc.Config(hidden_dim=16, lr=1e-3), **SMALL)
    assert not failing(path)
    assert not failing(change(path, lr=5e-4, hp={"actor_lr": 1e-3, "critic_lr": 1e-3, "vnet_lr": 1e-3}))
    assert "vnet_loss" in failing(change(path, hp={"vnet_lr": 2e-3}))


@pytest.mark.parametrize(("algo", "config"), [("rebrac", rebrac.Config), ("rapo", rapo.Config)])
def test_programs_that_know_no_bound_of_actions_but_one(tmp_path, algo, config):
    path = record_trace(tmp_path / "t.npz", algo, config(hidden_dim=16, policy_noise=0.9), **SMALL)
    assert not failing(change(path, max_action=0.4))
    assert not failing(change(path, drop=["max_action"]))


def test_initial_targets_in_the_file_count(tmp_path):
    path = record_trace(tmp_path / "t.npz", "wpc", **SMALL)
    bias = np.load(path)["init/critic_1/net.9.bias"]
    assert not failing(change(path, arrays={"init/critic_1_target/net.9.bias": bias}))
    assert "target_q_mean" in failing(change(path, arrays={"init/critic_1_target/net.9.bias": bias - 1.0}))


@pytest.mark.parametrize(
    ("algo", "meta", "message"),
    [
        ("wpc", {"hp": {"weight_decay": 0.1}}, "hyper-parameter 'weight_decay'"),
        ("wpc", {"adam": {"b1": 0.9, "weight_decay": 0.1}}, "Adam's 'weight_decay'"),
        ("wpc", {"arrays": {"init/critic_1/net.12.bias": np.zeros(1)}}, "net.12.bias' is of a layer"),
        ("rapo", {"hp": {"meta_warmup_steps": 5}}, "meta_warmup_steps"),
        ("rapo", {"hp": {"critic_target": "value"}}, "critic_target"),
        ("rebrac", {"hp": {"num_updates_on_epoch": 5, "policy_freq": 2}}, "epochs of 5 updates"),
        ("iql", {"hp": {"n_hidden": 3}}, "hyper-parameter 'n_hidden'"),
    ],
)
def test_a_setting_that_nobody_knows_is_named(tmp_path, algo, meta, message):
    path = change(record_trace(tmp_path / "t.npz", algo, **SMALL), **meta)
    with pytest.raises(UserError, match=message):
        verify(read_trace(path))


def test_an_epoch_that_ends_with_the_rhythm_changes_nothing(tmp_path):
    path = record_trace(tmp_path / "t.npz", "rebrac", **SMALL)
    assert not failing(change(path, hp={"num_updates_on_epoch": 4}))


def test_what_is_not_compared_is_said(tmp_path, capsys):
    path = record_trace(tmp_path / "t.npz", "cql", cql.Config(hidden_dim=16), **SMALL)
    notes: list[str] = []
    whole = verify(read_trace(path), on_note=notes.append)
    assert not notes
    gone = ["f64/out/qf_loss", "f64/final_checksum/actor/base_network.0.bias"]
    gone += [name for name in np.load(path) if name.startswith("f64/final_checksum/critic_2/")]
    change(path, arrays=dict.fromkeys(gone) | {"init/other/net.0.bias": np.zeros(3)}, temperature=3)
    assert len(verify(read_trace(path), on_note=notes.append)) == len(whole) - 2
    assert notes == [
        "unknown here and ignored: temperature, init/other",
        "not in the file and so not compared: qf_loss, final actor (1 tensors), final critic_2 (8 tensors)",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(path)])
    assert ended.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(note in printed for note in notes)
    assert f"{len(whole) - 2} of {len(whole) - 2} quantities agree over 6 steps" in printed


def test_an_infinite_recording_is_compared_too(tmp_path):
    path = record_trace(tmp_path / "t.npz", "wpc", **SMALL)
    loss = np.load(path)["f64/out/critic_loss"].copy()
    loss[3] = np.inf
    assert failing(change(path, arrays={"f64/out/critic_loss": loss})) == ["critic_loss"]
