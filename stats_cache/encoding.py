"""How the elements of a segment are kept in a file: float32 as they are, or rounded to 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOP = 15
"""float16 holds numbers below 2^16: the largest element of a segment is scaled to lie from 2^14 to 2^15."""


def encode(segment: NDArray[np.float32], storage: str) -> tuple[NDArray[Any], int]:
    """The elements as they are kept, and the exponent e: a kept number times 2^e is the element.

    ``float16`` is scaled by a power of two for each segment, because the gradients of a network lie below its smallest
    number (6e-8); e is 0 for the others. Both 16-bit types round to the nearest, ties to even.
    """
    if storage == "float32":
        return segment, 0
    if storage == "bfloat16":
        bits = np.ascontiguousarray(segment).view(np.uint32)
        rounded = ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype(np.uint16)
        return np.where(np.isnan(segment), np.uint16(0x7FC0), rounded), 0
    finite = np.abs(segment[np.isfinite(segment)])
    largest = float(finite.max()) if finite.size else 0.0
    exponent = int(np.frexp(largest)[1]) - _TOP if largest else 0
    return np.ldexp(segment.astype(np.float64), -exponent).astype(np.float16), exponent


def decode(kept: NDArray[Any], storage: str, exponent: int) -> NDArray[np.float32]:
    """The elements as float32, exactly; float32 is returned as it is, without a copy."""
    if storage == "float32":
        return kept
    if storage == "bfloat16":
        return (kept.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.ldexp(kept.astype(np.float32), exponent)
