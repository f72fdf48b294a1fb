"""Downloads that resume: what has arrived stays in a .part file, and the next attempt asks for the rest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

MAX_BYTES = 32 * 2**30
BLOCK = 2**18
TIMEOUT = (10, 60)  # seconds to connect, and between two blocks


class Line:
    """One line on stderr that shows what is being fetched; ``prefix`` tells how far a longer list has come.

    It takes no room once it is closed, and shows nothing where it is not ``shown``. Usable without ``with`` as well.
    """

    def __init__(self, shown: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self.prefix = ""
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True)
        self._job = self._bar.add_task("", total=None)

    def __enter__(self) -> Line:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, name: str, have: int = 0, total: int | None = None) -> None:
        """The next thing: ``have`` of ``total`` bytes are here."""
        self._bar.reset(self._job, description=f"{self.prefix}{name}"[:44], completed=have, total=total)

    def update(self, have: int) -> None:
        """``have`` bytes are here."""
        self._bar.update(self._job, completed=have)


def fetch(url: str, target: Path, line: Line) -> None:
    """Download ``url`` to ``target``.

    What has arrived waits beside it in a .part file named by the address, so that two sources never share one. Raises
    OSError (requests' errors are OSErrors) when the transfer fails or ends early; the .part file then stays for the
    next attempt.
    """
    import requests

    part = target.parent / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
    tag = part.with_suffix(".etag")
    have = part.stat().st_size if part.exists() else 0
    # identity: a transparently compressed body could not be resumed by its length
    headers = {"Accept-Encoding": "identity"}
    if have and tag.exists():
        # without a validator the rest of another version could be glued on
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text(encoding="utf-8")}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:
            part.unlink(missing_ok=True)
            raise OSError("the partial download did not fit the file any more and was dropped; try again")
        response.raise_for_status()
        have = have if response.status_code == 206 else 0
        total = have + int(response.headers.get("Content-Length", 0))
        if total > MAX_BYTES:
            raise OSError(f"the server announces {total} bytes")
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            tag.write_text(validator, encoding="utf-8")
        else:
            tag.unlink(missing_ok=True)
        line.begin(url.rsplit("/", 1)[-1][:28], have, total or None)
        with part.open("ab" if have else "wb") as handle:
            for block in response.iter_content(BLOCK):
                handle.write(block)
                have += len(block)
                if have > MAX_BYTES:
                    raise OSError(f"more than {MAX_BYTES} bytes arrived")
                line.update(have)
    if total and have != total:
        raise OSError(f"{have} of {total} bytes arrived")
    tag.unlink(missing_ok=True)
    os.replace(part, target)
