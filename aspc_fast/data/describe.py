"""What a dataset looks like, in numbers and as tables that stay readable at 80 columns and in a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aspc_fast.data import minari
from aspc_fast.data.places import suite_file
from aspc_fast.data.transitions import Transitions
from aspc_fast.environments import Environment, environment
from aspc_fast.suite import SUITE, Dataset

BINS = 10
BAR = 30
AT_BOUND = 1 - 1e-6


@dataclass(frozen=True)
class Description:
    """A dataset's statistics; returns and lengths are over whole episodes, scores need a known task."""

    transitions: int
    obs_dim: int
    act_dim: int
    episodes: int
    terminals: int
    timeouts: int
    returns: tuple[float, float, float]
    lengths: tuple[float, float, float]
    scores: tuple[float, float, float] | None
    reward_mean: float
    share_at_bound: float
    megabytes: float
    histogram: tuple[np.ndarray, np.ndarray]


def environment_of(data: Transitions) -> Environment | None:
    """What is known of the data's task."""
    name = data.dataset_id or data.env
    return environment(name) if name else None


def describe(data: Transitions) -> Description:
    """Statistics of ``data``; triples are minimum, mean, maximum."""
    task = environment_of(data)
    returns = data.episode_returns
    triple = (float(returns.min()), float(returns.mean()), float(returns.max()))
    lengths = data.episode_lengths
    arrays = (data.observations, data.actions, data.rewards, data.next_observations, data.terminals)
    # a maze stream's segments are no episodes of the task: its score is the reward rate over a horizon
    scores = None
    if task is not None and task.domain == "Maze2d" and task.horizon:
        rate = task.score(float(data.rewards.mean(dtype=np.float64)) * task.horizon)
        scores = (rate, rate, rate)
    elif task is not None and task.returns_are_scored:
        low, mean, high = (task.score(value) for value in triple)
        scores = (low, mean, high)
    return Description(
        transitions=len(data),
        obs_dim=data.obs_dim,
        act_dim=data.act_dim,
        episodes=len(returns),
        terminals=int(data.terminals.sum()),
        timeouts=data.timeout_count,
        returns=triple,
        lengths=(float(lengths.min()), float(lengths.mean()), float(lengths.max())),
        scores=scores,
        reward_mean=float(data.rewards.mean(dtype=np.float64)),
        share_at_bound=float((np.abs(data.actions) >= data.max_action * AT_BOUND).mean()),
        megabytes=sum(array.nbytes for array in arrays) / 1e6,
        histogram=_histogram(returns),
    )


def _histogram(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if returns.max() == returns.min():
        return np.array([len(returns)]), np.array([returns.min(), returns.max()])
    counts, edges = np.histogram(returns, bins=BINS)
    return counts, edges


def info_view(data: Transitions) -> RenderableType:
    """The page that ``data info`` prints."""
    facts = describe(data)
    task = environment_of(data)
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    maze = task is not None and task.domain == "Maze2d"
    frame = f", {data.frame} frame" if task is not None and "Maze" in task.env else ""
    table.add_row("source", Text(data.source))
    table.add_row(
        "task", Text(f"{data.env or 'unknown'}{frame}" + (f" ({data.dataset_id})" if data.dataset_id else ""))
    )
    table.add_row("transitions", f"{facts.transitions:,} ({facts.megabytes:.1f} MB)")
    table.add_row("observations", f"{facts.obs_dim} entries, float32, from {_span(data.observations)}")
    table.add_row("actions", f"{facts.act_dim} entries, float32, from {_span(data.actions)}, bound {data.max_action:g}")
    table.add_row("at the bound", f"{100 * facts.share_at_bound:.1f} % of action entries")
    table.add_row("rewards", f"mean {facts.reward_mean:.5g}, from {_span(data.rewards)}")
    table.add_row("terminals", f"{facts.terminals:,}")
    ogbench = "OGBench" in data.attributes.get("notes", "")
    table.add_row("time-outs", f"{facts.timeouts:,}" + ("" if ogbench else " (those rows are dropped)"))
    table.add_row("segments" if maze else "episodes", f"{facts.episodes:,}")
    table.add_row("lengths", "min {:.0f}, mean {:.1f}, max {:.0f}".format(*facts.lengths))
    table.add_row("returns", "min {:.5g}, mean {:.5g}, max {:.5g}".format(*facts.returns))
    if facts.scores is None:
        table.add_row("score", "unknown task: no reference scores" if task is None else _unscored(task))
    elif maze:
        table.add_row("score", f"{facts.scores[1]:.1f} (the reward rate over {task.horizon if task else 0} steps)")
    else:
        table.add_row("score", "min {:.1f}, mean {:.1f}, max {:.1f}".format(*facts.scores))
    if "notes" in data.attributes:
        table.add_row("notes", Text(data.attributes["notes"]))
    table.add_row("fingerprint", data.fingerprint[:16])
    return Group(table, Text(), Text("returns", style="bold"), *_bars(*facts.histogram))


def _unscored(task: Environment) -> str:
    if task.measure == "success rate":
        return "none for the data: evaluation counts the episodes that reach the goal"
    if task.measure == "return":
        return f"none: no reference returns are known for {task.env}"
    return "none for the data: its rewards are paid at every step, evaluation counts each task once"


def _span(array: np.ndarray) -> str:
    return f"{array.min():.4g} to {array.max():.4g}"


def _bars(counts: np.ndarray, edges: np.ndarray) -> list[Text]:
    most = max(int(counts.max()), 1)
    lines = []
    for i, count in enumerate(counts):
        # a bin with anything in it shows at least one mark
        marks = "#" * max(round(BAR * count / most), int(count > 0))
        lines.append(Text(f"{edges[i]:>10.5g} .. {edges[i + 1]:>10.5g}  {int(count):>7}  {marks}".rstrip()))
    return lines


def suite_view(data_dir: Path | None = None, *, with_minari: bool = True) -> RenderableType:
    """The table that ``data ls`` prints: the 39 datasets and whether they are here; the Minari ids take 32 columns."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("domain", no_wrap=True)
    for name in ("obs", "act", "rows", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    if with_minari:
        table.add_column("closest Minari id", no_wrap=True)
    here = 0
    for row in SUITE:
        local = suite_file(row, data_dir) is not None
        here += local
        mark = "yes" if local else "minari" if row.minari and minari.is_here(row.minari) else "-"
        table.add_row(
            row.id,
            row.domain,
            str(row.obs_dim),
            str(row.act_dim),
            f"{row.transitions:,}",
            f"{megabytes(row):.0f}",
            mark,
            *([row.minari or "-"] if with_minari else []),
        )
    return Group(table, Text(f"{here} of {len(SUITE)} here; MB is the size in memory"))


def minari_view() -> RenderableType:
    """The closest Minari dataset of every suite id that has one."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("closest Minari id", no_wrap=True)
    for row in SUITE:
        if row.minari:
            table.add_row(row.id, row.minari)
    return table


def megabytes(row: Dataset) -> float:
    """Size in memory: s, a, r, s', d as float32 and bool."""
    return row.transitions * (4 * (2 * row.obs_dim + row.act_dim + 1) + 1) / 1e6
