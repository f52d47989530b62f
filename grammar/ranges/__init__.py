"""What the compiler knows of the numbers in a value: intervals with attained ends, moments, and what must be NaN.

Abstract interpretation over *contexts*. Context 0 stands for every layer of every network; each other context is one
layer of one network, of which the cache's manifest knows more. All arrays are ``[.., B, C]``: B values, C contexts.

Everything holds for a value that is not NaN: a NaN anywhere makes the score NaN, so once it is certain in one context
nothing else matters there. Bounds are widened by more than the rounding of a float64 backend, and brought into
float32's range as values are: both are monotone, so a bound stays a bound. The rules are named in the op table.
"""

from .joins import added, divided, dotted, gram, multiplied, product
from .layers import layers
from .maps import (
    absolute,
    fourth_power,
    inverted,
    leaking,
    log_size,
    logarithm,
    mapped,
    mishes,
    negated,
    odd,
    rectified,
    rising,
    same,
    sigmoid,
    squared,
)
from .reductions import (
    averaged,
    largest,
    log_determinant,
    normalized_sum,
    nuclear,
    smallest,
    spread,
    summed,
    summed_absolute,
    summed_squares,
)
from .span import ALL, BELOW, LARGEST, SMALLEST, RangeRule, Sizes, Span, in_range, within
from .wholes import log_softmaxed, normalized, ranged, softmaxed

__all__ = [
    "ALL", "BELOW", "LARGEST", "SMALLEST", "RangeRule", "Sizes", "Span", "absolute", "added", "averaged", "divided",
    "dotted", "fourth_power", "gram", "in_range", "inverted", "largest", "layers", "leaking", "log_determinant",
    "log_size", "log_softmaxed", "logarithm", "mapped", "mishes", "multiplied", "negated", "normalized",
    "normalized_sum", "nuclear", "odd", "product", "ranged", "rectified", "rising", "same", "sigmoid",
    "smallest", "softmaxed", "spread", "squared", "summed", "summed_absolute", "summed_squares", "within",
]  # fmt: skip
