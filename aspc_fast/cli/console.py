"""The console that commands print to, and the bar of one that waits."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.text import Text

PIPE_WIDTH = 120


def make_console(stderr: bool = False) -> Console:
    """A terminal as wide as it is. A pipe has no width: rich's guess of 80 would cut what a file can hold.

    COLUMNS in the environment makes a pipe wider, never narrower.
    """
    console = Console(stderr=stderr)
    return (
        console if console.is_terminal else Console(stderr=stderr, width=max(PIPE_WIDTH, console.width), soft_wrap=True)
    )


def passing_bar(*columns: str | ProgressColumn, console: Console) -> Progress:
    """A bar that leaves nothing behind, and that a pipe never sees."""
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def say(console: Console, sentence: str | Text) -> None:
    """A sentence as it is: wrapped by the terminal alone, so that a path in it can be copied."""
    console.print(Text(sentence) if isinstance(sentence, str) else sentence, soft_wrap=True)
