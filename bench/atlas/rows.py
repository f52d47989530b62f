"""Which elements have to be computed at all: a matrix as a multiple of another's elements, plus numbers.

The branches of a statistic are functions of one matrix, and many are multiples of each other but for a number, or for a
number in each column: ``normalize(x)``, ``log_softmax(x)`` and ``x``. One row of the tall matrix serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...grammar.ops import OPS
from ...grammar.reference import EPS

Array = NDArray[np.float64]
Key = tuple[str, str]
"""A row: inner and outer op. With the outer op identity it is the inner op's result."""

COLUMNWISE = ("softmax", "log_softmax")
CENTRED = 16.0
"""Rows whose mean is so many times their deviation are kept without it: what cancels would be their digits."""
SURE = 1e-30
"""A number further from 0 has its sign in every computation."""
INPUT: Key = ("identity", "identity")


@dataclass(frozen=True)
class Known:
    """What is known of the result of an inner op in one layer: `values.MOMENTS`."""

    mean: float
    std: float
    low: float
    high: float

    @property
    def centre(self) -> float:
        """What is taken from the elements of its row."""
        return self.mean if abs(self.mean) > CENTRED * self.std else 0.0

    def within(self, bound: float) -> bool:
        """Whether no element is larger, by absolute value."""
        return -bound <= self.low and self.high <= bound


@dataclass(frozen=True)
class Form:
    """``factor`` times a row, plus ``shift``, less ``share`` times a number for each column, see `numbers`. Without a
    row: a number."""

    row: Key | None
    factor: float = 1.0
    shift: float = 0.0
    columns: str | None = None
    share: float = 0.0

    def scaled(self, factor: float, shift: float) -> Form:
        """``factor`` times it, plus ``shift``."""
        if self.row is None:
            return Form(None, 0.0, factor * self.shift + shift)
        return Form(self.row, factor * self.factor, factor * self.shift + shift, self.columns, factor * self.share)


def form_of(inner: str, outer: str, known: Mapping[str, Known], tiny: bool) -> Form:
    """A branch in one layer. ``known``: by inner op; ``tiny``: whether squares of elements underflow."""
    base, mine = inner_form(inner, known), known[inner]
    if outer in AFFINE:
        return base.scaled(*affine(outer, mine))
    if outer == "log_softmax" and base.columns is None and base.row is not None:
        return Form(base.row, base.factor, 0.0, inner, 1.0)
    if outer in _ONE_SIDED:
        if mine.low >= SURE:
            return Form(None, 0.0, 1.0) if outer == "sign" else base if outer == "relu" else Form((inner, outer))
        if mine.high <= -SURE or (mine.high <= 0 and outer != "sign"):
            return Form(None, 0.0, -1.0 if outer == "sign" else 0.0)
    if inner == "sign" and outer not in COLUMNWISE:
        if mine.low == mine.high:
            return Form(None, 0.0, _of_number(outer, mine.low))
        if "abs" in known and known["abs"].low > 0:  # two values: a line through them
            up, down = _of_number(outer, 1.0), _of_number(outer, -1.0)
            return Form((inner, "identity"), (up - down) / 2, (up + down) / 2)
    same = _SAME.get((inner, outer))
    if same is not None and same.form.row is not None and same.form.row[0] in known and same.holds(known, tiny):
        return same.form
    return Form((inner, outer))


def inner_form(inner: str, known: Mapping[str, Known]) -> Form:
    """The result of an inner op."""
    if inner in AFFINE:
        return Form(INPUT, *affine(inner, known["identity"]))
    return Form(INPUT, 1.0, 0.0, inner, 1.0) if inner == "log_softmax" else Form((inner, "identity"))


def centre_of(row: Key, known: Mapping[str, Known]) -> float:
    """What is taken from the elements of a row."""
    return known[row[0]].centre if row[1] == "identity" else 0.0


def one_sided(row: Key, known: Mapping[str, Known]) -> bool:
    """Whether no two elements of a row are on different sides of 0, as far as that is known."""
    if row[1] == "identity":
        mine = known[row[0]]
        return mine.centre == 0.0 and (mine.low >= 0.0 or mine.high <= 0.0)
    return row[1] in _SIDED


def shift_of(form: Form, known: Mapping[str, Known]) -> float:
    """What is added to the form of the row without its centre, and of `numbers`."""
    if form.row is None or (form.columns is not None and form.columns != "log_softmax"):
        return form.shift
    less = centre_of(form.row, known) if form.columns is None else known["log_softmax"].centre
    return form.shift + form.factor * less


def numbers(columns: str, known: Mapping[str, Known]) -> tuple[str, float]:
    """The numbers of the columns in a `Form`: an inner op, and what is taken from the log(sum(exp)) of its columns.

    Its row is without its centre, and so are they. Those of ``log_softmax`` itself are chosen so that what is less
    them has no mean: ``normalize(log_softmax(x))`` keeps its digits where x is nearly constant.
    """
    if columns == "log_softmax":
        return "identity", centre_of(INPUT, known) - known["log_softmax"].centre
    base = inner_form(columns, known)
    assert base.row is not None
    return columns, base.factor * centre_of(base.row, known) + base.shift


def affine(op: str, known: Known) -> tuple[float, float]:
    """(s, t) of an op of `AFFINE`, s x + t."""
    if op == "normalize":
        scale = 0.0 if known.low == known.high or not known.std > 0 else 1.0 / known.std
        return scale, -known.mean * scale
    if op == "min_max":
        scale = 1.0 / (known.high - known.low + EPS)
        return scale, -known.low * scale
    return (-1.0, 0.0) if op == "neg" else (1.0, 0.0)


def _of_number(op: str, value: float) -> float:
    with np.errstate(all="ignore"):
        return float(OPS[op].reference(np.array([[value]]))[0, 0])


AFFINE = ("identity", "neg", "min_max", "normalize")
"""Ops that are s x + t."""
_ONE_SIDED = ("sign", "relu", "sqrt")
_SIDED = frozenset(
    ("abs", "square", "pow4", "exp", "sigmoid", "softmax", "sqrt", "relu", "heaviside", "min_max", "log_softmax")
)
"""Ops whose results are all on one side of 0."""


@dataclass(frozen=True)
class _Same:
    form: Form
    holds: Callable[[Mapping[str, Known], bool], bool]


def _always(known: Mapping[str, Known], tiny: bool) -> bool:
    return True


def _no_tiny(known: Mapping[str, Known], tiny: bool) -> bool:
    return not tiny


_SAME: dict[Key, _Same] = {
    # ln sqrt(max(x, 0)) = 1/2 ln max(x, 0), and 0 where x <= 0
    ("sqrt", "abslog"): _Same(Form(("relu", "abslog"), 0.5), _always),
    # sqrt(max(x, 0))² = max(x, 0)
    ("sqrt", "square"): _Same(Form(("relu", "identity")), _always),
    # sqrt(x²) = |x|
    ("square", "sqrt"): _Same(Form(("abs", "identity")), _no_tiny),
    # ln x² = 2 ln |x|
    ("square", "abslog"): _Same(Form(("abslog", "identity"), 2.0), _no_tiny),
    # exp(log_softmax(x)) = softmax(x)
    ("log_softmax", "exp"): _Same(Form(("softmax", "identity")), _always),
    # ln softmax(x) = log_softmax(x), where no element is below float32's range
    ("softmax", "abslog"): _Same(
        Form(INPUT, 1.0, 0.0, "log_softmax", 1.0), lambda k, tiny: "log_softmax" in k and k["softmax"].low > 1e-36
    ),
    # 1/(1 + exp(x)) = 1 - 1/(1 + exp(-x)), where that keeps its digits
    ("neg", "sigmoid"): _Same(Form(("sigmoid", "identity"), -1.0, 1.0), lambda k, tiny: k["identity"].high < 5.0),
}
"""Branches that are others, each with the algebra and where it holds."""
