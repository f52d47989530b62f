"""What the analysis says of a value holds for the value, in every context; what it rejects has no score."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxforge.grammar.analysis import Analyser, Known
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.expr import Node, Pool, topological
from proxforge.grammar.ops import NUMBER, OPS, STATISTIC, Form
from proxforge.grammar.parse import parse
from proxforge.grammar.reference import in_range
from proxforge.grammar.types import Kind
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.compile import compile_text
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.known import known_of
from proxforge.vm.result import Status
from tests.random_programs import random_layer_value, random_source

SHAPES = [(3, 5, 7, 2), (4, 6, 5, 3), (2, 3, 4, 1)]


def values(nodes: list[Node], source: MemoryCache, network: int, layer: int) -> dict[Node, np.ndarray]:
    """Every value of one layer, as the reference computes it."""
    found: dict[Node, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for n in nodes:
            if n.op is STATISTIC:
                found[n] = in_range(source.read(network, str(n.attr), layer).astype(np.float64))
            elif n.op is NUMBER:
                found[n] = np.asarray(float(n.attr))
            else:
                found[n] = in_range(np.asarray(n.op.reference(*(found[a] for a in n.args)), np.float64))
    return found


def holds(analyser: Analyser, node: Node, contexts: list[int], x: np.ndarray) -> None:
    """Everything that the span of the node says, in these contexts, of one value that is not NaN."""
    span = analyser.span(node)

    def true(said, *about):
        assert np.all(said), (f"{node} in {[analyser.known.labels[c] for c in contexts]}", *about)

    def of(part):
        return part[..., 0, contexts]

    low, high, smallest, largest = of(span.low), of(span.high), x.min(), x.max()
    true(smallest >= low, low, smallest)
    true(largest <= high, high, largest)
    true(smallest <= of(span.least))
    true(largest >= of(span.most))
    inside = (x.reshape(-1, 1, 1) >= of(span.lo)[1:]) & (x.reshape(-1, 1, 1) <= of(span.hi)[1:])
    true(inside.any(axis=0))
    true(of(span.zero) | (x != 0).all())
    true(np.abs(x[x != 0]).min(initial=np.inf) >= of(span.gap))
    if np.isfinite(x).all():
        std = x.std(ddof=1) if x.size > 1 else 0.0
        for name, moment in (("mean", x.mean()), ("std", std), ("mean_abs", np.abs(x).mean())):
            a, b = of(getattr(span, name))
            within = (a <= moment) & (moment <= b)
            if not within.all():
                within |= np.isclose(moment, (a, b), rtol=1e-13, atol=0).any(axis=0)
            true(within, name, moment, a, b)
    true(~of(span.nan))


def all_hold(root: Node, source: MemoryCache, knowns: list[Known], leaves: bool = True) -> None:
    """The spans of all values of a layer, over all layers, those of statistics if asked; a certain NaN is one."""
    analysers = [Analyser(known) for known in knowns]
    for analyser in analysers:
        analyser.check([root])
    contexts = [contexts_of(known, source) for known in knowns]
    nodes = [n for n in topological([root]) if n.type.kind is not Kind.SCORE]
    for pair in contexts[0]:
        found = values(nodes, source, *pair)
        clean: dict[Node, bool] = {}
        for n in nodes:
            clean[n] = not np.isnan(found[n]).any() and all(clean[a] for a in n.args)
            for analyser, of in zip(analysers, contexts, strict=True):
                if clean[n] and of[pair] and (leaves or n.op is not STATISTIC):
                    holds(analyser, n, of[pair], found[n])


def contexts_of(known: Known, source: MemoryCache) -> dict[tuple[int, int], list[int]]:
    pairs = [(n, layer) for n in range(len(source.networks)) for layer in range(source.networks[n].layers)]
    names = {f"in layer {layer} of network {n}": (n, layer) for n, layer in pairs}
    everywhere = [0] if known.networks is None else []
    found = {pair: list(everywhere) for pair in pairs}
    for i, label in enumerate(known.labels):
        if label in names:
            found[names[label]].append(i)
    return found


def knowns_of(source: MemoryCache) -> list[Known]:
    """Of all layers together, and of each."""
    known = known_of(source, range(len(SHAPES)))
    assert known.every is not None
    return [known, known.every()]


def root_of(seed: int, pool: Pool, depth: int) -> Node:
    rng = np.random.default_rng(seed)
    while True:
        try:
            return pool.score(random_layer_value(rng, pool, depth))
        except ProxyError:
            continue


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1e-3, 0.1, 1.0, 40.0, 1e15]), st.booleans())
def test_what_is_said_of_values_is_true(seed, depth, scale, special):
    source = random_source(seed, SHAPES, scale, special)
    root = root_of(seed, Pool(), depth)
    all_hold(root, source, knowns_of(source))


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1e-3, 0.1, 1.0, 40.0, 1e15]), st.booleans())
def test_what_is_rejected_has_no_score(seed, depth, scale, special):
    source = random_source(seed, SHAPES, scale, special)
    root = root_of(seed, canonical_pool(), depth)
    errors = [Analyser(k).check([root])[0] for k in (None, known_of(source, range(len(SHAPES))))]
    if any(errors) and root.facts.value is None:
        status = Evaluator(source, range(len(SHAPES)), backend_name="reference").run([root]).status[0]
        assert status != Status.OK, (root, [str(e) for e in errors])


@cache
def case(seed: int, scale: float) -> tuple[MemoryCache, list[Known]]:
    """The same for every op: data, and what is known of it."""
    source = random_source(seed, SHAPES, scale, special=seed % 2 == 1)
    return source, knowns_of(source)


@pytest.mark.parametrize("scale", [1e-12, 0.1, 3.0, 90.0, 1e18, 3e37])
def test_what_is_said_of_statistics_is_true(scale):
    for seed in range(12):
        source, knowns = case(seed, scale)
        for name in ("proj.w", "qkv.w", "qkv.g"):
            pool = Pool()
            all_hold(pool.score(pool.apply(OPS["sum"], pool.statistic(name))), source, knowns)


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if op.form is not Form.LAYERS])
@pytest.mark.parametrize("scale", [1e-12, 0.1, 3.0, 90.0, 1e18, 3e37])
def test_the_rule_of_every_op_is_true(name, scale):
    op, pool = OPS[name], Pool()
    for seed in range(12):
        source, knowns = case(seed, scale)
        square, a, b = (pool.statistic(s) for s in ("proj.w", "qkv.w", "qkv.g"))
        means = pool.apply(OPS["mean"], a), pool.apply(OPS["max"], b)
        operands = [(a, b), (a, means[1]), (means[0], b), means] if op.arity == 2 else [(a,), (means[0],)]
        for args in [(square, square), *operands] if name == "@" else operands:
            try:
                root = pool.score(pool.apply(op, *args))
            except ProxyError:
                continue
            all_hold(root, source, knowns, leaves=False)


def source_of(**segments: list[list[list[float]]]) -> MemoryCache:
    """Networks with ``qkv.w`` (argument ``w``) and ``qkv.g`` (``g``), one layer each."""
    names = {"w": "qkv.w", "g": "qkv.g"}
    count = len(next(iter(segments.values())))
    return MemoryCache([{names[k]: [np.array(v[i], np.float32)] for k, v in segments.items()} for i in range(count)])


MIXED = source_of(w=[[[1.0, -2.0]], [[3.0, -0.5]]], g=[[[2.0, 1.0]], [[4.0, 0.25]]])


@pytest.mark.parametrize(
    ("formula", "kind", "message"),
    [
        ("log(qkv.w)", "domain", "'log' needs x ≥ 0: 'qkv.w' is between -2 and 3, in every network"),
        ("log(qkv.w - qkv.g)", "domain", "'qkv.w - qkv.g' is between -6 and 2.75, in every network"),
        ("exp(qkv.g * 100)", "nonfinite", "'exp' exceeds float32's range, so the score is inf: '100 * qkv.g' is"),
        ("normalize(exp(qkv.g * 100))", "constant", "the score is 0"),
        ("max(normalize(exp(qkv.g * 100)))", "nonfinite", "'normalize' gives NaN (inf - inf, 0 * inf or 0/0)"),
        ("sigmoid(100 + qkv.w)", "constant", "the score is 1 for every network; a proxy must tell networks apart"),
        ("min(relu(qkv.w))", "constant", "the score is 0 for every network"),
        ("sign(abs(sum(qkv.w)))", "constant", "the score is 1 for every network"),
        ("inv(qkv.w - qkv.w) * exp(20 * qkv.g + 87)", "nonfinite", "so the score is inf"),
    ],
)  # fmt: skip
def test_a_rejection_explains_itself(formula, kind, message):
    with pytest.raises(ProxyError) as caught:
        compile_text(formula, known=known_of(MIXED, [0, 1]))
    assert caught.value.kind == kind
    assert message in caught.value.message
    assert caught.value.line == 1


@pytest.mark.parametrize(
    "formula", ["log(qkv.g)", "log(qkv.w * qkv.w)", "exp(qkv.g)", "sign(sum(qkv.w))", "min(qkv.g)"]
)
def test_what_has_a_score_compiles(formula):
    compile_text(formula, known=known_of(MIXED, [0, 1]))


def test_the_place_is_that_of_the_operation_at_fault():
    with pytest.raises(ProxyError) as caught:
        compile_text("a = abs(fc1.w)\nmean(a) + mean(log(-1 - a))")
    assert (caught.value.kind, caught.value.line, caught.value.column) == ("domain", 2, 16)


@pytest.mark.parametrize(
    ("formula", "kind"),
    [
        ("log(-1 - abs(qkv.w))", "domain"),
        ("log(neg(1 + sigmoid(fc1.g)))", "domain"),
        ("exp(100 + abs(qkv.w))", "nonfinite"),
        ("softmax(mean(qkv.w))", "constant"),
        ("sign(1 + square(qkv.g))", "constant"),
        ("tanh(40 + relu(mean(fc1.w)))", "constant"),
        ("log(log_softmax(qkv.w))", "constant"),  # NaN, unless there is a single row
        ("sum(qkv.w) / 0", "nonfinite"),
        ("layer_min(abslog(qkv.w / (qkv.g - qkv.g)))", "nonfinite"),
        ("depth - layer_sum(sum(qkv.w)) / (depth - depth)", "nonfinite"),
        ("mean(exp(90) * qkv.w)", "nonfinite"),
        ("frobenius(qkv.w - exp(100))", "nonfinite"),
    ],
)
def test_some_programs_have_no_score_whatever_the_data(formula, kind):
    with pytest.raises(ProxyError) as caught:
        compile_text(formula)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "formula",
    [
        "log(qkv.w)",
        "exp(exp(exp(qkv.w)))",
        "min(relu(qkv.w))",
        "sigmoid(1/(exp(exp(qkv.w)) + 1))",
        "log(mean(qkv.g))",
        "sign(abs(qkv.w))",
        "inv(exp(abs(qkv.w) * 1000))",
        "sigmoid(qkv.w / 0)",
        "sqrt(sum(qkv.w) / 0)",
        "mean(qkv.w) / (qkv.g / 0)",
        "inv(exp(100) * qkv.w)",
    ],
)
def test_without_data_nothing_is_assumed(formula):
    compile_text(formula)


@pytest.mark.parametrize("wild", ["qkv.w / 0", "exp(100) * qkv.w", "mean / 0"])
@pytest.mark.parametrize("name", OPS)
def test_what_is_never_finite_has_no_score(name, wild):
    """Every op on it, as either operand, and every reduction of that."""
    source = random_source(0, SHAPES, 1.0, special=True)
    pool, op, analyser = Pool(), OPS[name], Analyser()
    matrix, other, zero = pool.statistic("qkv.w"), pool.statistic("qkv.g"), pool.number(0.0)
    base = {
        "qkv.w / 0": pool.apply(OPS["/"], matrix, zero),
        "exp(100) * qkv.w": pool.apply(OPS["*"], pool.apply(OPS["exp"], pool.number(100.0)), matrix),
        "mean / 0": pool.apply(OPS["/"], pool.apply(OPS["mean"], matrix), zero),
    }[wild]
    made = []
    for operands in ([base], [base, other], [other, base], [base, base]):
        with suppress(ProxyError):
            value = pool.apply(op, *operands[: op.arity])
            made += [pool.score(value)]
            made += [pool.score(pool.apply(OPS[r], value)) for r in ("sum", "min", "l1_norm", "std") if r != name]
    assert made or (op.form is Form.LAYERS) == (base.type.kind is Kind.MATRIX) or op.form is Form.PRODUCT
    for root, error in zip(made, analyser.check(made), strict=True):
        if error is not None and error.kind == "nonfinite":
            status = Evaluator(source, range(len(SHAPES)), backend_name="reference").run([root]).status[0]
            assert status != Status.OK, (root, str(error))


def test_one_network_alone_has_no_constant_score():
    lone = source_of(w=[[[1.0, -2.0]]])
    compile_text("min(relu(qkv.w)) + mean(qkv.w)", known=known_of(lone, [0]))
    compile_text("sign(sum(qkv.w))", known=known_of(lone, [0]))


def test_the_networks_that_are_not_asked_about_decide_nothing():
    mixed = source_of(w=[[[1.0, 2.0]], [[3.0, 0.5]], [[-1.0, 1.0]]])
    compile_text("log(qkv.w)", known=known_of(mixed, [0, 1]))
    with pytest.raises(ProxyError, match="domain error"):
        compile_text("log(qkv.w)", known=known_of(mixed, [0, 1, 2]))


def test_a_statistic_with_elements_that_are_not_finite_is_unknown():
    broken = source_of(w=[[[np.inf, -2.0]], [[1.0, -1.0]]])
    analyser = Analyser(known_of(broken, [0, 1]))
    assert analyser.check([parse("exp(sigmoid(qkv.w))")]) == [None]


def test_many_programs_at_once_and_alone_have_the_same_verdicts():
    source = random_source(3, SHAPES)
    known = known_of(source, range(3))
    pool = canonical_pool()
    roots = [root_of(i, pool, 1 + i % 5) for i in range(300)]
    together = Analyser(known).check(roots)
    rejected = 0
    for root, error in zip(roots, together, strict=True):
        (alone,) = Analyser(known).check([root])
        assert str(alone) == str(error)
        rejected += error is not None
    assert 20 < rejected < 280


def test_the_memory_of_an_analysis_is_limited(monkeypatch):
    from proxforge.grammar import analysis

    monkeypatch.setattr(analysis, "MEMORY", 50)
    monkeypatch.setattr(analysis, "CHUNK", 7)
    known = known_of(random_source(3, SHAPES), range(3))
    pool = canonical_pool()
    roots = [root_of(i, pool, 1 + i % 5) for i in range(200)]
    limited = Analyser(known)
    assert list(map(str, limited.check(roots))) == [str(Analyser(known).check([r])[0]) for r in roots]
