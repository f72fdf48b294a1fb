"""The one exception that means "the user can mend this": shown as a single sentence, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: the message names the file, field and value, and what to do. Never a traceback."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown word; empty if no known one resembles it."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near and near[0] != word else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The same for names of datasets and tasks, of which several may be meant."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; nearest: {', '.join(near)}" if near else ""
