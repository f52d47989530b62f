"""The transcendental functions on vectors, in float64 and float32: range reduction, then polynomials.

In float64 exp(x) = 2^n (R + r)/(R - r) with |r| <= ln(2)/2 and R = r coth(r/2), a polynomial in r². Numerator and
denominator go on into sigmoid, tanh and mish, so that each costs one division. In float32, where short polynomials do,
and with AVX-512, which looks numbers up, exp and log have no division; tanh is one ratio in float32. The reduction is
that of W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980); the polynomials are by the Remez
algorithm in 60 digits, those of float32 by linear programming with the coefficients rounded one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .lanes import Vector

ULP: dict[str, tuple[float, float]] = {
    "exp": (2.0, 3.2), "log": (4.5, 3.0), "sigmoid": (2.5, 4.2), "tanh": (2.7, 5.0), "mish": (4.2, 6.5),
    "sqrt": (1.5, 1.0),
}  # fmt: skip
"""Largest error in units in the last place of float64 and of float32, on operands for which the result is a normal
number."""

_EXP = (1.0, 0.9999997019767761, 0.4999915063381195, 0.16667647659778595, 0.041897840797901154, 0.008289715275168419)
"""exp(r) for |r| <= ln(2)/2 in float32; relative error 9.2e-8."""
_LOG1P = (
    1.0, -0.5000005960464478, 0.3333354592323303, -0.24993491172790527, 0.19977205991744995, -0.16822312772274017,
    0.14982295036315918, -0.12067205458879471, 0.05414960905909538,
)  # fmt: skip
"""ln(1 + f)/f for 1 + f in [3/4, 3/2] in float32; relative error 2.8e-8."""
_TANH = (
    (0.9999999792304818, 0.1338037147881646, 0.0034948109459044248, 2.0596273097181866e-05, 1.3336848161613276e-08),
    (1.0, 0.4671368689412787, 0.025874026270251326, 0.0003284363100165179, 7.769282799868456e-07),
)
"""tanh(x)/x as a ratio of polynomials in x² for |x| <= 9.01, beyond which it is 1 in float32; relative error 2.1e-8."""
_TANH_END = 9.01

_LN2 = {True: (6.93147180369123816490e-01, 1.90821492927058770002e-10), False: (0.693359375, -2.12194440054690581e-4)}
"""ln 2 in two parts; the first has so few bits that its product with an exponent is exact."""
_COTH = (
    2.0, 0.16666666666666574, -0.002777777777688266, 6.613756295632929e-05, -1.6533880396623857e-06,
    4.1374681652819455e-08,
)  # fmt: skip
"""r coth(r/2) as a polynomial in r² for |r| <= ln(2)/2; relative error 7.7e-19."""
_ATANH = (
    2.0000000000000004, 0.6666666666655223, 0.40000000062015867, 0.28571415981248177, 0.222234371633256,
    0.18121855356622824, 0.16838556060847956,
)  # fmt: skip
"""ln((1 + s)/(1 - s))/s as a polynomial in s², where the argument of the logarithm lies in [sqrt(1/2), sqrt(2)];
relative error 1.7e-16."""

_STEPS = {True: 16, False: 32}
"""exp(x) = 2^n 2^(k/N) exp(r) and log(x) = e ln(2) - ln(c) + ln(1 + r), where 2^(k/N) and c are looked up: AVX-512 has
tables of 16 or 32 numbers in one or two registers. The method is that of P. T. P. Tang, ACM Transactions on
Mathematical Software 15 (1989) and 16 (1990)."""
_POWERS = {double: tuple(2.0 ** (k / n) for k in range(n)) for double, n in _STEPS.items()}
_EXPM1 = (0.5, 0.16666666665301144, 0.041666666664959766, 0.008333449724528355, 0.0013889034377693012)
"""(exp(r) - 1 - r)/r² for |r| <= ln(2)/32 in float64; error of exp(r) 2.8e-17."""
_EXPM1_SHORT = (1.0000146627426147, 0.5000019073486328)
"""(exp(r) - 1)/r for |r| <= ln(2)/64 in float32; error of exp(r) 5.3e-8."""
_CENTRES = {
    True: (
        1.0, 0.9142855745873281, 0.8648648508950263, 0.820512801886369, 0.7804877937021779, 0.7441860548935311,
        0.7111111939988203, 0.6808510517225937, 0.6530613111027953, 0.6274512569949615, 0.6037737693075301,
        0.5818178921768611, 0.5614034948020912, 0.5423731281564145, 0.5245891432048845, 0.5,
    ),
    False: (
        1.0, 0.9142419099807739, 0.864864706993103, 0.8205552101135254, 0.7804505825042725, 0.744153618812561,
        0.7111330032348633, 0.6808812618255615, 0.6530656218528748, 0.6274793148040771, 0.6037527918815613,
        0.5818183422088623, 0.5613502264022827, 0.5423993468284607, 0.524573028087616, 0.5,
    ),
}  # fmt: skip
"""Near 1/m for a mantissa m in [1, 2), by its four highest bits; 1 and 1/2 beside 1 and 2, where the logarithm is 0.
The others are chosen so that -ln(c), and from 3/2 on -ln(2 c), is a number of the format to seven bits more than it
has (S. Gal and B. Bachelis, ACM Transactions on Mathematical Software 17, 1991): with x below 1, e = -1, the ln(2) in
the table cancels to the last bit."""
_LOG_CENTRES = {
    True: (
        0.0, 0.08961231148480873, 0.14518202599712388, 0.19782576603090793, 0.2478361782236659, 0.29546420163065357,
        0.340926470409759, 0.38441171669277263, 0.4260842626847535, 0.46608928908897646, 0.5045557053368451,
        0.5415977802538883, 0.577315389918599, 0.6118010860677072, 0.6451399071411666, math.log(2.0),
    ),
    False: (
        0.0, 0.08966007083654404, 0.14518219232559204, 0.19777408242225647, 0.2478838562965393, 0.2955077886581421,
        0.34089580178260803, 0.38436734676361084, 0.426077663898468, 0.4660445749759674, 0.5045904517173767,
        0.5415970087051392, 0.5774102807044983, 0.6117527484893799, 0.6451706290245056, math.log(2.0),
    ),
}  # fmt: skip
"""-ln(c)."""
_LOG1P_TABLE = {
    True: (
        -0.49999999999999994, 0.3333333333334074, -0.2500000000019935, 0.19999999952574796, -0.16666665564030983,
        0.1428578716247327, -0.1250203625696582, 0.11087324810024449, -0.08880602871264742,
    ),
    False: (-0.5, 0.33334454894065857, -0.250082790851593, 0.18875426054000854),
}  # fmt: skip
"""(ln(1 + r) - r)/r² for -1/31 <= r <= 1/16; error of ln(1 + r) 2.4e-17 r in float64 and 3.0e-9 r in float32."""

_INVERSES = {"zero": "inf of the sign of x", "inf": "0", "-inf": "0"}
"""The reciprocals that are not computed."""
_QUOTIENTS = {"zero": "0", "inf": "inf", "-inf": "-inf"}
"""The quotients, by what they are before the last step, that this step does not change."""
_ROOTS = {"nan": "x", "signalling nan": "nan", "zero": "0", "-inf": "0", "inf": "inf", "negative": "0"}
"""The square roots that are not computed, see `Lanes.by_kind`."""

EXP_HIGH, EXP_LOW = 88.72283905206835, -87.33654475055310
"""exp of more is beyond float32's largest number, of less below its smallest normal one."""
_BEYOND = 90.0
"""exp of it is beyond float32's range on both sides."""
_DEEPEST = {True: -708.0, False: EXP_LOW}
"""exp of less is below the smallest normal number of the format."""
_FAR = 700.0
"""As far as 2^n is a number of float64, on both sides."""


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


def _reduced(x: Vector) -> tuple[Vector, Vector]:
    """(r, shifted): x = n ln(2) + r; the low bits of ``shifted`` hold n. NaN stays NaN."""
    lanes = x.lanes
    high, low = _LN2[lanes.double]
    shifted = lanes.fma(x, 1.0 / math.log(2.0), lanes.form.magic)
    n = shifted - lanes.form.magic
    return lanes.fma(n, -low, lanes.fma(n, -high, x)), shifted


def _parts(x: Vector) -> tuple[Vector, Vector, Vector]:
    """(R, r, shifted) in float64: exp(x) = 2^n (R + r)/(R - r)."""
    r, shifted = _reduced(x)
    return polynomial(r * r, _COTH), r, shifted


def _scaled(y: Vector, shifted: Vector) -> Vector:
    """2^n y, where both are normal numbers."""
    lanes = y.lanes
    exponent = lanes.builder.shl(lanes.bits(shifted), lanes.integer(lanes.form.mantissa))
    return lanes.floats(lanes.builder.add(lanes.bits(y), exponent))


def exp_normal(x: Vector) -> Vector:
    """exp(x) where the result is a normal number of the format; anything else where it is not, NaN of NaN."""
    if x.lanes.processor.avx512:
        return _exp_by_table(x)
    if not x.lanes.double:
        r, shifted = _reduced(x)
        return _scaled(polynomial(r, _EXP), shifted)
    big, r, shifted = _parts(x)
    return _scaled((big + r) / (big - r), shifted)


def _exp_by_table(x: Vector) -> Vector:
    lanes = x.lanes
    high, low = _LN2[lanes.double]
    magic = lanes.form.magic / _STEPS[lanes.double]  # adding it rounds to n + k/N
    shifted = lanes.fma(x, 1.0 / math.log(2.0), magic)
    steps = shifted - magic
    r = lanes.fma(steps, -low, lanes.fma(steps, -high, x))
    power = lanes.looked_up(_POWERS[lanes.double], lanes.bits(shifted))
    if lanes.double:
        y = lanes.fma(power, lanes.fma(r * r, polynomial(r, _EXPM1), r), power)
    else:
        y = lanes.fma(power * r, polynomial(r, _EXPM1_SHORT), power)
    return lanes.avx512("mask.scalef", (y, steps))


def _ratio(x: Vector) -> tuple[Vector, Vector]:
    """(a, b): exp(x) = a/b, in float64 while `_FAR` is not left."""
    if not x.lanes.double:
        return exp(x), x.lanes.number(1.0)
    if x.lanes.processor.avx512:
        return _exp_by_table(x), x.lanes.number(1.0)
    big, r, shifted = _parts(x)
    return _scaled(big + r, shifted), big - r


def exp(x: Vector) -> Vector:
    """exp(x) in float32's range: inf above, 0 below."""
    lanes = x.lanes
    if lanes.processor.avx512 and lanes.processor.flushes:
        return _exp_by_table(_clamped(x, -_BEYOND, _BEYOND))
    return lanes.select(x < EXP_LOW, 0.0, lanes.select(x > EXP_HIGH, math.inf, exp_normal(x)))


def exp_below(x: Vector) -> Vector:
    """exp(x) for x <= 0, down to the smallest normal number of the format, then 0."""
    lanes = x.lanes
    return lanes.select(x < _DEEPEST[lanes.double], 0.0, exp_normal(x))


def log(x: Vector) -> Vector:
    """ln(x) of what is a normal number or inf, x >= 0; NaN of NaN. In float32 of what is > 0 anything where x = 0."""
    lanes = x.lanes
    if lanes.processor.avx512:
        return _log_by_table(x)
    n, f = _mantissa_of(x)
    if lanes.double:
        s = f / (f + 2.0)
        y = s * polynomial(s * s, _ATANH)
    else:
        y = f * polynomial(f, _LOG1P)
    y = lanes.fma(n, math.log(2.0), y)
    beyond = lanes.builder.fcmp_unordered("uge", x.value, lanes.number(math.inf).value)  # inf or NaN
    return lanes.select(beyond, x, y)


def log_of_size(x: Vector) -> Vector:
    """ln|x|, as `log`."""
    return _log_by_table(x) if x.lanes.processor.avx512 else log(abs(x))


def _log_by_table(x: Vector) -> Vector:
    """Of the absolute value."""
    lanes, form, b = x.lanes, x.lanes.form, x.lanes.builder
    bits = lanes.bits(x)
    mantissa = b.and_(bits, lanes.integer((1 << form.mantissa) - 1))
    m = lanes.floats(b.or_(mantissa, lanes.integer(form.bits(1.0))))
    n = lanes.avx512("mask.getexp", (x,))  # inf of inf, NaN of NaN
    index = b.lshr(bits, lanes.integer(form.mantissa - 4))
    r = lanes.fma(m, lanes.looked_up(_CENTRES[lanes.double], index), -1.0)
    far = lanes.fma(n, math.log(2.0), lanes.looked_up(_LOG_CENTRES[lanes.double], index))
    return lanes.fma(r * r, polynomial(r, _LOG1P_TABLE[lanes.double]), far + r)


def _mantissa_of(x: Vector) -> tuple[Vector, Vector]:
    """(n, f): x = 2^n (1 + f), with 1 + f in [sqrt(1/2), sqrt(2)) in float64 and [3/4, 3/2) in float32."""
    lanes, form, b = x.lanes, x.lanes.form, x.lanes.builder
    least = form.bits(math.sqrt(0.5) if lanes.double else 0.75)
    bits = b.sub(lanes.bits(x), lanes.integer(least))
    exponent = b.ashr(bits, lanes.integer(form.mantissa))
    mantissa = b.and_(bits, lanes.integer((1 << form.mantissa) - 1))
    f = lanes.floats(b.add(mantissa, lanes.integer(least))) - 1.0
    if lanes.double:
        return lanes.floats(b.add(exponent, lanes.integer(form.bits(form.magic)))) - form.magic, f
    return Vector(lanes, b.sitofp(exponent, lanes.type)), f


def sqrt(x: Vector) -> Vector:
    """The square root of what is a normal number, 0 or inf, to a unit in the last place; 0 of less, NaN of NaN.

    AVX-512 gives 1/sqrt(x) to 14 bits; each step of Newton's method doubles them, in less time than a square root.
    """
    lanes = x.lanes
    if not lanes.processor.avx512:
        return lanes.select(x < 0.0, 0.0, x).sqrt()
    y = lanes.avx512("rsqrt14", (x,), rounds=False)
    root, half = x * y, y * 0.5
    for more in (True, False) if lanes.double else (False,):
        rest = lanes.fma(-half, root, 0.5)
        root = lanes.fma(root, rest, root)
        half = lanes.fma(half, rest, half) if more else half
    return lanes.by_kind(root, x, _ROOTS)


def inverse(x: Vector) -> Vector:
    """1/x of what is a normal number, 0 (of which only +0 is met) or inf, to a unit in the last place.

    AVX-512 gives 1/x to 14 bits; each step of Newton's method doubles them.
    """
    lanes = x.lanes
    if lanes.processor.divides or not lanes.processor.avx512:
        return 1.0 / x
    y = lanes.avx512("rcp14", (x,), rounds=False)
    for _ in range(2 if lanes.double else 1):
        y = lanes.fma(lanes.fma(-x, y, 1.0), y, y)
    return lanes.by_kind(y, x, _INVERSES)


def quotient(a: Vector, b: Vector) -> Vector:
    """a/b, of float32 numbers; b is no -0."""
    lanes = a.lanes
    if lanes.processor.divides or not (lanes.processor.avx512 and lanes.double):  # 1/b may leave float32's range
        return a / b
    y = inverse(b)
    first = a * y
    return lanes.by_kind(lanes.fma(lanes.fma(-b, first, a), y, first), first, _QUOTIENTS)


def _clamped(x: Vector, low: float, high: float) -> Vector:
    lanes = x.lanes
    x = lanes.select(x < low, low, x)
    return lanes.select(x > high, high, x)  # NaN is neither


def sigmoid(x: Vector) -> Vector:
    """1/(1 + exp(-x)) = b/(b + a); what is below float32's range comes out below it."""
    negative = 0.0 - x
    a, b = _ratio(_clamped(negative, -_FAR, _FAR) if x.lanes.double else negative)
    return b / (b + a)


def tanh(x: Vector) -> Vector:
    """(e - 1)/(e + 1) with e = exp(2 |x|) = p (R + r)/(R - r): ((p - 1) R + (p + 1) r)/((p + 1) R + (p - 1) r), which
    keeps its digits near 0, where p = 1. In float32 a ratio of polynomials."""
    lanes = x.lanes
    if not lanes.double:
        near = _clamped(x, -_TANH_END, _TANH_END)
        above, below = (_horner(near * near, c) for c in _TANH)
        return _clamped(near * above / below, -1.0, 1.0)
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
