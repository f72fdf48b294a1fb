import numpy as np
import pytest
import torch

from aspc_fast import reference
from aspc_fast.cli import main
from aspc_fast.errors import UserError
from aspc_fast.tools.trace import read_trace
from aspc_fast.tools.verify import verify
from tests.helpers import SHARED, needs_shared, record_trace

GOLDEN = ("aspc_lf4_d11x3_b256_n200.mini.npz", "aspc_lf4_d29x8_b64_n120.mini.npz", "td3bc_d17x6.mini.npz")

VARIANTS = {
    "variant 1, every step": dict(config=dict(loss_function=1, policy_freq=1, alpha_freq=1), obs_dim=3, act_dim=1),
    "variant 2, large actions": dict(config=dict(loss_function=2, alpha_freq=2, ema=0.9), max_action=2.5),
    "variant 3, centred reward": dict(
        config=dict(loss_function=3, alpha_freq=3, reward_mean=0.4), obs_dim=9, act_dim=4
    ),
    "variant 4, slow policy": dict(config=dict(policy_freq=3, alpha_freq=2, discount=0.9, tau=0.05, alpha=0.3)),
    "td3bc, robust critic": dict(config=dict(algo="td3bc", alpha=1.5, policy_noise=0.3, noise_clip=0.2)),
    "td3bc as published": dict(config=dict(algo="td3bc", robust_critic=False), max_action=0.4),
}


def failing(checks):
    return [(c.quantity, c.deviation) for c in checks if not c.passed]


@needs_shared
@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_golden_traces_of_the_authors(name, dtype):
    # in float32 every step is one of its own, from the float64 replay's state: three alpha updates are enough of them
    checks = verify(read_trace(SHARED / "traces" / name), dtype, steps=None if dtype == torch.float64 else 60)
    assert len(checks) >= 13
    assert not failing(checks)


@pytest.mark.parametrize(
    ("variant", "dtype"), [*((name, torch.float64) for name in VARIANTS), ("variant 1, every step", torch.float32)]
)
def test_any_setting_in_the_file_is_replayed(tmp_path, variant, dtype):
    arguments = dict(VARIANTS[variant])
    config = reference.Config(**arguments.pop("config"))
    checks = verify(read_trace(record_trace(tmp_path / "t.npz", config, **arguments)), dtype)
    assert len(checks) >= 13
    assert not failing(checks)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A trace with an alpha update every fourth step."""
    return record_trace(tmp_path_factory.mktemp("recorded") / "t.npz", reference.Config(alpha_freq=2), steps=8)


@pytest.fixture
def changed(recorded, tmp_path):
    """A function that writes the recorded trace with its arrays changed by another one, and returns the file."""

    def write(change):
        arrays = dict(np.load(recorded))
        change(arrays)
        np.savez(tmp_path / "t.npz", **arrays)
        return tmp_path / "t.npz"

    return write


@pytest.mark.parametrize("array", ["f64/out/alpha_grad", "f64/final/critic_2_target/net.3.weight", "batch/noise_raw"])
def test_a_small_change_anywhere_is_noticed(changed, array):
    def nudge(arrays):
        flat = arrays[array].reshape(-1)
        flat[np.flatnonzero(np.isfinite(flat) & (flat != 0))[-1]] *= 1.001

    assert failing(verify(read_trace(changed(nudge))))


def said(find, replace):
    """Another word in meta_json."""
    return lambda arrays: arrays.update(meta_json=np.array(str(arrays["meta_json"]).replace(find, replace)))


def test_wrong_mathematics_fails(changed):
    path = changed(said('"loss_function": 4', '"loss_function": 1'))
    assert "alpha_loss" in dict(failing(verify(read_trace(path))))


@pytest.mark.parametrize("options", [[], ["--dtype", "float32"], ["--steps", "6"]])
def test_command_line_passes(recorded, capsys, options):
    with pytest.raises(SystemExit) as exit_info:
        main(["verify", str(recorded), *options])
    assert exit_info.value.code == 0
    assert "alpha_grad" in capsys.readouterr().out


def test_command_line_fails_on_a_false_trace(changed, capsys):
    path = changed(lambda a: a.update({"f64/out/critic_loss": a["f64/out/critic_loss"] * 1.01}))
    with pytest.raises(SystemExit) as exit_info:
        main(["verify", str(path)])
    assert exit_info.value.code == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("meta_json"), "meta_json"),
        (lambda a: a.update(meta_json=np.array("{")), "damaged"),
        (lambda a: a.pop("init/actor/net.2.weight"), "net.2.weight"),
        (lambda a: a.pop("batch/state"), "batch/state"),
        (lambda a: a.update({"batch/done": a["batch/done"][:, :-1]}), "batch/done"),
        (said('"aspc"', '"sac"'), "sac"),
        (lambda a: a.update({"f64/final/actor/net.0.bias": np.zeros(3)}), "has 3 entries, expected 256"),
        (lambda a: a.update({"f64/out/critic_loss": np.zeros(3)}), "critic_loss"),
        (lambda a: a.update({"batch/noise_raw": a["batch/noise_raw"].astype("S4")}), "dtype"),
    ],
)
def test_damaged_traces_give_one_sentence(changed, change, message):
    path = changed(change)
    with pytest.raises(UserError, match=message) as error:
        verify(read_trace(path))
    assert "\n" not in str(error.value)


def test_files_that_are_no_traces(tmp_path):
    (tmp_path / "text.npz").write_text("not a zip")
    for name in ("text.npz", "missing.npz"):
        with pytest.raises(UserError, match=name):
            read_trace(tmp_path / name)


@pytest.mark.parametrize(("options", "algos"), [((), 8), (("--engine", "native", "--dtype", "float32"), 2)])
def test_without_an_argument_the_traces_of_the_package_are_replayed(capsys, options, algos):
    with pytest.raises(SystemExit) as ended:
        main(["verify", *options])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and said.count("pass") == algos
    assert ("the other traces are left out" in said) == (algos == 2)


def test_a_false_one_among_them_is_shown_whole(monkeypatch, recorded, changed, capsys):
    false = changed(lambda a: a.update({"f64/out/critic_loss": a["f64/out/critic_loss"] * 1.01}))
    monkeypatch.setattr("aspc_fast.cli.verify.shipped_traces", lambda _: [recorded, false])
    with pytest.raises(SystemExit) as ended:
        main(["verify"])
    said = capsys.readouterr().out
    assert ended.value.code == 1 and said.count("FAIL") == 2 and said.count("critic_loss") == 1
