"""THE op table: one entry per op. Parser, types, analysis, reference, printing, exports, docs are derived from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import facts as f
from . import facts_extended as fx
from . import ranges as rg
from . import reference as ref
from .op import Form as Form
from .op import Op as Op
from .op_sets import PUBLISHED_SETS
from .types import Kind


def _sets(names: str) -> frozenset[str]:
    return frozenset(names.split())


_CORE = _sets("autoprox")
_DAS = _sets("autoprox autodas")
_EZ = _sets("autoprox eznas")
_MOST = _sets("autoprox autodas eznas")
_EXTRA = _sets("extended autodas")
_LAYER = _sets("layer")
_SCALAR = (Kind.SCALAR,)
_Fn = Callable[..., Any]


def _map(name: str, rule: str, fn: _Fn, facts: f.Rule, latex: str, sets: frozenset[str], **more: Any) -> Op:
    return Op(name, 1, Form.MAP, rule, fn, facts, latex, sets, **{"elementwise": True, **more})


def _reduce(name: str, rule: str, fn: _Fn, facts: f.Rule, latex: str, sets: frozenset[str], **more: Any) -> Op:
    return Op(name, 1, Form.REDUCE, rule, fn, facts, latex, sets, **more)


def _layer(name: str, rule: str, fn: _Fn, facts: f.Rule, latex: str, **more: Any) -> Op:
    return Op(name, 1, Form.LAYERS, rule, fn, facts, latex, _LAYER, kinds=_SCALAR, **more)


def _join(name: str, rule: str, fn: _Fn, facts: f.Rule, latex: str, sets: frozenset[str], **more: Any) -> Op:
    return Op(name, 2, Form.JOIN, rule, fn, facts, latex, sets, elementwise=True, **more)


# fmt: off
_TABLE: tuple[Op, ...] = (
    # 16 that keep the shape
    _map("log", "ln(x + ε); x < 0 has no value", ref.log, f.elementwise(), r"\ln\left({0} + \epsilon\right)",
         _sets("autoprox autodas eznas automl_zero"), domain="x ≥ 0", edge="0 gives ln ε = -20.7",
         ranges=rg.logarithm, torch="torch.log(torch.where({0} < 0, torch.nan, {0}) + EPS)",
         sympy="log({0} + EPS)"),
    _map("abslog", "ln |x|, and 0 where x = 0", ref.abslog, f.elementwise(), r"\ln\left\lvert {0}\right\rvert ", _MOST,
         ranges=rg.log_size, torch="torch.where({0} == 0, 0.0, torch.log(torch.abs({0})))",
         sympy="log(Max(Abs({0}), 1 - sign({0})**2))"),
    _map("abs", "|x|", np.abs, f.absolute, r"\left\lvert {0}\right\rvert ", _sets("autoprox eznas automl_zero"),
         ranges=rg.absolute, torch="torch.abs({0})", sympy="Abs({0})"),
    _map("square", "x²", np.square, f.squared, r"\left({0}\right)^2", _MOST,
         domain="|x| ≤ 1.8e19", edge="larger ones overflow, below 1.1e-19 gives 0",
         ranges=rg.squared, torch="{0} * {0}", sympy="{0}**2"),
    _map("exp", "exp(x); may overflow", np.exp, f.elementwise(nonnegative=True), r"\exp\left({0}\right)",
         _sets("autoprox autodas eznas automl_zero"), domain="x ≤ 88.7",
         edge="larger ones overflow, below -87.3 gives 0",
         ranges=rg.mapped(rg.rising(np.exp), convex=True), torch="torch.exp({0})", sympy="exp({0})"),
    _map("normalize", "(x - mean)/std over all elements, std unbiased; constant gives 0", ref.normalize, f.normalized,
         r"\operatorname{{normalize}}\left({0}\right)", _MOST, elementwise=False,
         edge="a constant segment, one element and a Scalar give 0",
         ranges=rg.normalized, torch="normalize({0})", sympy="normalize({0})"),
    _map("relu", "max(x, 0)", ref.relu, f.rectified, r"\operatorname{{relu}}\left({0}\right)", _MOST,
         ranges=rg.rectified(np.positive, identity=True), torch="torch.relu({0})", sympy="Max({0}, 0)"),
    _map("inv", "1/(x + ε)", ref.inv, f.elementwise(), r"\frac{{1}}{{{0} + \epsilon}}",
         _sets("autoprox autodas eznas automl_zero"), domain="x ≠ -ε", edge="0 gives 1e9",
         ranges=rg.inverted, torch="1.0 / ({0} + EPS)",
         sympy="1 / ({0} + EPS)"),
    _map("sigmoid", "1/(1 + exp(-x))", ref.sigmoid, f.elementwise(nonnegative=True), r"\sigma\left({0}\right)", _MOST,
         edge="below -87.3 gives 0",
         ranges=rg.mapped(rg.sigmoid, exact=True), torch="torch.sigmoid({0})", sympy="1 / (1 + exp(-{0}))"),
    _map("softmax", "along axis 0 (the rows), stable", ref.softmax, f.softmaxed,
         r"\operatorname{{softmax}}\left({0}\right)", _MOST, elementwise=False,
         edge="one row, and a Scalar, give 1",
         ranges=rg.softmaxed, torch="torch.softmax({0}, 0)", sympy="softmax({0})"),
    _map("log_softmax", "ln of softmax along axis 0, stable", ref.log_softmax, f.elementwise(scalar=0.0),
         r"\operatorname{{logsoftmax}}\left({0}\right)", _CORE, elementwise=False,
         edge="one row, and a Scalar, give 0",
         ranges=rg.log_softmaxed, torch="torch.log_softmax({0}, 0)", sympy="log_softmax({0})"),
    _map("sqrt", "sqrt(max(x, 0))", ref.sqrt, f.rooted, r"\sqrt{{{0}}}", _DAS, edge="x < 0 gives 0",
         ranges=rg.rectified(np.sqrt, identity=False),
         torch="torch.sqrt(torch.clamp({0}, min=0.0))", sympy="sqrt(Max({0}, 0))"),
    _map("neg", "-x", np.negative, f.negated, r"-{0}", _DAS, ranges=rg.negated, torch="-{0}", sympy="-{0}"),
    _map("min_max", "(x - min)/(max - min + ε) over all elements", ref.min_max, f.ranged,
         r"\operatorname{{minmax}}\left({0}\right)", _DAS, elementwise=False,
         edge="a constant segment and a Scalar give 0",
         ranges=rg.ranged, torch="({0} - {0}.min()) / ({0}.max() - {0}.min() + EPS)",
         sympy="min_max({0})"),
    _map("identity", "x", np.positive, f.same, r"{0}", _DAS, ranges=rg.same, torch="{0}", sympy="{0}"),
    _map("sign", "-1, 0 or 1", np.sign, f.signed, r"\operatorname{{sign}}\left({0}\right)", _EZ,
         edge="0 gives 0",
         ranges=rg.odd(np.sign, exact=True), torch="torch.where({0}.isnan(), {0}, torch.sign({0}))", sympy="sign({0})"),
    # 8 that reduce
    _reduce("frobenius", "sqrt(Σ x²)", ref.frobenius, f.summed_squares, r"\left\lVert {0}\right\rVert_F",
            _sets("autoprox eznas automl_zero"), edge="of a Scalar |x|",
            ranges=rg.summed_squares, torch="torch.sqrt(({0} * {0}).sum())",
            sympy="sqrt({0}.over(Sum, {0}.expr**2))"),
    _reduce("normalized_sum", "Σ x/(numel + ε); of a Scalar the Scalar", ref.normalized_sum, f.summed,
            r"\frac{{1}}{{N}}\sum {0}", _MOST,
            ranges=rg.normalized_sum, torch="normalized_sum({0})", sympy="normalized_sum({0}, {0}.expr)"),
    _reduce("l1_norm", "Σ |x|/(numel + ε): a mean, as in the papers; of a Scalar |x|", ref.l1_norm, f.summed_absolute,
            r"\frac{{1}}{{N}}\left\lVert {0}\right\rVert_1", _MOST,
            ranges=rg.summed_absolute, torch="normalized_sum(torch.abs({0}))",
            sympy="normalized_sum({0}, Abs({0}.expr))"),
    _reduce("mean", "Σ x/numel", np.mean, f.averaged, r"\operatorname{{mean}}\left({0}\right)",
            _sets("autoprox autodas automl_zero"), ranges=rg.averaged, torch="{0}.mean()", sympy="{0}.mean()"),
    _reduce("std", "unbiased; of one element no value", ref.std, f.spread, r"\operatorname{{std}}\left({0}\right)",
            _sets("autoprox autodas automl_zero"), domain="two elements or more", edge="a constant segment gives 0",
            no_scalar="one number has no unbiased standard deviation (0/0)",
            ranges=rg.spread, torch="std({0})", sympy="{0}.std()"),
    _reduce("sum", "Σ x", np.sum, f.summed, r"\sum {0}", _CORE,
            ranges=rg.summed, torch="{0}.sum()", sympy="{0}.over(Sum)"),
    _reduce("min", "smallest element", np.min, f.extreme(smallest=True), r"\min {0}", _CORE,
            ranges=rg.smallest, torch="{0}.min()",
            sympy="{0}.over(Minimum)"),
    _reduce("max", "largest element", np.max, f.extreme(smallest=False), r"\max {0}", _CORE,
            ranges=rg.largest, torch="{0}.max()",
            sympy="{0}.over(Maximum)"),
    # 4 binary
    _join("+", "a + b", np.add, f.added(1), "{0} + {1}", _sets("autoprox autodas eznas automl_zero"),
          precedence=1, mnemonic="add", commutative=True, ranges=rg.added(1), torch="{0} + {1}", sympy="{0} + {1}"),
    _join("-", "a - b", np.subtract, f.added(-1), "{0} - {1}", _sets("autoprox autodas automl_zero"),
          precedence=1, mnemonic="sub", ranges=rg.added(-1), torch="{0} - {1}", sympy="{0} - {1}"),
    _join("*", "a * b", np.multiply, f.multiplied, r"{0} \odot {1}", _sets("autoprox autodas eznas automl_zero"),
          precedence=2, mnemonic="mul", commutative=True, ranges=rg.multiplied, torch="{0} * {1}", sympy="{0} * {1}"),
    Op("@", 2, Form.PRODUCT, "matrix product; of two Scalars their product", ref.matmul, f.product, r"{0} \, {1}",
       _sets("autoprox eznas automl_zero"), precedence=2, mnemonic="matmul",
       ranges=rg.product, torch="matmul({0}, {1})",
       sympy="product({0}, {1})"),
    # outside the 56
    _join("/", "a / b", np.divide, f.divided, r"\frac{{{0}}}{{{1}}}", _sets("extended autodas automl_zero"),
          precedence=2, mnemonic="div", domain="b ≠ 0", edge="a/0 is infinite, 0/0 has no value",
          ranges=rg.divided, torch="{0} / {1}",
          sympy="{0} / {1}"),
    _map("tanh", "tanh(x)", np.tanh, fx.hyperbolic, r"\tanh\left({0}\right)", _EXTRA,
         ranges=rg.odd(np.tanh), torch="torch.tanh({0})",
         sympy="tanh({0})"),
    _map("mish", "x tanh(ln(1 + exp(x)))", ref.mish, f.elementwise(), r"\operatorname{{mish}}\left({0}\right)", _EXTRA,
         edge="smallest value -0.309, at x = -1.19", ranges=rg.mishes, torch="torch.nn.functional.mish({0})",
         sympy="{0} * tanh(log(1 + exp({0})))"),
    _map("leaky_relu", "x, and 0.01 x where x < 0", ref.leaky_relu, fx.leaking,
         r"\operatorname{{leakyrelu}}\left({0}\right)", _EXTRA,
         ranges=rg.leaking,
         torch="torch.where({0} < 0, 0.01 * {0}, {0})",
         sympy="Max({0}, {0} / 100)"),
    _map("pow4", "x⁴", ref.pow4, fx.fourth_power, r"\left({0}\right)^4", _EXTRA,
         domain="|x| ≤ 4.2e9", edge="larger ones overflow, below 3.3e-10 gives 0",
         ranges=rg.fourth_power, torch="({0} * {0}) ** 2",
         sympy="{0}**4"),
    _map("heaviside", "1 where x > 0, else 0", ref.heaviside, fx.stepped, r"\operatorname{{H}}\left({0}\right)",
         _sets("extended eznas automl_zero"), edge="0 gives 0",
         ranges=rg.rectified(ref.heaviside, identity=False),
         torch="torch.where({0}.isnan(), {0}, ({0} > 0).double())", sympy="Max(sign({0}), 0)"),
    Op("gram", 1, Form.GRAM, "x xᵀ/numel; of a Scalar its square", ref.gram, fx.gram,
       r"\operatorname{{gram}}\left({0}\right)", _sets("extended"),
       edge="one row gives one element; r rows take r² numbers", ranges=rg.gram, torch="gram({0})",
       sympy="gram({0})"),
    _reduce("nuclear_norm", "sum of the singular values", ref.nuclear_norm, fx.nuclear,
            r"\left\lVert {0}\right\rVert_*", _sets("extended"), edge="of a Scalar |x|",
            ranges=rg.nuclear, torch="nuclear_norm({0})",
            sympy="{0}.over(NuclearNorm)"),
    _reduce("slogdet", "ln det(x xᵀ/c + ε μ I), c columns, μ the mean of x²", ref.slogdet, fx.slogdet,
            r"\operatorname{{slogdet}}\left({0}\right)", _sets("extended eznas"),
            domain="x not all 0", edge="every shape has a value; k x has 2 ln k more for every row; of a Scalar ln x²",
            ranges=rg.log_determinant, torch="slogdet({0})",
            sympy="slogdet({0})"),
    Op("dot", 2, Form.DOT, "Σ a b; of two Scalars their product", ref.dot, fx.dotted,
       r"\left\langle {0}, {1}\right\rangle ", _sets("extended autodas automl_zero"), commutative=True,
       ranges=rg.dotted, torch="({0} * {1}).sum()", sympy="{0}.over(Sum, {0}.expr * {1}.expr)"),
    _layer("layer_mean", "mean over the layers", np.mean, f.layers(),
           r"\underset{{l}}{{\operatorname{{mean}}}}\; {0}", ranges=rg.layers("mean"), torch="{0}.mean()",
           sympy="over_layers(Sum, {0}) / LAYERS"),
    _layer("layer_sum", "sum over the layers", np.sum, f.layers(counts=True), r"\sum_{{l}} {0}",
           ranges=rg.layers("sum"), torch="{0}.sum()",
           sympy="over_layers(Sum, {0})"),
    _layer("layer_min", "smallest over the layers", np.min, f.layers(), r"\min_{{l}}\; {0}",
           ranges=rg.layers("min"), torch="{0}.min()",
           sympy="over_layers(Minimum, {0})"),
    _layer("layer_max", "largest over the layers", np.max, f.layers(), r"\max_{{l}}\; {0}",
           ranges=rg.layers("max"), torch="{0}.max()",
           sympy="over_layers(Maximum, {0})"),
    _layer("layer_std", "unbiased std over the layers; of one layer no value", ref.std, f.layers(spreads=True),
           r"\underset{{l}}{{\operatorname{{std}}}}\; {0}", domain="two layers or more",
           ranges=rg.layers("std"), torch="std({0})",
           sympy="sqrt(over_layers(Sum, ({0} - over_layers(Sum, {0}) / LAYERS)**2) / (LAYERS - 1))"),
)
# fmt: on

OPS: dict[str, Op] = {op.name: op for op in _TABLE}
"""Every op by name."""

CALLABLE: dict[str, Op] = {name: op for name, op in OPS.items() if not op.infix}
"""The ops that are written as calls; the others are written between their operands."""

OP_SETS: dict[str, tuple[str, ...]] = {
    name: tuple(op.name for op in _TABLE if name in op.sets) for name in PUBLISHED_SETS
}
"""Named op sets: what search spaces draw from."""


def add(op: Op) -> None:
    """Takes an op that was checked into the tables; see `proxforge.vm.register`."""
    OPS[op.name] = op
    CALLABLE[op.name] = op
    for name in op.sets:
        OP_SETS[name] = (*OP_SETS.get(name, ()), op.name)


def remove(op: Op) -> None:
    """Undoes `add`."""
    del OPS[op.name], CALLABLE[op.name]
    for name in op.sets:
        OP_SETS[name] = tuple(n for n in OP_SETS[name] if n != op.name)
        if not OP_SETS[name]:
            del OP_SETS[name]


def _leaf(name: str) -> Op:
    def refuse(*_: object) -> Any:
        raise TypeError(f"'{name}' is a leaf: its value is read, not computed")

    return Op(name, 0, Form.LEAF, "", refuse)


STATISTIC, NUMBER, FACT = _leaf("statistic"), _leaf("number"), _leaf("fact")
"""The leaves of an expression: a statistic, a number, a fact of the network (``params``, ``depth``, ...)."""
