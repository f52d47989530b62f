"""How targets order networks, as bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Words = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Order:
    """Parts of A networks and how targets order them, as bits: W words of 64 networks.

    ``member``: bool ``[parts, A]``. ``above``, ``below`` ``[parts, targets, A W]``: of each network the others of
    the part that it is above, or below, in a target. ``measured`` ``[parts, masks, A W]``: those where both are
    measured; ``mask``: of each target. ``untied`` ``[parts, targets]``: pairs that differ in the target.
    """

    member: NDArray[np.bool_]
    above: Words
    below: Words
    measured: Words
    mask: tuple[int, ...]
    untied: NDArray[np.int64]

    @staticmethod
    def of(targets: Sequence[Array], parts: Sequence[Sequence[int]]) -> Order:
        """``targets``: ``[A]`` each, NaN = not measured. ``parts``: indices of networks."""
        values = np.stack(targets)
        count = values.shape[1]
        member = np.zeros((len(parts), count), np.bool_)
        for row, part in zip(member, parts, strict=True):
            row[list(part)] = True
        known = ~np.isnan(values)
        masks: dict[bytes, int] = {}
        mask = tuple(masks.setdefault(row.tobytes(), len(masks)) for row in known)
        both = member[:, :, None] & member[:, None, :]
        above = values[:, :, None] > values[:, None, :]
        below = values[:, :, None] < values[:, None, :]
        firsts = known[[mask.index(m) for m in range(len(masks))]]
        together = firsts[:, :, None] & firsts[:, None, :]
        higher = both[:, None] & above[None]
        return Order(
            member,
            _packed(higher),
            _packed(both[:, None] & below[None]),
            _packed(both[:, None] & together[None]),
            mask,
            higher.sum(axis=(2, 3)),
        )


def _packed(bits: NDArray[np.bool_]) -> Words:
    """``[.., A, A]`` -> ``[.., A W]``, network j of a row bit j % 64 of its word j // 64."""
    pad = -bits.shape[-1] % 64
    padded = np.concatenate([bits, np.zeros((*bits.shape[:-1], pad), np.bool_)], axis=-1)
    words = np.packbits(padded, axis=-1, bitorder="little").view("<u8")
    return np.ascontiguousarray(words.reshape(*bits.shape[:-2], -1))
