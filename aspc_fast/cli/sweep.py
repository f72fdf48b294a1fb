"""`aspc-fast sweep`."""

from __future__ import annotations

import statistics
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from aspc_fast.cli.console import make_console
from aspc_fast.cli.train import StopSignal
from aspc_fast.config import AgentConfig, fields_of
from aspc_fast.errors import UserError, did_you_mean
from aspc_fast.registry import algorithm
from aspc_fast.results.records import Observer, Record
from aspc_fast.run.loop import Interrupted
from aspc_fast.run.pace import outlook
from aspc_fast.run.plan import DataSize, gib
from aspc_fast.run.sweep import sweep as run_sweep
from aspc_fast.run.sweep_plan import SweepPlan, SweepSettings, plan_sweep
from aspc_fast.suite import SUITE

SHOW_SECONDS = 0.5  # between two tables: log points may come a hundred times a second


def sweep(
    out: Path,
    data: tuple[str, ...] = (),
    suite: Literal["d4rl39"] | None = None,
    seeds: int = 1,
    first_seed: int = 0,
    algo: str = "aspc",
    vary: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    settings: Annotated[SweepSettings, tyro.conf.OmitArgPrefixes] = SweepSettings(),  # noqa: B008 (frozen)
    ray: str | None = None,
    ray_shards: int = 1,
    ray_gpus: float | None = None,
    plan: bool = False,
) -> int:
    """Train datasets x settings x seeds as batched populations; the same command goes on with an interrupted sweep.

    Args:
        out: results folder.
        data: files, suite ids or Minari ids.
        suite: all 39 datasets of the paper.
        seeds: how many seeds of every dataset and setting.
        first_seed: the first of them.
        algo: one algorithm, or several with commas between.
        vary: hyper-parameters, as alpha_freq=5,10,30 discount=0.995; several values are crossed with each other.
        settings: how long, where and how.
        ray: train shards as Ray tasks: local, or the address of a cluster.
        ray_shards: at least so many shards (use one for each GPU).
        ray_gpus: GPUs for each shard (default 1 on cuda, else 0).
        plan: print the memory plan and stop (sizes of suite ids are known without their files).
    """
    console = make_console()
    if seeds < 1 or first_seed < 0:
        raise UserError(f"seeds must be at least 1 and first-seed at least 0, got {seeds} and {first_seed}")
    sources = [*data, *([row.id for row in SUITE] if suite else [])]
    if not sources:
        raise UserError("nothing to train on: name files or ids with --data, or --suite d4rl39")
    _check_distinct("datasets", sources)
    varied = parse_settings(algo, vary)
    seed_list = list(range(first_seed, first_seed + seeds))
    if plan:
        print_plan(
            console, plan_sweep([_size(s) for s in sources], seed_list, AgentConfig(), varied, settings), settings
        )
        return 0
    runner = None
    if ray is not None:
        from aspc_fast.run.cluster import ray_runner

        gpus = (1.0 if settings.resolved_device.startswith("cuda") else 0.0) if ray_gpus is None else ray_gpus
        runner = ray_runner(None if ray == "local" else ray, gpus, 1.0)
    stop, table = StopSignal(console), LiveTable(console)

    def show(made: SweepPlan) -> None:
        print_plan(console, made, settings)
        table.start(made)

    try:
        with stop:
            summary = run_sweep(
                *(sources, seed_list, out),
                varied=varied,
                settings=settings,
                observer=table,
                stop=stop,
                on_plan=show,
                run_shards=runner,
                parts=ray_shards,
            )
    except Interrupted as interrupted:
        console.print(f"interrupted at step {interrupted.step}: the same command goes on from the last checkpoint")
        return 130
    finally:
        table.stop()
    diverged = [row["run"] for row in summary["runs"] if row["state"] == "diverged"]
    note = f"; {len(diverged)} diverged: {diverged}" if diverged else ""
    took = f"{len(summary['runs'])} runs in {summary['wall_seconds']:.0f} s"
    console.print(Text(f"done: {took}{note}; now: aspc-fast report {out}"))
    return 0


def parse_settings(algo: str, words: tuple[str, ...]) -> dict[str, list[Any]]:
    """Hyper-parameter -> values, from --algo and --set; UserError naming the word that is not one."""
    names = algo.split(",")
    kinds = [algorithm(name).config for name in names]
    _check_distinct("--algo", names)
    varied: dict[str, list[Any]] = {"algo": names}
    for word in words:
        name, sign, values = word.partition("=")
        name = name.replace("-", "_")
        kind = next((kind for kind in kinds if name in fields_of(kind)), None)
        if not sign or kind is None:
            hint = did_you_mean(name, [field for kind in kinds for field in fields_of(kind)])
            fields = f"`aspc-fast train --algo {names[0]} --help`"
            raise UserError(f"--set {word!r}: write FIELD=VALUE,VALUE with a field of {fields}{hint}")
        if name in varied:
            raise UserError(f"--set {word!r}: {name} is set twice")
        varied[name] = [_convert(typing.get_type_hints(kind)[name], name, value) for value in values.split(",")]
        _check_distinct(f"--set {name}", varied[name])
        for value in varied[name]:
            AgentConfig(**{"algo": kind.algo, name: value})  # says what is wrong with a value out of range
    return varied


def _check_distinct(option: str, values: list[Any]) -> None:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise UserError(f"{option}: {twice} is there twice; more runs of the same are more --seeds")


def _convert(kind: Any, name: str, value: str) -> Any:
    try:
        if kind in (int, float):
            return kind(value)
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        if typing.get_origin(kind) is Literal:
            return next(choice for choice in typing.get_args(kind) if str(choice) == value)
    except (ValueError, StopIteration, KeyError):
        raise UserError(f"--set {name}: {value!r} is not a value of {name}") from None
    return value


def _size(source: str) -> DataSize:
    row = next((row for row in SUITE if row.id == source), None)
    if row is not None:
        return DataSize(row.id, row.transitions, row.obs_dim, row.act_dim)
    from aspc_fast.data.load import load

    loaded = load(source)
    return DataSize(Path(source).stem, len(loaded), loaded.obs_dim, loaded.act_dim)


def print_plan(console: Console, plan: SweepPlan, settings: SweepSettings) -> None:
    """The memory plan, one row per population."""
    budget = settings.budget()
    offered = "unknown" if budget is None else gib(budget)
    table = Table(title=f"{len(plan.runs)} runs in {len(plan.shards)} population(s); the device offers {offered}")
    for column in ("population", "runs", "datasets", "learning state", "its copies", "activations", "total"):
        table.add_column(column, justify="right")
    for number in range(len(plan.shards)):
        m = plan.memory(number)
        sizes = (m.dataset_bytes, m.state_bytes, m.copy_bytes, m.activation_bytes, m.total_bytes)
        table.add_row(str(number), str(m.runs), *map(gib, sizes))
    console.print(table)
    for sentence in outlook(plan, settings):
        console.print(Text(sentence))


class LiveTable(Observer):
    """One row per dataset and setting: seeds' mean score, alpha, Q, state; and a bar for the current population."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(compact=True), console=console)
        self._task = self._bar.add_task("steps", total=None, rate="")
        self._live: Live | None = None
        self._rows: dict[tuple[str, str, str], list[int]] = {}
        self._latest: dict[int, Record] = {}
        self._scores: dict[int, float] = {}
        self._diverged: set[int] = set()
        self._shown, self._loading = 0.0, console.status("reading")

    def start(self, plan: SweepPlan) -> None:
        """Show the table of this plan's runs."""
        for i, run in enumerate(plan.runs):
            key = (plan.sizes[run.dataset].name, run.config.algo, run.setting)
            self._rows.setdefault(key, []).append(i)
        self._live = Live(Group(self._table(), self._bar), console=self._console, refresh_per_second=2)
        self._live.start()

    def on_loading(self, done: int, total: int, name: str) -> None:
        """A line that lives while datasets are read."""
        if done >= total:
            self._loading.stop()
        elif self._live is None:
            self._loading.update(f"reading: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {name} done")
            self._loading.start()

    def stop(self) -> None:
        """Leave the last state of the table standing."""
        self._loading.stop()
        if self._live is not None:
            self._live.update(Group(self._table(), self._bar))
            self._live.stop()
            self._live = None

    def on_start(self, first_step: int, steps: int) -> None:
        """A population begins."""
        self._bar.reset(self._task, total=steps, completed=first_step)

    def on_progress(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step)

    def on_record(self, record: Record) -> None:
        """Take in scores, losses and speeds."""
        if record["kind"] == "system":
            self._bar.update(self._task, rate=f"{record['run_updates_per_second']:,.0f} updates/s")
            if self._live is not None and time.monotonic() - self._shown > SHOW_SECONDS:
                self._shown = time.monotonic()
                self._live.update(Group(self._table(), self._bar))
        elif record["kind"] == "train":
            self._latest[record["run"]] = record
        elif record["kind"] == "eval":
            self._scores[record["run"]] = record["score"]
        elif record["kind"] == "diverged":
            self._diverged.add(record["run"])

    def on_message(self, text: str) -> None:
        """A sentence above the table."""
        self._console.print(Text(text))

    def _table(self) -> Table:
        table = Table()
        table.add_column("dataset")
        table.add_column("algo")
        if any(setting for _, _, setting in self._rows):
            table.add_column("setting")
        for column in ("score", "alpha", "Q", "step"):
            table.add_column(column, justify="right")
        table.add_column("state")
        for key, runs in self._rows.items():
            latest = [self._latest[i] for i in runs if i in self._latest]
            scores = [self._scores[i] for i in runs if i in self._scores]
            lost = sum(i in self._diverged for i in runs)
            cells = [
                f"{statistics.mean(scores):.1f}" if scores else "",
                *(_mean(latest, name) for name in (algorithm(key[1]).curve or "", "q1_mean")),
                f"{max((r['step'] for r in latest), default=0):,}",
                Text(f"{lost} diverged", "red") if lost else f"{len(runs)} seed{'s' * (len(runs) > 1)}",
            ]
            named = key if len(table.columns) == 8 else key[:2]
            table.add_row(*map(Text, named), *cells)
        return table


def _mean(records: list[Record], name: str) -> str:
    values = [r[name] for r in records if name in r]
    return f"{statistics.mean(values):.3g}" if values else ""


COMMANDS: dict[str, Callable[..., int]] = {"sweep": sweep}
