"""`aspc-fast train`."""

from __future__ import annotations

import inspect
import re
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from aspc_fast.cli.console import make_console, say
from aspc_fast.config import AgentConfig
from aspc_fast.data.load import load
from aspc_fast.errors import UserError
from aspc_fast.registry import algorithm
from aspc_fast.report.curve import plot_curve
from aspc_fast.results.records import Observer, Record
from aspc_fast.run.loop import Diverged, Interrupted
from aspc_fast.run.train import TrainedRun, TrainSettings
from aspc_fast.run.train import train as train_run


def train(
    dataset: tyro.conf.Positional[str],
    agent: AgentConfig = AgentConfig(),  # noqa: B008 (frozen); replaced by ``for_algorithm``
    settings: Annotated[TrainSettings, tyro.conf.OmitArgPrefixes] = TrainSettings(),  # noqa: B008 (frozen)
    out: Path | None = None,
    resume: bool = False,
    env: str | None = None,
    max_action: float | None = None,
) -> int:
    """Train on a dataset; --algo NAME --help shows the options of another algorithm than aspc.

    Args:
        dataset: one of the 39 ids (aspc-fast data ls), a Minari id, or a .hdf5, .h5 or .npz file.
        out: results folder; default results/DATASET-ALGO-seedN.
        resume: go on from the last checkpoint in the results folder.
        env: simulator task (Hopper-v4) or suite id for a file that does not tell its own.
        max_action: bound of the actions, for a file that does not tell its own (default 1).
    """
    console = make_console()
    data = load(dataset, max_action=max_action, env=env)
    folder = out or Path("results") / f"{slug(dataset)}-{agent.algo}-seed{settings.seed}"
    say(console, Text.assemble((agent.algo, "bold"), f" on {data.source}: {len(data):,} transitions -> {folder}"))
    if "notes" in data.attributes:  # what was read in another sense than it is written; the file's own text at worst
        say(console, f"data: {' '.join(data.attributes['notes'].split())[:400]}")
    stop = StopSignal(console)
    try:
        with stop, LiveLine(console, algorithm(agent.algo).shown) as line:
            run = train_run(data, agent, settings, out=folder, resume=resume, observer=line, stop=stop)
    except Interrupted as interrupted:
        console.print(f"interrupted: checkpoint of step {interrupted.step} saved, go on with --resume")
        return 130
    except Diverged as diverged:
        console.print(Text.assemble((str(diverged), "red"), f"; the last good state is saved in {folder}"))
        return 1
    _finish(console, run, folder, algorithm(agent.algo).curve)
    return 0


def for_algorithm(argv: Sequence[str]) -> Callable[..., int]:
    """``train`` with the options of the algorithm that ``argv`` names. UserError if there is none of that name."""
    words = [word for part in argv for word in part.split("=", 1)]
    named = next((value for flag, value in pairwise(words) if flag == "--algo"), AgentConfig.algo)
    kind = algorithm(named).config

    def command(*args: Any, **options: Any) -> int:
        return train(*args, **options)

    signature = inspect.signature(train)
    own = signature.parameters["agent"].replace(default=kind())
    parameters = [own if p.name == "agent" else p for p in signature.parameters.values()]
    command.__annotations__ = train.__annotations__ | {"agent": Annotated[kind, tyro.conf.OmitArgPrefixes]}
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__name__, command.__doc__ = train.__name__, train.__doc__
    return command


def slug(dataset: str) -> str:
    """A folder name for a dataset: the file's stem, or the id with what a path cannot hold replaced."""
    path = Path(dataset)
    name = path.stem if path.suffix in (".hdf5", ".h5", ".npz") else dataset
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


class StopSignal:
    """The first Ctrl-C asks for a checkpoint, the second ends at once."""

    def __init__(self, console: Console) -> None:
        self._console, self._asked = console, False

    def __enter__(self) -> StopSignal:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def __call__(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._console.print("stopping: saving a checkpoint (Ctrl-C again: stop at once)")


def spoken(metric: str) -> str:
    """A metric's name as people say it on a line of little room."""
    known = {"q1_mean": "Q", "critic_loss": "critic", "actor_loss": "actor"}
    return known.get(metric) or metric.removesuffix("_mean").removesuffix("_after").removesuffix("_loss")


class LiveLine(Observer):
    """One line that lives while training runs; evaluations stay above it."""

    def __init__(self, console: Console, shown: Sequence[str]) -> None:
        self._console, self._shown = console, shown
        self._progress = Progress(
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._score = ""
        self._task = self._progress.add_task("train", total=None, rate="", text="")

    def __enter__(self) -> LiveLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress.live.is_started:
            self._progress.stop()

    def on_start(self, first_step: int, steps: int) -> None:
        """The bar begins where training does."""
        self._progress.start()
        self._progress.reset(self._task, total=steps, completed=first_step)

    def on_progress(self, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step)

    def on_record(self, record: Record) -> None:
        """Show the newest losses, and each evaluation on a line of its own."""
        if record["kind"] == "eval":
            measure, value = record["measure"], record["score"]
            self._score = f"{measure} {value:.1f}"
            scored = f"{measure} {value:7.2f} +- {record['score_std']:.2f}"
            where = f"({len(record['returns'])} episodes, {record['env']})"
            say(self._console, f"step {record['step']:>9,}  {scored}  {where}")
            return
        parts = [f"{spoken(name)} {record[name]:.3g}" for name in self._shown if name in record]
        text = " ".join([*parts, self._score])
        self._progress.update(self._task, rate=f"{record['updates_per_second']:,.0f}/s", text=text)

    def on_message(self, text: str) -> None:
        """A sentence above the line."""
        say(self._console, text)


def _finish(console: Console, run: TrainedRun, folder: Path, curve: str | None) -> None:
    summary = run.summary
    try:
        say(console, f"curve: {plot_curve(run.records, folder / 'curve.png', curve)}")
    except UserError as error:
        say(console, f"no curve: {error}")
    if summary["score"] is None:
        say(console, f"done: {summary['steps']:,} steps, nothing evaluated; results in {folder}")
        return
    measure = next(record.get("measure", "score") for record in reversed(run.records) if record["kind"] == "eval")
    say(
        console,
        Text.assemble(
            (f"{measure} {summary['score']:.1f}", "bold"),
            f" +- {summary['score_std']:.1f} over {summary['episodes']} episodes of {summary['env']}"
            f" ({summary['simulator']}) at step {summary['steps']:,}; mean of the last"
            f" {summary['evaluations_in_mean']} evaluations {summary['mean_of_last_evaluations']:.1f};"
            f" {summary['comparable']}",
        ),
    )


COMMANDS = {"train": for_algorithm(())}
