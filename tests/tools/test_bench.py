"""The measuring tools themselves: what they report must be what was run. No timing is asserted."""

import json

import pytest
import torch

from aspc_fast.agent.footprint import footprint
from aspc_fast.agent.state import RunShape, make_spec
from aspc_fast.cli import main
from aspc_fast.config import AgentConfig
from aspc_fast.tools.bench import Rung, measure


def test_measured_rates_belong_to_their_rungs():
    rungs = [Rung("reference", "td3bc"), Rung("eager", "aspc"), Rung("eager", "aspc", runs=2)]
    seen = []
    measured = measure(rungs, obs_dim=3, act_dim=1, rows=1000, seconds=0.01, on_window=lambda: seen.append(1))
    assert [m.rung for m in measured] == rungs
    assert len(seen) == 3 * len(measured[0].windows) == 27
    assert all(speed > 0 for m in measured for speed in m.windows)


def test_the_paper_s_setting_costs_what_it_is_known_to_cost():
    """By hand: layers of 23 x 256, 256 x 256 (x 2), 256 x 6, and weights moved by Adam and by the targets."""
    found = footprint(make_spec([AgentConfig()], [RunShape(17, 6)]))
    assert found.flops == pytest.approx(0.73e9, rel=0.05)
    assert found.traffic == pytest.approx(12e6, rel=0.2)


@pytest.mark.slow
def test_profile_command(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["profile", "--device", "cpu", "--steps", "20", "--trace", str(tmp_path)])
    assert exit_info.value.code == 0
    output = capsys.readouterr().out
    assert "aten::bmm" in output
    assert "limited by" in output
    assert json.loads((tmp_path / "aspc.json").read_text())["traceEvents"]


def test_bench_command_writes_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("aspc_fast.tools.bench.ROUNDS", 2)
    monkeypatch.setattr("aspc_fast.cli.bench.ROUNDS", 2)
    out = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "--engines", "eager", "--seconds", "0.01", "--device", "cpu", "--out", str(out)])
    assert exit_info.value.code == 0
    written = json.loads(out.read_text())
    assert written["machine"]["threads"] == torch.get_num_threads()
    assert {row["engine"] for row in written["ladder"]} == {"reference", "eager"}
