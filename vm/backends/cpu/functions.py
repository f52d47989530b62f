"""The transcendental functions on vectors, in float64 and float32: range reduction, then a ratio of polynomials.

exp(x) = 2^n (R + r)/(R - r) with |r| <= ln(2)/2 and R = r coth(r/2), a polynomial in r². Numerator and denominator go
on into sigmoid, tanh and mish, so that each costs one division. The reduction is that of W. J. Cody and W. Waite,
Software Manual for the Elementary Functions (1980); the polynomials are by the Remez algorithm in 60 digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .lanes import Vector

ULP: dict[str, float] = {"exp": 2.0, "log": 3.5, "sigmoid": 2.5, "tanh": 2.5, "mish": 3.0}
"""Largest error in units in the last place of the format, on operands for which the result is a normal number."""

_LN2 = {True: (6.93147180369123816490e-01, 1.90821492927058770002e-10), False: (0.693359375, -2.12194440054690581e-4)}
"""ln 2 in two parts; the first has so few bits that its product with an exponent is exact."""
_COTH = {
    True: (
        2.0, 0.16666666666666574, -0.002777777777688266, 6.613756295632929e-05, -1.6533880396623857e-06,
        4.1374681652819455e-08,
    ),
    False: (2.000000003553031, 0.1666661327323155, -0.002765902867984223),
}  # fmt: skip
"""r coth(r/2) as a polynomial in r² for |r| <= ln(2)/2; relative error 7.7e-19 and 1.8e-9."""
_ATANH = {
    True: (
        2.0000000000000004, 0.6666666666655223, 0.40000000062015867, 0.28571415981248177, 0.222234371633256,
        0.18121855356622824, 0.16838556060847956,
    ),
    False: (1.99999999862144, 0.6666681595483791, 0.39974794485710313, 0.29925661026349454),
}  # fmt: skip
"""ln((1 + s)/(1 - s))/s as a polynomial in s², where the argument of the logarithm lies in [sqrt(1/2), sqrt(2)];
relative error 1.7e-16 and 6.9e-10."""

EXP_HIGH, EXP_LOW = 88.72283905206835, -87.33654475055310
"""exp of more is beyond float32's largest number, of less below its smallest normal one."""
_DEEPEST = {True: -708.0, False: EXP_LOW}
"""exp of less is below the smallest normal number of the format."""
_FAR = {True: 700.0, False: 88.0}
"""As far as 2^n is a number of the format, on both sides."""


def polynomial(x: Vector, coefficients: Sequence[float]) -> Vector:
    """The sum of ``coefficients[i] x^i``: the even powers and the odd ones by Horner's rule, side by side."""
    square = x * x
    even, odd = (_horner(square, coefficients[k::2]) for k in range(2))
    return x.lanes.fma(odd, x, even)


def _horner(x: Vector, coefficients: Sequence[float]) -> Vector:
    y = x.lanes.number(coefficients[-1])
    for c in coefficients[-2::-1]:
        y = x.lanes.fma(y, x, c)
    return y


def _parts(x: Vector) -> tuple[Vector, Vector, Vector]:
    """(R, r, shifted): exp(x) = 2^n (R + r)/(R - r); the low bits of ``shifted`` hold n. NaN stays NaN."""
    lanes = x.lanes
    high, low = _LN2[lanes.double]
    shifted = lanes.fma(x, 1.0 / math.log(2.0), lanes.form.magic)
    n = shifted - lanes.form.magic
    r = lanes.fma(n, -low, lanes.fma(n, -high, x))
    return polynomial(r * r, _COTH[lanes.double]), r, shifted


def _scaled(y: Vector, shifted: Vector) -> Vector:
    """2^n y, where both are normal numbers."""
    lanes = y.lanes
    exponent = lanes.builder.shl(lanes.bits(shifted), lanes.integer(lanes.form.mantissa))
    return lanes.floats(lanes.builder.add(lanes.bits(y), exponent))


def _exp(x: Vector) -> Vector:
    """exp(x) where the result is a normal number of the format; anything else where it is not, NaN of NaN."""
    big, r, shifted = _parts(x)
    return _scaled((big + r) / (big - r), shifted)


def _ratio(x: Vector) -> tuple[Vector, Vector]:
    """(a, b): exp(x) = a/b, while `_FAR` is not left."""
    big, r, shifted = _parts(x)
    return _scaled(big + r, shifted), big - r


def exp(x: Vector) -> Vector:
    """exp(x) in float32's range: inf above, 0 below."""
    lanes = x.lanes
    return lanes.select(x < EXP_LOW, 0.0, lanes.select(x > EXP_HIGH, math.inf, _exp(x)))


def exp_below(x: Vector) -> Vector:
    """exp(x) for x <= 0, down to the smallest normal number of the format, then 0."""
    lanes = x.lanes
    return lanes.select(x < _DEEPEST[lanes.double], 0.0, _exp(x))


def log(x: Vector) -> Vector:
    """ln(x) of what is a normal number or inf; NaN of a negative number or NaN."""
    lanes, form, b = x.lanes, x.lanes.form, x.lanes.builder
    root = form.bits(math.sqrt(0.5))
    bits = b.sub(lanes.bits(x), lanes.integer(root))
    exponent = b.ashr(bits, lanes.integer(form.mantissa))
    mantissa = b.and_(bits, lanes.integer((1 << form.mantissa) - 1))
    f = lanes.floats(b.add(mantissa, lanes.integer(root))) - 1.0  # x = 2^n (1 + f)
    n = lanes.floats(b.add(exponent, lanes.integer(form.bits(form.magic)))) - form.magic
    s = f / (f + 2.0)
    y = lanes.fma(n, math.log(2.0), s * polynomial(s * s, _ATANH[lanes.double]))
    y = lanes.select(x.equals(math.inf), math.inf, y)
    return lanes.select(b.fcmp_unordered("ult", x.value, lanes.number(0.0).value), math.nan, y)


def _clamped(x: Vector, low: float, high: float) -> Vector:
    lanes = x.lanes
    return lanes.select(x > high, high, lanes.select(x < low, low, x))  # NaN is neither


def sigmoid(x: Vector) -> Vector:
    """1/(1 + exp(-x)) = b/(b + a); what is below float32's range comes out below it."""
    far = _FAR[x.lanes.double]
    a, b = _ratio(_clamped(0.0 - x, -far, far))
    return b / (b + a)


def tanh(x: Vector) -> Vector:
    """(e - 1)/(e + 1) with e = exp(2 |x|) = p (R + r)/(R - r): ((p - 1) R + (p + 1) r)/((p + 1) R + (p - 1) r), which
    keeps its digits near 0, where p = 1."""
    lanes = x.lanes
    size = abs(x)
    big, r, shifted = _parts(lanes.select(size > 20.0, 40.0, size + size))
    p = _scaled(lanes.number(1.0), shifted)
    less, more = p - 1.0, p + 1.0
    y = lanes.fma(less, big, more * r) / lanes.fma(more, big, less * r)
    return lanes.select(x < 0.0, 0.0 - y, y)


_LOWEST_MISH = {True: -100.0, False: -87.0}
"""Where mish is nothing: below float32's range, or less than 2e-36 where exp leaves it."""


def mish(x: Vector) -> Vector:
    """x tanh(ln(1 + e)) = x e (e + 2)/(e (e + 2) + 2) with e = exp(x) = a/b: nothing cancels."""
    lanes = x.lanes
    lowest = _LOWEST_MISH[lanes.double]
    a, b = _ratio(_clamped(x, lowest, 20.0))
    n = a * (a + b + b)
    y = x * (n / lanes.fma(b, b + b, n))
    y = lanes.select(x > 20.0, x, lanes.select(x < lowest, 0.0, y))
    return lanes.select(x.equals(-math.inf), math.nan, y)
