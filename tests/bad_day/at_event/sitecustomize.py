"""Kills this process when a file is about to get its name: Python runs it at start-up where PYTHONPATH leads here.

``ASPC_FAST_TEST_KILL`` holds JSON: ``path`` (the end of the file's path), ``count`` (at which such rename), ``once`` (a
file that is made then; where it exists nothing is killed) and ``group`` (the whole process group goes). An event, not a
moment: it comes on a slow machine as on a fast one.
"""

import json
import os
import signal
import sys

_wish = json.loads(os.environ.get("ASPC_FAST_TEST_KILL", "null"))
_left = [_wish["count"]] if _wish else []


def _watch(event: str, arguments: tuple) -> None:
    if event != "os.rename" or not str(arguments[1]).endswith(_wish["path"]):
        return
    _left[0] -= 1
    if _left[0]:
        return
    try:
        os.close(os.open(_wish["once"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    (os.killpg if _wish["group"] else os.kill)(os.getpgid(0) if _wish["group"] else os.getpid(), signal.SIGKILL)


if _wish:
    sys.addaudithook(_watch)
