"""The machine's instructions on whole rows of a tile: statistics of columns, sums of columns and of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import functions as fn
from .emit import AT_ONCE, LINE, Code, added
from .kernels import flushed, limited
from .lanes import INT, Value, Vector

SHIFTED, MODERATE = range(2)
"""How the exponentials of a column are added up: as exp(element - the largest so far), or, where no element is beyond
`MODERATES`, as they are, which saves an exponential wherever the largest is another one, and where jobs are joined."""
MODERATES = 4.0
"""Columns of so small elements lose no digits: no element is nothing beside another one."""


def column_statistics(code: Code) -> None:
    """scratch, kind, a, rows, width, largest, sums, place, ahead: takes a tile of whole rows into the statistics of
    columns.

    ``largest`` and ``sums`` [place + column]: the largest element x, and the sum of exp(element - x) where the kind is
    `SHIFTED`, of exp(element) where it is `MODERATE`; there is room for a vector more than the tile is wide.
    ``ahead`` as in `emit.step`.
    """
    b, lanes, scratch = code.builder, code.lanes, code.base(0)
    kind, a, rows, width = code.args[1:5]
    largest, sums, place = code.base(5), code.base(6), code.args[7]
    ahead = code.known(code.args[8], scratch, a)
    end = b.mul(rows, width)

    def grow(variable: Value, x: Vector) -> None:
        b.store((Vector(lanes, b.load(variable)) + x).value, variable)

    def larger(variable: Value, x: Vector) -> None:
        old = Vector(lanes, b.load(variable))
        b.store(lanes.select(x > old, x, old).value, variable)

    def shifted() -> None:
        with code.loop(INT(0), width, lanes.lanes) as j:
            here = b.add(place, j)
            before = code.vector(largest, here)
            best, grown = code.variable(before.value), code.variable(code.vector(sums, here).value)
            with code.loop(j, end, width) as i:
                larger(best, code.vector(scratch, a, i))
            now = Vector(lanes, b.load(best))
            with b.if_then(lanes.any(now > before)):
                b.store((Vector(lanes, b.load(grown)) * fn.exp_below(before - now)).value, grown)
            with code.loop(j, end, width) as i:
                code.fetch(ahead, i, 1)
                grow(grown, fn.exp_below(code.vector(scratch, a, i) - now))
            lanes.store(now, code.at(largest, here))
            lanes.store(Vector(lanes, b.load(grown)), code.at(sums, here))

    def moderate() -> None:
        with code.loop(INT(0), width, lanes.lanes) as j:
            here = b.add(place, j)
            best, grown = (code.variable(code.vector(table, here).value) for table in (largest, sums))
            with code.loop(j, end, width) as i:
                code.fetch(ahead, i, 1)
                x = code.vector(scratch, a, i)
                larger(best, x)
                grow(grown, fn.exp_normal(x))
            lanes.store(Vector(lanes, b.load(best)), code.at(largest, here))
            lanes.store(Vector(lanes, b.load(grown)), code.at(sums, here))

    def of_one_row(sum_with: Callable[[Vector, Vector, Vector], Vector]) -> Callable[[], None]:
        """The same digits, where a tile is one row: there is nothing to add up before the tables are."""

        def at(j: Value) -> tuple[tuple[Vector, Value], tuple[Vector, Value]]:
            here = b.add(place, j)
            x, high, total = code.vector(scratch, a, j), code.vector(largest, here), code.vector(sums, here)
            more = sum_with(x, high, total)
            return (lanes.select(x > high, x, high), code.at(largest, here)), (more, code.at(sums, here))

        return lambda: _side_by_side(code, width, ahead, at)

    def with_shifted(x: Vector, high: Vector, total: Vector) -> Vector:
        apart = x - high
        e = fn.exp_below(0.0 - abs(apart))
        return lanes.select(apart > 0.0, total * e + 1.0, total + e)

    one_row = b.icmp_signed("==", rows, INT(1))
    with b.if_else(one_row) as (then, otherwise):
        with then:
            code.switch(kind, [of_one_row(with_shifted), of_one_row(lambda x, _, total: total + fn.exp_normal(x))])
        with otherwise:
            code.switch(kind, [shifted, moderate])


def _side_by_side(
    code: Code, width: Value, ahead: Value | None, computed: Callable[[Value], Iterable[tuple[Vector, Value]]]
) -> None:
    """Computes and stores (vector, pointer) for all vectors of a row, some at once: they need not wait for each other.
    ``ahead`` as in `emit.step`."""
    b, lanes = code.builder, code.lanes
    most = code.tail(width, AT_ONCE * lanes.lanes)

    def store(results: Iterable[tuple[Vector, Value]]) -> None:
        for result, pointer in results:
            lanes.store(result, pointer)

    with code.loop(INT(0), most, AT_ONCE * lanes.lanes) as j:
        if ahead is not None:
            code.fetch(ahead, j, AT_ONCE * lanes.lanes // LINE)
        store([r for u in range(AT_ONCE) for r in computed(b.add(j, INT(u * lanes.lanes)))])
    with code.loop(most, width, lanes.lanes) as j:
        store(computed(j))


def column_step(code: Code) -> None:
    """scratch, kind, d, a, rows, width, largest, factors, place, ahead: `SOFTMAX` or `LOG_SOFTMAX` of a tile of whole
    rows.

    ``factors`` [place + column]: 1/sum for the one, ln(sum) for the other. Rows are written in order and each may run
    over its end, into the next: d may not be a.
    ``ahead`` as in `emit.step`, of `SOFTMAX`.
    """
    b, scratch = code.builder, code.base(0)
    kind, d, a, rows, width = code.args[1:6]
    largest, factors, place = code.base(6), code.base(7), code.args[8]
    ahead = code.known(code.args[9], scratch, a)
    end = b.mul(rows, width)

    def case(compute: Callable[[Vector, Vector], Vector], fetches: bool) -> Callable[[], None]:
        def emit() -> None:
            with code.loop(INT(0), end, width) as row:

                def at(j: Value) -> list[tuple[Vector, Value]]:
                    i, here = b.add(row, j), b.add(place, j)
                    x = code.vector(scratch, a, i) - code.vector(largest, here)
                    return [(flushed(compute(x, code.vector(factors, here))), code.at(scratch, d, i))]

                _side_by_side(code, width, b.add(ahead, b.mul(row, INT(4))) if fetches else None, at)

        return emit

    code.switch(kind, [case(lambda x, f: fn.exp_below(x) * f, True), case(lambda x, f: limited(x - f), False)])


def column_sums(code: Code) -> None:
    """scratch, a, rows, width, sums, place: adds each column of a tile to float64 sums[place + column]."""
    b, lanes, wide, scratch = code.builder, code.lanes, code.lanes.wide(), code.base(0)
    a, rows, width = code.args[1:4]
    sums, place = code.base(4), code.args[5]
    end = b.mul(rows, width)
    with code.loop(INT(0), width, lanes.lanes) as j:
        here = code.at(sums, place, j)
        grown = code.variable(wide.load(here).value)
        with code.loop(j, end, width) as i:
            x = lanes.widened(code.vector(scratch, a, i))
            b.store((Vector(wide, b.load(grown)) + x).value, grown)
        wide.store(Vector(wide, b.load(grown)), here)


def row_sums(code: Code) -> None:
    """scratch, a, rows, width, sums, place: adds each row of a tile to float64 sums[place + row]."""
    b, scratch = code.builder, code.base(0)
    a, rows, width = code.args[1:4]
    sums, place = code.base(4), code.args[5]
    with code.loop(INT(0), rows) as row:
        start = b.add(a, b.mul(row, width))

        def term(i: Value, start: Value = start) -> Vector:
            return code.lanes.widened(code.vector(scratch, start, i))

        here = code.at(sums, place, row)
        b.store(b.fadd(b.load(here), added(code, width, code.lanes.wide(), term)), here)
