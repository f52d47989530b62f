"""Canonical hashes of many programs at once: BLAKE2b (RFC 7693) of 16 bytes, for messages of one block."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

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
    np.int64,
)  # fmt: skip
_MIXED = np.array(
    [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
     [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]],
    np.int64,
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


@cache
def _compiled() -> Any:
    iv, sigma, mixed = _IV, _SIGMA, _MIXED

    def run(first: Any, prefix: int, given: Any, length: int, out: Any) -> None:
        message = np.empty(BLOCK, np.uint8)
        m = message.view(np.uint64)
        v = np.empty(16, np.uint64)
        for p in range(len(given)):
            message[:] = first
            for i in range(length - prefix):
                message[prefix + i] = given[p, i]
            for i in range(8):
                v[i] = v[i + 8] = iv[i]
            v[0] ^= np.uint64(0x01010000 ^ SIZE)
            h0, h1 = v[0], v[1]
            v[12] ^= np.uint64(length)
            v[14] = ~v[14]
            for r in range(12):
                for g in range(8):
                    a, b, c, d = mixed[g, 0], mixed[g, 1], mixed[g, 2], mixed[g, 3]
                    v[a] = v[a] + v[b] + m[sigma[r, 2 * g]]
                    t = v[d] ^ v[a]
                    v[d] = (t >> np.uint64(32)) | (t << np.uint64(32))
                    v[c] = v[c] + v[d]
                    t = v[b] ^ v[c]
                    v[b] = (t >> np.uint64(24)) | (t << np.uint64(40))
                    v[a] = v[a] + v[b] + m[sigma[r, 2 * g + 1]]
                    t = v[d] ^ v[a]
                    v[d] = (t >> np.uint64(16)) | (t << np.uint64(48))
                    v[c] = v[c] + v[d]
                    t = v[b] ^ v[c]
                    v[b] = (t >> np.uint64(63)) | (t << np.uint64(1))
            out[p, 0] = h0 ^ v[0] ^ v[8]
            out[p, 1] = h1 ^ v[1] ^ v[9]

    return numba.njit(nogil=True)(run)
