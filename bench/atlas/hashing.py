"""Canonical hashes of many programs at once: BLAKE2b (RFC 7693) of 16 bytes, for messages of one block."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ...vm.jit import kept

Words = NDArray[np.uint64]

_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.uint64,
)  # fmt: skip
BLOCK = 128
"""Bytes of a message at most."""
SIZE = 16
"""Bytes of a hash, as `grammar.expr` makes them."""


def hashes(prefix: bytes, *operands: Words) -> Words:
    """The hash of ``prefix`` followed by the hashes of the operands, each ``[P, 2]``, ``[P, 2]``."""
    length = len(prefix) + SIZE * len(operands)
    if length > BLOCK:
        raise ValueError(f"a message of {length} bytes; at most {BLOCK} fit into one block")
    found = np.empty((len(operands[0]), 2), np.uint64)
    first = np.frombuffer(prefix.ljust(BLOCK, b"\0"), np.uint8).copy()
    given = np.ascontiguousarray(np.concatenate(operands, axis=1)).view(np.uint8)
    _compiled()(first, len(prefix), given.reshape(len(found), length - len(prefix)), length, found)
    return found


def words(digest: bytes) -> tuple[int, int]:
    """The two words of a hash."""
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def keys(digests: Words) -> NDArray[np.uint64]:
    """The first 8 bytes of each hash as a number, in the order of its hex digits."""
    return digests[:, 0].byteswap()


@numba.njit
def _turned(x: Any, by: int) -> Any:
    return (x >> np.uint64(by)) | (x << np.uint64(64 - by))


@numba.njit
def _mixed(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    a = a + b + x
    d = _turned(d ^ a, 32)
    c = c + d
    b = _turned(b ^ c, 24)
    a = a + b + y
    d = _turned(d ^ a, 16)
    c = c + d
    return a, _turned(b ^ c, 63), c, d


def _run(first: Any, prefix: int, given: Any, length: int, out: Any) -> None:
    message = np.empty(BLOCK, np.uint8)
    m = message.view(np.uint64)
    h0, h1 = _IV[0] ^ np.uint64(0x01010000 ^ SIZE), _IV[1]
    for p in range(len(given)):
        message[:] = first
        for i in range(length - prefix):
            message[prefix + i] = given[p, i]
        v0, v1, v2, v3, v4, v5, v6, v7 = h0, h1, _IV[2], _IV[3], _IV[4], _IV[5], _IV[6], _IV[7]
        v8, v9, v10, v11, v12, v13, v14, v15 = (
            _IV[0], _IV[1], _IV[2], _IV[3], _IV[4] ^ np.uint64(length), _IV[5], ~_IV[6], _IV[7],
        )  # fmt: skip
        for r in range(12):
            s = _SIGMA[r]
            v0, v4, v8, v12 = _mixed(v0, v4, v8, v12, m[s[0]], m[s[1]])
            v1, v5, v9, v13 = _mixed(v1, v5, v9, v13, m[s[2]], m[s[3]])
            v2, v6, v10, v14 = _mixed(v2, v6, v10, v14, m[s[4]], m[s[5]])
            v3, v7, v11, v15 = _mixed(v3, v7, v11, v15, m[s[6]], m[s[7]])
            v0, v5, v10, v15 = _mixed(v0, v5, v10, v15, m[s[8]], m[s[9]])
            v1, v6, v11, v12 = _mixed(v1, v6, v11, v12, m[s[10]], m[s[11]])
            v2, v7, v8, v13 = _mixed(v2, v7, v8, v13, m[s[12]], m[s[13]])
            v3, v4, v9, v14 = _mixed(v3, v4, v9, v14, m[s[14]], m[s[15]])
        out[p, 0] = h0 ^ v0 ^ v8
        out[p, 1] = h1 ^ v1 ^ v9


@cache
def _compiled() -> Any:
    given, length = numba.types.uint8, numba.types.int64
    return kept(_run, (given[::1], length, given[:, ::1], length, numba.types.uint64[:, ::1]))
