"""The SymPy expression of every op, and of whole formulas, computes what the float64 reference computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from proxforge.bench.proxies import PUBLISHED
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.export_sympy import sympy_source
from proxforge.grammar.expr import Node, Pool
from proxforge.grammar.ops import OPS, Form
from proxforge.grammar.parse import parse
from proxforge.grammar.reference import FLOAT32_TINY, in_range
from proxforge.grammar.symbolic import MAX_OPERATIONS, evaluate, to_sympy
from proxforge.grammar.text import text
from proxforge.grammar.types import NETWORK_FACTS, Kind
from tests.random_programs import random_score, random_source
from tests.rounding import reference_run, rounding

MATRICES = {
    "ordinary": [[0.5, -2.0, 0.0], [3.0, 1e-3, -0.25]],
    "tall": [[0.5, -2.0], [0.0, 3.0], [1e-12, -1e-30]],
    "positive": [[0.25, 4.0, 1e-20], [0.5, 0.125, 2.0]],
    "huge": [[1e15, -3e18], [2e-20, 80.0]],
    "one row": [[0.1, 0.2, 0.4]],
    "one column": [[0.1], [0.2], [-0.4]],
    "constant": [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]],
    "zeros": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
    "one element": [[-3.0]],
    "one positive element": [[0.5]],
}
SCALARS = (0.5, -2.0, 0.0, 1e18, 1e-25, 80.0)


def value_of(op, kinds, operands) -> tuple[Node, list[dict[str, np.ndarray]]]:
    """The Score of the op on these operands, as it is reduced by the language, and the layers of its network."""
    pool = Pool()
    names = ("fc2.w", "fc1.w") if op.form is Form.PRODUCT else ("fc1.w", "fc1.g")
    if len(set(kinds)) == 2:
        names = ("fc1.w", "conv.w")  # without a common axis: the Scalar is the maximum of one element
    layer, args = {}, []
    for name, kind, x in zip(names, kinds, operands, strict=False):
        layer[name] = np.atleast_2d(x)
        statistic = pool.statistic(name)
        args.append(statistic if kind is Kind.MATRIX else pool.apply(OPS["max"], statistic))
    return pool.score(pool.apply(op, *args)), [layer]


def compare(op, kinds, operands) -> bool:
    """Whether there was a value to compare."""
    node, layers = value_of(op, kinds, operands)
    with np.errstate(all="ignore"):
        inside = [np.asarray(float(x)) if k is Kind.SCALAR else x for k, x in zip(kinds, operands, strict=True)]
        elements = in_range(np.asarray(op.reference(*inside)))
    found = evaluate(node, layers)
    if not np.isfinite(elements).all():
        return False  # NaN, or beyond float32's range: real arithmetic may well have a value
    scale = np.abs(elements).max()
    bound = 1e-11 * scale + (1e-16 if op.name == "std" else FLOAT32_TINY)  # rounding makes a constant's std 1e-17
    assert abs(found - elements.mean()) <= bound, (op.name, operands, found, elements.mean())
    return True


MATRIX_OPS = [op.name for op in OPS.values() if op.form is not Form.LAYERS]


@pytest.mark.parametrize("name", MATRIX_OPS)
def test_every_op_on_matrices(name):
    op = OPS[name]
    kinds = (Kind.MATRIX,) * op.arity
    given_ = [np.array(x) for x in MATRICES.values()]
    second = [x[::-1, ::-1].T if op.form is Form.PRODUCT else x[::-1, ::-1] for x in given_]
    compared = [compare(op, kinds, (a, b)[: op.arity]) for a, b in zip(given_, second, strict=True)]
    assert sum(compared) >= 3


@pytest.mark.parametrize("name", [n for n in MATRIX_OPS if not OPS[n].no_scalar])
def test_every_op_on_scalars(name):
    op = OPS[name]
    pairs = [(np.asarray(a), np.asarray(b)) for a in SCALARS for b in SCALARS]
    operands = pairs if op.arity == 2 else [(a,) for a in map(np.asarray, SCALARS)]
    assert sum(compare(op, (Kind.SCALAR,) * op.arity, x) for x in operands) >= 3
    if op.form is Form.JOIN:
        x = np.array(MATRICES["ordinary"])
        assert compare(op, (Kind.MATRIX, Kind.SCALAR), (x, np.asarray(0.5)))
        assert compare(op, (Kind.SCALAR, Kind.MATRIX), (np.asarray(0.5), np.array(MATRICES["positive"])))


@pytest.mark.parametrize("name", [op.name for op in OPS.values() if op.form is Form.LAYERS])
def test_every_reduction_over_layers(name):
    pool = Pool()
    node = pool.apply(OPS[name], pool.apply(OPS["max"], pool.statistic("fc1.w")))
    for values in ([0.5, -2.0, 0.0], [1e-12, 3.0], [0.1, 0.1, 0.1], [-7.0]):
        layers = [{"fc1.w": np.full((1, 1), x)} for x in values]
        with np.errstate(all="ignore"):
            expected = float(OPS[name].reference(np.array(values)))
        assert evaluate(node, layers) == pytest.approx(expected, rel=1e-12, abs=1e-16, nan_ok=True)


def test_layers_may_differ_in_shape():
    source = random_source(3, [(4, 6, 5, 1), (3, 2, 2, 1)])
    layers = [{s: source.read(n, s, 0) for s in source.statistics} for n in (0, 1)]
    node = parse(
        "layer_max(min(fc1.w)) + layer_std(sum(softmax(fc2.w)) * mean(qkv.w)) - layer_sum(nuclear_norm(fc1.g))"
    )
    parts = [
        max(float(x["fc1.w"].min()) for x in layers),
        np.std([x["fc2.w"].shape[1] * x["qkv.w"].astype(float).mean() for x in layers], ddof=1),
        -sum(np.linalg.svd(x["fc1.g"].astype(float), compute_uv=False).sum() for x in layers),
    ]
    assert evaluate(node, layers) == pytest.approx(sum(parts), rel=1e-12)


SOURCE = random_source(1, [(2, 3, 2, 2), (3, 2, 2, 1)])


def layers_of(network: int) -> tuple[list[dict[str, np.ndarray]], dict[str, float]]:
    found = SOURCE.networks[network]
    layers = [{s: SOURCE.read(network, s, n) for s in SOURCE.statistics} for n in range(found.layers)]
    return layers, {name: getattr(found.size, name) for name in NETWORK_FACTS}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 3))
def test_random_programs(seed, depth):
    node = random_score(np.random.default_rng(seed), Pool(), depth)
    expected = reference_run(SOURCE, [node]).scores
    noise, steady = rounding(SOURCE, [node], expected)
    for n in range(2):
        if not (np.isfinite(expected[0, n]) and steady[0, n]):
            continue
        bound = 1e-9 * abs(expected[0, n]) + noise[0, n] + 1e-30
        assert abs(evaluate(node, *layers_of(n)) - expected[0, n]) <= bound, text(node)


@pytest.mark.parametrize(
    "formula", [p.formula for p in PUBLISHED.values()] + ["layer_sum(min(abslog(qkv.w))) / params"]
)
def test_the_file_defines_the_expression_and_its_arguments(formula):
    node = parse(formula)
    written = sympy_source(node)
    module: dict[str, object] = {}
    exec(written, module)
    score = module["score"]
    assert sympy.simplify(score - to_sympy(node)) == 0 or score == to_sympy(node)
    layers, facts = layers_of(0)
    axes = {"d": 2, "q": 2, "m": 3, "n": 2}
    arrays = {s.replace(".", "_"): np.stack([x[s] for x in layers]).astype(float) for s in SOURCE.statistics}
    given_ = {**arrays, **{a: [size] * len(layers) for a, size in axes.items()}, **facts, "layers": len(layers)}
    values = [given_[str(a)] for a in module["arguments"]]
    expected = reference_run(SOURCE, [node]).scores[0, 0]
    for numbers in ("mpmath", "numpy"):
        compute = sympy.lambdify(module["arguments"], score, numbers)
        assert float(compute(*values)) == pytest.approx(expected, rel=1e-12)


def test_the_file_imports_what_it_uses_only():
    assert "proxforge.grammar" not in sympy_source(parse("layer_sum(frobenius(sigmoid(qkv.w)))"))
    assert "from proxforge.grammar.symbolic import Minimum\n" in sympy_source(parse("min(qkv.w)"))
    assert "from sympy import Symbol\n" in sympy_source(parse("2 * params"))
    assert "arguments = (params,)" in sympy_source(parse("2 * params"))


def test_numbers_keep_every_digit():
    module: dict[str, object] = {}
    exec(sympy_source(parse("0.1 * params + 1 / 3")), module)
    assert module["score"] == to_sympy(parse("0.1 * params + 1 / 3"))


def test_what_has_no_real_value_is_nan():
    layers = [{"fc1.w": np.array([[-1.0, 2.0]])}]
    assert math.isnan(evaluate(parse("log(fc1.w)"), layers))
    assert math.isnan(evaluate(parse("1 / relu(fc1.w)"), layers))
    assert math.isnan(evaluate(parse("std(fc1.w)"), [{"fc1.w": np.array([[2.0]])}]))


def test_sizes_that_cannot_be_are_named():
    with pytest.raises(ProxforgeError, match=r"'qkv.w' has \[4\] 3q in its layers; expected multiples of 3"):
        evaluate(parse("mean(qkv.w)"), [{"qkv.w": np.ones((4, 2))}])


def test_an_expression_that_would_not_end_is_refused():
    formula = "a = qkv.w\n" + "a = normalize(a) + sigmoid(a)\n" * 12 + "a"
    with pytest.raises(ProxforgeError, match=f"more than {MAX_OPERATIONS:,} operations") as error:
        to_sympy(parse(formula))
    assert error.value.kind == "export"
