"""What training leaves on the disk, written in order by a thread of its own: records and checkpoints.

One queue, one thread: a checkpoint is written behind the records that were handed in before it and before those that
come after, so the length and hash of metrics.jsonl that it vouches for are those of its own step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor

from aspc_fast.clock import CLOCK
from aspc_fast.errors import UserError
from aspc_fast.results import checkpoint as ckpt
from aspc_fast.results.folder import ResultsFolder
from aspc_fast.results.records import Record

WAITING_BLOCKS = 256  # log points that may wait for the disk, before training waits for it too


class Scribe:
    """Writes into an open ``folder`` whose metrics have been started. Everything raised here is raised by its caller.

    A record that cannot be written ends the training (``check`` raises OSError); a checkpoint that cannot is one
    sentence (``complaint``), unless it is waited for: the one before it is intact, and the next one may fit.
    """

    def __init__(self, folder: ResultsFolder) -> None:
        self._folder = folder
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING_BLOCKS)
        self._error: BaseException | None = None
        self._failed: BaseException | None = None
        self._writing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="scribe", daemon=True)
        self._thread.start()

    @property
    def writing_checkpoint(self) -> bool:
        """Whether a checkpoint is on its way to the disk."""
        return self._writing.is_set()

    def records(self, records: list[Record]) -> None:
        """Append ``records`` to metrics.jsonl; they may no longer be changed."""
        self.check()
        self._queue.put(lambda: self._append(records))

    def checkpoint(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Write a checkpoint; ``tensors`` may not change while ``writing_checkpoint``."""
        self.check()
        self._writing.set()
        self._queue.put(lambda: self._save(step, tensors, meta))

    def check(self) -> None:
        """Raise what kept records from being written."""
        if self._error is not None:
            raise self._error

    def complaint(self) -> str | None:
        """One sentence, once, if the last checkpoint could not be written."""
        failed, self._failed = self._failed, None
        if failed is None:
            return None
        why = failed.strerror if isinstance(failed, OSError) and failed.strerror else str(failed)
        return f"{self._folder.checkpoints}: no checkpoint ({why}); training goes on, the one before it is intact"

    def settle(self) -> None:
        """Wait until all is written; raises what kept records or the last checkpoint from it."""
        self.wait()
        self.check()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def close(self) -> None:
        """Write what is left and end the thread; what fails now was told before or is of no use any more."""
        self._queue.put(None)
        self._thread.join()

    def wait(self) -> None:
        """Wait until all that was handed in is done."""
        self._queue.join()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
            self._queue.task_done()
        self._queue.task_done()

    def _append(self, records: list[Record]) -> None:
        if self._error is None:
            try:
                with CLOCK.working("records"):
                    self._folder.append(records)
            except BaseException as error:
                self._error = error

    def _save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        try:
            if self._error is None:
                with CLOCK.working("checkpoints"):
                    self._folder.sync_metrics()
                    told = {
                        "metrics_bytes": self._folder.metrics_bytes,
                        "metrics_sha256": self._folder.metrics_sha256(),
                    }
                    ckpt.save_checkpoint(self._folder.checkpoints, step, tensors, told | meta)
            self._failed = None
        except (OSError, UserError) as error:
            self._failed = error
        except BaseException as error:
            self._error = error
        finally:
            self._writing.clear()
