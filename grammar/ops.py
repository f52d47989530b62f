"""THE op table: one entry per op. Parser, types, analysis, reference, printing and docs are derived from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from . import facts as f
from . import reference as ref
from .types import Kind


class Form(Enum):
    """The shape rule of an op."""

    MAP = "keeps the shape"
    REDUCE = "all elements -> Scalar"
    JOIN = "equal shapes, or a Scalar broadcasts"
    PRODUCT = "equal inner axes"
    LAYERS = "all layers -> Score"
    LEAF = "a leaf"


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One op of the language.

    ``reference``: numpy float64 arrays ``[r, c]`` (Matrix) or 0-d (Scalar) -> the same; of a layer op ``[layers]`` in.
    ``rule``: the definition as text. ``latex``: a template with one field per operand. ``facts``: the transfer rule of
    the analysis. ``elementwise``: an element of the result depends on the same elements of the operands alone.
    ``name`` is how it is written; a binary op is written between its operands with a ``precedence`` (higher binds
    tighter) and has a ``mnemonic`` for disassemblies. ``no_scalar`` says why the op has no value on a Scalar.
    """

    name: str
    arity: int
    form: Form
    rule: str
    reference: Callable[..., Any]
    facts: f.Rule
    latex: str
    sets: frozenset[str]
    elementwise: bool = False
    commutative: bool = False
    precedence: int = 9
    mnemonic: str = ""
    no_scalar: str = ""
    kinds: tuple[Kind, ...] = (Kind.MATRIX, Kind.SCALAR)

    @property
    def signatures(self) -> tuple[str, ...]:
        """One signature per kind, for instance ``Matrix[r, c] -> Scalar``."""
        return tuple(_signature(self.form, self.arity, kind) for kind in self.kinds)


def _signature(form: Form, arity: int, kind: Kind) -> str:
    if form is Form.LAYERS:
        return "Scalar -> Score"
    name = kind.name.capitalize()
    if kind is not Kind.MATRIX:
        return f"{', '.join([name] * arity)} -> {name}"
    operands = {Form.PRODUCT: "Matrix[r, k], Matrix[k, c]"}.get(form, ", ".join(["Matrix[r, c]"] * arity))
    return f"{operands} -> {'Scalar' if form is Form.REDUCE else 'Matrix[r, c]'}"


_AUTOPROX = frozenset({"autoprox"})
_LAYER = frozenset({"layer"})
_EXTENDED = frozenset({"extended"})


def _map(name: str, rule: str, fn: Callable[..., Any], facts: f.Rule, latex: str, elementwise: bool = True) -> Op:
    return Op(name, 1, Form.MAP, rule, fn, facts, latex, _AUTOPROX, elementwise)


def _reduce(name: str, rule: str, fn: Callable[..., Any], facts: f.Rule, latex: str, no_scalar: str = "") -> Op:
    return Op(name, 1, Form.REDUCE, rule, fn, facts, latex, _AUTOPROX, no_scalar=no_scalar)


def _layer(name: str, rule: str, fn: Callable[..., Any], facts: f.Rule, latex: str) -> Op:
    return Op(name, 1, Form.LAYERS, rule, fn, facts, latex, _LAYER, kinds=(Kind.SCALAR,))


def _join(
    name: str,
    rule: str,
    fn: Callable[..., Any],
    facts: f.Rule,
    latex: str,
    precedence: int,
    mnemonic: str,
    *,
    commutative: bool = False,
    sets: frozenset[str] = _AUTOPROX,
) -> Op:
    return Op(name, 2, Form.JOIN, rule, fn, facts, latex, sets, True, commutative, precedence, mnemonic)


_TABLE: tuple[Op, ...] = (
    # 16 that keep the shape
    _map("log", "ln(x + ε); x < 0 has no value", ref.log, f.elementwise(), r"\ln\left({0} + \epsilon\right)"),
    _map("abslog", "ln |x|, and 0 where x = 0", ref.abslog, f.elementwise(), r"\ln\left\lvert {0}\right\rvert "),
    _map("abs", "|x|", np.abs, f.absolute, r"\left\lvert {0}\right\rvert "),
    _map("square", "x²", np.square, f.squared, r"\left({0}\right)^2"),
    _map("exp", "exp(x); may overflow", np.exp, f.elementwise(nonnegative=True), r"\exp\left({0}\right)"),
    _map(
        "normalize",
        "(x - mean)/std over all elements, std unbiased; constant gives 0",
        ref.normalize,
        f.normalized,
        r"\operatorname{{normalize}}\left({0}\right)",
        False,
    ),
    _map("relu", "max(x, 0)", ref.relu, f.rectified, r"\operatorname{{relu}}\left({0}\right)"),
    _map("inv", "1/(x + ε)", ref.inv, f.elementwise(), r"\frac{{1}}{{{0} + \epsilon}}"),
    _map("sigmoid", "1/(1 + exp(-x))", ref.sigmoid, f.elementwise(nonnegative=True), r"\sigma\left({0}\right)"),
    _map(
        "softmax",
        "along axis 0 (the rows), stable",
        ref.softmax,
        f.softmaxed,
        r"\operatorname{{softmax}}\left({0}\right)",
        False,
    ),
    _map(
        "log_softmax",
        "ln of softmax along axis 0, stable",
        ref.log_softmax,
        f.elementwise(scalar=0.0),
        r"\operatorname{{logsoftmax}}\left({0}\right)",
        False,
    ),
    _map("sqrt", "sqrt(max(x, 0))", ref.sqrt, f.rooted, r"\sqrt{{{0}}}"),
    _map("neg", "-x", np.negative, f.negated, r"-{0}"),
    _map(
        "min_max",
        "(x - min)/(max - min + ε) over all elements",
        ref.min_max,
        f.ranged,
        r"\operatorname{{minmax}}\left({0}\right)",
        False,
    ),
    _map("identity", "x", np.positive, f.same, r"{0}"),
    _map("sign", "-1, 0 or 1", np.sign, f.signed, r"\operatorname{{sign}}\left({0}\right)"),
    # 8 that reduce
    _reduce("frobenius", "sqrt(Σ x²)", ref.frobenius, f.summed_squares, r"\left\lVert {0}\right\rVert_F"),
    _reduce(
        "normalized_sum",
        "Σ x/(numel + ε); of a Scalar the Scalar",
        ref.normalized_sum,
        f.summed,
        r"\frac{{1}}{{N}}\sum {0}",
    ),
    _reduce(
        "l1_norm",
        "Σ |x|/(numel + ε): a mean, as in the papers; of a Scalar |x|",
        ref.l1_norm,
        f.summed_absolute,
        r"\frac{{1}}{{N}}\left\lVert {0}\right\rVert_1",
    ),
    _reduce("mean", "Σ x/numel", np.mean, f.averaged, r"\operatorname{{mean}}\left({0}\right)"),
    _reduce(
        "std",
        "unbiased; of one element no value",
        ref.std,
        f.spread,
        r"\operatorname{{std}}\left({0}\right)",
        "one number has no unbiased standard deviation (0/0)",
    ),
    _reduce("sum", "Σ x", np.sum, f.summed, r"\sum {0}"),
    _reduce("min", "smallest element", np.min, f.extreme(smallest=True), r"\min {0}"),
    _reduce("max", "largest element", np.max, f.extreme(smallest=False), r"\max {0}"),
    # 4 binary
    _join("+", "a + b", np.add, f.added(1), "{0} + {1}", 1, "add", commutative=True),
    _join("-", "a - b", np.subtract, f.added(-1), "{0} - {1}", 1, "sub"),
    _join("*", "a * b", np.multiply, f.multiplied, r"{0} \odot {1}", 2, "mul", commutative=True),
    Op(
        "@",
        2,
        Form.PRODUCT,
        "matrix product; of two Scalars their product",
        ref.matmul,
        f.product,
        r"{0} \, {1}",
        _AUTOPROX,
        precedence=2,
        mnemonic="matmul",
    ),
    # outside the 56
    _join("/", "a / b", np.divide, f.divided, r"\frac{{{0}}}{{{1}}}", 2, "div", sets=_EXTENDED),
    _layer("layer_mean", "mean over the layers", np.mean, f.layers(), r"\underset{{l}}{{\operatorname{{mean}}}}\; {0}"),
    _layer("layer_sum", "sum over the layers", np.sum, f.layers(counts=True), r"\sum_{{l}} {0}"),
    _layer("layer_min", "smallest over the layers", np.min, f.layers(), r"\min_{{l}}\; {0}"),
    _layer("layer_max", "largest over the layers", np.max, f.layers(), r"\max_{{l}}\; {0}"),
    _layer(
        "layer_std",
        "unbiased std over the layers; of one layer no value",
        ref.std,
        f.layers(spreads=True),
        r"\underset{{l}}{{\operatorname{{std}}}}\; {0}",
    ),
)  # fmt: skip

OPS: Mapping[str, Op] = {op.name: op for op in _TABLE}
"""Every op by name."""

CALLABLE: Mapping[str, Op] = {op.name: op for op in _TABLE if op.arity == 1}
"""The ops that are written as calls; the binary ones are written between their operands."""

OP_SETS: Mapping[str, tuple[str, ...]] = {
    name: tuple(op.name for op in _TABLE if name in op.sets) for name in ("autoprox", "extended", "layer")
}
"""Named op sets: what search spaces draw from."""


def _leaf(name: str) -> Op:
    def refuse(*_: object) -> Any:
        raise TypeError(f"'{name}' is a leaf: its value is read, not computed")

    return Op(name, 0, Form.LEAF, "", refuse, lambda args, kind: f.UNKNOWN, "", frozenset())


STATISTIC, NUMBER, FACT = _leaf("statistic"), _leaf("number"), _leaf("fact")
"""The leaves of an expression: a statistic, a number, a fact of the network (``params``, ``depth``, ...)."""
