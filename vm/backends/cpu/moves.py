"""The machine's instructions between memory and registers."""

from __future__ import annotations

import math

from llvmlite import ir

from .emit import AT_ONCE, LINE, Code
from .kernels import flushed
from .lanes import FLOAT, INT, Lanes, Processor, Value, Vector


def take(code: Code) -> None:
    """scratch, d, address, n, ahead: n float32 numbers of a segment, what is below the smallest normal number as 0;
    ``ahead`` as in `emit.step`."""
    b, lanes, scratch = code.builder, code.lanes, code.base(0)
    d, address, n, ahead = code.args[1:]
    ahead = code.known(ahead, scratch, d)
    source = b.inttoptr(address, ir.FloatType().as_pointer())
    converts = Processor(flushes=code.flushes and lanes.double)  # a conversion flushes, a mere move does not
    narrow = Lanes(b, FLOAT, lanes.lanes, converts)

    def clean(x: Vector) -> Vector:
        if not lanes.double:  # exp needs the low bits of a NaN to be 0, as they are in float64
            x = x.lanes.select(x.lanes.nan(x), math.nan, x)
        return flushed(x)

    def moved(x: Value) -> Value:
        return b.fpext(x, lanes.type) if lanes.double else x

    def vector(i: Value) -> None:
        lanes.store(Vector(lanes, moved(clean(narrow.load(code.at(source, i))).value)), code.at(scratch, d, i))

    most, whole = code.tail(n, AT_ONCE * lanes.lanes), code.tail(n, lanes.lanes)
    with code.loop(INT(0), most, AT_ONCE * lanes.lanes) as i:
        code.fetch(ahead, i, AT_ONCE * lanes.lanes // LINE)
        for u in range(AT_ONCE):
            vector(b.add(i, INT(u * lanes.lanes)))
    with code.loop(most, whole, lanes.lanes) as i:
        vector(i)
    one = Lanes(b, FLOAT, 1, converts)
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
