"""The tables of trials that bench and doctor show."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from aspc_fast.engine import trial_memory
from aspc_fast.engine.trial_memory import Found, Outcome
from aspc_fast.tools import doctor
from aspc_fast.tools.trials import table_of, told_of

FOUND = Found(
    {"gpu": "Some GPU", "runs": 64, "obs_dim": 45, "act_dim": 24, "precision": "tf32"},
    (
        Outcome("eager", "right", 1.0, 2500.0),
        Outcome("compiled", "right", 1.25, 512.3),
        Outcome("fused, latency", "wrong", 87.0, None, "87 times PyTorch's own error (rho)"),
        Outcome("fused, throughput", "failed", reason="OutOfMemoryError: full"),
        Outcome("fused, latency, 32 rows", "not tried", reason="fused, latency is not the fastest"),
    ),
    "compiled",
)


def test_the_table_names_each_candidate_right_or_how_wrong_and_its_time():
    console = Console(width=160, record=True, file=StringIO())
    console.print(table_of(FOUND))
    text = console.export_text()
    assert "compiled is taken" in text
    rows = {o.name: next(line for line in text.splitlines() if f"│ {o.name} " in line) for o in FOUND.outcomes}
    assert "512.3" in rows["compiled"]
    assert "87 times PyTorch's own error (rho)" in rows["fused, latency"]
    assert "OutOfMemoryError" in rows["fused, throughput"]
    assert "not tried" in rows["fused, latency, 32 rows"]


def test_doctor_shows_what_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor.trials() == []
    trial_memory.remember(trial_memory.folder(), FOUND)
    rows = doctor.trials()
    assert (rows[0].name, rows[0].value) == ("up to 64 runs, 45/24, tf32", "compiled, on Some GPU")
    assert [row.name.strip() for row in rows[1:]] == [o.name for o in FOUND.outcomes]
    assert (
        rows[2].value == told_of(FOUND.outcomes[1]) == "right (1.2 x PyTorch's error), 512.3 us per update of all runs"
    )
    assert rows[3].value.startswith("wrong: 87 times")
