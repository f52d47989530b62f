"""The rows that stand for all matrices of a statistic, against the ops as the reference has them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from proxforge.bench.atlas import matrices, tiles
from proxforge.bench.atlas.branches import Branches
from proxforge.bench.atlas.matrices import Tall, chains_of
from proxforge.bench.atlas.rows import Known, form_of, numbers, shift_of
from proxforge.bench.atlas.tiles import Rows, Side, plan_of
from proxforge.grammar.ops import OPS
from proxforge.grammar.reference import in_range
from proxforge.search.spaces import TreeSpace
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.backends.cpu.threads import Threads

INNER = ("identity", "abslog", "abs", "square", "exp", "normalize", "relu", "inv", "sigmoid", "softmax", "log_softmax",
         "sqrt", "neg", "min_max", "sign")  # fmt: skip
OUTER = (*INNER, "log")


def segment(kind: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(37, 11))
    drawn[drawn == 0] = 1.0
    if kind == "zeros":
        drawn[rng.random(drawn.shape) < 0.2] = 0.0
    if kind == "underflow":
        drawn[::3] *= 1e-20
    if kind == "wide":
        drawn *= 60.0
    if kind == "small":
        drawn *= 1e-6
    if kind == "far":
        drawn = 3.0 + 1e-4 * drawn
    return drawn.astype(np.float32)


KINDS = ("plain", "zeros", "underflow", "wide", "small", "far")


def applied(op: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return in_range(np.asarray(OPS[op].reference(x)))


def known(y: np.ndarray) -> Known:
    with np.errstate(all="ignore"):
        return Known(float(y.mean()), float(y.std(ddof=1)), float(y.min()), float(y.max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_is_the_op_of_the_op(kind):
    made = segment(kind)
    x = in_range(made.astype(np.float64))
    results = {op: applied(op, x) for op in INNER}
    side = Side(made, {op: known(y) for op, y in results.items()})
    side.look([op for op in INNER if np.isfinite(results[op]).all()], Threads(1))
    assert side.tiny == (kind == "underflow")
    shared = 0
    for inner, outer in product(INNER, OUTER):
        wanted = applied(outer, results[inner])
        if not (np.isfinite(wanted).all() and np.isfinite(results[inner]).all()):
            continue
        form = form_of(inner, outer, side.known, side.tiny)
        found = np.full(x.shape, shift_of(form, side.known))
        if form.row is not None:
            shared += form.row != (inner, outer)
            centre = side.known[form.row[0]].centre if form.row[1] == "identity" else 0.0
            tall = np.empty((1, x.size))
            rows = Rows([side], [plan_of({form.row: 0}, {form.row: centre})], Threads(1))
            for start, stop in ((0, 30), (30, 37)):
                part = tall[:, start * x.shape[1] : stop * x.shape[1]]
                columns, sums = rows.fill(part, start, stop)
                elements = part.reshape(stop - start, -1)
                assert np.allclose(columns[0], elements.sum(axis=0), rtol=1e-12, atol=1e-12 * np.abs(part).max())
                assert np.allclose(sums[0], elements.sum(axis=1), rtol=1e-12, atol=1e-12 * np.abs(part).max())
            found += form.factor * tall[0].reshape(x.shape)
        if form.columns is not None:
            op, less = numbers(form.columns, side.known)
            found -= form.share * side.columns[op].log(less)
        assert np.allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max()), (inner, outer, form)
    assert shared > 50


@pytest.mark.parametrize("kind", KINDS)
def test_means_of_products_and_sums_of_columns_and_rows(kind):
    w, g = segment(kind), segment("plain")[::-1].copy()
    branches = Branches.of(TreeSpace(("fc1.w", "fc1.g"), ("autoprox")))
    chains = chains_of(branches)
    finite, moments, every = [], {}, []
    for name, made in (("fc1.w", w), ("fc1.g", g)):
        x = in_range(made.astype(np.float64))
        live = np.zeros(branches.each, np.bool_)
        for chain in chains:
            inner = applied(chain.inner, x)
            y = applied(chain.outer, inner)
            live[chain.local] = np.isfinite(y).all()
            every.append(y if live[chain.local] else np.full(x.shape, np.nan))
            m = known(inner)
            moments[name, *chain.before, chain.inner] = np.array([m.mean, m.std, m.low, m.high])
        finite.append(live)
    source = MemoryCache([{"fc1.w": [w], "fc1.g": [g]}])
    found = Tall(chains).means(source, (0, 0), ("fc1.w", "fc1.g"), moments, finite)
    flat = np.stack([y.ravel() for y in every])
    size = np.sqrt((flat**2).mean(axis=1))
    with np.errstate(all="ignore"):
        scale = np.maximum(size[:, None] * size[None], 1e-300)
        apart = np.abs(found.products() - flat @ flat.T / w.size) / scale
    assert np.nanmax(apart) < 1e-9
    assert (np.isnan(found.products()) == np.isnan(flat @ flat.T)).all()
    for side, length in ((0, w.shape[0]), (1, w.shape[1])):
        sums = np.stack([y.sum(axis=side) for y in every])
        some = ~np.isnan(sums).any(axis=1)
        mine = found.sums(side, slice(0, len(every)))
        assert (np.abs(mine - sums)[some].max(axis=1) <= 1e-9 * length * np.abs(flat[some]).max(axis=1)).all()


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize(("rows", "elements"), [(5, 8), (10, 1), (15, 383), (20, 385), (35, 1000)])
def test_inner_products_are_added_up_part_by_part(rows, elements, avx512, monkeypatch):
    monkeypatch.setattr(matrices.binding, "get_host_cpu_features", lambda: {"avx512f": avx512})
    table = np.full((rows, elements + matrices.ROUND + matrices.APART), np.nan)
    gram = matrices.Gram(table)
    parts = np.random.default_rng(0).normal(size=(2, rows, elements))
    for part in parts:
        table[:, :elements] = part
        gram.add(elements)
    expected = sum(part @ part.T for part in parts)
    np.testing.assert_allclose(gram.found(), expected, rtol=1e-12, atol=1e-12 * elements)


def test_a_layer_without_a_finite_matrix_has_no_means():
    chains = chains_of(Branches.of(TreeSpace(("fc1.w",), "autoprox")))
    source = MemoryCache([{"fc1.w": [segment("plain")]}])
    never = np.zeros(max(chain.local for chain in chains) + 1, np.bool_)
    found = Tall(chains).means(source, (0, 0), ("fc1.w",), {}, [never])
    assert np.isnan(found.products()).all()


@pytest.mark.parametrize("inner", ["identity", "relu", "abs", "softmax"])
@pytest.mark.parametrize("outer", ["identity", "relu", "abs"])
def test_an_op_without_an_instruction_is_computed_by_its_reference(inner, outer, monkeypatch):
    monkeypatch.setattr(tiles, "ELEMENTWISE", {n: i for n, i in tiles.ELEMENTWISE.items() if n != "abs.m"})
    made = segment("plain")
    x = in_range(made.astype(np.float64))
    side = Side(made, {"identity": known(x), inner: known(applied(inner, x))})
    side.look(("identity",), Threads(1))
    tall = np.empty((1, x.size))
    Rows([side], [plan_of({(inner, outer): 0}, {(inner, outer): 0.25})], Threads(1)).fill(tall, 0, len(x))
    wanted = applied(outer, applied(inner, x)) - 0.25
    np.testing.assert_allclose(tall[0].reshape(x.shape), wanted, rtol=1e-12, atol=1e-15)
