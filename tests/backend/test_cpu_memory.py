"""What the cpu backend remembers of earlier programs: it changes no digit, stays within its limit, and is counted."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.parse import parse
from proxforge.stats_cache import MemoryCache
from proxforge.vm.backends import cpu as package
from proxforge.vm.backends.cpu import CpuBackend
from proxforge.vm.backends.cpu.emit import ABSOLUTES, DEVIATIONS, MAX, MEAN, MIN, SQUARES, SUM
from proxforge.vm.backends.cpu.memory import Memory
from proxforge.vm.backends.cpu.segments import Segments
from proxforge.vm.compile import compile_nodes
from proxforge.vm.evaluate import Evaluator
from tests.random_programs import random_score, random_source

SHAPES = [(4, 6, 5, 2), (8, 6, 3, 3), (1, 1, 1, 2), (5, 7, 1, 2)]
SOURCE = random_source(1, SHAPES)
TEXTS = [
    "mean(qkv.w + qkv.g)",
    "mean(qkv.w - square(qkv.g))",
    "std(softmax(fc1.w)) + max(log_softmax(fc1.w))",
    "sum(log_softmax(fc1.w)) * normalized_sum(softmax(fc1.w))",
    "l1_norm(normalize(fc1.w))",
    "frobenius(min_max(fc1.w) * normalize(fc1.w))",
    "mean(fc2.w @ fc1.w) + max(abs(fc1.w))",
    "sum(fc2.w @ fc1.w) - mean(fc2.g @ fc1.w)",
    "mean(max(qkv.w) * qkv.g)",
    "sum(max(qkv.w) * qkv.g) + min(sigmoid(qkv.g - max(qkv.w)))",
]


def programs():
    pool = canonical_pool()
    rng = np.random.default_rng(0)
    roots = [parse(text, pool) for text in TEXTS] + [random_score(rng, pool, 4) for _ in range(120)]
    return [compile_nodes(roots[i : i + 3]) for i in range(0, len(roots), 3)]


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_remembered_changes_no_digit(whole, monkeypatch):
    """Neither where all layers are worked on together nor where they are not."""
    if not whole:
        monkeypatch.setattr(package, "MEMORY", 1000)
    networks = range(len(SHAPES))
    remembering, forgetful = CpuBackend(SOURCE, networks), CpuBackend(SOURCE, networks, remembered=0)
    for program in programs() * 2:
        wanted = forgetful.run(program)[0]
        np.testing.assert_array_equal(remembering.run(program)[0], wanted)
    assert remembering.recalled > 100
    assert forgetful.recalled == 0


@pytest.mark.parametrize("inner", ["fc2.g @ fc1.w", "sqrt(softmax(fc1.w))"])
@pytest.mark.parametrize("op", ["min_max", "normalize"])
def test_totals_that_are_remembered_make_no_matrix_that_is_not_there(op, inner):
    """``op`` of a product needs no total any more, but still the product, which takes a pass; so does a softmax of
    whose columns nothing is known any more."""
    remembering, forgetful = (CpuBackend(SOURCE, range(len(SHAPES)), remembered=m) for m in (1 << 20, 0))
    for text in (f"max({op}({inner}))", f"mean(relu(inv({op}({inner}))))"):
        program = compile_nodes([parse(text, canonical_pool())])
        if "relu" in text:
            forget(remembering._memory, "columns")
        np.testing.assert_array_equal(remembering.run(program)[0], forgetful.run(program)[0])


def forget(memory: Memory, table: str) -> None:
    for key in [key for key in memory._held if key[0] == table]:
        del memory._held[key]


MATRICES = [
    [np.random.default_rng(layer).normal(0.1, 1.0, shape) for layer, shape in enumerate([(3, 700), (1, 1), (90, 80)])],
    [np.full((4, 5), -0.1), np.zeros((4, 5))],
]


def test_totals_of_statistics_are_known_without_reading_them():
    source = MemoryCache([{"qkv.w": layers} for layers in MATRICES])
    found = CpuBackend(source, range(len(MATRICES)))._segments.totals("qkv.w")
    flat = [np.asarray(x, np.float32).astype(np.float64).ravel() for layers in MATRICES for x in layers]
    wanted = {
        SUM: [x.sum() for x in flat],
        ABSOLUTES: [abs(x).sum() for x in flat],
        SQUARES: [(x * x).sum() for x in flat],
        MIN: [x.min() for x in flat],
        MAX: [x.max() for x in flat],
        MEAN: [x.mean() for x in flat],
        DEVIATIONS: [((x - x.mean()) ** 2).sum() for x in flat],
    }
    assert found.keys() == wanted.keys()
    for kind, values in wanted.items():
        np.testing.assert_allclose(found[kind], values, rtol=1e-13, atol=1e-30)


@pytest.mark.parametrize("element", [np.nan, np.inf])
def test_totals_are_not_known_where_an_element_is_not_finite(element):
    source = MemoryCache([{"qkv.w": [np.array([[1.0, element]])]}])
    assert not CpuBackend(source, [0])._segments.totals("qkv.w")


def test_totals_are_not_known_where_what_is_read_as_zero_makes_a_difference():
    source = MemoryCache([{"qkv.w": [np.array([[1e-38, 1e-39], [2e-38, 0.0]])]}])
    assert not CpuBackend(source, [0])._segments.totals("qkv.w")
    evaluator = Evaluator(source, [0], backend_name="cpu")
    assert evaluator.scored([parse("sum(qkv.w)", canonical_pool())])[0] == np.float32(2e-38)


def test_what_is_known_of_statistics_needs_no_pass(monkeypatch):
    texts = (
        "mean(qkv.w - 1)",
        "std(qkv.w) + max(qkv.w) / min(qkv.w)",
        "l1_norm(qkv.w)",
        "frobenius(qkv.w)",
        "mean(abs(qkv.w))",
    )
    nodes = [parse(text, canonical_pool()) for text in texts]
    source = MemoryCache([{"qkv.w": layers} for layers in MATRICES])
    wanted = Evaluator(source, [0, 1], backend_name="reference").scored(nodes)[0]

    def read(*_):
        raise AssertionError("a statistic was read")

    monkeypatch.setattr(Segments, "held", read)
    np.testing.assert_allclose(Evaluator(source, [0, 1], backend_name="cpu").scored(nodes)[0], wanted, rtol=1e-12)
    with pytest.raises(AssertionError, match="was read"):
        Evaluator(source, [0, 1], backend_name="cpu").scored([parse("mean(exp(qkv.w))", canonical_pool())])


def test_the_second_time_no_pass_is_needed():
    backend = CpuBackend(SOURCE, range(len(SHAPES)))
    program = compile_nodes([parse("mean(sigmoid(qkv.w)) + max(log_softmax(fc1.w))", canonical_pool())])
    assert sum(map(len, backend._plan(program, [10.0, 10.0]).passes)) == 2
    backend.run(program)
    assert sum(map(len, backend._plan(program, [10.0, 10.0]).passes)) == 0


def test_a_sum_is_shared_by_programs_that_have_it_in_common():
    """Σ (a - b) is Σ a - Σ b: the second program needs a pass for its b alone."""
    backend = CpuBackend(SOURCE, range(len(SHAPES)))
    pool = canonical_pool()
    backend.run(compile_nodes([parse("mean(sigmoid(qkv.w) - qkv.g)", pool)]))
    made = backend._plan(compile_nodes([parse("mean(sigmoid(qkv.w) - exp(qkv.g))", pool)]), [10.0, 10.0])
    ((sweep,),) = [sweeps for sweeps in made.passes if sweeps]
    assert len(sweep.totals) == 1


def test_the_least_used_are_forgotten_at_the_limit():
    memory = Memory(limit=240)
    for number in range(3):
        memory.put((0, (number,)), (np.zeros(10),))
    assert memory.get((0, (0,))) is not None
    memory.put((0, (3,)), (np.zeros(10),))
    assert [memory.get((0, (number,))) is not None for number in range(4)] == [True, False, True, True]
    assert memory.recalled == 4
    memory.put((0, (4,)), (np.zeros(1000),))
    assert all(memory.get((0, (number,))) is None for number in range(5))


def test_what_is_larger_than_the_limit_is_no_error():
    backend = CpuBackend(SOURCE, range(len(SHAPES)), remembered=1)
    wanted = CpuBackend(SOURCE, range(len(SHAPES)), remembered=0)
    for program in programs():
        np.testing.assert_array_equal(backend.run(program)[0], wanted.run(program)[0])


def test_the_counters_tell_what_was_remembered():
    """Σ (x + y) needs Σ x and Σ y: of two programs the second computes one of them. What is known of a statistic by
    itself is not counted."""
    evaluator = Evaluator(SOURCE, range(len(SHAPES)), backend_name="cpu")
    pool = canonical_pool()
    for text, totals in (("mean(exp(qkv.w) + qkv.g)", 0), ("mean(exp(qkv.w) - qkv.v)", 1)):
        evaluator.run([parse(text, pool)])
        assert evaluator.counters.totals == totals
