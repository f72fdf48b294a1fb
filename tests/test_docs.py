"""docs/ builds strictly, loads nothing from elsewhere, and every command, option, name and file in it exists."""

import ast
import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import io
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import aspc_fast as af
from aspc_fast.cli import _COMMANDS
from aspc_fast.cli.train import for_algorithm
from aspc_fast.config import AgentConfig
from aspc_fast.report.published import load_published
from aspc_fast.run.sweep_plan import PRESETS, SweepSettings
from aspc_fast.run.train import TrainSettings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PATH = re.compile(r"(?:aspc_fast|kernels|benchmarks|tests|docs|examples)(?:/[\w.*-]*)+")
KEYWORDS = {
    "train": {f.name for kind in (AgentConfig, TrainSettings) for f in dataclasses.fields(kind)},
    "sweep": {f.name for kind in (AgentConfig, SweepSettings) for f in dataclasses.fields(kind)},
}

sys.path.insert(0, str(DOCS / "_build"))
import figures  # noqa: E402
import measured  # noqa: E402


def fences(language):
    for page in PAGES:
        for match in FENCE.finditer(page.read_text(encoding="utf-8")):
            if match["language"] == language:
                yield page, match["body"]


def commands():
    """(page, words, whether in a code block) of every shell command, in code blocks and within lines of text."""
    for page, body in fences("bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield page, words, True
    for page in PAGES:
        for code in CODE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            if re.match(r"aspc-fast [a-z]|python -m|make [a-z]", code):
                yield page, shlex.split(code), False


def parsed(function, arguments):
    """(exit code, output) of the command line's own parser on ``arguments``; the command itself does not run."""
    import tyro

    idle = functools.wraps(function)(lambda *_, **__: None)
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            tyro.cli(idle, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stop:
        return stop.code, output.getvalue()
    return 0, output.getvalue()


@functools.cache
def options_of(function):
    """The long options of one command, from its own help."""
    return set(re.findall(r"--[a-z0-9][a-z0-9-]*", parsed(function, ["--help"])[1]))


def check_aspc_fast(words, whole):
    """Parse ``words`` as the command line would. A mention in text may leave out arguments and values."""
    assert words[0] in _COMMANDS, f"there is no command {words[0]}"
    functions = import_module(f"aspc_fast.cli.{_COMMANDS[words[0]][0]}").COMMANDS
    name, rest = words[0], words[1:]
    if set(functions) != {name}:
        if not rest:
            return
        name, rest = rest[0], rest[1:]
        assert name in functions, f"there is no command {' '.join(words[:2])}"
    if not whole and all(word.startswith("--") for word in rest):
        assert set(rest) <= options_of(functions[name]), words
        return
    code, output = parsed(for_algorithm(rest) if name == "train" else functions[name], rest)
    assert not code, f"aspc-fast {' '.join(words)}: {output}"


def named(entry):
    page, words, _ = entry
    return pytest.param(*entry, id=f"{page.stem}: {' '.join(words)}"[:90])


@pytest.mark.parametrize(("page", "words", "whole"), [named(entry) for entry in commands()])
def test_commands(page, words, whole):
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words = words[1:]
    program = words[0].rsplit("/", 1)[-1]
    if program == "aspc-fast":
        check_aspc_fast(words[1:], whole)
    elif program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), words
    elif program == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None, words
        for word in words[3:]:
            assert not PATH.fullmatch(word) or (ROOT / word).exists(), word
    elif program == "python":
        assert words[1] == "-c" or (ROOT / words[1]).exists(), words
    elif program not in ("pip", "tensorboard", "wandb"):
        assert (ROOT / words[0]).exists(), words
    check_extras(words)


def check_extras(words):
    extras = re.search(r"\[project.optional-dependencies\](.*?)\n\[", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    for word in words:
        for name in re.findall(r"(?:aspc_fast|\.)\[([\w,]+)\]", word):
            for extra in name.split(","):
                assert re.search(rf"^{extra} = ", extras.group(1), re.MULTILINE), f"no extra {extra}"


@functools.cache
def all_options():
    found = set()
    for module, _ in _COMMANDS.values():
        for function in import_module(f"aspc_fast.cli.{module}").COMMANDS.values():
            found |= options_of(function)
    return found


def test_options_in_running_text():
    foreign = {"--strict", "--noisy", "--benchmark-only", "--logdir", "--help"}
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for code in CODE.findall(text):
            for option in re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", code):
                assert option in all_options() | foreign, f"{page.name}: {option}"


def test_files_named_in_text_exist():
    checked = 0
    for page in PAGES:
        for code in CODE.findall(page.read_text(encoding="utf-8")):
            if PATH.fullmatch(code.strip()):
                checked += 1
                assert any(ROOT.glob(code.rstrip("/"))), f"{page.relative_to(ROOT)}: {code}"
    assert checked > 20


def test_python_names_and_keywords():
    checked = 0
    for page, body in fences("python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "af":
                assert hasattr(af, node.attr), f"{page.name}: af.{node.attr}"
                checked += 1
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("af."):
                name = ast.unparse(node.func)[3:]
                allowed = set(inspect.signature(getattr(af, name)).parameters) | KEYWORDS.get(name, set())
                assert {k.arg for k in node.keywords} <= allowed, f"{page.name}: {ast.unparse(node)}"
    assert checked >= 5


def test_the_arrays_example_runs():
    (body,) = (body for page, body in fences("python") if page.stem == "your-data" and "ogbench" not in body)
    names = {}
    assert "steps=200," in body
    exec(compile(body.replace("steps=200,", "steps=2,"), "your-data.md", "exec"), names)
    assert names["run"].policy(np.zeros((10, 8))).shape == (10, 2)


def test_the_example_of_published_numbers_is_read(tmp_path):
    (body,) = (body for page, body in fences("json") if page.stem == "use")
    (tmp_path / "mine.json").write_text(body)
    found = load_published(tmp_path / "mine.json")
    assert [(n.score, n.spread) for n in found.scores("iql", "hopper-medium-v2")][-1] == (67.5, 3.8)
    assert found.averages("iql", "MuJoCo")[-1].score == 72.9


def test_presets_as_documented():
    text = (DOCS / "paper.md").read_text(encoding="utf-8")
    assert all(f"| `{name}`" in text for name in PRESETS)
    assert PRESETS["paper"]["eval_every"] == 5000 and PRESETS["final"]["final_episodes"] == 100


def test_drawings_are_what_the_script_draws(tmp_path):
    for path in figures.write_all(tmp_path):
        ET.parse(path)
        assert path.read_text() == (DOCS / "figures" / path.name).read_text(), "run python docs/_build/figures.py"


def test_formulas():
    for package in ("mkdocs", "latex2mathml"):
        pytest.importorskip(package, reason="extra docs")
    import hooks

    root = ET.fromstring(hooks.to_mathml(r"\frac{du}{dg} = \alpha \, g_Q^2 + \max_i |b'_i|", True))
    tags = [element.tag.removeprefix(hooks.NAMESPACE) for element in root.iter()]
    assert tags[0] == "math" and root.get("display") == "block" and tags.count("mfrac") == 1
    assert "\u2032" in "".join(root.itertext()) and "alttext" in root.attrib
    for wrong in (r"\unknown", r"{a", r"\begin{aligned} a &= b \end{aligned}", r"\frac{a}"):
        with pytest.raises(ValueError):
            hooks.to_mathml(wrong, False)


def test_tables_of_measurements_have_every_number():
    for path in measured.RESULTS.glob("*.json"):
        made = measured.table(path)
        assert str(ROOT) not in made and "/tmp/" not in made, path.name
    assert "| 1 |" in measured.markdown("ladder-cpu", set())


def test_the_host_s_numbers_stand_beside_those_to_reach(tmp_path):
    own = {"date": "2026-01-01T00:00:00", "commit": "abc", "command": ["host.py", "--full"], "load": [0.25, 0, 0]}
    first = {"judged": {"first": {"whole": [80.5, 90.0]}}, "first": {"full": True, "children_cpu": 55.4}}
    parts = {"39 runs": own | first, "8 runs": own | {"ratio": [1.0625, 1.0]}}
    (tmp_path / "host.json").write_text(json.dumps({"machine": {"cpus": 2, "threads": 2}, "parts": parts}))
    made = measured.table(tmp_path / "host.json")
    assert "| 39 runs, first: the whole dry run | 80.50 s | 90 s |" in made
    assert "| 39 runs, first: of the decoding processes | 55 core-seconds |  |" in made
    assert "| 8 runs over single runs side by side | 1.06 | 1 |" in made
    assert "`python -m benchmarks.host --full`, 2026-01-01, commit `abc`, load average at the end 0.2" in made


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.loaded, self.links, self.ids = [], [], set()

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.ids |= {own["id"]} if "id" in own else set()
        if tag == "a":
            self.links.append(own.get("href", ""))
        elif tag == "link" and own.get("rel") in ("canonical", "prev", "next"):
            pass
        else:
            self.loaded += [own[name] for name in ("src", "srcset", "data", "href") if own.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for package in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra docs)")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def read_page(path):
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_builds_strictly_and_has_every_page(site):
    for page in PAGES:
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file(), page
    assert not (site / "_build").exists()


def test_loads_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        for address in read_page(path).loaded:
            assert not re.match(r"(https?:)?//", address), f"{path.name} loads {address}"
        assert "$$" not in path.read_text(encoding="utf-8") and "arithmatex" not in path.read_text(encoding="utf-8")
    for sheet in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import\s*)['\"]?(?:https?:)?//[^)'\"]*", sheet.read_text(encoding="utf-8"))
        assert not found, f"{sheet.name}: {found[:3]}"


def test_internal_links(site):
    pages = {path: read_page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link) or not link:
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / target).resolve() if target else path
            file = file / "index.html" if file.is_dir() else file
            assert file.is_file(), f"{path.name}: {link}"
            assert not anchor or file.suffix != ".html" or anchor in pages[file].ids, f"{path.name}: {link}"


def test_no_path_of_a_machine_in_the_pages(site):
    for path in [*PAGES, *site.rglob("*.html")]:
        assert not re.search(r"/(?:work|root|home)/\w|/tmp/\w", path.read_text(encoding="utf-8")), path


def test_launches_as_documented():
    pytest.importorskip("triton")
    from aspc_fast.agent.state import RunShape, make_spec
    from aspc_fast.config import AgentConfig
    from aspc_fast.engine.fused_program import LAUNCHES
    from aspc_fast.engine.kinds import step_kind

    spec, launches = make_spec([AgentConfig()], [RunShape(17, 6)]), LAUNCHES.get("latency", LAUNCHES)
    assert spec.period == 20 and launches == {"critic": 4, "actor": 7, "meta": 9}
    assert sum(launches[step_kind(spec, t)] for t in range(1, 21)) == 112


def test_the_checks_refuse_what_does_not_exist():
    for wrong in ("train x --stepz 3", "trian x", "data fetch x", "train x --steps many", "sweep --data a"):
        with pytest.raises(AssertionError):
            check_aspc_fast(wrong.split(), True)
    with pytest.raises(AssertionError):
        check_aspc_fast(["sweep", "--plans"], False)
    check_aspc_fast(["sweep", "--plan"], False)


def test_the_citation_names_this_version_and_the_paper():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(found) and found["version"] == af.__version__
    paper = found["preferred-citation"]
    assert "2508.19900" in paper["url"] and len(paper["authors"]) == 7
    text = (DOCS / "cite.md").read_text(encoding="utf-8")
    assert (
        paper["title"] in text and all(a["family-names"] in text for a in paper["authors"]) and af.__version__ in text
    )


def test_the_rivals_table_has_a_row_for_each_and_its_absence_is_said() -> None:
    windows = {way: [2.0, 4.0] for way in ("eager", "compiled", "reference")}
    row = {"algo": "wpc", "flops": 9e8, "reference_flops": 9.3e8, "windows": windows}
    row |= {"median": dict.fromkeys(windows, 3.0), "eager_flops_per_second": 2.7e9, "eager_over_aspc": 1.04}
    told = measured.rivals({"matmul_rate": 9e9, "rivals": [row | {"compiled_over_reference": 1.5}]})
    assert told.splitlines()[-1] == "| wPC | 3.0 | 3.0 | 3.0 | 900 | 930 | 2.7 | 30% | 1.04 | 1.50 |"
    assert "Not measured yet" in measured.markdown("no-such-file", set())
