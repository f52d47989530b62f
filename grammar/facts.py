"""What the compiler knows of a value without data: constant, a function of the shapes alone, sign.

``value`` is sound: if the program has a score at all, every element is that number, up to the rounding of the
computation. The other fields hold for generic segments (no weight is exactly zero, no segment is constant); they feed
the flag "depends on shape only", never a rejection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .types import Kind


@dataclass(frozen=True, slots=True)
class Facts:
    """Knowledge about one value.

    ``value``: every element is this number. ``shape_only``: all elements are one number, a function of the shapes.
    ``unit``: every element is 1 or -1. ``nonnegative``, ``nonzero``: of every element. ``varied``: the elements of no
    segment are all equal.
    ``sum_known``, ``squares_known``: the sum over all elements, or of their squares, is a function of the shapes.
    ``zero_sum``: the sum over all elements is 0; ``zero_min``: the smallest element is 0 (both sound, like ``value``).
    """

    value: float | None = None
    shape_only: bool = False
    unit: bool = False
    nonnegative: bool = False
    nonzero: bool = False
    varied: bool = False
    sum_known: bool = False
    squares_known: bool = False
    zero_sum: bool = False
    zero_min: bool = False


Kinds = tuple[Kind, ...]
Rule = Callable[[tuple[Facts, ...], Kinds], Facts]
"""A transfer rule: the facts of the operands and their kinds -> the facts of the result."""

UNKNOWN = Facts()
LEAF = Facts(nonzero=True, varied=True)
SHAPE = Facts(shape_only=True, nonnegative=True, nonzero=True)


def known(value: float) -> Facts:
    """The facts of a value that is always ``value``."""
    zero = value == 0
    return Facts(value=value, shape_only=True, nonnegative=value >= 0, nonzero=not zero, zero_min=zero, zero_sum=zero)


def elementwise(*, nonnegative: bool = False, scalar: float | None = None) -> Rule:
    """The rule of an op that keeps the shape; ``scalar`` is its value on every Scalar where it has just one.

    Nothing is said of zeros: exp, sigmoid and the like fall below float32's smallest number.
    """

    def rule(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
        if scalar is not None and kinds[0] is not Kind.MATRIX:
            return known(scalar)
        return Facts(shape_only=all(a.shape_only for a in args), nonnegative=nonnegative)

    return rule


def same(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """identity."""
    return args[0]


def negated(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """-x keeps everything but the sign and the side of a smallest zero."""
    x = args[0]
    if x.value is not None:
        return known(-x.value)
    return replace(x, nonnegative=False, zero_min=False) if x.nonnegative or x.zero_min else x


def absolute(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """abs(x): of a nonnegative x it is x; of a sign it is 1 everywhere."""
    x = args[0]
    if x.value is not None:
        return known(abs(x.value))
    if x.nonnegative:
        return x
    return Facts(
        shape_only=x.shape_only or x.unit,
        unit=x.unit,
        nonnegative=True,
        nonzero=x.nonzero,
        varied=x.varied,
        squares_known=x.squares_known,
    )


def squared(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """x^2: its sum is the sum of squares of x."""
    x = args[0]
    return Facts(
        shape_only=x.shape_only or x.unit,
        nonnegative=True,
        nonzero=x.unit,  # the square of a small number can be 0
        unit=x.unit,
        sum_known=x.squares_known or x.unit,
        squares_known=x.unit,
    )


def signed(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """sign(x): one number where the sign is known, else +-1 where x is never 0."""
    x = args[0]
    return Facts(
        shape_only=x.shape_only or (x.nonnegative and x.nonzero),
        unit=x.nonzero,
        nonnegative=x.nonnegative,
        nonzero=x.nonzero,
        squares_known=x.nonzero,
    )


def rectified(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """relu(x), and the max(x, 0) inside sqrt."""
    x = args[0]
    return x if x.nonnegative else Facts(shape_only=x.shape_only, nonnegative=True)


def rooted(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """sqrt(max(x, 0)) of a value in {0, 1, -1} or a shape stays one."""
    x = args[0]
    positive = x.nonnegative and x.nonzero
    return Facts(
        shape_only=x.shape_only,
        nonnegative=True,
        nonzero=positive,
        varied=x.varied and x.nonnegative,
        zero_min=x.zero_min,
    )


def normalized(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """(x - mean)/std: the sum is 0, the sum of squares is numel - 1 (0 where x is constant)."""
    if kinds[0] is not Kind.MATRIX:
        return known(0.0)
    x = args[0]
    return Facts(shape_only=x.shape_only, varied=x.varied, sum_known=True, zero_sum=True, squares_known=x.varied)


def ranged(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """(x - min)/(max - min + eps): the smallest element is exactly 0."""
    if kinds[0] is not Kind.MATRIX:
        return known(0.0)
    return Facts(shape_only=args[0].shape_only, nonnegative=True, varied=args[0].varied, zero_min=True)


def softmaxed(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """softmax along the rows: every column sums to 1, so the whole sums to the number of columns."""
    if kinds[0] is not Kind.MATRIX:
        return known(1.0)
    return Facts(shape_only=args[0].shape_only, nonnegative=True, sum_known=True)


def summed(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """sum, mean, normalized_sum."""
    x = args[0]
    if x.zero_sum:
        return known(0.0)
    positive = x.nonnegative and x.nonzero
    return Facts(shape_only=x.shape_only or x.sum_known, nonnegative=x.nonnegative, nonzero=positive)


def averaged(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """mean: of one number it is that number."""
    return args[0] if args[0].value is not None else summed(args, kinds)


def summed_absolute(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """l1_norm."""
    x = args[0]
    known_sum = x.shape_only or x.unit or (x.nonnegative and x.sum_known)
    return Facts(shape_only=known_sum, nonnegative=True, nonzero=x.nonzero)


def summed_squares(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """frobenius."""
    x = args[0]
    return Facts(shape_only=x.shape_only or x.unit or x.squares_known, nonnegative=True, nonzero=x.nonzero)


def spread(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """std: 0 where all elements are one number; a shape where sum and sum of squares are."""
    x = args[0]
    if x.value is not None or (x.shape_only and kinds[0] is Kind.MATRIX):
        return replace(known(0.0), value=0.0 if x.value is not None else None)
    return Facts(shape_only=x.sum_known and x.squares_known, nonnegative=True)


def extreme(*, smallest: bool) -> Rule:
    """min and max."""

    def rule(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
        x = args[0]
        if x.value is not None:
            return x
        if smallest and x.zero_min:
            return known(0.0)
        return Facts(shape_only=x.shape_only, nonnegative=x.nonnegative, nonzero=x.nonzero)

    return rule


def added(sign: int) -> Rule:
    """a + b and a - b: sums add up."""

    def rule(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
        a, b = args
        if a.value is not None and b.value is not None:
            return known(a.value + sign * b.value)
        return Facts(
            shape_only=a.shape_only and b.shape_only,
            nonnegative=sign > 0 and a.nonnegative and b.nonnegative,
            nonzero=sign > 0 and a.nonnegative and b.nonnegative and (a.nonzero or b.nonzero),
            sum_known=(a.sum_known or a.shape_only) and (b.sum_known or b.shape_only) and kinds[0] is Kind.MATRIX,
            zero_sum=a.zero_sum and b.zero_sum,
        )

    return rule


def multiplied(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """a * b."""
    a, b = args
    if a.value is not None and b.value is not None:
        return known(a.value * b.value)
    if a.value == 0 or b.value == 0:
        return known(0.0)
    return Facts(
        shape_only=a.shape_only and b.shape_only,
        unit=a.unit and b.unit,
        nonnegative=a.nonnegative and b.nonnegative,
        nonzero=a.unit and b.unit,  # a product of small numbers can be 0
        squares_known=a.unit and b.unit,
        sum_known=(a.sum_known and b.shape_only) or (b.sum_known and a.shape_only),
        zero_sum=(a.zero_sum and kinds[1] is Kind.SCALAR) or (b.zero_sum and kinds[0] is Kind.SCALAR),
    )


def divided(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """a / b."""
    a, b = args
    if a.value is not None and b.value is not None and b.value != 0:
        return known(a.value / b.value)
    if a.value == 0:
        return known(0.0)
    return Facts(
        shape_only=a.shape_only and b.shape_only,
        nonnegative=a.nonnegative and b.nonnegative,
        sum_known=a.sum_known and b.shape_only,
        zero_sum=a.zero_sum and kinds[1] is Kind.SCALAR,
    )


def product(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """a @ b."""
    a, b = args
    if kinds[0] is not Kind.MATRIX:
        return multiplied(args, kinds)
    if a.value == 0 or b.value == 0:
        return known(0.0)
    return Facts(
        shape_only=a.shape_only and b.shape_only,
        nonnegative=a.nonnegative and b.nonnegative,
    )


def layers(*, counts: bool = False, spreads: bool = False) -> Rule:
    """A reduction over the layers. A sum counts them, so a constant becomes a function of the depth."""

    def rule(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
        x = args[0]
        if x.value is not None and spreads:
            return known(0.0)
        if x.value is not None and (x.value == 0 or not counts):
            return known(x.value)
        return Facts(shape_only=x.shape_only, nonnegative=x.nonnegative or spreads)

    return rule


def unknown(args: tuple[Facts, ...], kinds: Kinds) -> Facts:
    """Nothing is known of the result: right for every op."""
    return UNKNOWN
