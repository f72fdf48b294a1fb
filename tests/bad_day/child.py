"""Reads damaged inputs one after the other and tells each outcome as a line of JSON; made to be killed.

`python -m tests.bad_day.child SEED FIRST COUNT`: inputs FIRST to FIRST + COUNT - 1 of the sequence of SEED. It is a
process of its own because a crash or a hang of a reader must be seen, not suffered.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from aspc_fast.errors import UserError
from tests.bad_day.damage import damage
from tests.bad_day.targets import TARGETS, Content, Target

EXTRA_MEMORY = 6 * 2**30  # what a reader of these kilobytes may allocate
ALLOCATION_WORDS = ("Unable to allocate", "MemoryError", "can't allocate memory", "not enough memory")
ENTRIES = ("observations", "actions", "rewards", "next_observations", "terminals")


def judge(target: Target, did: str, count: int, read: Content, pristine: Content) -> str:
    """How an accepted input stands to the original: same, changed (as it may be), or an AssertionError."""
    target.rules(read)
    same = read.keys() == pristine.keys() and all(
        read[n].dtype == pristine[n].dtype and np.array_equal(read[n], pristine[n], equal_nan=read[n].dtype.kind == "f")
        for n in read
    )
    if same:
        return "same"
    well_formed = did.startswith(("array", "renamed", "removed", "attribute")) or "sealed" in did
    if target.exact:
        assert well_formed, "accepted although a checksum covers the damage"
        return "changed"
    if target.bytewise and did.startswith("bytes"):
        lost = abs(len(read["rewards"]) - len(pristine["rewards"]))
        differ = lost
        if not lost:
            differ = sum(int((read[n] != pristine[n]).sum()) for n in ENTRIES if read[n].shape == pristine[n].shape)
            assert all(read[n].shape == pristine[n].shape for n in ENTRIES), "another shape than was written"
        # an observation is stored once and read twice, as s and as s'
        assert differ <= 2 * max(count, 0), f"{differ} entries differ, {count} bytes were damaged"
    return "changed"


def one(target: Target, seed: int, index: int, built: Path, pristine: Content) -> dict[str, Any]:
    """Damage a copy, read it, and tell what came of it."""
    rng = np.random.default_rng([seed, index])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "f"
        shutil.copytree(built, folder)
        files = sorted(path for pattern in target.files for path in folder.glob(pattern))
        chosen = files[int(rng.integers(len(files)))]
        did, count = damage(rng, chosen)
        about = {"target": target.name, "file": chosen.name, "did": did}
        before, begin = sorted(os.listdir(Path(name))), time.monotonic()
        try:
            outcome, text = judge(target, did, count, target.read(folder), pristine), ""
        except UserError as error:
            outcome, text = "refused", str(error)
            if "\n" in text or len(text) > 600:
                outcome = "not one sentence"
            if any(word in text for word in ALLOCATION_WORDS):
                outcome = "allocated"
        except AssertionError as error:
            outcome, text = "wrong", str(error)
        except BaseException:
            outcome, text = "traceback", traceback.format_exc()
        if sorted(os.listdir(Path(name))) != before:
            outcome, text = "wrote elsewhere", str(os.listdir(Path(name)))
        return about | {"outcome": outcome, "text": text, "seconds": round(time.monotonic() - begin, 3)}


def main(seed: int, first: int, count: int) -> None:
    """Tell "begin INDEX" before each input and its outcome after it."""
    faulthandler.disable()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_MEMORY, used + EXTRA_MEMORY))
    ready: dict[str, tuple[Path, Content]] = {}
    with tempfile.TemporaryDirectory() as name:
        for index in range(first, first + count):
            target = TARGETS[index % len(TARGETS)]
            if target.name not in ready:
                built = Path(name) / str(len(ready))
                built.mkdir()
                target.build(built)
                shutil.copytree(built, Path(name) / "read")  # reading may write, as resuming does
                ready[target.name] = built, target.read(Path(name) / "read")
                shutil.rmtree(Path(name) / "read")
            print(json.dumps({"begin": index}), flush=True)
            print(json.dumps({"index": index, **one(target, seed, index, *ready[target.name])}), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
