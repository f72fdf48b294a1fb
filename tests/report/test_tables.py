import csv
import io
import json

import numpy as np
import pytest

from aspc_fast.cli.report import COMMANDS
from aspc_fast.errors import UserError
from aspc_fast.report.build import build_report
from aspc_fast.report.content import collect, duration, one
from aspc_fast.report.read import read_folders
from aspc_fast.results import fields
from tests.report.synthetic import CLOSE, DATASETS, evaluation, rows_of, write_single, write_sweep

TWO = {name: DATASETS[name] for name in ("hopper-medium", "pen-expert")}


def read_csv(folder):
    with (folder / "report.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def add_lines(folder, *records):
    with (folder / "metrics.jsonl").open("a") as handle:
        handle.writelines(json.dumps(record) + "\n" for record in records)


def test_row_per_dataset_and_algorithm_with_hand_computed_numbers(tmp_path):
    folder = write_sweep(tmp_path / "s", TWO, seeds=3)
    rows = rows_of(collect(read_folders([folder])))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    finals = {e["run"]: e["score"] for e in lines if e["kind"] == "eval" and e["final"]}
    assert list(rows) == [(d, a) for d in ("hopper-medium-v2", "pen-expert-v1") for a in ("ASPC", "TD3+BC")]
    row = rows["hopper-medium-v2", "TD3+BC"]  # runs 3, 4, 5
    assert row.mean == pytest.approx(np.mean([finals[i] for i in (3, 4, 5)]))
    assert row.spread == pytest.approx(np.std([finals[i] for i in (3, 4, 5)]))
    assert (row.seeds, row.measured_on, row.marks) == ("3", "100 final", [])


def test_final_score_is_the_mean_of_the_last_ten_evaluations_never_the_best(tmp_path):
    scores = (500.0, *(float(i) for i in range(1, 13)))
    build_report([write_single(tmp_path / "run", scores=scores)])
    (row,) = read_csv(tmp_path / "run" / "report")
    assert float(row["final_score"]) == pytest.approx(np.mean(scores[-10:]))
    assert row["final_score_from"] == "mean of the last 10 evaluations"
    assert (row["state"], row["dataset"], row["seed"], row["steps"]) == ("done", "hopper-medium-v2", "0", "13000")
    assert "10 × 10" in (tmp_path / "run" / "report" / "report.md").read_text(encoding="utf-8")


def test_a_final_evaluation_wins_over_the_last_ones(tmp_path):
    folder = write_single(tmp_path / "run")
    add_lines(folder, evaluation(None, 3000, 42.0, 100, "Hopper-v4", CLOSE, final=True))
    run = read_folders([folder])[0].runs[0]
    assert (run.final_score.score, run.final_score.source) == (42.0, "final evaluation, 100 episodes")


def test_diverged_runs_stay_visible_everywhere(tmp_path):
    folder = write_sweep(tmp_path / "s", TWO, diverged=(1,))
    build_report([folder])
    content = collect(read_folders([folder]))
    row = rows_of(content)["hopper-medium-v2", "ASPC"]
    assert (row.seeds, row.marks) == ("1 of 2", ["seed 1 diverged at step 40,037 (critic_loss)"])
    overall = next(a for a in content.aggregates if a.scope == "All" and a.variant.algo == "aspc")
    assert overall.runs == 3 and overall.with_zeros < overall.value
    assert read_csv(folder / "report")[1]["final_score_from"] == "diverged"
    for name in ("report.md", "index.html"):
        text = (folder / "report" / name).read_text(encoding="utf-8").replace("\\", "")
        assert "seed 1 diverged at step 40,037 (critic_loss)" in text
        assert "diverged as 0" in text


def test_a_run_without_evaluation_says_so(tmp_path):
    folder = write_sweep(tmp_path / "s", TWO, unevaluated=(0, 1))
    build_report([folder])
    content = collect(read_folders([folder]))
    row = rows_of(content)["hopper-medium-v2", "ASPC"]
    assert (row.mean, row.seeds, row.marks) == (None, "0 of 2", ["not evaluated"])
    assert "do not compare" in content.unequal  # ASPC has one dataset's scores, TD3+BC two
    assert "not evaluated" in (folder / "report" / "report.md").read_text(encoding="utf-8")
    build_report([write_single(tmp_path / "none", scores=())])
    assert "nothing was evaluated" in (tmp_path / "none" / "report" / "index.html").read_text(encoding="utf-8")


def test_unfinished_folder_with_a_partial_last_line(tmp_path):
    folder = write_sweep(tmp_path / "s", TWO, finished=False)
    with (folder / "metrics.jsonl").open("a") as handle:
        handle.write('{"kind": "eval", "run": 0, "st')
    content = collect(read_folders([folder]))
    row = rows_of(content)["pen-expert-v1", "ASPC"]
    assert row.marks == ["unfinished, step 55,000 of 100,000"]
    assert row.measured_on == "10 × 10"
    assert ("8", "unfinished") in content.facts
    fresh = write_single(tmp_path / "fresh", scores=(), finished=False)
    (fresh / "metrics.jsonl").unlink()
    assert rows_of(collect(read_folders([fresh])))["hopper-medium-v2", "ASPC"].marks[0] == "not evaluated"


def test_sweeps_and_single_runs_mix_and_settings_stay_apart(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", TWO, algos=("aspc",), settings=("", "alpha_freq=5"), steps=3000)
    single = write_single(tmp_path / "runs" / "a", seed=7)
    other = write_single(tmp_path / "runs" / "b", seed=8, alpha_freq=30)
    file = write_single(tmp_path / "runs" / "c", dataset_id=None, source="/private/place/mine.hdf5")
    content = collect(read_folders([sweep, single, other, file]))
    rows = rows_of(content)
    assert [run.seed for run in rows["hopper-medium-v2", "ASPC"].runs] == [0, 1, 7]
    assert ("hopper-medium-v2", "ASPC, alpha_freq=5") in rows and ("hopper-medium-v2", "ASPC, alpha_freq=30") in rows
    assert [run.folder for run in read_folders([tmp_path / "runs"])[0].runs] == ["a"]  # a folder of folders
    build_report([sweep, single, other, file], tmp_path / "out")
    assert len(read_csv(tmp_path / "out")) == 11
    for name in ("index.html", "report.md", "report.csv"):
        assert "private" not in (tmp_path / "out" / name).read_text(encoding="utf-8")


def test_runs_that_differ_are_never_averaged_as_equals(tmp_path):
    short = write_single(tmp_path / "short", scores=(1.0,))
    long = write_single(tmp_path / "long", scores=(1.0, 2.0))
    labels = {run.variant.label for folder in read_folders([short, long]) for run in folder.runs}
    assert labels == {"ASPC, 1,000 steps", "ASPC, 2,000 steps"}
    twice = collect(read_folders([short, write_single(tmp_path / "again", scores=(3.0,)), short]))
    assert len(twice.runs) == 2
    assert any("seed 0 is counted 2 times (short, again)" in problem for problem in twice.problems)


@pytest.mark.parametrize(
    ("folders", "labels", "shared"),
    [
        ([(("aspc", "td3bc"), "critic=robust")], {"ASPC", "TD3+BC"}, "critic=robust"),
        # ASPC's critic is robust by default, so it shares the setting that only TD3+BC was given
        ([(("aspc",), ""), (("td3bc",), "critic=robust")], {"ASPC", "TD3+BC"}, "critic=robust"),
        ([(("td3bc",), "critic=plain alpha=3.0"), (("td3bc",), "alpha=3.0")], {"TD3+BC"}, "critic=plain, alpha=3"),
        (
            [(("td3bc",), "critic=robust alpha=3.0"), (("td3bc",), "alpha=3.0")],
            {"TD3+BC, critic=robust", "TD3+BC"},
            "alpha=3",
        ),
        # IQL has no such critic, and TD3+BC learns no alpha: nothing is said of all that is not true of all
        ([(("aspc", "iql"), "critic=robust")], {"ASPC, critic=robust", "IQL"}, ""),
        ([(("aspc", "td3bc"), "alpha_freq=5")], {"ASPC, alpha_freq=5", "TD3+BC"}, ""),
        (
            [(("td3bc",), "alpha=2.5"), (("td3bc",), "alpha=2.50000001")],
            {f"TD3+BC, alpha={alpha}" for alpha in ("2.5", "2.50000001")},
            "",
        ),
    ],
)
def test_labels_name_what_differs_and_the_head_what_all_share(tmp_path, folders, labels, shared):
    made = [
        write_sweep(tmp_path / str(i), TWO, seeds=1, algos=algos, settings=(setting,), points=2)
        for i, (algos, setting) in enumerate(folders)
    ]
    content = collect(read_folders(made))
    assert ({variant.label for variant in content.variants}, content.shared) == (labels, shared)
    build_report(made, tmp_path / "out")
    said = [(tmp_path / "out" / name).read_text(encoding="utf-8") for name in ("report.md", "index.html")]
    assert all((f"All runs share {shared}" in text.replace("\\", "")) == bool(shared) for text in said)
    for run, row in zip(content.runs, read_csv(tmp_path / "out"), strict=True):  # a row alone still tells all of it
        assert all(word in row["setting"] for word in (shared, run.setting))


def test_a_resumed_run_that_outran_its_summary_is_unfinished(tmp_path):
    folder = write_single(tmp_path / "run")
    add_lines(folder, {"kind": "train", "step": 3500, "alpha_after": 2.0, "updates_per_second": 9.0})
    assert read_folders([folder])[0].runs[0].state == "unfinished"


def test_not_comparable_stands_beside_the_number(tmp_path):
    ant = {"antmaze-umaze": ("antmaze-umaze-v2", "AntMaze_UMaze-v4", 88.0, 5.0)}
    note = "not comparable with D4RL's numbers: D4RL's goal, but the ant of {env} has 5 times the torque"
    build_report([write_sweep(tmp_path / "s", ant, comparable=note)])
    page = (tmp_path / "s" / "report" / "index.html").read_text(encoding="utf-8")
    markdown = (tmp_path / "s" / "report" / "report.md").read_text(encoding="utf-8")
    assert "AntMaze\\_UMaze-v4 in envpool 1.2.5: not comparable with D4RL's numbers" in markdown
    assert page.count('class="tag">not comparable') >= 2 and " (not comparable)" in markdown
    assert read_csv(tmp_path / "s" / "report")[0]["comparable"].startswith("not comparable")


@pytest.mark.parametrize(
    ("name", "find", "replace", "words"),
    [
        ("config.json", '"format_version": 1', '"format_version": 9', ("config.json", "format_version", "9")),
        ("config.json", '"seed": 1', '"seed": "one"', ("config.json", "'seed'", "'one'")),
        ("config.json", '"runs": [', '"runs": 3, "x": [', ("config.json", "'runs'", "list")),
        ("config.json", '"run": 1', '"run": 0', ("config.json", "'run' is 0 in two")),
        ("config.json", "{", "[", ("config.json", "JSON")),
        ("metrics.jsonl", '"score": ', '"score": [], "x": ', ("metrics.jsonl: line", "'score'", "[]")),
        ("metrics.jsonl", '"step": 5000', '"step": -5', ("metrics.jsonl: line", "'step'", "-5")),
        ("metrics.jsonl", '"run": 0', '"run": 77', ("metrics.jsonl: line", "'run' is 77")),
        ("metrics.jsonl", '{"kind"', '"kind"', ("metrics.jsonl: line 1", "not JSON")),
        ("summary.json", '"state": "done"', '"state": "fine"', ("summary.json", "'state'", "'fine'")),
        ("summary.json", '"plan": {', '"plan": 3, "x": {', ("summary.json", "'plan'", "3")),
    ],
)
def test_damaged_folder_names_file_and_field(tmp_path, name, find, replace, words):
    path = write_sweep(tmp_path / "s", TWO) / name
    damaged = path.read_text().replace(find, replace, 1)
    assert damaged != path.read_text()
    path.write_text(damaged)
    with pytest.raises(UserError) as caught:
        build_report([tmp_path / "s"])
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_metrics_that_are_cut_back_while_they_are_read_are_read_again(tmp_path, monkeypatch):
    folder = write_single(tmp_path / "run", scores=tuple(float(i) for i in range(200)), finished=False)
    path, read, cuts = folder / "metrics.jsonl", fields.json_lines, []

    def cut_back_meanwhile(path):
        for number, record in read(path):
            yield number, record
            if number == 5 and len(cuts) < 2:
                lines = [json.loads(line) | {"longer": "x" * len(cuts)} for line in path.read_text().splitlines()]
                cuts.append(path.write_text("".join(json.dumps(line) + "\n" for line in lines)))

    assert path.stat().st_size > 4 * io.DEFAULT_BUFFER_SIZE
    monkeypatch.setattr(fields, "json_lines", cut_back_meanwhile)
    (run,) = read_folders([folder])[0].runs
    assert [e.score for e in run.evaluations] == list(range(200)) and len(run.alphas) == 200 and len(cuts) == 2


def test_what_is_no_results_folder(tmp_path):
    for folder, words in ((tmp_path / "gone", "no such results folder"), (tmp_path, "not a results folder")):
        with pytest.raises(UserError, match=words):
            build_report([folder])
    with pytest.raises(UserError, match="at least one"):
        build_report([])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the report here"):
        build_report([write_single(tmp_path / "run")], tmp_path / "file")


def test_spreadsheets_get_no_formulas(tmp_path):
    build_report([write_sweep(tmp_path / "s", {"=HYPERLINK(1)": (None, None, 1.0, 1.0)}, points=2)])
    row = read_csv(tmp_path / "s" / "report")[0]
    assert row["dataset"] == "'=HYPERLINK(1)" and row["domain"] == "Other"


def test_not_finite_numbers_are_no_scores(tmp_path):
    folder = write_single(tmp_path / "run", scores=(10.0,), finished=False)
    add_lines(folder, evaluation(None, 2000, float("nan"), 10, "Hopper-v4", CLOSE))
    add_lines(folder, {"kind": "train", "step": 2000, "alpha_after": float("inf")}, {"kind": "later", "x": 1})
    run = read_folders([folder])[0].runs[0]
    assert run.final_score.score == 10.0 and len(run.alphas) == 1


def test_command(tmp_path, capsys):
    write_single(tmp_path / "run")
    assert COMMANDS["report"]((tmp_path / "run",), tmp_path / "out") == 0
    assert str(tmp_path / "out" / "index.html") in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["index.html", "report.csv", "report.md"]


def test_numbers_on_paper():
    assert [one(v) for v in (None, -0.04, -1.25, 104.96)] == ["–", "0.0", "−1.2", "105.0"]
    assert [duration(v) for v in (4.4, 61, 3725)] == ["4 s", "1 min 01 s", "1 h 02 min"]


def test_settings_sort_by_their_numbers_and_many_are_compared_with_one(tmp_path):
    settings = ("alpha_freq=20", "alpha_freq=5", "", "alpha_freq=30", "loss_function=1")
    folder = write_sweep(tmp_path / "s", TWO, algos=("td3bc", "aspc"), settings=settings, points=2, unevaluated=(0,))
    content = collect(read_folders([folder]))
    labels = [variant.label for variant in content.variants]
    assert labels[0] == "ASPC" and labels[4] == "ASPC, loss_function=1"
    assert labels[1:4] == [f"ASPC, alpha_freq={n}" for n in (5, 20, 30)]
    assert labels[5] == "TD3+BC"
    overall = [c for c in content.comparisons if c.scope == "All"]
    assert len(overall) == 5 and {c.x.label for c in overall} == {"ASPC"}


def test_a_remark_shared_by_many_rows_is_made_once(tmp_path):
    content = collect(read_folders([write_sweep(tmp_path / "s", finished=False, points=4)]))
    assert content.problems == ["22 rows: unfinished, step 50,000 of 100,000"]
