"""The exported torch file computes what the reference does, and needs torch alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proxforge.bench.proxies import PUBLISHED
from proxforge.grammar.expr import Node, Pool
from proxforge.grammar.ops import OPS, Form
from proxforge.grammar.parse import parse
from proxforge.grammar.reference import in_range
from proxforge.grammar.text import text
from proxforge.grammar.types import NETWORK_FACTS
from proxforge.vm.export_torch import to_torch, torch_function
from tests.random_programs import random_score, random_source
from tests.rounding import reference_run, rounding

BOUND = 1e-9

SHAPES = [(4, 6, 5, 2), (1, 1, 1, 2), (5, 7, 1, 1), (4, 6, 5, 3)]
SOURCES = {
    "normal": random_source(1, SHAPES),
    "small": random_source(2, SHAPES, scale=1e-12),
    "special": random_source(3, SHAPES, special=True),
}


def scores(source, node: Node) -> np.ndarray:
    """The scores of all networks by the exported file, run as a module of its own."""
    module: dict[str, object] = {}
    written = to_torch(node)
    exec(compile(written, "exported.py", "exec"), module)
    found = []
    for n, network in enumerate(source.networks):
        layers = [
            {s: torch.from_numpy(source.read(n, s, layer).copy()) for s in source.statistics}
            for layer in range(network.layers)
        ]
        facts = {name: getattr(network.size, name) for name in NETWORK_FACTS}
        found.append(module["score"](*((layers, facts) if "facts:" in written else (layers,))))
    return np.array(found)


def agree(source, nodes: list[Node]) -> int:
    """Equal to the reference, beyond what rounding can do to a score; how many scores were finite."""
    expected = reference_run(source, nodes).scores
    noise, steady = rounding(source, nodes, expected)
    compared = 0
    for i, node in enumerate(nodes):
        found = scores(source, node)
        certain = steady[i]
        np.testing.assert_array_equal(np.isfinite(found)[certain], np.isfinite(expected[i])[certain], text(node))
        finite = np.isfinite(expected[i]) & certain
        error = np.abs(found[finite] - expected[i][finite])
        scale = np.abs(expected[i][finite]).max(initial=0.0)
        assert (error <= BOUND * scale + noise[i][finite]).all(), (text(node), found, expected[i])
        compared += int(finite.sum())
    return compared


MATRICES = [
    np.array([[0.5, -2.0, 0.0], [3.0, 1e-3, -0.25]]),
    np.array([[0.5, -2.0], [0.0, 3.0], [1e-12, -1e-30]]),
    np.array([[1e30, -3e38], [2e-38, 88.0], [-120.0, 1e19]]),
    np.array([[0.1, 0.2, 0.4]]),
    np.array([[0.1], [0.2], [-0.4]]),
    np.full((2, 3), 0.1),
    np.zeros((3, 2)),
    np.array([[-3.0]]),
    np.array([[np.inf, 1.0], [0.0, -np.inf]]),
    np.array([[np.nan, 1.0], [0.0, 2.0]]),
]
SCALARS = [np.asarray(x) for x in (0.5, -2.0, 0.0, 1e30, -3e38, 2e-38, 89.0, -1e-9, np.inf, -np.inf, np.nan)]


def operands(op):
    """Operands of both kinds: zeros, huge, tiny, negative, not finite, one element, one row."""
    if op.form is Form.LAYERS:
        return [(x.ravel(),) for x in MATRICES]
    if op.arity == 1:
        return [(x,) for x in MATRICES + ([] if op.no_scalar else SCALARS)]
    scalars = [(a, b) for a in SCALARS for b in SCALARS]
    if op.form is Form.PRODUCT:
        return [(a, a[::-1, ::-1].T) for a in MATRICES] + scalars
    pairs = [(a, a[::-1, ::-1]) for a in MATRICES] + scalars
    return pairs + ([(a, s) for a in MATRICES for s in SCALARS[:4]] if op.form is Form.JOIN else [])


@pytest.mark.parametrize("name", sorted(OPS))
def test_the_expression_of_every_op_is_its_reference(name):
    op = OPS[name]
    compute = torch_function(op)
    for given_ in operands(op):
        with np.errstate(all="ignore"):
            expected = in_range(np.asarray(op.reference(*given_)))
        found = in_range(np.asarray(compute(*(torch.from_numpy(x.copy()) for x in given_))))
        finite = np.abs(expected[np.isfinite(expected)])
        bound = 1e-12 * finite.max(initial=0.0)
        np.testing.assert_allclose(found, expected, 1e-12, bound, equal_nan=True, err_msg=f"{name} of {given_}")


@pytest.mark.parametrize("source", sorted(SOURCES))
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(2, 5))
def test_random_programs(source, seed, depth):
    rng = np.random.default_rng(seed)
    pool = Pool()
    agree(SOURCES[source], [random_score(rng, pool, depth) for _ in range(3)])


def test_most_random_programs_have_a_score_to_compare():
    rng = np.random.default_rng(0)
    pool = Pool()
    assert agree(random_source(5, [(4, 6, 5, 2), (4, 10, 5, 2)]), [random_score(rng, pool, 3) for _ in range(60)]) > 60


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_proxies(name):
    assert agree(SOURCES["normal"], [parse(PUBLISHED[name].formula)]) == len(SHAPES)


def test_the_file_runs_where_there_is_torch_alone(tmp_path):
    """In an isolated process that cannot import proxforge, on float32 tensors, with and without facts."""
    node = parse("layer_sum(slogdet(fc2.w @ fc1.w)) / params + layer_mean(std(normalize(qkv.w)) - log(abs(qkv.g)))")
    (tmp_path / "proxy.py").write_text(to_torch(node))
    source = random_source(7, [(4, 6, 5, 3)])
    layers = [{s: source.read(0, s, n).tolist() for s in ("fc2.w", "fc1.w", "qkv.w", "qkv.g")} for n in range(3)]
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import torch, proxy\n"
        "layers = [{s: torch.tensor(x) for s, x in layer.items()} for layer in json.load(sys.stdin)]\n"
        "print(repr(proxy.score(layers, {'params': 1000})), 'proxforge' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path)],
        input=json.dumps(layers),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    score, loaded = run.stdout.split()
    assert loaded == "False"
    assert float(score) == pytest.approx(reference_run(source, [node]).scores[0, 0], rel=BOUND)


def test_the_file_says_what_it_is_and_holds_nothing_that_it_does_not_use():
    node = parse("mean(sigmoid(qkv.w))")
    written = to_torch(node)
    tree = ast.parse(written)
    assert ast.get_docstring(tree).splitlines()[2].strip() == "mean(sigmoid(qkv.w))" or text(node) in written
    assert [n.name for n in tree.body if isinstance(n, ast.FunctionDef)] == ["in_range", "score"]
    assert [a.arg for a in tree.body[-1].args.args] == ["layers"]
    assert "EPS" not in written
    assert "qkv.w: [3q, d], weight of the joint query, key and value layer" in written
    with_facts = ast.parse(
        to_torch(parse("slogdet(qkv.w) * 2 + layer_mean(0 * qkv.w) + 0 * params" if False else "2 * params"))
    )
    assert [a.arg for a in with_facts.body[-1].args.args] == ["layers", "facts"]


def test_a_missing_statistic_is_named_by_python():
    module: dict[str, object] = {}
    exec(to_torch(parse("mean(qkv.w)")), module)
    with pytest.raises(KeyError, match=r"qkv\.w"):
        module["score"]([{"fc1.w": torch.ones(2, 2)}])
