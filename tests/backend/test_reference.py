"""The reference backend brings results into range in place, to the byte as the definition does."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.reference import FLOAT32_MAX, FLOAT32_TINY, in_range
from proxforge.search.spaces import TreeSpace
from proxforge.vm.backends.reference import BLOCK, ReferenceBackend, ranged
from proxforge.vm.compile import compile_nodes
from tests.small_networks import small_networks

NAN = np.nan
EDGES = [
    0.0, 1.0, NAN, -NAN, np.inf, FLOAT32_MAX, FLOAT32_TINY, 1e-39, 5e-324, 1e39, np.nextafter(FLOAT32_MAX, np.inf),
    np.nextafter(FLOAT32_TINY, 0.0), np.array(0x7FF8000000000ABC).view(np.float64)[()],
]  # fmt: skip
EDGES = np.array([*EDGES, *(-np.array(EDGES))])


@pytest.mark.parametrize("size", [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("special", [0, 1, 3, 1_000_000])
def test_every_result_is_as_defined(size, special):
    rng = np.random.default_rng(size + special)
    x = rng.normal(size=size)
    at = rng.integers(0, max(size, 1), min(special, size))
    x[at] = rng.choice(EDGES, len(at))
    for edge in EDGES if special == 1 and size else ():
        y = x.copy()
        y[-1] = edge
        assert ranged(y.copy()).tobytes() == in_range(y).tobytes()
    assert ranged(x.reshape(1, -1).copy()).tobytes() == in_range(x).tobytes()


@pytest.mark.parametrize("edge", EDGES)
def test_scalars_are_as_defined(edge):
    made, expected = ranged(np.array(edge)), in_range(np.array(edge))
    assert (made.shape, made.tobytes()) == ((), expected.tobytes())


def test_results_of_ops_of_ones_own_may_be_views_or_of_other_types():
    x = np.random.default_rng(1).choice(EDGES, (40, 30))
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    for y in (
        x.T,
        x[::2, ::3],
        np.broadcast_to(x[0], (5, 30)),
        np.broadcast_to(x[0], (1, 30)),
        single,
        x > 0,
        np.array(3),
        np.array(True),
    ):
        before = y.tobytes()
        made, expected = ranged(y), in_range(y)
        assert (made.shape, made.dtype, made.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())
        assert y.tobytes() == before


def test_programs_have_the_scores_of_the_definition():
    """Elements of every size, zeros among them: overflow, underflow and -0 in the middle of programs."""

    def segment(rng, shape):
        return rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape) * (rng.random(shape) < 0.8)

    source = small_networks(7, 6, segment)
    space = TreeSpace(("fc1.w", "fc1.g", "fc2.g"), "autoprox")
    rng = np.random.default_rng(3)
    pool = canonical_pool()
    roots = [space.expression(space.sample(rng), pool) for _ in range(400)]
    program = compile_nodes(roots)
    made, expected = (ReferenceBackend(source, range(6), *way).run(program)[0] for way in ((), (in_range,)))
    assert made.tobytes() == expected.tobytes()
    assert not np.isfinite(expected).all()
