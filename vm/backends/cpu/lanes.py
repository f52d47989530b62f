"""Vector code for any processor: a few operators that emit LLVM instructions on vectors of one register's width.

LLVM splits the vectors where the processor's are shorter, so the same code runs everywhere. What `Processor` says that
it has may be used beside it. The arithmetic is IEEE, in the order written; a product may be fused with the addition
after it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

Value = Any
"""An ``llvmlite.ir.Value``."""
INT = ir.IntType(64)


@dataclass(frozen=True)
class Format:
    """A floating point format. ``mantissa``: stored bits, ``lanes``: numbers in one vector (512 bits)."""

    element: Any
    integer: Any
    mantissa: int
    lanes: int

    @property
    def suffix(self) -> str:
        """As LLVM names its functions."""
        return f"f{self.bytes * 8}"

    @property
    def bytes(self) -> int:
        """Bytes of one number."""
        return 4 if self.mantissa == 23 else 8

    @property
    def magic(self) -> float:
        """A number so large that adding it rounds to a whole number, which then stands in the low bits."""
        return 1.5 * 2.0**self.mantissa

    def bits(self, value: float) -> int:
        """The bits of a number."""
        if self.bytes == 4:
            return int(struct.unpack("<i", struct.pack("<f", value))[0])
        return int(struct.unpack("<q", struct.pack("<d", value))[0])


FLOAT = Format(ir.FloatType(), ir.IntType(32), 23, 16)
DOUBLE = Format(ir.DoubleType(), ir.IntType(64), 52, 8)


@dataclass(frozen=True)
class Processor:
    """What code for any processor does without. ``flushes``: it makes 0 of what is below the smallest normal number of
    the format by itself. ``avx512``: it has the instructions of AVX-512F (Intel 64 and IA-32 Architectures Software
    Developer's Manual, volume 2), on whole vectors; ``divides``: their division takes no longer than its estimate and
    the steps of Newton's method."""

    flushes: bool = False
    avx512: bool = False
    divides: bool = False


ANY = Processor()
KINDS = ("nan", "signalling nan", "zero", "one", "-inf", "inf", "negative", "positive")
"""The kinds of number that VFIXUPIMM tells apart, by its numbers."""
INSTEAD = ("value", "x", "quiet x", "nan", "-inf", "inf", "inf of the sign of x", "-0", "0")
"""What it can give instead of a value, by its numbers."""


class Lanes:
    """Emits instructions on vectors of ``lanes`` numbers of a format, at the builder's place."""

    def __init__(self, builder: Any, form: Format, lanes: int | None = None, processor: Processor = ANY) -> None:
        self.builder = builder
        self.processor = processor
        self.form = form
        self.lanes = form.lanes if lanes is None else lanes
        self.type = ir.VectorType(form.element, self.lanes)
        self.integers = ir.VectorType(form.integer, self.lanes)

    @property
    def double(self) -> bool:
        """Whether the numbers are float64."""
        return self.form is DOUBLE

    def number(self, value: float) -> Vector:
        """The same number in all lanes."""
        return Vector(self, self._constant([value] * self.lanes))

    def _constant(self, values: Sequence[float]) -> Value:
        if self.form is FLOAT:
            values = [struct.unpack("<f", struct.pack("<f", x))[0] if math.isfinite(x) else x for x in values]
        return ir.Constant(self.type, [ir.Constant(self.form.element, x) for x in values])

    def integer(self, value: int) -> Value:
        """The same integer in all lanes."""
        return ir.Constant(self.integers, [ir.Constant(self.form.integer, value)] * self.lanes)

    def spread(self, scalar: Value) -> Vector:
        """A float64 of the surrounding code in all lanes, rounded to the format."""
        return self.filled(scalar if self.double else self.builder.fptrunc(scalar, self.form.element))

    def filled(self, one: Value) -> Vector:
        """A number of this format in all lanes."""
        b = self.builder
        first = b.insert_element(ir.Constant(self.type, ir.Undefined), one, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [ir.IntType(32)(0)] * self.lanes)
        return Vector(self, b.shuffle_vector(first, first, zeros))

    def load(self, pointer: Value) -> Vector:
        """The numbers at an address of numbers of this format, aligned to one number."""
        typed = self.builder.bitcast(pointer, self.type.as_pointer())
        return Vector(self, self.builder.load(typed, align=self.form.bytes))

    def store(self, value: Vector, pointer: Value) -> None:
        """Writes the numbers to an address of numbers of this format."""
        typed = self.builder.bitcast(pointer, self.type.as_pointer())
        self.builder.store(value.value, typed, align=self.form.bytes)

    def call(self, name: str, *operands: Vector) -> Vector:
        """A function of LLVM on vectors, such as ``llvm.sqrt``."""
        full = f"{name}.v{self.lanes}{self.form.suffix}"
        known = self.builder.module.globals
        if full not in known:
            ir.Function(self.builder.module, ir.FunctionType(self.type, [self.type] * len(operands)), full)
        return Vector(self, self.builder.call(known[full], [o.value for o in operands]))

    def avx512(self, name: str, operands: Sequence[Vector], rounds: bool = True) -> Vector:
        """An instruction of AVX-512 on all lanes, under LLVM's name without the format. ``rounds``: whether its
        rounding can be chosen (it is left as it is)."""
        given = [o.value for o in operands]
        given += [operands[0].value, ir.IntType(self.lanes)(-1)] + ([ir.IntType(32)(4)] if rounds else [])
        return self._avx512(f"{name}.p{'d' if self.double else 's'}.512", given)

    def looked_up(self, table: Sequence[float], index: Value) -> Vector:
        """Of a table of one or two vectors, the numbers that the lowest bits of the integers say. Needs AVX-512."""
        parts = [self._constant(table[i : i + self.lanes]) for i in range(0, len(table), self.lanes)]
        kind = "d" if self.double else "s"
        name, given = (
            (f"permvar.{kind}f.512", [parts[0], index])
            if len(parts) == 1
            else (f"vpermi2var.p{kind}.512", [parts[0], index, parts[1]])
        )
        return self._avx512(name, given)

    def by_kind(self, value: Vector, x: Vector, kinds: Mapping[str, str]) -> Vector:
        """``value``, but where x is of one of these kinds of number (see `KINDS`) what is said of it (see `INSTEAD`).
        Needs AVX-512."""
        table = sum(INSTEAD.index(kinds[kind]) << 4 * i for i, kind in enumerate(KINDS) if kind in kinds)
        number = ir.IntType(32)
        given = [value.value, x.value, self.integer(table), number(0), ir.IntType(self.lanes)(-1), number(4)]
        return self._avx512(f"mask.fixupimm.p{'d' if self.double else 's'}.512", given)

    def _avx512(self, name: str, given: Sequence[Value]) -> Vector:
        full = f"llvm.x86.avx512.{name}"
        known = self.builder.module.globals
        if full not in known:
            ir.Function(self.builder.module, ir.FunctionType(self.type, [v.type for v in given]), full)
        return Vector(self, self.builder.call(known[full], given))

    def fma(self, a: Vector, b: Vector | float, c: Vector | float) -> Vector:
        """a b + c, in one rounding where the processor can."""
        return self.call("llvm.fmuladd", a, self.vector(b), self.vector(c))

    def select(self, condition: Value, yes: Vector | float, no: Vector | float) -> Vector:
        """Lane by lane one or the other."""
        return Vector(self, self.builder.select(condition, self.vector(yes).value, self.vector(no).value))

    def vector(self, x: Vector | float) -> Vector:
        """A number becomes a vector."""
        return x if isinstance(x, Vector) else self.number(x)

    def bits(self, x: Vector) -> Value:
        """The bits as integers."""
        return self.builder.bitcast(x.value, self.integers)

    def floats(self, bits: Value) -> Vector:
        """Integers as the bits of numbers."""
        return Vector(self, self.builder.bitcast(bits, self.type))

    def nan(self, x: Vector) -> Value:
        """Where x is NaN."""
        return self.builder.fcmp_unordered("uno", x.value, x.value)

    def any(self, condition: Value) -> Value:
        """Whether a condition holds in one of the lanes."""
        mask = ir.IntType(self.lanes)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(condition, mask), mask(0))

    def first(self, count: Value) -> Value:
        """The condition "one of the first ``count`` lanes"."""
        kind = ir.IntType(32)
        places = ir.Constant(ir.VectorType(kind, self.lanes), [kind(i) for i in range(self.lanes)])
        b = self.builder
        one = b.insert_element(ir.Constant(places.type, ir.Undefined), b.trunc(count, kind), kind(0))
        zeros = ir.Constant(places.type, [kind(0)] * self.lanes)
        return b.icmp_signed("<", places, b.shuffle_vector(one, one, zeros))

    def wide(self) -> Lanes:
        """The same number of lanes in float64."""
        return Lanes(self.builder, DOUBLE, self.lanes)

    def widened(self, x: Vector) -> Vector:
        """The numbers as float64."""
        if self.double:
            return x
        wide = self.wide()
        return Vector(wide, self.builder.fpext(x.value, wide.type))

    def narrowed(self, x: Vector) -> Vector:
        """Float64 numbers rounded to this format."""
        return x if self.double else Vector(self, self.builder.fptrunc(x.value, self.type))


class Vector:
    """A vector and the operators on it; a Python number beside it is spread over the lanes."""

    __slots__ = ("lanes", "value")

    def __init__(self, lanes: Lanes, value: Value) -> None:
        self.lanes = lanes
        self.value = value

    def __add__(self, other: Vector | float) -> Vector:
        return self._made("fadd", self, other)

    def __radd__(self, other: float) -> Vector:
        return self._made("fadd", other, self)

    def __sub__(self, other: Vector | float) -> Vector:
        return self._made("fsub", self, other)

    def __rsub__(self, other: float) -> Vector:
        return self._made("fsub", other, self)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._made("fmul", self, other)

    def __rmul__(self, other: float) -> Vector:
        return self._made("fmul", other, self)

    def __truediv__(self, other: Vector | float) -> Vector:
        return self._made("fdiv", self, other)

    def __rtruediv__(self, other: float) -> Vector:
        return self._made("fdiv", other, self)

    def __lt__(self, other: Vector | float) -> Value:
        return self._compared("<", other)

    def __gt__(self, other: Vector | float) -> Value:
        return self._compared(">", other)

    def equals(self, other: Vector | float) -> Value:
        """The condition self == other; false where one is NaN."""
        return self._compared("==", other)

    def __neg__(self) -> Vector:
        return Vector(self.lanes, self.lanes.builder.fneg(self.value))

    def __abs__(self) -> Vector:
        return self.lanes.call("llvm.fabs", self)

    def sqrt(self) -> Vector:
        """The square root, correctly rounded."""
        return self.lanes.call("llvm.sqrt", self)

    def _made(self, instruction: str, a: Vector | float, b: Vector | float) -> Vector:
        lanes = self.lanes
        emit = getattr(lanes.builder, instruction)
        return Vector(lanes, emit(lanes.vector(a).value, lanes.vector(b).value))

    def _compared(self, how: str, other: Vector | float) -> Value:
        return self.lanes.builder.fcmp_ordered(how, self.value, self.lanes.vector(other).value)
