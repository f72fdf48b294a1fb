"""Tuned settings are valid for every dataset of the suite, and those of the authors' files."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from aspc_fast.config import AgentConfig
from aspc_fast.errors import UserError
from aspc_fast.registry import names
from aspc_fast.run.population import reward_transform
from aspc_fast.settings import _file, source, tuned
from aspc_fast.suite import BY_ID, SUITE
from tests.helpers import SHARED, needs_shared, toy_data

NOT_OURS = {"eval_freq", "n_episodes", "eval_episodes", "eval_every", "max_timesteps", "num_epochs", "buffer_size"}
NOT_OURS |= {"num_updates_on_epoch", "hidden_dim"}
# What the authors' files say and this package has as another option, or CORL's only value.
OTHERWISE = {"normalize", "normalize_states", "normalize_reward", "iql_deterministic", "reward_scale", "reward_bias"}
ONLY = {"alpha_multiplier": 1.0, "backup_entropy": False, "bc_steps": 0, "cql_importance_sample": True}
ONLY |= {"orthogonal_init": True, "target_update_period": 1, "use_automatic_entropy_tuning": True}


@cache
def authors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SHARED / "rivals/tuned.json").read_text())
    return found


@pytest.mark.parametrize("algo", names())
def test_every_value_is_a_valid_hyper_parameter(algo: str) -> None:
    for dataset in BY_ID:
        values = tuned(algo, dataset)
        config = AgentConfig(algo=algo, **values).to_json()
        assert {name: config[name] for name in values} == values


def test_domains_have_their_own_data_rules() -> None:
    data = toy_data()
    for algo, expected in {"rebrac": (100.0, 0.0), "iql": (1.0, -1.0)}.items():
        for row in SUITE:
            config = AgentConfig(algo=algo, **tuned(algo, row.id))
            if row.domain == "AntMaze":
                assert reward_transform(config, data) == expected
            assert config.normalise == (algo != "rebrac")
    spread = float(data.episode_returns.max() - data.episode_returns.min())
    hopper = AgentConfig(algo="iql", **tuned("iql", "hopper-medium-replay-v2"))
    assert reward_transform(hopper, data) == (50 / spread, 0.0)  # toy episodes have 50 steps
    assert hopper.to_json()["policy"] == "deterministic"


def test_settings_differ_between_datasets() -> None:
    medium, replay = tuned("rebrac", "hopper-medium-v2"), tuned("rebrac", "hopper-medium-replay-v2")
    assert (medium["actor_bc_coef"], replay["actor_bc_coef"], replay["critic_bc_coef"]) == (0.01, 0.05, 0.5)
    assert tuned("a2pr", "halfcheetah-medium-v2")["alpha"] == 40.0
    assert tuned("a2pr", "halfcheetah-expert-v2") == {}


@pytest.mark.parametrize("dataset", ["my-file.hdf5", "maze2d-large-dense-v1", "hopper-medium", None])
def test_other_datasets_have_no_tuned_settings(dataset: str | None) -> None:
    assert all(tuned(algo, dataset) == {} for algo in names())


def test_algorithms_with_one_set() -> None:
    for algo in ("aspc", "td3bc", "wpc", "bc"):
        assert tuned(algo, "hopper-medium-v2") == {}
        assert source(algo) == ""
    assert "ASPC@3119fbe" in source("rebrac")
    with pytest.raises(UserError, match="rebarc"):
        tuned("rebarc", "hopper-medium-v2")


@needs_shared
@pytest.mark.parametrize("algo", ["iql", "rebrac", "cql"])
def test_the_shipped_file_says_what_the_authors_files_say(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aspc_fast.settings.algorithm", lambda name: type("Untranslated", (), {"trace": None}))
    for dataset in BY_ID:
        theirs, ours = dict(authors()[algo][dataset]), tuned(algo, dataset)
        states = theirs.get("normalize", theirs.get("normalize_states"))
        assert ours.pop("normalise") == states
        kind, scale, mean = ours.pop("reward"), ours.pop("reward_scale", 1.0), ours.pop("reward_mean", 0.0)
        assert (kind, scale, mean) == _reward(algo, dataset, theirs)
        if algo == "cql" and dataset.startswith("antmaze"):
            assert ours.pop("second_critic_depth") == 3  # their script does not pass q_n_hidden_layers to critic_2
        assert (ours.pop("policy", "gaussian") == "deterministic") == theirs.get("iql_deterministic", False)
        expected = {name: v for name, v in theirs.items() if name not in NOT_OURS | OTHERWISE and "inf" not in str(v)}
        for name, value in ONLY.items():
            assert expected.pop(name, value) == value
        assert ours == expected, dataset


def _reward(algo: str, dataset: str, theirs: dict[str, Any]) -> tuple[str, float, float]:
    if not theirs["normalize_reward"]:
        return "none", 1.0, 0.0
    if not dataset.startswith("antmaze"):
        return "return-range", 1.0, 0.0
    if algo == "iql":
        return "minus-one", 1.0, 0.0
    return "scale", theirs.get("reward_scale", 100.0), -theirs.get("reward_bias", 0.0)


@needs_shared
def test_a2pr_has_its_readmes_examples() -> None:
    shipped = {entry["datasets"][0]: entry["values"] for entry in _file()["a2pr"]["settings"]}
    assert shipped == authors()["a2pr_readme_examples"]
