"""The measuring tools themselves: what they report must be what was run. No timing is asserted."""

import json

import pytest
import torch

from aspc_fast.agent.layout import Shapes
from aspc_fast.agent.state import Spec
from aspc_fast.cli import main
from aspc_fast.tools.bench import Rung, measure
from aspc_fast.tools.cost import update_cost


def test_measured_rates_belong_to_their_rungs():
    rungs = [Rung("reference", "td3bc"), Rung("eager", "aspc"), Rung("eager", "aspc", runs=2)]
    seen = []
    measured = measure(rungs, obs_dim=3, act_dim=1, rows=1000, seconds=0.01, on_window=lambda: seen.append(1))
    assert [m.rung for m in measured] == rungs
    assert len(seen) == 3 * len(measured[0].windows) == 27
    assert all(speed > 0 for m in measured for speed in m.windows)


@pytest.mark.parametrize("robust", [True, False])
def test_counted_flops_agree_with_torch_s_counter(robust):
    """Against torch's own count of matrix products over a whole period (it does not see the last layers' sums)."""
    from torch.utils.flop_counter import FlopCounterMode

    from aspc_fast.config import AgentConfig
    from aspc_fast.engine.metrics import MetricMeans
    from aspc_fast.run.population import RunSpec, build_population
    from tests.helpers import toy_data

    config = AgentConfig(critic="robust" if robust else "plain", alpha_freq=2, batch_size=32)
    made = build_population([toy_data(obs_dim=17, act_dim=6)], [RunSpec(0, config, 0)])
    with FlopCounterMode(display=False) as counter:
        made.engine.advance(4, MetricMeans())
    assert counter.get_total_flops() / 4 == pytest.approx(update_cost(made.spec).flops, rel=0.02)


def test_the_paper_s_setting_costs_what_it_is_known_to_cost():
    cost = update_cost(Spec(Shapes(17, 6)))
    assert cost.flops == pytest.approx(0.73e9, rel=0.05)
    assert cost.bytes == pytest.approx(12e6, rel=0.2)


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
