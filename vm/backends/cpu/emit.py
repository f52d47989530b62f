"""Emits the machine's instructions: loops over the vectors of a tile, in float64 or float32.

Registers are places in ``scratch``, a flat array; operands are offsets into it. Behind every register there is room for
`PAD` numbers, so that a loop may run over the end of a tile by part of a vector; what it computes there is never read.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ....grammar.reference import FLOAT32_MAX
from . import functions as fn
from .kernels import KERNELS, flushed, in_range
from .lanes import DOUBLE, FLOAT, INT, Lanes, Processor, Value, Vector

PAD = 64
FLUSHES = platform.machine() in ("x86_64", "AMD64")
"""Whether the processor can be told to flush, see `flush_mode`."""
_FLUSH = 0x8040
"""The bits "flush to zero" and "denormals are zero" of MXCSR, Intel 64 and IA-32 Architectures Software Developer's
Manual, volume 1, 10.2.3."""
STEPS: tuple[str, ...] = tuple(KERNELS)
"""The elementwise instructions, by number."""
SUM, ABSOLUTES, SQUARES, PRODUCTS, DEVIATIONS, MIN, MAX, WIDE_SUM = range(8)
"""The totals of one tile: Σ x, Σ |x|, Σ x², Σ a b, Σ (x - s)², the smallest, the largest; NaN where an element is.
`WIDE_SUM` is Σ x to the last digit: deviations from a mean need it."""
SOFTMAX, LOG_SOFTMAX = range(2)
"""The instructions that know of every column its largest element and the sum of exp(x - largest)."""
LOWEST = -FLOAT32_MAX
"""The largest element of a column before the first: finite, so that no inf - inf arises."""

_PLACE: Any = cgutils.alloca_once
_FUNCTION: Any = cgutils.get_or_insert_function
_UNROLLED = 2
_AT_ONCE = 2
_SIDE_BY_SIDE = 8
"""Sums of vectors that grow independently: one alone would wait for itself at every addition."""
_SMALLEST_TOTAL, _LARGEST_TOTAL = 1e-26, 1e30
"""Between them a float32 total of a tile has lost nothing to float32's range: the terms that are 0 add up to less than
1e-34, and no sum on the way was infinite."""
_ZERO = ir.Constant(ir.DoubleType(), 0.0)


def has_avx512(context: Any) -> bool:
    """Whether the processor for which numba compiles has AVX-512."""
    return "+avx512f" in context.codegen().magic_tuple()[2]


class Code:
    """The code of one instruction on registers. ``args``: what the instruction was given, the scratch array first."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Sequence[Value]) -> None:
        self.builder = builder
        self.args = args
        double = signature.args[0].dtype == types.float64
        processor = Processor(FLUSHES and not double, has_avx512(context))
        self.lanes = Lanes(builder, DOUBLE if double else FLOAT, None, processor)
        self._context = context
        self._types = signature.args

    def base(self, index: int) -> Value:
        """The pointer to the numbers of an array argument."""
        array = self._context.make_array(self._types[index])
        return array(self._context, self.builder, self.args[index]).data

    def at(self, base: Value, *offsets: Value) -> Value:
        """The pointer so many numbers further."""
        for offset in offsets:
            base = self.builder.gep(base, [offset])
        return base

    def vector(self, base: Value, *offsets: Value) -> Vector:
        """The vector there."""
        return self.lanes.load(self.at(base, *offsets))

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int | Value = 1) -> Iterator[Value]:
        """The index from start, below stop."""
        stride = INT(step) if isinstance(step, int) else step
        with cgutils.for_range_slice(self.builder, start, stop, stride, INT) as (index, _):
            yield index

    def tail(self, n: Value, step: int) -> Value:
        """n rounded down to a multiple of a power of two."""
        return self.builder.and_(n, INT(-step))

    def variable(self, first: Value) -> Value:
        """A variable of the loops; the optimiser keeps it in a register."""
        allocate: Any = cgutils.alloca_once_value
        return allocate(self.builder, first)

    def switch(self, number: Value, cases: Sequence[Callable[[], None]]) -> None:
        """Runs the case of this number."""
        b = self.builder
        end = b.append_basic_block("end")
        switch = b.switch(number, end)
        for i, case in enumerate(cases):
            block = b.append_basic_block(f"case{i}")
            switch.add_case(INT(i), block)
            with b.goto_block(block):
                case()
                b.branch(end)
        b.position_at_end(end)


def flush_mode(builder: Any) -> Value:
    """Makes the processor flush what is below the smallest normal number to 0, operands and results, in this thread;
    the mode that it had, for `set_mode`. 0 where `FLUSHES` is not."""
    if not FLUSHES:
        return ir.IntType(32)(0)
    place = _PLACE(builder, ir.IntType(32))
    _mode(builder, "llvm.x86.sse.stmxcsr", place)
    before = builder.load(place)
    builder.store(builder.or_(before, ir.IntType(32)(_FLUSH)), place)
    _mode(builder, "llvm.x86.sse.ldmxcsr", place)
    return before


def set_mode(builder: Any, mode: Value) -> None:
    """Gives the thread back the mode that it had."""
    if FLUSHES:
        place = _PLACE(builder, ir.IntType(32))
        builder.store(mode, place)
        _mode(builder, "llvm.x86.sse.ldmxcsr", place)


def _mode(builder: Any, name: str, place: Value) -> None:
    kind = ir.IntType(8).as_pointer()
    function = _FUNCTION(builder.module, ir.FunctionType(ir.VoidType(), [kind]), name)
    builder.call(function, [builder.bitcast(place, kind)])


def step(code: Code) -> None:
    """scratch, number, d, a, b, s, t, n: one of `STEPS` on n numbers; d may be a or b."""
    scratch = code.base(0)
    number, d, a, b, s, t, n = code.args[1:]

    def case(name: str) -> Callable[[], None]:
        kernel = KERNELS[name]

        def emit() -> None:
            lanes = code.lanes
            with code.loop(INT(0), n, _AT_ONCE * lanes.lanes) as i:
                places = [code.builder.add(i, INT(u * lanes.lanes)) for u in range(_AT_ONCE)]
                results = []
                for place in places:
                    x = code.vector(scratch, a, place)
                    y = code.vector(scratch, b, place) if kernel.matrices == 2 else x
                    results.append(in_range(kernel.compute(x, y, s, t), kernel))
                for place, result in zip(places, results, strict=True):
                    lanes.store(result, code.at(scratch, d, place))

        return emit

    code.switch(number, [case(name) for name in STEPS])


def total(code: Code) -> Value:
    """scratch, kind, a, b, s, n: a total of n > 0 numbers, always added up in the same order.

    Numbers of float32 are added up in float32, of a tile; where this leaves the range, and deviations, in float64.
    """
    scratch = code.base(0)
    kind, a, b, s, n = code.args[1:]
    result = code.variable(_ZERO)
    wide = code.lanes.wide()
    deviation = wide.spread(s)

    def at(lanes: Lanes, term: Callable[[Vector, Vector], Vector], operands: int) -> Callable[[Value], Vector]:
        def vector(base: Value, place: Value) -> Vector:
            x = code.vector(scratch, base, place)
            return x if lanes is code.lanes else code.lanes.widened(x)

        return lambda place: term(vector(a, place), vector(b if operands == 2 else a, place))

    def wide_sums(term: Callable[[Vector, Vector], Vector], operands: int = 1) -> Callable[[], None]:
        return lambda: code.builder.store(_added(code, n, wide, at(wide, term, operands)), result)

    def sums(term: Callable[[Vector, Vector], Vector], operands: int = 1) -> Callable[[], None]:
        exact = wide_sums(term, operands)
        if code.lanes.double:
            return exact

        def emit() -> None:
            narrow = _added(code, n, code.lanes, at(code.lanes, term, operands))
            found = code.builder.fpext(narrow, ir.DoubleType())
            code.builder.store(found, result)
            size = code.builder.call(code.builder.module.declare_intrinsic("llvm.fabs", [ir.DoubleType()]), [found])
            large = code.builder.fcmp_unordered(">", size, ir.Constant(ir.DoubleType(), _LARGEST_TOTAL))
            small = code.builder.fcmp_ordered("<", size, ir.Constant(ir.DoubleType(), _SMALLEST_TOTAL))
            with code.builder.if_then(code.builder.or_(large, small), likely=False):
                exact()

        return emit

    def extreme(how: str) -> Callable[[], None]:
        return lambda: code.builder.store(_extreme(code, scratch, a, n, how), result)

    code.switch(
        kind,
        [
            sums(lambda x, _: x),
            sums(lambda x, _: abs(x)),
            sums(lambda x, _: x * x),
            sums(lambda x, y: x * y, 2),
            wide_sums(lambda x, _: (x - deviation) * (x - deviation)),
            extreme("<"),
            extreme(">"),
            wide_sums(lambda x, _: x),
        ],
    )
    return code.builder.load(result)


def _added(code: Code, n: Value, lanes: Lanes, term: Callable[[Value], Vector]) -> Value:
    """The sum of term(i), of these lanes, over all vectors below n."""
    b, count = code.builder, code.lanes.lanes
    side = [code.variable(lanes.number(0.0).value) for _ in range(_SIDE_BY_SIDE)]
    block = _SIDE_BY_SIDE * count
    whole = code.tail(n, block)

    def grow(variable: Value, x: Vector) -> None:
        b.store((Vector(lanes, b.load(variable)) + x).value, variable)

    with code.loop(INT(0), whole, block) as i:
        for u, variable in enumerate(side):
            grow(variable, term(b.add(i, INT(u * count))))
    with code.loop(whole, n, count) as i:
        grow(side[0], lanes.select(lanes.first(b.sub(n, i)), term(i), 0.0))
    parts = [b.load(v) for v in side]
    while len(parts) > 1:
        parts = [b.fadd(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return _folded(b, parts[0], b.fadd)


def _extreme(code: Code, scratch: Value, a: Value, n: Value, how: str) -> Value:
    """The smallest or largest of n numbers, NaN if one is."""
    b, lanes = code.builder, code.lanes
    first = lanes.filled(b.load(code.at(scratch, a)))
    none = ir.Constant(ir.VectorType(ir.IntType(1), lanes.lanes), None)
    side = [(code.variable(first.value), code.variable(none)) for _ in range(_UNROLLED)]
    whole = code.tail(n, _UNROLLED * lanes.lanes)

    def take_in(x: Vector, best: Value, wrong: Value) -> None:
        old = b.load(best)
        b.store(b.select(b.fcmp_ordered(how, x.value, old), x.value, old), best)
        b.store(b.or_(b.load(wrong), lanes.nan(x)), wrong)

    with code.loop(INT(0), whole, _UNROLLED * lanes.lanes) as i:
        for u, variables in enumerate(side):
            take_in(code.vector(scratch, a, b.add(i, INT(u * lanes.lanes))), *variables)
    with code.loop(whole, n, lanes.lanes) as i:
        take_in(lanes.select(lanes.first(b.sub(n, i)), code.vector(scratch, a, i), first), *side[0])
    found = [lanes.select(b.load(wrong), math.nan, Vector(lanes, b.load(best))).value for best, wrong in side]

    def better(x: Value, y: Value) -> Value:
        return b.select(b.or_(b.fcmp_ordered(how, x, y), b.fcmp_unordered("uno", x, x)), x, y)

    value = better(*(_folded(b, x, better) for x in found))
    value = b.fadd(value, ir.Constant(lanes.form.element, 0.0))  # no -0
    return value if lanes.double else b.fpext(value, ir.DoubleType())


def _folded(builder: Any, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
    """The lanes joined pairwise: the first half with the second, and so on."""
    count = vector.type.count
    parts = [builder.extract_element(vector, ir.IntType(32)(i)) for i in range(count)]
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [join(x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
    return parts[0]


def take(code: Code) -> None:
    """scratch, d, address, n: n float32 numbers of a segment, what is below the smallest normal number as 0."""
    b, lanes, scratch = code.builder, code.lanes, code.base(0)
    d, address, n = code.args[1:]
    source = b.inttoptr(address, ir.FloatType().as_pointer())
    narrow = Lanes(b, FLOAT, lanes.lanes)

    def clean(x: Vector) -> Vector:
        if not lanes.double:  # exp needs the low bits of a NaN to be 0, as they are in float64
            x = x.lanes.select(x.lanes.nan(x), math.nan, x)
        return flushed(x)

    def moved(x: Value) -> Value:
        return b.fpext(x, lanes.type) if lanes.double else x

    whole = code.tail(n, lanes.lanes)
    with code.loop(INT(0), whole, lanes.lanes) as i:
        lanes.store(Vector(lanes, moved(clean(narrow.load(code.at(source, i))).value)), code.at(scratch, d, i))
    one = Lanes(b, FLOAT, 1)
    with code.loop(whole, n) as i:
        x = clean(one.filled(b.load(code.at(source, i))))
        scalar = b.extract_element(x.value, ir.IntType(32)(0))
        b.store(b.fpext(scalar, ir.DoubleType()) if lanes.double else scalar, code.at(scratch, d, i))


def copy_in(code: Code) -> None:
    """scratch, d, address, n: n numbers of the machine's own format."""
    source = code.builder.inttoptr(code.args[2], code.lanes.form.element.as_pointer())
    _copied(code, source, code.at(code.base(0), code.args[1]))


def copy_out(code: Code) -> None:
    """scratch, a, address, n: n numbers to memory, and not one more; -0 as 0."""
    target = code.builder.inttoptr(code.args[2], code.lanes.form.element.as_pointer())
    _copied(code, code.at(code.base(0), code.args[1]), target)


def _copied(code: Code, source: Value, target: Value) -> None:
    n, lanes, b = code.args[3], code.lanes, code.builder
    whole = code.tail(n, lanes.lanes)
    with code.loop(INT(0), whole, lanes.lanes) as i:
        lanes.store(code.vector(source, i) + 0.0, code.at(target, i))
    with code.loop(whole, n) as i:
        one = b.fadd(b.load(code.at(source, i)), ir.Constant(lanes.form.element, 0.0))
        b.store(one, code.at(target, i))


def column_statistics(code: Code) -> None:
    """scratch, a, rows, width, largest, sums, place: takes a tile of whole rows into the columns' statistics.

    ``largest`` and ``sums`` [place + column]: the largest element x, and the sum of exp(element - x); there is room for
    a vector more than the tile is wide.
    """
    b, lanes, scratch = code.builder, code.lanes, code.base(0)
    a, rows, width = code.args[1:4]
    largest, sums, place = code.base(4), code.base(5), code.args[6]
    end = b.mul(rows, width)
    with code.loop(INT(0), width, lanes.lanes) as j:
        here = b.add(place, j)
        before = code.vector(largest, here)
        best = code.variable(before.value)
        with code.loop(j, end, width) as i:
            x = code.vector(scratch, a, i)
            old = Vector(lanes, b.load(best))
            b.store(lanes.select(x > old, x, old).value, best)
        now = Vector(lanes, b.load(best))
        grown = code.variable((code.vector(sums, here) * fn.exp_below(before - now)).value)
        with code.loop(j, end, width) as i:
            e = fn.exp_below(code.vector(scratch, a, i) - now)
            b.store((Vector(lanes, b.load(grown)) + e).value, grown)
        lanes.store(now, code.at(largest, here))
        lanes.store(Vector(lanes, b.load(grown)), code.at(sums, here))


def column_step(code: Code) -> None:
    """scratch, kind, d, a, rows, width, largest, factors, place: `SOFTMAX` or `LOG_SOFTMAX` of a tile of whole rows.

    ``factors`` [place + column]: 1/sum for the one, ln(sum) for the other. Rows are written in order and each may run
    over its end, into the next: d may not be a.
    """
    b, lanes, scratch = code.builder, code.lanes, code.base(0)
    kind, d, a, rows, width = code.args[1:6]
    largest, factors, place = code.base(6), code.base(7), code.args[8]
    end = b.mul(rows, width)

    def case(compute: Callable[[Vector, Vector], Vector]) -> Callable[[], None]:
        def emit() -> None:
            with code.loop(INT(0), end, width) as row, code.loop(INT(0), width, lanes.lanes) as j:
                i, here = b.add(row, j), b.add(place, j)
                x = code.vector(scratch, a, i) - code.vector(largest, here)
                lanes.store(flushed(compute(x, code.vector(factors, here))), code.at(scratch, d, i))

        return emit

    code.switch(kind, [case(lambda x, f: fn.exp_below(x) * f), case(lambda x, f: x - f)])


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
        b.store(b.fadd(b.load(here), _added(code, width, code.lanes.wide(), term)), here)
