"""CRC-32C (Castagnoli, RFC 3720) of many byte strings that differ in a few places only, as event files need it.

A CRC is linear over GF(2): changing a byte changes the CRC by an amount that depends on that byte and on how many bytes
follow it, whatever the others are. So the CRC of a template is found once, and that of each row by table look-ups.
"""

from __future__ import annotations

import numpy as np

_POLYNOMIAL = 0x82F63B78
_MASK = np.uint32(0xA282EAD8)


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _byte_table()
_effects = _TABLE[None].copy()


def effects(following: int) -> np.ndarray:
    """[at least ``following`` + 1, 256] uint32: what byte b changes with k bytes behind it, at [k, b]."""
    global _effects  # noqa: PLW0603 (a table that grows)
    if len(_effects) <= following:
        rows = [_effects[-1]]
        for _ in range(max(following + 1, 2 * len(_effects)) - len(_effects)):
            last = rows[-1]
            rows.append((last >> np.uint32(8)) ^ _TABLE[last & np.uint32(0xFF)])
        _effects = np.concatenate([_effects, np.stack(rows[1:])])
    return _effects


def crc32c(data: bytes) -> int:
    """The CRC-32C of ``data``."""
    found = effects(len(data))[np.arange(len(data) - 1, -1, -1), np.frombuffer(data, dtype=np.uint8)]
    return int(np.bitwise_xor.reduce(found, initial=np.uint32(0))) ^ crc_of_zeros(len(data))


def crc_of_zeros(length: int) -> int:
    """The CRC-32C of so many zero bytes: what the register's first and last inversion leave."""
    # the first inversion is the same as 0xFFFFFFFF put before the data, four bytes of which act like data bytes
    if length >= 4:
        last = effects(length)
        start = [last[length - 1 - k, 0xFF] for k in range(4)]
        return int(np.bitwise_xor.reduce(np.array(start, dtype=np.uint32))) ^ 0xFFFFFFFF
    register = 0xFFFFFFFF
    for _ in range(length):
        register = (register >> 8) ^ int(_TABLE[register & 0xFF])
    return register ^ 0xFFFFFFFF


def crc32c_of_rows(template: bytes, positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """CRC-32C [R] uint32 of ``template`` with bytes at ``positions`` [P], there zero, out of ``values`` [R, P]."""
    table = effects(len(template))
    found = table[(len(template) - 1 - positions)[None], values]
    return np.bitwise_xor.reduce(found, axis=1) ^ np.uint32(crc32c(template))


def masked(crc: np.ndarray | int) -> np.ndarray:
    """The form that is stored (TFRecord): rotated by 15 bits, plus a constant."""
    crc = np.asarray(crc, dtype=np.uint32)
    with np.errstate(over="ignore"):
        return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + _MASK
