"""SymPy: a Score as one closed formula, with sums over the indices of rows, columns and layers.

Exact real arithmetic: float32's range is no part of it. SymPy is imported when this module is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from numpy.typing import NDArray
from sympy.concrete.expr_with_intlimits import ExprWithIntLimits

from .errors import ProxforgeError
from .expr import Node, statistics_of, topological
from .ops import FACT, NUMBER, STATISTIC, Form, Op
from .types import STATISTICS, Kind

MAX_OPERATIONS = 5_000
"""Operations in one SymPy expression, which shares nothing: a part that is used twice stands there twice."""

EPS = sp.Rational(1, 10**9)
_I, _J, _L = sp.symbols("i j l", integer=True, nonnegative=True)
LAYERS = sp.Symbol("layers", integer=True, positive=True)
"""The number of layers."""


class _Over(ExprWithIntLimits):  # type: ignore[misc]
    """A function of all values of an expression over its limits, which SymPy itself has no form for."""

    def __new__(cls, function: sp.Expr, *limits: Any) -> _Over:
        return ExprWithIntLimits.__new__(cls, function, *limits)  # type: ignore[no-any-return]

    def _rows(self, printer: Any) -> str:
        """The values as nested lists, in Python."""
        code: str = printer._print(self.function)
        for index, low, high in reversed(self.limits):
            code = f"[{code} for {index} in range({printer._print(low)}, {printer._print(high + 1)})]"
        return code

    def _flat(self, printer: Any) -> str:
        loops = (f"for {i} in range({printer._print(a)}, {printer._print(b + 1)})" for i, a, b in reversed(self.limits))
        return f"({printer._print(self.function)} {' '.join(loops)})"


class Minimum(_Over):
    """The smallest value over the limits."""

    def _pythoncode(self, printer: Any) -> str:
        return f"builtins.min({self._flat(printer)})"

    _numpycode = _mpmathcode = _pythoncode


class Maximum(_Over):
    """The largest value over the limits."""

    def _pythoncode(self, printer: Any) -> str:
        return f"builtins.max({self._flat(printer)})"

    _numpycode = _mpmathcode = _pythoncode


class NuclearNorm(_Over):
    """The sum of the singular values of the matrix with these elements."""

    def _numpycode(self, printer: Any) -> str:
        norm = printer._module_format("numpy.linalg.norm")
        return f"{norm}({self._rows(printer)}, 'nuc')"

    def _mpmathcode(self, printer: Any) -> str:
        svd, matrix = printer._module_format("mpmath.svd"), printer._module_format("mpmath.matrix")
        return f"builtins.sum({svd}({matrix}({self._rows(printer)}), compute_uv=False))"


class LogDeterminant(_Over):
    """ln |det| of the matrix with these elements."""

    def _numpycode(self, printer: Any) -> str:
        return f"{printer._module_format('numpy.linalg.slogdet')}({self._rows(printer)})[1]"

    def _mpmathcode(self, printer: Any) -> str:
        det, matrix = printer._module_format("mpmath.det"), printer._module_format("mpmath.matrix")
        return f"{printer._module_format('mpmath.log')}(abs({det}({matrix}({self._rows(printer)}))))"


@dataclass(frozen=True)
class Family:
    """The elements of a Matrix, ``expr`` in the indices i and j; or a Scalar, of which ``shape`` is None.

    What the sympy expression of an op gets that is not elementwise.
    """

    expr: sp.Expr
    shape: tuple[sp.Expr, sp.Expr] | None
    fresh: Iterator[int]

    @property
    def count(self) -> sp.Expr:
        """The number of elements."""
        return sp.Integer(1) if self.shape is None else self.shape[0] * self.shape[1]

    def over(self, form: type[Any], expr: sp.Expr | None = None) -> sp.Expr:
        """``form`` (Sum, Minimum, ..) of ``expr``, the elements themselves if None, over all of them."""
        expr = self.expr if expr is None else expr
        if self.shape is None:
            return sp.sqrt(expr**2) if form is NuclearNorm else expr
        n = next(self.fresh)
        i, j = sp.symbols(f"i{n} j{n}", integer=True, nonnegative=True)
        return form(expr.xreplace({_I: i, _J: j}), (i, 0, self.shape[0] - 1), (j, 0, self.shape[1] - 1))

    def mean(self) -> sp.Expr:
        return self.over(sp.Sum) / self.count

    def std(self) -> sp.Expr:
        return sp.sqrt(self.over(sp.Sum, (self.expr - self.mean()) ** 2) / (self.count - 1))

    def column_sum(self, expr: sp.Expr) -> sp.Expr:
        """The sum over the rows."""
        if self.shape is None:
            return expr
        i = sp.Symbol(f"i{next(self.fresh)}", integer=True, nonnegative=True)
        return sp.Sum(expr.xreplace({_I: i}), (i, 0, self.shape[0] - 1))


def normalize(x: Family) -> sp.Expr:
    if x.shape is None:
        return sp.Integer(0)
    constant = 1 - sp.sign(x.over(Maximum) - x.over(Minimum))  # 1 or 0: no Piecewise, which SymPy moves out of sums
    centred = x.expr - x.mean()
    spread = sp.sqrt(x.over(sp.Sum, centred**2) / sp.Max(x.count - 1, 1))
    return centred / (spread + constant)


def softmax(x: Family) -> sp.Expr:
    return sp.exp(x.expr) / x.column_sum(sp.exp(x.expr))


def log_softmax(x: Family) -> sp.Expr:
    return x.expr - sp.log(x.column_sum(sp.exp(x.expr)))


def min_max(x: Family) -> sp.Expr:
    low = x.over(Minimum)
    return (x.expr - low) / (x.over(Maximum) - low + EPS)


def normalized_sum(x: Family, expr: sp.Expr) -> sp.Expr:
    return expr if x.shape is None else x.over(sp.Sum, expr) / (x.count + EPS)


def product(x: Family, y: Family) -> sp.Expr:
    if x.shape is None:
        return x.expr * y.expr
    k = sp.Symbol(f"k{next(x.fresh)}", integer=True, nonnegative=True)
    return sp.Sum(x.expr.xreplace({_J: k}) * y.expr.xreplace({_I: k}), (k, 0, x.shape[1] - 1))


def gram(x: Family) -> sp.Expr:
    return squared_rows(x) / x.count


def squared_rows(x: Family) -> sp.Expr:
    """x x^T."""
    if x.shape is None:
        return x.expr**2
    k = sp.Symbol(f"k{next(x.fresh)}", integer=True, nonnegative=True)
    row = x.expr.xreplace({_J: k})
    return sp.Sum(row * row.xreplace({_I: _J}), (k, 0, x.shape[1] - 1))


def slogdet(x: Family) -> sp.Expr:
    if x.shape is None:
        return sp.log(x.expr**2 * (1 + EPS))
    least = EPS * x.over(sp.Sum, x.expr**2) / x.count
    square = squared_rows(x) / x.shape[1] + least * sp.KroneckerDelta(_I, _J)
    return Family(square, (x.shape[0], x.shape[0]), x.fresh).over(LogDeterminant)


def over_layers(form: type[Any], x: sp.Expr) -> sp.Expr:
    return form(x, (_L, 0, LAYERS - 1))


def to_sympy(node: Node) -> sp.Expr:
    """The Score as one SymPy expression.

    A statistic is an ``IndexedBase`` with ``.`` as ``_``: ``qkv_w[l, i, j]`` is row i, column j in layer l. The axes
    are indexed by the layer, ``d[l]``; ``layers`` is the number of layers; the network's own facts have their names.

    Raises ProxforgeError ``export`` for more than MAX_OPERATIONS operations, or a registered op without a sympy form.
    """
    order = topological([node])
    if _length(order) > MAX_OPERATIONS:
        message = f"the formula has more than {MAX_OPERATIONS:,} operations as one SymPy expression; shorten it"
        raise ProxforgeError("export", message)
    fresh = itertools.count(1)
    made: dict[int, sp.Expr] = {}
    for n in order:
        if n.op is STATISTIC:
            base = sp.IndexedBase(str(n.attr).replace(".", "_"), real=True)
            made[id(n)] = base[_L, _I, _J]
        elif n.op is FACT:
            made[id(n)] = sp.Symbol(str(n.attr), positive=True)
        elif n.op is NUMBER:
            made[id(n)] = _number(float(n.attr))
        else:
            made[id(n)] = _applied(n.op, [_family(a, made[id(a)], fresh) for a in n.args])
    return made[id(node)]


def _length(order: list[Node]) -> int:
    """An upper bound of the operations in the expression of the last node, which is not made for that."""
    lengths: dict[int, int] = {}
    for n in order:
        own, *uses = _growth(n.op, tuple(a.type.kind is Kind.MATRIX for a in n.args)) if n.args else (1,)
        lengths[id(n)] = own + sum(k * lengths[id(a)] for k, a in zip(uses, n.args, strict=True))
    return lengths[id(order[-1])]


@cache
def _growth(op: Op, matrices: tuple[bool, ...]) -> tuple[int, ...]:
    """(operations that the op adds, how often each operand stands in its expression)."""
    marks = [sp.IndexedBase(name, real=True)[_L, _I, _J] for name in ("x", "y")][: op.arity]
    shape, fresh = (_axis("m"), _axis("n")), itertools.count(1)
    families = [Family(x, shape if m else None, fresh) for x, m in zip(marks, matrices, strict=True)]
    parts = list(sp.preorder_traversal(_applied(op, families)))
    return len(parts), *(sum(isinstance(p, sp.Indexed) and p.base == x.base for p in parts) for x in marks)


def evaluate(
    node: Node, layers: Sequence[Mapping[str, NDArray[np.floating]]], facts: Mapping[str, float] | None = None
) -> float:
    """The Score of one network from its SymPy expression, in 100 digits and without float32's range.

    ``layers``: for each layer the statistics by name, ``[r, c]``; ``facts``: the network's own. NaN where the
    expression is complex or divides by 0. ProxforgeError ``export`` as `to_sympy`, ``shape`` for sizes that cannot be.
    """
    expr = to_sympy(node)
    given: dict[str, Any] = {"layers": len(layers), **(facts or {})}
    for name in statistics_of([node]):
        given[name.replace(".", "_")] = {
            (n, *place): mpmath.mpf(float(x))
            for n, layer in enumerate(layers)
            for place, x in np.ndenumerate(layer[name])
        }
        t = STATISTICS[name].type
        for axis, sizes in ((t.rows, [len(x[name]) for x in layers]), (t.cols, [x[name].shape[1] for x in layers])):
            factor, base = _factored(axis)
            if any(size % factor for size in sizes):
                raise ProxforgeError(
                    "shape", f"'{name}' has {sizes} {axis} in its layers; expected multiples of {factor}"
                )
            given[base] = [size // factor for size in sizes]
    if expr.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
        return math.nan
    names = sorted(str(s) for s in expr.free_symbols if str(s) in given)
    compute = sp.lambdify([sp.Symbol(name) for name in names], expr, "mpmath")
    try:
        with mpmath.workdps(100):
            value = mpmath.mpmathify(compute(*(given[name] for name in names)))
            return float(mpmath.re(value)) if mpmath.im(value) == 0 else math.nan
    except ZeroDivisionError:
        return math.nan


def _number(value: float) -> sp.Expr:
    return sp.Integer(int(value)) if value == int(value) else sp.Float(value)


def _family(node: Node, expr: sp.Expr, fresh: Iterator[int]) -> Family:
    matrix = node.type.kind is Kind.MATRIX
    return Family(expr, (_axis(node.type.rows), _axis(node.type.cols)) if matrix else None, fresh)


def _factored(axis: str) -> tuple[int, str]:
    """``3q`` is three times the axis q."""
    base = axis.lstrip("0123456789")
    return int(axis[: len(axis) - len(base)] or 1), base


def _axis(name: str) -> sp.Expr:
    factor, base = _factored(name)
    return sp.IndexedBase(base, integer=True, positive=True)[_L] * factor


def _applied(op: Op, operands: list[Family]) -> sp.Expr:
    if not op.sympy:
        message = f"the op '{op.name}' has no sympy expression; register it with one, as in sympy=\"tanh({{0}})\""
        raise ProxforgeError("export", message)
    names = ("x", "y")[: op.arity]
    whole = op.form is not Form.LAYERS and not op.elementwise
    values = dict(zip(names, operands if whole else [x.expr for x in operands], strict=True))
    return sp.sympify(eval(op.sympy.format(*names), {**vars(sp), **globals()}, values))
