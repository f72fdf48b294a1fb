import json

import numpy as np
import pytest

from aspc_fast import suite
from aspc_fast.errors import UserError
from aspc_fast.registry import names
from aspc_fast.report.blocks import Table
from aspc_fast.report.build import build_report
from aspc_fast.report.content import collect, one
from aspc_fast.report.figures import effect_figures
from aspc_fast.report.model import DOMAINS
from aspc_fast.report.published import load_published
from aspc_fast.report.read import read_folders
from aspc_fast.report.scores import MOST_ACROSS, main_table, score_section
from tests.report.synthetic import DATASETS, rows_of, write_sweep

TWO = {name: DATASETS[name] for name in ("hopper-medium", "pen-expert")}


def cells_of(content):
    """The main table as {(row, column): (text, published)}."""
    table = main_table(content)
    names = [column.title for column in table.columns]
    return {
        (row.cells[0].text, name): (cell.text, cell.published)
        for row in table.rows
        if row.kind != "domain"
        for name, cell in zip(names, row.cells, strict=True)
    }


def test_the_main_table_has_datasets_down_and_algorithms_across(tmp_path):
    algos = ("new", "rebrac", "iql", "a2pr", "wpc", "td3bc", "aspc")
    content = collect(read_folders([write_sweep(tmp_path / "s", DATASETS, algos=algos, points=2, diverged=(0,))]))
    assert [v.label for v in content.variants] == ["ASPC", "TD3+BC", "wPC", "A2PR", "IQL", "ReBRAC", "new"]
    cells, rows = cells_of(content), rows_of(content)
    for (dataset, label), row in rows.items():
        assert cells[dataset, label][0] == one(row.mean)
    mujoco = [row.mean for (_, label), row in rows.items() if label == "IQL" and row.runs[0].domain == "MuJoCo"]
    assert cells["Mean of 7", "IQL"][0] == one(np.mean(mujoco))
    every = [row.mean for (_, label), row in rows.items() if label == "IQL"]
    assert cells["Mean of all 11", "IQL"][0] == one(np.mean(every))
    best = [cell.text for r in main_table(content).rows if not r.kind for cell in r.cells if cell.strong]
    highest = {name: max(row.mean for (d, _), row in rows.items() if d == name) for name, _ in rows}
    assert best == [one(mean) for mean in highest.values()]
    (missing,) = [cell for r in main_table(content).rows for cell in r.cells if "of 2 seeds" in cell.tag]
    assert missing.tag == "1 of 2 seeds"


def test_too_many_to_stand_side_by_side(tmp_path):
    settings = tuple(f"alpha_freq={n}" for n in range(1, MOST_ACROSS + 2))
    content = collect(read_folders([write_sweep(tmp_path / "s", TWO, algos=("aspc",), settings=settings, points=1)]))
    (table,) = [block for block in score_section(content).blocks if isinstance(block, Table)]
    assert table.open_ and len(table.rows) == 2 * len(settings)


def test_published_numbers_stand_beside_measured_ones(tmp_path):
    cheetah = {"x": ("halfcheetah-medium-v2", None, 50.0, 2.0)}
    cells = cells_of(collect(read_folders([write_sweep(tmp_path / "a", cheetah, algos=("aspc", "td3bc", "new"))])))
    assert cells["halfcheetah-medium-v2", "ASPC"][1] == [("58.7", "± 0.4", "a"), ("57.8", "± 0.7", "b")]
    assert cells["halfcheetah-medium-v2", "TD3+BC"][1] == [("49.6", "± 0.2", "a"), ("50.0", "± 0.7", "b")]
    assert cells["halfcheetah-medium-v2", "new"][1] == []
    settings = write_sweep(
        tmp_path / "e", cheetah, algos=("aspc",), settings=("alpha_freq=5", "alpha_freq=10"), points=2
    )
    apart = cells_of(collect(read_folders([settings])))  # which of several settings is the published one is not known
    assert apart["halfcheetah-medium-v2", "ASPC, published"][1] == [("58.7", "± 0.4", "a"), ("57.8", "± 0.7", "b")]
    assert apart["halfcheetah-medium-v2", "ASPC, alpha_freq=10"][1] == []
    mazes = {row.id: (row.id, row.env, 100.0, 2.0) for row in suite.SUITE if row.domain == "Maze2d"}
    whole = cells_of(collect(read_folders([write_sweep(tmp_path / "b", mazes, points=3)])))
    assert whole["Mean of 3", "ASPC"][1] == [("147.2", "", "a")]
    part = cells_of(collect(read_folders([write_sweep(tmp_path / "c", dict(list(mazes.items())[:2]), points=3)])))
    assert part["Mean of 2", "ASPC"][1] == []
    every = {row.id: (row.id, row.env, 50.0, 2.0) for row in suite.SUITE}
    all39 = cells_of(collect(read_folders([write_sweep(tmp_path / "d", every, seeds=1, points=2)])))
    assert all39["Mean of all 39", "ASPC"][1] == [("77.9", "", "a")]
    assert all39["Mean of all 39", "TD3+BC"][1] == [("57.7", "", "a")]


def test_what_the_package_holds_as_published_agrees_with_its_suite():
    found = load_published()
    for row in suite.SUITE:
        scores = [number.score for number in found.scores("aspc", row.id) if number.source == 0]
        assert scores == ([row.paper_aspc] if row.paper_aspc is not None else []), row.id


def test_published_averages_are_those_of_the_published_scores():
    found, checked = load_published(), 0
    for algo in names():
        for domain in DOMAINS:
            for average in found.averages(algo, domain):
                own = [found.scores(algo, row.id) for row in suite.SUITE if row.domain == domain]
                own = [[number.score for number in numbers if number.source == average.source] for numbers in own]
                if own and all(own):
                    checked += 1
                    assert np.mean(own) == pytest.approx(average.score, abs=0.06), (algo, domain)
    assert checked == 6  # AntMaze is the only domain that a source states whole
    sizes = {domain: sum(row.domain == domain for row in suite.SUITE) for domain in DOMAINS}
    for algo in names():
        for total in found.averages(algo, "All"):
            means = {domain: found.averages(algo, domain)[0].score for domain in sizes if sizes[domain]}
            mean = sum(sizes[domain] * score for domain, score in means.items()) / len(suite.SUITE)
            assert mean == pytest.approx(total.score, abs=0.11), algo


def test_a_file_of_published_numbers(tmp_path):
    path = tmp_path / "mine.json"
    source = {
        "title": "A <paper>",
        "url": "https://x",
        "scores": {"aspc": {"halfcheetah-medium-v2": 60, "mine": [1, 2]}},
    }
    path.write_text(json.dumps({"format_version": 1, "sources": [source]}))
    folder = write_sweep(tmp_path / "s", {"x": ("halfcheetah-medium-v2", None, 50.0, 2.0)})
    build_report([folder], published=path)
    text = (folder / "report" / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "57.8 ± 0.7 [b], 60.0 [c])" in text and "- [c] A <paper>. https://x" in text
    assert "A &lt;paper&gt;" in (folder / "report" / "index.html").read_text(encoding="utf-8")
    for wrong, words in (
        ({"format_version": 2}, "'format_version' is 2"),
        ({"format_version": 1, "sources": 3}, "'sources' must be a list"),
        ({"format_version": 1, "sources": [{"scores": {"aspc": {"x": "high"}}}]}, "'x' must be a number"),
        ({"format_version": 1, "sources": [{"scores": {"aspc": {"x": [1, 2, 3]}}}]}, "'x' must be a score or"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=words):
            load_published(path)


def test_what_was_varied_against_score_and_time(tmp_path):
    settings = ("alpha_freq=5", "alpha_freq=10", "alpha_freq=30")
    folder = write_sweep(tmp_path / "s", TWO, algos=("aspc",), settings=settings, points=2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] != "system"]
    with (folder / "metrics.jsonl").open("w") as handle:  # as a sweep merges them: one population after the other
        for place, setting in enumerate(settings):
            own = [n for n, run in enumerate(read_folders([folder])[0].runs) if run.setting == setting]
            handle.writelines(json.dumps(line) + "\n" for line in lines if line["run"] in own)
            handle.write(
                json.dumps({"kind": "system", "step": 100, "run_updates_per_second": 1e3 * (place + 1)}) + "\n"
            )
    content = collect(read_folders([folder]))
    (effect,) = content.effects
    assert (effect.name, effect.datasets, effect.algorithm) == ("alpha_freq", 2, "ASPC")
    assert [v.value for v in effect.values] == [5, 10, 30]
    assert [v.seconds for v in effect.values] == pytest.approx([1000, 500, 1000 / 3])
    means = [rows_of(content)[d, f"ASPC, {settings[0]}"].mean for d in ("hopper-medium-v2", "pen-expert-v1")]
    assert effect.values[0].score == pytest.approx(np.mean(means))
    low, high = effect.values[0].interval
    assert low <= effect.values[0].score <= high
    assert [name for name, _ in effect_figures(effect)] == [
        "score against alpha_freq",
        "s per million updates against alpha_freq",
    ]
    assert not collect(read_folders([write_sweep(tmp_path / "t", TWO)])).effects
