"""Where records go besides metrics.jsonl: TensorBoard events and W&B. By-products: training never needs them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aspc_fast.errors import UserError
from aspc_fast.results.feed import Feed, Sink
from aspc_fast.results.logged_run import LoggedRun, first_line
from aspc_fast.results.records import Observer, Record

_NAME_LENGTH = 120


class Logged(Observer):
    """Passes everything on to ``inner`` and records to the sinks, each on a thread of its own.

    A sink that fails is left out, and one that is too slow gets fewer records, with one sentence each.
    """

    def __init__(self, inner: Observer, sinks: Mapping[str, Sink]) -> None:
        self._inner = inner
        self._feeds = [Feed(name, sink) for name, sink in sinks.items()]
        self.on_start, self.on_message, self.on_loading = inner.on_start, inner.on_message, inner.on_loading  # type: ignore[method-assign]

    def on_restore(self, step: int, records: list[Record], pending: list[int]) -> None:
        """To all."""
        self._inner.on_restore(step, records, pending)
        for feed in self._feeds:
            feed.restore(step, records, pending)

    def on_progress(self, step: int) -> None:
        """To the inner observer, with what the sinks have to say."""
        self._inner.on_progress(step)
        self._speak()

    def on_record(self, record: Record) -> None:
        """To all."""
        self.on_records([record])

    def on_records(self, records: list[Record]) -> None:
        """To all."""
        self._inner.on_records(records)
        for feed in self._feeds:
            feed.put(records)
        self._speak()

    def close(self, failed: bool) -> None:
        """Let the sinks catch up, and close them."""
        for feed in self._feeds:
            feed.close(failed)
        self._speak()

    def _speak(self) -> None:
        for feed in self._feeds:
            while feed.sentences:
                self._inner.on_message(feed.sentences.popleft())


@contextlib.contextmanager
def logged(
    observer: Observer,
    runs: Mapping[int | None, LoggedRun],
    *,
    folder: Path | None,
    tensorboard: Path | None,
    wandb: str | None,
    population: str = "population",
    group: str | None = None,
) -> Iterator[Observer]:
    """``observer`` with the loggers that were asked for.

    runs: run number in the records (None: a single run) -> how to show it. tensorboard: folder of the events, or None.
    wandb: project, or None; ``folder`` keeps the ids of W&B's runs (for going on with them), ``group`` joins the runs
    of a sweep. UserError if W&B cannot begin; without the package tensorboard one message says so.
    """
    sinks: dict[str, Sink] = {}
    if tensorboard is not None:
        problem = tensorboard_problem()
        if problem is None:
            from aspc_fast.results.events import EventSink

            sinks["TensorBoard events"] = EventSink(tensorboard, runs, population)
        else:
            observer.on_message(problem)
    if wandb is not None:
        from aspc_fast.results.wandb_sink import WandbSink

        sinks["W&B"] = WandbSink(require_wandb(len(runs)), wandb, runs, folder, group)
    both, failed = Logged(observer, sinks), True
    try:
        yield both
        failed = False
    finally:
        both.close(failed)


def tensorboard_problem() -> str | None:
    """The sentence for a machine on which events cannot be written; None where they can."""
    try:
        import aspc_fast.results.events  # noqa: F401
    except ImportError as error:
        missing = (error.name or "").startswith("tensorboard")
        why = "the package is missing" if missing else f"its import fails ({first_line(error)})"
    except Exception as error:  # protobuf raises TypeError where its version does not suit the generated files
        why = f"its import fails ({first_line(error)})"
    else:
        return None
    return f"no TensorBoard events: {why}; pip install 'aspc_fast[log]', or silence this with --no-tensorboard"


def require_wandb(runs: int = 1) -> Any:
    """The module wandb; UserError if it is missing, or too old for several runs at once in one process."""
    try:
        import wandb
    except ImportError:
        raise UserError("--wandb needs the package wandb, which is missing: pip install 'aspc_fast[wandb]'") from None
    except Exception as error:
        raise UserError(f"--wandb: the package wandb cannot be imported ({first_line(error)})") from None
    version = tuple(int(part) for part in re.findall(r"\d+", wandb.__version__)[:3])
    if runs > 1 and version < (0, 19, 10):
        raise UserError(f"--wandb in a sweep needs wandb 0.19.10, this is {wandb.__version__}: pip install -U wandb")
    return wandb


def run_names(parts: Sequence[Sequence[str]]) -> list[str]:
    """Folder names of a sweep's runs, dataset-algo-setting-seedN; a number is added where two would be the same."""
    names = [re.sub(r"[^A-Za-z0-9._=-]+", "-", "-".join(filter(None, words)))[-_NAME_LENGTH:] for words in parts]
    return [name if names.count(name) == 1 else f"{name}-run{i}" for i, name in enumerate(names)]
