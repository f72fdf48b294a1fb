import json
from xml.etree import ElementTree

import pytest

from aspc_fast.cli.report import COMMANDS
from aspc_fast.errors import UserError
from aspc_fast.report.compare import compare, rate
from aspc_fast.report.compare_page import compare_page
from aspc_fast.report.read import read_folders
from tests.report.synthetic import DATASETS, write_single, write_sweep

TWO = {name: DATASETS[name] for name in ("hopper-medium", "pen-expert")}
command = COMMANDS["report"]


def sides(tmp_path, **second):
    a = write_sweep(tmp_path / "a", TWO, seeds=3, points=4)
    b = write_sweep(tmp_path / "b", TWO, **({"seeds": 3, "points": 4} | second))
    return [a], [b]


def test_a_folder_against_itself_has_no_difference(tmp_path):
    a, b = (read_folders(side) for side in sides(tmp_path))
    found = compare(a, b)
    assert (len(found.pairs), found.only_a, found.only_b, found.changed) == (12, [], [], [])
    assert all((d.mean, d.interval, d.better) == (0.0, (0.0, 0.0), 0.5) for d in found.overall)
    assert [(d.variant.label, d.runs, d.datasets, d.same) for d in found.overall] == [
        ("ASPC", 6, 2, 6),
        ("TD3+BC", 6, 2, 6),
    ]


def test_differences_by_hand(tmp_path):
    runs = {"a": {0: 10.0, 1: 20.0, 2: 30.0}, "b": {1: 25.0, 2: 31.0, 3: 99.0}}
    for side, scores in runs.items():
        for seed, score in scores.items():
            write_single(tmp_path / side / f"s{seed}", seed=seed, scores=(score,))
    found = compare(read_folders([tmp_path / "a"]), read_folders([tmp_path / "b"]))
    (d,) = found.by_dataset
    assert (d.a, d.b, d.mean, d.runs, d.same) == (25.0, 28.0, 3.0, 2, 0)
    assert d.interval == (1.0, 5.0) and d.better == pytest.approx(3 / 4)
    assert [run.seed for run in found.only_a] == [0] and [run.seed for run in found.only_b] == [3]


def test_what_changed_between_the_sides_is_said(tmp_path):
    write_single(tmp_path / "a" / "r", scores=(1.0,))
    folder = write_single(tmp_path / "b" / "r", scores=(2.0, 3.0))
    config = json.loads((folder / "config.json").read_text())
    config["agent"]["reward"] = "centre"
    (folder / "config.json").write_text(json.dumps(config))
    found = compare(read_folders([tmp_path / "a"]), read_folders([tmp_path / "b"]))
    assert sorted(found.changed) == [("reward", "none", "centre", 1), ("steps", "1000", "2000", 1)]
    assert any("reward: none in A, centre in B (1 runs)" in text for text in compare_page(found).problems)


def test_speed_and_commits_stand_on_the_page(tmp_path):
    (a,), (b,) = sides(tmp_path, rng_seed=5)
    config = json.loads((b / "config.json").read_text()) | {"commit": "0ther0000000"}
    (b / "config.json").write_text(json.dumps(config))
    lines = [json.loads(line) for line in (b / "metrics.jsonl").read_text().splitlines()]
    doubled = [
        r | {"run_updates_per_second": 2 * r["run_updates_per_second"]} if r["kind"] == "system" else r for r in lines
    ]
    (b / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in doubled))
    page = compare_page(compare(read_folders([a]), read_folders([b])))
    assert ("2.00 ×", "speed of B over A") in page.facts
    assert page.title == "A: a (c2a57fc00000) · B: b (0ther0000000)"
    assert rate(read_folders([b])) == pytest.approx(2 * rate(read_folders([a])))


def test_command_writes_a_harmless_page(tmp_path, capsys):
    (a,), (b,) = sides(tmp_path, seeds=2, diverged=(1,), rng_seed=3)
    b = b.rename(tmp_path / "<script>alert(1)</script>".replace("/", "_"))
    assert command((a, b), tmp_path / "out", compare=True) == 0
    assert str(tmp_path / "out" / "compare.html") in capsys.readouterr().out
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    assert not {element.tag for element in root.iter()} & {"script", "img", "link"} and "&lt;script&gt;" in page
    markdown = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert "B − A" in markdown and "hopper-medium-v2" in markdown and "<script>" not in markdown.replace("\\<", "")


def test_mistakes_are_one_sentence(tmp_path):
    a = write_single(tmp_path / "a")
    other = write_single(tmp_path / "b", seed=7)
    with pytest.raises(UserError, match="a and b have no run in common"):
        command((a, other), compare=True)
    with pytest.raises(UserError, match="name two results folders, A and B; got 1"):
        command((a,), compare=True)


def test_without_scores_the_page_says_so(tmp_path):
    for side in ("a", "b"):
        write_single(tmp_path / side, scores=(), finished=False)
    assert command((tmp_path / "a", tmp_path / "b"), compare=True) == 0
    text = (tmp_path / "a" / "report" / "compare.md").read_text(encoding="utf-8")
    assert "No run has a final score on both sides" in text and "Every run of either side has its partner" in text


def test_two_runs_of_one_seed_are_told(tmp_path):
    for side in ("a", "b"):
        for name in ("x", "y"):
            write_single(tmp_path / side / name, scores=(1.0,))
    found = compare(read_folders([tmp_path / "a"]), read_folders([tmp_path / "b"]))
    assert len(found.pairs) == 1 and len(found.repeated) == 2 and "seed 0: several runs (x, y)" in found.repeated[0]
