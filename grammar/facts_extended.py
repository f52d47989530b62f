"""The transfer rules of `facts` for the extended ops."""

from __future__ import annotations

import math

from .facts import UNKNOWN, Facts, Kinds, absolute, known, multiplied, squared, summed
from .reference import EPS, FLOAT32_MAX
from .types import Kind


def _product(a: float, b: float) -> Facts:
    """The facts of a * b, which may leave float32's range."""
    return known(a * b) if abs(a * b) <= FLOAT32_MAX else UNKNOWN


def gram(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """x x^T/numel; of a Scalar its square."""
    x = args[0]
    if x.value is not None and (x.value == 0 or kinds[0] is not Kind.MATRIX):
        return _product(x.value, x.value)
    if kinds[0] is not Kind.MATRIX:
        return squared(args, kinds)
    return Facts(shape_only=x.shape_only, nonnegative=x.nonnegative)


def nuclear(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """nuclear_norm: of one number everywhere it is that number times a shape."""
    x = args[0]
    if kinds[0] is not Kind.MATRIX or x.value == 0:
        return absolute(args, kinds)
    return Facts(shape_only=x.shape_only, nonnegative=True, nonzero=x.nonzero)


def slogdet(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """slogdet: of one number everywhere a function of it and the shape."""
    x = args[0]
    if kinds[0] is Kind.MATRIX:
        return Facts(shape_only=x.shape_only)
    if x.value:
        return known(math.log(x.value * x.value * (1.0 + EPS)))
    return Facts(shape_only=x.shape_only or x.unit)


def dotted(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """dot(a, b): the sum over a * b."""
    a, b = args
    if kinds[0] is not Kind.MATRIX:
        both = a.value is not None and b.value is not None
        return _product(a.value or 0.0, b.value or 0.0) if both else multiplied(args, kinds)
    if (a.zero_sum and b.value is not None) or (b.zero_sum and a.value is not None):
        return known(0.0)
    return summed((multiplied(args, kinds),), (Kind.MATRIX,))


def stepped(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """heaviside(x): 1 where x > 0, else 0."""
    x = args[0]
    positive = x.nonnegative and x.nonzero
    return Facts(shape_only=x.shape_only or positive, unit=positive, nonnegative=True, nonzero=positive)


def hyperbolic(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """tanh(x): the sign of x, and 0 where x is 0; small numbers keep their size."""
    x = args[0]
    return Facts(shape_only=x.shape_only, nonnegative=x.nonnegative, nonzero=x.nonzero)


def leaking(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """leaky_relu(x): x where it is nonnegative."""
    x = args[0]
    return x if x.nonnegative else Facts(shape_only=x.shape_only)


def fourth_power(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """x^4: 1 where x is 1 or -1."""
    x = args[0]
    return Facts(
        shape_only=x.shape_only or x.unit,
        nonnegative=True,
        nonzero=x.unit,  # the power of a small number can be 0
        unit=x.unit,
        sum_known=x.unit,
        squares_known=x.unit,
    )
