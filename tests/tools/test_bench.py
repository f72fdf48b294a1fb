"""The measuring tools themselves: what they report must be what was run. No timing is asserted."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aspc_fast.agent.footprint import footprint
from aspc_fast.agent.state import RunShape, make_spec
from aspc_fast.cli import main
from aspc_fast.config import AgentConfig
from aspc_fast.tools.bench import PRODUCT_SIZES, Rung, matrix_product, measure

ROUNDS = 2


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Few windows, narrow networks, small products: what is told must be right, not exact."""
    monkeypatch.setattr("aspc_fast.tools.bench.ROUNDS", ROUNDS)
    monkeypatch.setattr("aspc_fast.cli.bench.ROUNDS", ROUNDS)
    monkeypatch.setitem(PRODUCT_SIZES, "cpu", 64)
    for module in ("bench", "profile"):
        monkeypatch.setattr(f"aspc_fast.tools.{module}.bench_config", narrow)


def narrow(algo):
    return AgentConfig(algo, hidden_dim=64)


def test_measured_rates_belong_to_their_rungs():
    rungs = [Rung("reference", "td3bc"), Rung("eager", "aspc"), Rung("eager", "aspc", runs=2)]
    seen = []
    measured = measure(rungs, obs_dim=3, act_dim=1, rows=1000, seconds=0.01, on_window=lambda: seen.append(1))
    assert [m.rung for m in measured] == rungs
    assert len(measured[0].windows) == ROUNDS
    assert len(seen) == 4 * ROUNDS  # three rungs, and the large matrix product
    assert all(speed > 0 for m in measured for speed in m.windows)
    assert len({m.matmul_rate for m in measured}) == 1
    for m in measured:
        assert m.share == pytest.approx(m.flops * m.median / m.matmul_rate)


def test_a_large_product_has_the_operations_it_is_said_to_have():
    advance, flops = matrix_product("cpu")
    with FlopCounterMode(display=False) as counter:
        advance(3)
    assert counter.get_total_flops() == 3 * flops


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


def test_bench_command_takes_any_algorithm_and_writes_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out, options = tmp_path / "bench.json", ["--engines", "eager", "--seconds", "0.01", "--device", "cpu"]
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", *options, "--algo", "td3bc", "bc", "wpc", "--out", str(out)])
    assert exit_info.value.code == 0
    written = json.loads(out.read_text())
    assert written["machine"]["threads"] == torch.get_num_threads()
    assert [row["engine"] for row in written["ladder"]] == ["reference", "eager", "eager", "eager"]
    assert all(row["matmul_rate"] > 0 for row in written["ladder"])
    said = capsys.readouterr().out
    assert "matmul" in said
    lines = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in said.splitlines() if "│" in line}
    assert set(lines) == {"reference, td3bc", "eager, td3bc", "eager, bc", "eager, wpc"}
    for name in ("eager, bc", "eager, wpc"):
        _, _, to_reference, of_td3bc, flops, _, share, _ = (cell.strip() for cell in lines[name])
        assert not to_reference  # reference.py trains TD3+BC and ASPC only
        assert float(of_td3bc) > 0
        expected = footprint(make_spec([narrow(name.removeprefix("eager, "))], [RunShape(17, 6)])).flops
        assert flops == f"{expected / 1e6:.0f}"
        assert share.endswith("%")
