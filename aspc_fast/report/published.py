"""Published scores: what papers state, each with its source. published.json is the package's; a user may add a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from aspc_fast.errors import UserError
from aspc_fast.files import read_json
from aspc_fast.results import fields
from aspc_fast.results.fields import Record

OWN = "published.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Published:
    """One published number: a normalised score, its spread over seeds if stated, and which source says so."""

    score: float
    spread: float | None
    source: int


class PublishedScores:
    """``sources`` are sentences; scores are asked for by algorithm and dataset id, averages by algorithm and domain."""

    def __init__(self) -> None:
        self.sources: list[str] = []
        self._scores: dict[tuple[str, str], list[Published]] = {}
        self._averages: dict[tuple[str, str], list[Published]] = {}

    def scores(self, algo: str, dataset: str) -> list[Published]:
        """What is published for one dataset, in the order of the sources."""
        return self._scores.get((algo, dataset), [])

    def averages(self, algo: str, domain: str) -> list[Published]:
        """The published mean over a whole domain (MuJoCo, Maze2d, AntMaze, Adroit), or over the suite ("All")."""
        return self._averages.get((algo, domain), [])

    def add(self, content: Record, where: str) -> None:
        """Take in the parsed content of a file like published.json; UserError naming field and value if it is not."""
        if content.get("format_version") != FORMAT_VERSION:
            version = content.get("format_version")
            raise UserError(f"{where}: field 'format_version' is {version!r}, this program reads {FORMAT_VERSION}")
        for place, source in enumerate(fields.objects(content, "sources", where)):
            here = f"{where}: source {place}"
            words = [fields.text(source, name, here, "") for name in ("title", "url", "note")]
            self.sources.append(". ".join(word for word in words if word))
            for name, store in (("scores", self._scores), ("averages", self._averages)):
                by_algo = fields.section(source, name, here)
                for algo in by_algo:
                    entries = fields.section(by_algo, algo, f"{here}: field {name!r}")
                    for key in entries:
                        number = self._number(entries, key, f"{here}: field {name!r}: {algo}")
                        store.setdefault((algo, key), []).append(number)

    def _number(self, entries: Record, key: str, where: str) -> Published:
        value = entries[key]
        pair = value if isinstance(value, list) else [value, None]
        score = fields.number({key: pair[0]}, key, where) if len(pair) == 2 else None
        if score is None:
            raise UserError(f"{where}: field {key!r} must be a score or [score, spread], got {value!r}")
        return Published(score, fields.number({key: pair[1]}, key, where), len(self.sources) - 1)


def load_published(extra: Path | None = None) -> PublishedScores:
    """The package's own published numbers and those of ``extra``, a file of the same form; UserError if it is not."""
    found = PublishedScores()
    found.add(json.loads(files("aspc_fast.report").joinpath(OWN).read_text(encoding="utf-8")), OWN)
    if extra is not None:
        found.add(fields.record(read_json(extra), str(extra)), str(extra))
    return found
