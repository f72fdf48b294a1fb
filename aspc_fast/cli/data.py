"""``aspc-fast data ls | info | get | make | cache``: see, inspect, download, collect and keep datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from aspc_fast.cli.console import make_console, passing_bar, say
from aspc_fast.data.describe import info_view, minari_view, suite_view
from aspc_fast.data.load import load
from aspc_fast.data.places import default_data_dir
from aspc_fast.errors import UserError
from aspc_fast.suite import SUITE

MazeName = Literal["maze2d-umaze", "maze2d-medium", "maze2d-large"]
WIDE = 108


def ls(data_dir: Path | None = None, minari: bool = False) -> None:
    """List the 39 datasets of the suite: domain, dimensions, size, and whether they are here.

    Args:
        data_dir: Folder of the datasets (default: $ASPC_FAST_DATA, else ~/.cache/aspc_fast/datasets).
        minari: Show only the closest Minari dataset of each id (a column of the list where the terminal is wide).
    """
    console = make_console()
    wide = console.width >= WIDE
    console.print(minari_view() if minari else suite_view(data_dir, with_minari=wide))
    if not minari:
        say(console, f"files: {data_dir or default_data_dir()}")


def info(
    source: Annotated[str, tyro.conf.Positional],
    data_dir: Path | None = None,
    max_action: float | None = None,
    env: str | None = None,
) -> None:
    """Show a dataset: shapes, episodes, return statistics, terminals and time-outs, and a histogram of returns.

    Args:
        source: A .hdf5, .h5 or .npz file, one of the 39 ids, or a Minari id.
        data_dir: Folder of the datasets (default: $ASPC_FAST_DATA, else ~/.cache/aspc_fast/datasets).
        max_action: Bound of the actions, if it is not 1 and the file does not say so.
        env: The task the data belongs to ("Hopper-v4" or a suite id), if the file does not tell.
    """
    make_console().print(info_view(load(source, data_dir=data_dir, max_action=max_action, env=env)))


def get(
    dataset_id: Annotated[str | None, tyro.conf.Positional] = None,
    suite: Literal["d4rl39"] | None = None,
    data_dir: Path | None = None,
) -> None:
    """Download a dataset, or all; a partial download is resumed, and a file is checked before it is put in place.

    Args:
        dataset_id: One of the 39 ids, or a Minari id.
        suite: All 39 datasets (about 5 GB); the same command goes on where it was interrupted.
        data_dir: Folder of the datasets (default: $ASPC_FAST_DATA, else ~/.cache/aspc_fast/datasets).
    """
    from aspc_fast.data.download import get as fetch
    from aspc_fast.data.download import get_all

    console = make_console()
    if (dataset_id is None) == (suite is None):
        raise UserError("data get needs a dataset's id or --suite d4rl39, and not both")
    if suite is not None:
        paths = get_all(SUITE, data_dir=data_dir, told=lambda sentence: say(console, sentence))
        say(console, f"all {len(paths)} datasets are here: {paths[0].parent}")
        return
    assert dataset_id is not None
    say(console, f"{dataset_id}: {fetch(dataset_id, data_dir=data_dir)}")


def make(
    name: Annotated[MazeName, tyro.conf.Positional],
    *,
    transitions: int = 100_000,
    seed: int = 0,
    format: Literal["d4rl", "minari"] = "d4rl",
    out: str | None = None,
    action_noise: float = 0.5,
) -> None:
    """Collect D4RL's maze2d recipe with a scripted waypoint controller in envpool's PointMaze; the same for each seed.

    Args:
        name: The maze.
        transitions: Rows to collect.
        seed: Seed of goals, waypoints, noise and simulators.
        format: A D4RL-style HDF5 file, or a dataset in Minari's own folder.
        out: The file (default NAME.hdf5 here), or for minari the dataset's id (default aspc/NAME-nN-sS-v0).
        action_noise: Standard deviation of the noise added to the controller's actions before clipping, as D4RL's
            --noisy; 0 for the bare controller, from which little can be learned.
    """
    from aspc_fast.data.minari import datasets_root, valid_id
    from aspc_fast.data.pointmaze import collect
    from aspc_fast.data.writers import check_writable, write_d4rl, write_minari

    target = out or (f"aspc/{name}-n{transitions}-s{seed}-v0" if format == "minari" else f"{name}.hdf5")
    if format == "minari":
        valid_id(target)
        check_writable(datasets_root() / target, new=True)
    else:
        check_writable(Path(target))
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with passing_bar(*columns, console=make_console(stderr=True)) as bar:
        job = bar.add_task(name, total=transitions)
        fields, attributes = collect(
            name, transitions, seed, action_noise=action_noise, progress=lambda rows: bar.update(job, completed=rows)
        )
    place = (
        write_minari(target, fields, attributes) if format == "minari" else write_d4rl(Path(target), fields, attributes)
    )
    what = f"{transitions:,} transitions, {attributes['segments_ended']:,} segments"
    what += f", mean reward {attributes['mean_reward']:.4f}"
    say(make_console(), f"{place}: {what}")


def cache(clear: bool = False, stale: bool = False) -> None:
    """Show the decoded copies of datasets that sweeps start from, or remove them: they cost time to make, no more.

    Args:
        clear: Remove all of them.
        stale: Remove those whose file has changed or gone, or that an older version made.
    """
    from aspc_fast.data import cache as decoded

    console = make_console()
    if clear or stale:
        freed = decoded.clear(stale_only=not clear) / 1e6
        say(console, f"{freed:,.0f} MB freed in {decoded.cache_dir()}")
        return
    found = list(decoded.entries())
    for entry in found:
        note = "" if entry.current else "  (stale)"
        say(console, f"{entry.bytes / 1e6:>9,.1f} MB  {entry.source}{note}")
    total, limit = sum(entry.bytes for entry in found) / 1e9, decoded.limit_bytes() / 1e9
    say(console, f"{total:.2f} of at most {limit:g} GB in {decoded.cache_dir()}")


COMMANDS = {"ls": ls, "info": info, "get": get, "make": make, "cache": cache}
