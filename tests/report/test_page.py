import html
import json
import re
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest

from aspc_fast.report import svg
from aspc_fast.report.build import build_report
from aspc_fast.report.content import folder_rows
from aspc_fast.report.figures import speed_figures, speed_points
from aspc_fast.report.read import read_folders
from tests.report.synthetic import DATASETS, write_sweep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --enable-logging=stderr""".split()  # noqa: SIM905
HOSTILE = "</title></style><script>alert(1)</script>\"'&|`*_\x00\x1b[31m\u202e\ud800<img src=x onerror=alert(2)>"
HOSTILE += "x" * 200


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("page") / "d4rl11", diverged=(5,), unevaluated=(40, 41))
    return (build_report([folder]) / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    datasets = {HOSTILE: (None, HOSTILE, 5.0, 2.0), "a": (None, None, 5.0, 2.0)}
    folder = tmp_path_factory.mktemp("hostile") / "<b>&amp;"
    write_sweep(folder, datasets, settings=("", HOSTILE), comparable=HOSTILE.replace("{", ""), points=3, diverged=(0,))
    target = build_report([folder])
    markdown = (target / "report.md").read_text(encoding="utf-8")
    assert "\\<script\\>" in markdown and not re.search(r"(?<!\\)[<>](?! [A-Z]\))", markdown.replace("P(X > Y)", ""))
    return (target / "index.html").read_text(encoding="utf-8")


def dumped(page, tmp_path, script, width):
    """(the value ``script`` gives inside a window ``width`` wide, console messages): a frame has exact widths."""
    wrapper = tmp_path / "frame.html"
    wrapper.write_text(
        f'<!DOCTYPE html><body><iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page)}">'
        "</iframe><output></output><script>onload=()=>{const d=document.querySelector('iframe').contentDocument;"
        f"document.querySelector('output').textContent=JSON.stringify({script})}}</script></body>",
        encoding="utf-8",
    )
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    found = re.search(r"<output>(.*?)</output>", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return html.unescape(found.group(1)), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("name", ["page", "hostile_page"])
def test_well_formed_and_self_contained(request, name):
    page = request.getfixturevalue(name)
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    tags = {element.tag for element in root.iter()}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "image", "use", "base"}
    for element in root.iter():
        assert not {"src", "srcset", "style", "onload", "onerror"} & set(element.attrib)
        assert element.get("href", "#").startswith("#")
        assert not any("http:" in value or "https:" in value for value in element.attrib.values())
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in html.unescape(page)
    anchors = {element.get("href")[1:] for element in root.iter("a")}
    assert anchors <= {element.get("id") for element in root.iter("section")}


def test_hostile_names_are_shown_not_run(hostile_page):
    assert "&lt;script&gt;alert(1)" in hostile_page
    assert not re.search("[\x00\x1b\u202e\ud800]", hostile_page)


def test_every_dataset_has_its_panels(page):
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    charts = [element.get("aria-label") for element in root.iter("svg") if element.get("class") == "panel"]
    assert sum(label.startswith("score of") for label in charts) == len(DATASETS)
    assert sum(label.startswith("alpha on") for label in charts) == len(DATASETS)
    assert sum(label.startswith("delta_bc_sup of") for label in charts) == len(DATASETS)
    assert "ASPC, seed 1: diverged at step 40,037 (critic_loss)" in page
    assert "prefers-color-scheme:dark" in page


@needs_chromium
@pytest.mark.parametrize("name", ["page", "hostile_page"])
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser(request, tmp_path, name, width):
    script = (
        "[d.documentElement.scrollWidth, d.querySelectorAll('script, img').length, d.querySelectorAll('svg').length]"
    )
    found, messages = dumped(request.getfixturevalue(name), tmp_path, script, width)
    scroll_width, foreign, drawings = (int(value) for value in found.strip("[]").split(","))
    assert scroll_width <= width and foreign == 0 and drawings > 5
    assert not messages


def test_axes():
    axis = svg.linear_axis([-3.0, 120.0])
    assert axis.ticks == (0, 50, 100) and axis.low < -3 and axis.high > 120
    assert svg.linear_axis([]).ticks and svg.linear_axis([5.0, 5.0]).ticks
    assert svg.log_axis([0.12, 14.0]).ticks == pytest.approx((0.3, 1, 3, 10))
    for low, high in ((2.4, 2.6), (2.4999, 2.5001), (1e-8, 1e8), (1.0, 1.0), (0.9, 40)):
        ticks = svg.log_axis([low, high]).ticks
        assert 1 <= len(ticks) <= 6 and list(ticks) == sorted(set(ticks))
    assert svg.steps_axis(0).high == 1
    assert svg.log_axis([1, 100]).place(10, 0, 100) == pytest.approx(50)
    assert [svg.number(v) for v in (0, 1500, 1e6, -0.25, 2.5e9)] == ["0", "1.5k", "1M", "−0.25", "2.5G"]


def test_long_lines_are_thinned_and_keep_their_ends():
    points = [(float(i), float(i)) for i in range(10_001)]
    kept = svg.thinned(points)
    assert len(kept) == svg.MOST_POINTS and kept[0] == points[0] and kept[-1] == points[-1]


def test_speeds_of_several_populations_are_averaged_by_step(tmp_path):
    folder = write_sweep(tmp_path / "s", points=2, finished=False)
    speed = {"kind": "system", "run_updates_per_second": 100.0, "updates_per_second": 25.0, "device_bytes": 2e9}
    with (folder / "metrics.jsonl").open("a") as handle:
        handle.writelines(json.dumps(speed | {"step": step}) + "\n" for step in (50_000, 100_000))
    (read,) = read_folders([folder])
    before = 2200 + 80 * np.sin(1)
    ((name, drawing),) = speed_figures([read])
    assert name == "s" and [stroke.d.count("L") for stroke in drawing.strokes] == [1]  # two steps, one line
    assert speed_points(read)[0] == pytest.approx((50_000, (before + 100) / 2))
    assert ("device memory", "2.0 GB") in folder_rows(read)
    read.populations = 2
    assert "populations" in dict(folder_rows(read))
