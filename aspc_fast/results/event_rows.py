"""Events of many runs at once: the same tags and the same step, other numbers; as TensorBoard's files hold them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from aspc_fast.results.crc32c import crc32c, crc32c_of_rows, masked


def event_records(step: int, wall_time: float, tags: Sequence[str], values: np.ndarray) -> list[bytes]:
    """One record of an event file for each row of ``values`` [R, len(tags)], stored as float32.

    A record is length 8, its masked CRC 4, the event 8 + ... bytes, its masked CRC 4; an event (event.proto) is
    wall_time, step and a summary of tag and simple_value.
    """
    numbers = np.ascontiguousarray(values, dtype="<f4")
    template, positions = _template(step, tuple(tags))
    template = template[:1] + struct.pack("<d", wall_time) + template[9:]
    length = struct.pack("<Q", len(template))
    head = np.frombuffer(length + struct.pack("<I", int(masked(crc32c(length)))) + template, dtype=np.uint8)
    bytes_ = numbers.view(np.uint8).reshape(len(numbers), -1)
    rows = np.empty((len(numbers), len(head) + 4), dtype=np.uint8)
    rows[:, : len(head)] = head
    rows[:, 12 + positions] = bytes_
    rows[:, len(head) :] = masked(crc32c_of_rows(template, positions, bytes_)).astype("<u4")[:, None].view(np.uint8)
    return [row.tobytes() for row in rows]


@lru_cache(maxsize=64)
def _values(tags: tuple[str, ...]) -> tuple[bytes, tuple[int, ...]]:
    """The summary with all numbers 0, and where they begin in it."""
    summary, begins = b"", []
    for tag in tags:
        name = tag.encode()
        value = b"\x0a" + _varint(len(name)) + name + b"\x15\0\0\0\0"
        summary += b"\x0a" + _varint(len(value)) + value
        begins.append(len(summary) - 4)
    return summary, tuple(begins)


def _template(step: int, tags: tuple[str, ...]) -> tuple[bytes, np.ndarray]:
    summary, begins = _values(tags)
    event = b"\x09" + bytes(8) + (b"\x10" + _varint(step) if step else b"") + b"\x2a" + _varint(len(summary))
    positions = len(event) + np.array(begins, dtype=np.int64)[:, None] + np.arange(4)
    return event + summary, positions.reshape(-1)


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])
