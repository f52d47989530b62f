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
from .kernels import KERNELS, in_range
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
MEAN = 8
"""Two totals of many tiles: the mean, and beside it the sum of squared deviations."""
ROUNDED = 1e-13
"""No mean of a tile is so far from what it would be without rounding, relative to the elements if they are equal."""
SOFTMAX, LOG_SOFTMAX = range(2)
"""The instructions that know of every column its largest element and the sum of exp(x - largest)."""
LOWEST = -FLOAT32_MAX
"""The largest element of a column before the first: finite, so that no inf - inf arises."""

_PLACE: Any = cgutils.alloca_once
_FUNCTION: Any = cgutils.get_or_insert_function
_UNROLLED = 4
AT_ONCE = 4
"""Vectors in one turn of a loop."""
_SIDE_BY_SIDE = 4
"""Sums of vectors that grow independently: one alone would wait for itself at every addition."""
SMALLEST_TOTAL, LARGEST_TOTAL = 1e-26, 1e30
"""Between them a float32 total of a tile has lost nothing to float32's range: the terms that are 0 add up to less than
1e-34, and no sum on the way was infinite."""
SUMMED: tuple[str, ...] = ("exp.m", "abslog.m", "sqrt.m", "inv.m", "sigmoid.m", "tanh.m", "mish.m", "relu.m")
"""The elementwise instructions whose results can be added up without being stored, by number."""
HEAVY = ("sqrt.m", "inv.m", "exp.m", "log.m", "abslog.m", "sigmoid.m", "tanh.m", "mish.m", "div.mm", "div.ms", "div.sm")
"""The elementwise instructions that leave the memory time to bring what is taken next."""
LINE = 16
"""Numbers of float32 in a line of the cache."""
_ZERO, _NAN = (ir.Constant(ir.DoubleType(), x) for x in (0.0, math.nan))


def has_avx512(context: Any) -> bool:
    """Whether the processor for which numba compiles has AVX-512."""
    return "+avx512f" in context.codegen().magic_tuple()[2]


def divides(context: Any) -> bool:
    """Whether the processor for which numba compiles is quick at dividing vectors of AVX-512: AMD's take 3 to 5 cycles
    where Intel's take 10 (float32) and 16 (float64)."""
    return str(context.codegen().magic_tuple()[1]).startswith("znver")


class Code:
    """The code of one instruction on registers. ``args``: what the instruction was given, the scratch array first."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Sequence[Value]) -> None:
        self.builder = builder
        self.args = args
        double = signature.args[0].dtype == types.float64
        self.flushes = FLUSHES
        avx512 = has_avx512(context)
        processor = Processor(FLUSHES and not double, avx512, avx512 and divides(context))
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

    def fetch(self, address: Value, start: Value, lines: int) -> None:
        """Asks for so many lines of float32 numbers, ``start`` numbers behind the address, before they are needed; what
        is not mapped does no harm."""
        b, kind = self.builder, ir.IntType(32)
        byte = ir.IntType(8).as_pointer()
        prefetch = _FUNCTION(b.module, ir.FunctionType(ir.VoidType(), [byte, kind, kind, kind]), "llvm.prefetch.p0i8")
        for line in range(lines):
            place = b.add(address, b.mul(b.add(start, INT(line * LINE)), INT(4)))
            b.call(prefetch, [b.inttoptr(place, byte), kind(0), kind(2), kind(1)])

    def known(self, ahead: Value, scratch: Value, a: Value) -> Value:
        """The address to `fetch` from; of an operand, which is at hand, where it is 0."""
        b = self.builder
        return b.select(b.icmp_signed("==", ahead, INT(0)), b.ptrtoint(self.at(scratch, a), INT), ahead)

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
    """scratch, number, d, a, b, s, t, n, ahead: one of `STEPS` on n numbers; d may be a or b. If it is one of `HEAVY`,
    what lies at the address ``ahead``, n numbers of float32, is asked for beside; 0: nothing."""
    scratch = code.base(0)
    number, d, a, b, s, t, n, ahead = code.args[1:]
    ahead = code.known(ahead, scratch, a)

    def case(name: str) -> Callable[[], None]:
        kernel = KERNELS[name]

        def emit() -> None:
            lanes = code.lanes
            with code.loop(INT(0), n, AT_ONCE * lanes.lanes) as i:
                places = [code.builder.add(i, INT(u * lanes.lanes)) for u in range(AT_ONCE)]
                if name in HEAVY:
                    code.fetch(ahead, i, AT_ONCE * lanes.lanes // LINE)
                results = []
                for place in places:
                    x = code.vector(scratch, a, place)
                    y = code.vector(scratch, b, place) if kernel.matrices == 2 else x
                    results.append(in_range(kernel.compute(x, y, s, t), kernel))
                for place, result in zip(places, results, strict=True):
                    lanes.store(result, code.at(scratch, d, place))

        return emit

    code.switch(number, [case(name) for name in STEPS])


def step_sum(code: Code) -> Value:
    """scratch, number, a, n, ahead: the sum of the results of one of `SUMMED` on n > 0 numbers, in the order and the
    format in which `total` first adds them up; ``ahead`` as in `step`."""
    scratch = code.base(0)
    number, a, n, ahead = code.args[1:]
    ahead = code.known(ahead, scratch, a)
    result = code.variable(_ZERO)

    def case(name: str) -> Callable[[], None]:
        kernel = KERNELS[name]

        def term(place: Value) -> Vector:
            x = code.vector(scratch, a, place)
            return in_range(kernel.compute(x, x, _ZERO, _ZERO), kernel)

        def emit() -> None:
            found = added(code, n, code.lanes, term, ahead if name in HEAVY else None)
            code.builder.store(found if code.lanes.double else code.builder.fpext(found, ir.DoubleType()), result)

        return emit

    code.switch(number, [case(name) for name in SUMMED])
    return code.builder.load(result)


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
        return lambda: code.builder.store(added(code, n, wide, at(wide, term, operands)), result)

    def sums(term: Callable[[Vector, Vector], Vector], operands: int = 1) -> Callable[[], None]:
        exact = wide_sums(term, operands)
        if code.lanes.double:
            return exact

        def emit() -> None:
            narrow = added(code, n, code.lanes, at(code.lanes, term, operands))
            found = code.builder.fpext(narrow, ir.DoubleType())
            code.builder.store(found, result)
            size = code.builder.call(code.builder.module.declare_intrinsic("llvm.fabs", [ir.DoubleType()]), [found])
            large = code.builder.fcmp_unordered(">", size, ir.Constant(ir.DoubleType(), LARGEST_TOTAL))
            small = code.builder.fcmp_ordered("<", size, ir.Constant(ir.DoubleType(), SMALLEST_TOTAL))
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


def added(code: Code, n: Value, lanes: Lanes, term: Callable[[Value], Vector], ahead: Value | None = None) -> Value:
    """The sum of term(i), of these lanes, over all vectors below n; ``ahead`` as in `step`."""
    b, count = code.builder, code.lanes.lanes
    side = [code.variable(lanes.number(0.0).value) for _ in range(_SIDE_BY_SIDE)]
    block = _SIDE_BY_SIDE * count
    whole = code.tail(n, block)

    def grow(variable: Value, x: Vector) -> None:
        b.store((Vector(lanes, b.load(variable)) + x).value, variable)

    with code.loop(INT(0), whole, block) as i:
        if ahead is not None:
            code.fetch(ahead, i, block // LINE)
        for u, variable in enumerate(side):
            grow(variable, term(b.add(i, INT(u * count))))
    with code.loop(whole, n, count) as i:
        grow(side[0], lanes.select(lanes.first(b.sub(n, i)), term(i), 0.0))
    parts = [b.load(v) for v in side]
    while len(parts) > 1:
        parts = [b.fadd(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return folded(b, parts[0], b.fadd)


def _extreme(code: Code, scratch: Value, a: Value, n: Value, how: str) -> Value:
    """The smallest or largest of n numbers, NaN if one is.

    Beside it their sum grows: where that is no NaN, no element is, and no comparison has to look for one.
    """
    b, lanes = code.builder, code.lanes
    first = lanes.filled(b.load(code.at(scratch, a)))
    side = [(code.variable(first.value), code.variable(lanes.number(0.0).value)) for _ in range(_UNROLLED)]
    whole = code.tail(n, _UNROLLED * lanes.lanes)

    def take_in(x: Vector, best: Value, grown: Value) -> None:
        old = b.load(best)
        b.store(b.select(b.fcmp_ordered(how, x.value, old), x.value, old), best)
        b.store(b.fadd(b.load(grown), x.value), grown)

    with code.loop(INT(0), whole, _UNROLLED * lanes.lanes) as i:
        for u, variables in enumerate(side):
            take_in(code.vector(scratch, a, b.add(i, INT(u * lanes.lanes))), *variables)
    with code.loop(whole, n, lanes.lanes) as i:
        take_in(lanes.select(lanes.first(b.sub(n, i)), code.vector(scratch, a, i), first), *side[0])

    def better(x: Value, y: Value) -> Value:
        return b.select(b.fcmp_ordered(how, x, y), x, y)

    def joined(variables: Sequence[Value], join: Callable[[Value, Value], Value]) -> Value:
        parts = [b.load(v) for v in variables]
        while len(parts) > 1:
            parts = [join(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        return folded(b, parts[0], join)

    value = b.fadd(joined([v for v, _ in side], better), ir.Constant(lanes.form.element, 0.0))  # no -0
    result = code.variable(value if lanes.double else b.fpext(value, ir.DoubleType()))
    grown = joined([v for _, v in side], b.fadd)
    with b.if_then(b.fcmp_unordered("uno", grown, grown), likely=False), code.loop(INT(0), n, lanes.lanes) as i:
        x = lanes.select(lanes.first(b.sub(n, i)), code.vector(scratch, a, i), first)
        with b.if_then(lanes.any(lanes.nan(x))):  # and not inf - inf
            b.store(_NAN, result)
    return b.load(result)


def folded(builder: Any, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
    """The lanes joined pairwise: the first half with the second, and so on."""
    count = vector.type.count
    parts = [builder.extract_element(vector, ir.IntType(32)(i)) for i in range(count)]
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [join(x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
    return parts[0]
