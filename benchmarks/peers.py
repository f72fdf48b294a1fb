"""This package beside JAX-CORL's TD3+BC and the ASPC authors' trainer, on the same CPU cores, in interleaved windows.

git clone https://github.com/nissymori/JAX-CORL && git clone https://github.com/Colin-Jing/ASPC
python -m benchmarks.peers --jax-corl JAX-CORL --authors ASPC --out peers-cpu.json

Equal work: 17 observations, 6 actions, batches of 256 (sampling included), critics with three hidden layers of 256 and
LayerNorm after ReLU, float32. ``--jax-python`` and ``--authors-python`` name the interpreters that have what the peers
import (jax, flax, optax, pydantic; torch, torchopt). None of their code is shipped: a peer whose folder is not
given or that fails here is left out, with one sentence.

Every contender waits in processes of its own: two bound to a core each, and one bound to both. They take turns, so a
slow moment of the machine hits all alike; this process sleeps meanwhile. CPU time is kept beside the rates: it shows
how many cores a contender really used.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aspc_fast.errors import UserError
from aspc_fast.results.provenance import command_line
from benchmarks.parts import write_result

WORKER = Path(__file__).with_name("peer_workers.py")
ROUNDS = 9
ONE, TWO, PAIR, EIGHT = "1 thread", "2 threads", "two 1-thread processes", "8 runs, 2 threads"
COLUMNS = (ONE, TWO, PAIR, EIGHT)


@dataclass(frozen=True)
class Contender:
    """A row of the table. words: what peer_workers.py is told; eight: the same for eight runs in one process."""

    name: str
    whose: str
    words: tuple[str, ...]
    eight: tuple[str, ...] = ()
    python: str = sys.executable


@dataclass
class Row:
    """What was measured of a contender: run-updates per second and cores used in each window of each column."""

    contender: Contender
    windows: dict[str, list[float]] = field(default_factory=dict)
    cores: dict[str, list[float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def median(self, column: str) -> float | None:
        """Over the windows; None for a column that this contender has not."""
        return statistics.median(self.windows[column]) if column in self.windows else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        columns = {
            name: {"median": self.median(name), "windows": own, "cores_used": statistics.median(self.cores[name])}
            for name, own in self.windows.items()
        }
        return {
            "name": self.contender.name,
            "whose": self.contender.whose,
            "versions": self.versions,
            "columns": columns,
        }


class Worker:
    """A process of one contender, bound to ``cores``. RuntimeError where it fails."""

    def __init__(self, python: str, words: Sequence[str], cores: Sequence[int]) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(len(cores)), "JAX_PLATFORMS": "cpu"}
        command = [python, str(WORKER), ",".join(map(str, cores)), *words]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self._process = subprocess.Popen(command, env=environment, text=True, **pipes)
        except OSError as error:
            raise RuntimeError(f"{python} does not run ({error.strerror})") from None

    def go(self, seconds: float) -> None:
        """Let it run a window."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        told: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "it ended by itself"}')
        if "error" in told:
            raise RuntimeError(told["error"])
        return told

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class Team:
    """A contender's processes, ready for windows."""

    def __init__(self, contender: Contender, runs_of: dict[str, int], cores: tuple[int, int]) -> None:
        self.row, self._runs = Row(contender), runs_of
        self.workers: list[Worker] = []
        try:
            pair = [self._start(contender.words, core) for core in ((cores[0],), (cores[1],))]
            for worker in pair:
                self.row.versions = worker.answer()["versions"]
            self.columns = {ONE: pair[:1], TWO: [self._start(contender.words, cores)], PAIR: pair}
            self.columns[TWO][0].answer()
            if contender.eight:
                self.columns[EIGHT] = [self._start(contender.eight, cores)]
                self.columns[EIGHT][0].answer()
        except BaseException:
            self.close()
            raise

    def _start(self, words: Sequence[str], cores: Sequence[int]) -> Worker:
        self.workers.append(Worker(self.row.contender.python, words, cores))
        return self.workers[-1]

    def window(self, column: str, seconds: float) -> None:
        """Run one, of all the processes of the column at once."""
        for worker in self.columns[column]:
            worker.go(seconds)
        told = [worker.answer() for worker in self.columns[column]]
        rate = self._runs.get(column, 1) * sum(one["updates"] / one["seconds"] for one in told)
        self.row.windows.setdefault(column, []).append(rate)
        self.row.cores.setdefault(column, []).append(sum(one["cpu"] / one["seconds"] for one in told))

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers:
            worker.close()


def contenders(options: argparse.Namespace) -> tuple[list[Contender], list[str]]:
    """Who takes part, and a sentence for each peer that does not."""
    made: list[Contender] = []
    left_out = []
    if options.authors:
        own = ("authors", str(options.authors))
        made.append(Contender("the authors' trainer, ASPC", "authors", own, python=options.authors_python))
    else:
        left_out.append("the authors' trainer is left out: --authors names no folder")
    for engine, algo in (("reference", "aspc"), *((e, a) for e in options.engines for a in ("aspc", "td3bc"))):
        words, eight = ("ours", engine, algo, "1"), ("ours", engine, algo, "8") if engine == "native" else ()
        shown = {"aspc": "ASPC", "td3bc": "TD3+BC"}[algo]
        made.append(Contender(f"{'reference.py' if engine == 'reference' else engine}, {shown}", "ours", words, eight))
    if options.jax_corl:
        for jitted in (8, 20):
            theirs = ("jax-corl", str(options.jax_corl), str(jitted))
            name = f"JAX-CORL, TD3+BC, {jitted} updates in one call"
            made.append(Contender(name, "JAX-CORL", theirs, python=options.jax_python))
    else:
        left_out.append("JAX-CORL is left out: --jax-corl names no folder")
    return made, left_out


def measure(
    made: Sequence[Contender], rounds: int, seconds: float, cores: tuple[int, int]
) -> tuple[list[Row], list[str]]:
    """All rows, and a sentence for each contender that failed."""
    teams: list[Team] = []
    failed = []
    try:
        for contender in made:
            try:
                teams.append(Team(contender, {EIGHT: 8}, cores))
                print(f"ready: {contender.name}", flush=True)
            except RuntimeError as error:
                failed.append(f"{contender.name} is left out: {error}")
        for _ in range(rounds):
            for column in COLUMNS:
                for team in [team for team in teams if column in team.columns]:
                    try:
                        team.window(column, seconds)
                    except (RuntimeError, OSError) as error:
                        failed.append(f"{team.row.contender.name} is left out: {error}")
                        teams.remove(team)
                        team.close()
    finally:
        for team in teams:
            team.close()
    return [team.row for team in teams], failed


def ratios(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """For each column our fastest ASPC over the best peer; eight runs are compared with two processes of a peer."""
    found = {}
    for column in COLUMNS:
        own = [(m, r) for r in rows if r.contender.name.endswith("ASPC") and (m := r.median(column))]
        own = [(m, r) for m, r in own if r.contender.whose == "ours"]
        beside = PAIR if column == EIGHT else column
        peers = [(m, r) for r in rows if r.contender.whose != "ours" and (m := r.median(beside))]
        if own and peers:
            (mine, ours), (theirs, peer) = (max(pairs, key=lambda pair: pair[0]) for pairs in (own, peers))
            found[column] = {"ours": ours.contender.name, "peer": peer.contender.name, "ratio": mine / theirs}
    return found


def table(rows: Sequence[Row]) -> str:
    """Medians as text, the ratios below."""
    lines = [f"{'run-updates/s':42}" + "".join(f"{column:>26}" for column in COLUMNS)]
    for row in rows:
        medians = [row.median(column) for column in COLUMNS]
        cells = ["" if median is None else f"{median:.1f}" for median in medians]
        lines.append(f"{row.contender.name:42}" + "".join(f"{cell:>26}" for cell in cells))
    for column, told in ratios(rows).items():
        lines.append(f"{column}: {told['ours']} over {told['peer']}: {told['ratio']:.2f}")
    return "\n".join(lines)


def two_cores() -> tuple[int, int]:
    """The first two that this process may use; UserError where there is one."""
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("peers.py binds processes to cores, which works on Linux only")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise UserError("peers.py needs two cores")
    return cores[0], cores[1]


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; UserError for a folder or engine that does not exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jax-corl", type=Path, help="folder of github.com/nissymori/JAX-CORL")
    parser.add_argument("--authors", type=Path, help="folder of github.com/Colin-Jing/ASPC")
    parser.add_argument("--jax-python", default=sys.executable)
    parser.add_argument("--authors-python", default=sys.executable)
    parser.add_argument("--engines", nargs="*", default=["eager", "compiled", "native"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a window")
    parser.add_argument("--out", type=Path, help="JSON with all windows")
    options = parser.parse_args(arguments)
    for name, folder in (("--jax-corl", options.jax_corl), ("--authors", options.authors)):
        if folder and not folder.is_dir():
            raise UserError(f"{name} {folder}: no such folder")
    if options.rounds < 1 or options.seconds <= 0:
        raise UserError("--rounds must be at least 1 and --seconds greater than 0")
    return options


def run(arguments: Sequence[str]) -> None:
    """Measure, print, write."""
    options, cores = options_of(arguments), two_cores()
    made, left_out = contenders(options)
    rows, failed = measure(made, options.rounds, options.seconds, cores)
    print(table(rows), *left_out, *failed, sep="\n")
    if options.out:
        told = {
            "rows": [row.to_json() for row in rows],
            "ratios": ratios(rows),
            "left_out": [*left_out, *failed],
            "seconds_of_a_window": options.seconds,
        }
        command = [word.rsplit("/", 1)[-1] for word in command_line()]  # no folders of one machine
        write_result(options.out, {"command": command, "peers": told})


def main() -> int:
    """Exit code 2 for a mistake in the options."""
    try:
        run(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
