"""Inner products of many long rows with each other, in float64 (BLAS: syrk).

Five rows by five: with AVX-512 their 25 sums, five vectors and one more fill the registers. On other processors BLAS is
faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from .emit import Code, folded
from .lanes import INT, Vector

BLOCK = 5
"""Rows are a multiple of it."""
LENGTH = 384
"""Numbers of a row at once: the rows of a block stay in the first cache, and two hundred in the second."""


def _block(code: Code) -> None:
    """table, out, i, j, start, stop, stride, size: adds the inner products of the rows from i and those from j, from
    ``start`` to ``stop``, a multiple of a vector further, to those in ``out`` ``[size, size]``."""
    b, lanes = code.builder, code.lanes
    table, out = code.base(0), code.base(1)
    i, j, start, stop, stride, size = code.args[2:]
    sums = [[code.variable(lanes.number(0.0).value) for _ in range(BLOCK)] for _ in range(BLOCK)]
    left, right = ([code.at(table, b.mul(b.add(k, INT(r)), stride)) for r in range(BLOCK)] for k in (i, j))
    with code.loop(start, stop, lanes.lanes) as n:
        others = [code.vector(row, n) for row in right]
        for row, grown in zip(left, sums, strict=True):
            x = code.vector(row, n)
            for y, variable in zip(others, grown, strict=True):
                b.store(lanes.fma(x, y, Vector(lanes, b.load(variable))).value, variable)
    for r, grown in enumerate(sums):
        for c, variable in enumerate(grown):
            place = code.at(out, b.add(b.mul(b.add(i, INT(r)), size), b.add(j, INT(c))))
            b.store(b.fadd(b.load(place), folded(b, b.load(variable), b.fadd)), place)


def _inner(context: Any, table: Any, out: Any, i: Any, j: Any, start: Any, stop: Any, stride: Any, size: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _block(Code(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(table, out, *[types.int64] * 6), codegen


_inner_products: Any = intrinsic(_inner)


def _make_gram(fingerprint: str) -> Callable[..., None]:
    def gram(table: Any, rows: int, length: int, stride: int, out: Any) -> None:
        """Adds the inner products of rows, ``length`` numbers each, a multiple of 8, ``stride`` apart in ``table``, to
        ``out`` ``[rows, rows]``: those of a block with itself and with later ones."""
        fingerprint  # noqa: B018
        for start in range(0, length, LENGTH):
            stop = min(start + LENGTH, length)
            for i in range(0, rows, BLOCK):
                for j in range(i, rows, BLOCK):
                    _inner_products(table, out, i, j, start, stop, stride, rows)

    return gram


MAKERS = {"gram": _make_gram}
