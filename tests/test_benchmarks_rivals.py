"""benchmarks/rivals.py: it trains what it says, counts it, and finds what misses. No timing is asserted."""

import pytest

from aspc_fast.agent.footprint import footprint
from aspc_fast.agent.state import RunShape, make_spec
from aspc_fast.tools.bench import bench_config, synthetic_data
from benchmarks.rivals import KNOWN, Products, misses, reference_of, rows_of


@pytest.mark.parametrize("algo", KNOWN)
def test_no_algorithm_makes_products_that_its_reference_does_without(algo):
    """So operations per second are not bought with needless ones; at most a tenth is saved."""
    spec = make_spec([bench_config(algo)], [RunShape(17, 6)])
    plain = reference_of(algo, synthetic_data(500, 17, 6), "cpu")
    with Products() as products:
        plain(spec.period)
    assert 0.9 < footprint(spec).flops * spec.period / products.flops <= 1.0


def found(**rivals):
    windows = {"eager": [2.0, 4.0], "compiled": [3.0, 3.0], "reference": [1.0, 2.0]}
    return {"aspc": {"flops": 100.0, "windows": windows}} | {
        algo: {"flops": flops, "windows": windows | {"eager": eager, "compiled": compiled}}
        for algo, (flops, eager, compiled) in rivals.items()
    }


def test_rivals_are_compared_within_rounds_and_what_misses_is_named():
    rows = rows_of(found(wpc=(50.0, [4.0, 8.0], [1.2, 2.4]), iql=(50.0, [3.0, 6.0], [1.0, 2.2])))
    assert [row["eager_over_aspc"] for row in rows] == pytest.approx([1.0, 1.0, 0.75])
    assert [row["compiled_over_reference"] for row in rows] == pytest.approx([2.25, 1.2, 1.05])
    said = misses(rows)
    assert len(said) == 2
    assert all(sentence.startswith("iql: ") for sentence in said)
    assert not misses(rows[:1])
