"""What each op does to a vector: the table from which the machine is compiled.

A kernel gets vectors of its operands and two Scalars of the layer. Results are brought into float32's range after
it, as far as its marks say that this is needed: ``grows`` where a finite result may be beyond the largest number,
``shrinks`` where it may be below the smallest normal one (or -0). Float32 lanes of a processor that flushes by itself
need no code for this; there -0 may stand in a register, and whoever would see its sign adds 0 to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ....grammar.reference import EPS, FLOAT32_TINY, LEAK
from . import functions as fn
from .lanes import Value, Vector


class Compute(Protocol):
    """Operands (the second is the first where there is one), two Scalars of the layer (float64) -> the result."""

    def __call__(self, a: Vector, b: Vector, s: Value, t: Value) -> Vector: ...


@dataclass(frozen=True)
class Kernel:
    """One instruction on lanes. ``matrices``: how many of its operands are Matrices."""

    compute: Compute
    matrices: int = 1
    grows: bool = False
    shrinks: bool = False


_OVER = 2.0**896
"""2^128 times it overflows float64; scaling by a power of two is exact. 2^128 is half a unit above the largest."""


def in_range(y: Vector, kernel: Kernel) -> Vector:
    """float32's range, as far as the kernel needs it; float32 itself overflows where it should."""
    y = limited(y) if kernel.grows else y
    return flushed(y) if kernel.shrinks else y


def limited(y: Vector) -> Vector:
    """Beyond float32's largest number infinite."""
    return y * _OVER * (1.0 / _OVER) if y.lanes.double else y


def flushed(y: Vector) -> Vector:
    """Below float32's smallest normal number 0."""
    if y.lanes.processor.flushes:
        return y
    return y.lanes.select(abs(y) < FLOAT32_TINY, 0.0, y)


def _unary(compute: Callable[[Vector], Vector], grows: bool = False, shrinks: bool = False) -> Kernel:
    return Kernel(lambda a, b, s, t: compute(a), 1, grows, shrinks)


def _logarithm(x: Vector) -> Vector:
    lanes = x.lanes
    return fn.log(lanes.select(x < 0.0, math.nan, x + EPS))


def _abslog(x: Vector) -> Vector:
    return x.lanes.select(x.equals(0.0), 0.0, fn.log_of_size(x))


def _divided(a: Vector, b: Vector) -> Vector:
    return fn.quotient(a, b + 0.0)  # -0, which a processor that flushes may leave, becomes 0


def _sign(x: Vector) -> Vector:
    lanes = x.lanes
    return lanes.select(x > 0.0, 1.0, lanes.select(x < 0.0, -1.0, x))  # NaN is neither


def _heaviside(x: Vector) -> Vector:
    lanes = x.lanes
    return lanes.select(x > 0.0, 1.0, lanes.select(x < 0.0, 0.0, x))


def _positive(x: Vector) -> Vector:
    return x.lanes.select(x < 0.0, 0.0, x)


def _centred(a: Vector, b: Vector, s: Value, t: Value) -> Vector:
    """(a - s) t in float64: in float32 the difference would lose digits, or overflow."""
    lanes, wide = a.lanes, a.lanes.wide()
    return lanes.narrowed((lanes.widened(a) - wide.spread(s)) * wide.spread(t))


def _joined(name: str, compute: Callable[[Vector, Vector], Vector]) -> dict[str, Kernel]:
    """A Matrix and a Matrix, a Matrix and a Scalar, a Scalar and a Matrix."""
    return {
        f"{name}.mm": Kernel(lambda a, b, s, t: compute(a, b), 2, True, True),
        f"{name}.ms": Kernel(lambda a, b, s, t: compute(a, a.lanes.spread(s)), 1, True, True),
        f"{name}.sm": Kernel(lambda a, b, s, t: compute(a.lanes.spread(s), a), 1, True, True),
    }


KERNELS: dict[str, Kernel] = {
    "identity.m": _unary(lambda x: x),
    "abs.m": _unary(abs),
    "neg.m": _unary(lambda x: 0.0 - x),
    "relu.m": _unary(_positive),
    "leaky_relu.m": _unary(lambda x: x.lanes.select(x < 0.0, x * LEAK, x), shrinks=True),
    "sign.m": _unary(_sign),
    "heaviside.m": _unary(_heaviside),
    "square.m": _unary(lambda x: x * x, grows=True, shrinks=True),
    "pow4.m": _unary(lambda x: (x * x) * (x * x), grows=True, shrinks=True),
    "sqrt.m": _unary(fn.sqrt),
    "inv.m": _unary(lambda x: fn.inverse(x + EPS), shrinks=True),
    "exp.m": _unary(fn.exp),
    "log.m": _unary(_logarithm),
    "abslog.m": _unary(_abslog),
    "sigmoid.m": _unary(fn.sigmoid, shrinks=True),
    "tanh.m": _unary(fn.tanh, shrinks=True),
    "mish.m": _unary(fn.mish, shrinks=True),
    "normalize.m": Kernel(_centred, 1, False, True),
    "min_max.m": Kernel(_centred, 1, False, True),
    **_joined("add", lambda a, b: a + b),
    **_joined("sub", lambda a, b: a - b),
    **_joined("mul", lambda a, b: a * b),
    **_joined("div", _divided),
}
"""By the name of the opcode."""
