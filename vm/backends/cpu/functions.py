"""The transcendental functions on vectors: range reduction and a minimax polynomial, in float64 and float32.

Polynomials by the Remez algorithm in 60 digits; reductions and the logarithm's reconstruction as in W. J. Cody and
W. Waite, Software Manual for the Elementary Functions (1980).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .lanes import Vector

ULP: dict[str, float] = {"exp": 1.0, "log": 2.5, "sigmoid": 2.0, "tanh": 3.0, "mish": 4.0}
"""Largest error in units in the last place of the format, on operands for which the result is a normal number."""

_LN2 = {True: (6.93147180369123816490e-01, 1.90821492927058770002e-10), False: (0.693359375, -2.12194440054690581e-4)}
"""ln 2 in two parts; the first has so few bits that its product with an exponent is exact."""
_EXP = {
    True: (
        0.5000000000000006, 0.16666666666666588, 0.04166666666657647, 0.008333333333389654, 0.0013888888931664547,
        0.00019841269718908782, 2.4801505145817427e-05, 2.755740749154829e-06, 2.7626091611068974e-07,
        2.505384131209443e-08,
    ),
    False: (
        0.4999999343324963, 0.16666520397975662, 0.04166839046747569, 0.008368745257324445, 0.0013814559288734588,
    ),
}  # fmt: skip
"""(exp(r) - 1 - r)/r² for |r| <= ln(2)/2; relative error of exp(r) - 1 1.8e-17, of exp(r) 3.1e-9."""
_ATANH = (
    0.6666666666658715, 0.40000000052296975, 0.2857141712668699, 0.2222337187301307, 0.181236371431014,
    0.16819880746345323,
)  # fmt: skip
"""(ln((1+s)/(1-s)) - 2 s)/s³ as a polynomial in s², for (1+s)/(1-s) in [sqrt(1/2), sqrt(2)]; relative error 1.9e-16."""
_LOG1P = (
    0.3333331260699177, -0.2500000954373765, 0.200021183707871, -0.16667998919686436, 0.14219561438721642,
    -0.12405538368374314, 0.11888040027270382, -0.11675913060550287, 0.06747242238443867,
)  # fmt: skip
"""(ln(1+f) - f + f²/2)/f³ for 1+f in [sqrt(1/2), sqrt(2)]; relative error 7.5e-10."""

EXP_HIGH, EXP_LOW = 88.72283905206835, -87.33654475055310
"""exp of more is beyond float32's largest number, of less below its smallest normal one."""
_LOWEST_MISH = 100.0
"""Below minus this mish is below float32's range."""
_DEEPEST = {True: -708.0, False: EXP_LOW}
"""exp of less is below the smallest normal number of the format."""


def polynomial(x: Vector, square: Vector, coefficients: Sequence[float]) -> Vector:
    """The sum of ``coefficients[i] x^i``, given x²: the even powers and the odd ones by Horner's rule, side by side."""
    even, odd = (_horner(square, coefficients[k::2]) for k in range(2))
    return x.lanes.fma(odd, x, even)


def _horner(x: Vector, coefficients: Sequence[float]) -> Vector:
    y = x.lanes.number(coefficients[-1])
    for c in coefficients[-2::-1]:
        y = x.lanes.fma(y, x, c)
    return y


def _reduced(x: Vector) -> tuple[Vector, Vector]:
    """(r, shifted): exp(x) = exp(r) 2^n; the low bits of ``shifted`` hold n. NaN stays NaN."""
    lanes = x.lanes
    high, low = _LN2[lanes.double]
    shifted = lanes.fma(x, 1.0 / math.log(2.0), lanes.form.magic)
    n = shifted - lanes.form.magic
    return lanes.fma(n, -low, lanes.fma(n, -high, x)), shifted


def _exp(x: Vector) -> Vector:
    """exp(x) where the result is a normal number of the format; anything else where it is not, NaN of NaN."""
    lanes = x.lanes
    r, shifted = _reduced(x)
    z = r * r
    p = lanes.fma(z, polynomial(r, z, _EXP[lanes.double]), r) + 1.0
    b = lanes.builder
    exponent = b.shl(lanes.bits(shifted), lanes.integer(lanes.form.mantissa))
    return lanes.floats(b.add(lanes.bits(p), exponent))


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
    f = lanes.floats(b.add(mantissa, lanes.integer(root))) - 1.0
    n = lanes.floats(b.add(exponent, lanes.integer(form.bits(form.magic)))) - form.magic
    high, low = _LN2[lanes.double]
    if lanes.double:  # ln(1 + f) = f - s (f - s² q), s = f/(2 + f)
        s = f / (f + 2.0)
        z = s * s
        y = lanes.fma(n, low, s * (z * polynomial(z, z * z, _ATANH)))
        y = f - (s * f - y)
    else:
        z = f * f
        y = f + lanes.fma(z, -0.5, lanes.fma(z * f, polynomial(f, z, _LOG1P), n * low))
    y = lanes.select(x.equals(math.inf), math.inf, lanes.fma(n, high, y))
    return lanes.select(b.fcmp_unordered("ult", x.value, lanes.number(0.0).value), math.nan, y)


def sigmoid(x: Vector) -> Vector:
    """1/(1 + exp(-x)); what is below float32's range comes out below it."""
    lanes = x.lanes
    deepest = 88.0 if lanes.form.bytes == 4 else 700.0
    z = lanes.select(x > deepest, -deepest, lanes.select(x < -deepest, deepest, 0.0 - x))
    return 1.0 / (1.0 + _exp(z))


def tanh(x: Vector) -> Vector:
    """tanh(x) = t/(t + 2) with t = exp(2 x) - 1, which keeps its digits near 0."""
    lanes = x.lanes
    size = abs(x)
    z = lanes.select(size > 20.0, 40.0, size + size)  # NaN stays NaN
    r, shifted = _reduced(z)
    square = r * r
    q = lanes.fma(square, polynomial(r, square, _EXP[lanes.double]), r)  # exp(r) - 1
    b = lanes.builder
    exponent = b.shl(lanes.bits(shifted), lanes.integer(lanes.form.mantissa))
    power = lanes.floats(b.add(lanes.bits(lanes.number(1.0)), exponent))
    power = lanes.select(lanes.nan(x), math.nan, power)
    t = lanes.fma(power, q, power - 1.0)
    y = t / (t + 2.0)
    return lanes.select(x < 0.0, 0.0 - y, y)


def mish(x: Vector) -> Vector:
    """x tanh(ln(1 + e)) = x e (e + 2)/(e (e + 2) + 2) with e = exp(x): nothing cancels. e is the square of h, which is
    in range far longer."""
    lanes = x.lanes
    h = _exp(lanes.select(x < -_LOWEST_MISH, -_LOWEST_MISH / 2, x * 0.5))
    e = h * h
    n = e + 2.0
    y = (x * h) * (h * n / lanes.fma(e, n, 2.0))
    y = lanes.select(x > 20.0, x, lanes.select(x < -_LOWEST_MISH, 0.0, y))
    return lanes.select(x.equals(-math.inf), math.nan, y)
