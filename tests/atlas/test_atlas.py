"""The atlas against plain enumeration by the reference backend, program by program."""

from __future__ import annotations

import json
from functools import cache
from itertools import product

import numpy as np
import pytest

from proxforge.bench.atlas import listing
from proxforge.bench.atlas.estimate import RUN_ELEMENT, estimate
from proxforge.bench.atlas.patterns import LAYERS, join_of, layered
from proxforge.bench.atlas.ranks import CONSTANT, MINUS, NONFINITE, OK
from proxforge.bench.atlas.store import Atlas
from proxforge.bench.atlas.task import PARTS
from proxforge.bench.atlas.verify import verify
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError, ProxyError
from proxforge.grammar.ops import OPS
from proxforge.grammar.text import text
from proxforge.search.correlation import kendall_many, settled
from proxforge.search.spaces import Tree, TreeSpace, refusals
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.result import Status

from . import small


@pytest.fixture(scope="module")
def source():
    return small.cache()


@pytest.fixture(scope="module")
def atlases(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    made = {}
    for name in small.SPACES:
        small.build(folder / name, small.task(name, source))
        made[name] = Atlas(folder / name)
    return made


@cache
def enumerated(*of):
    """Of a tree space, canonical hash -> (layer reduction, Score, genotypes) of all that compiles, made one by one."""
    space, pool = TreeSpace(*of), canonical_pool()
    found = {}
    branch = (space.inputs, *(space.unary,) * space.unaries)
    for genes in product(*branch * space.branches, *(space.binary,) * (space.branches - 1)):
        try:
            mean = space.expression(Tree(genes), pool)
        except ProxyError:
            continue
        base = mean.args[0] if mean.op.name == "neg" else mean
        other = pool.apply(OPS["layer_sum"], base.args[0])
        for layer, root in enumerate((mean, other if base is mean else pool.apply(OPS["neg"], other))):
            layer, root, many = found.get(root.digest, (layer, root, 0))
            found[root.digest] = layer, root, many + 1
    refused = refusals([root for _, root, _ in found.values()])
    return {digest: made for (digest, made), error in zip(found.items(), refused, strict=True) if error is None}


@pytest.mark.parametrize("name", small.SPACES)
def test_every_program_is_there_with_its_genotypes(name, atlases):
    atlas = atlases[name]
    wanted = enumerated(*small.SPACES[name])
    for layer, programs in enumerate(atlas.programs):
        mine = dict(zip(programs["key"].tolist(), programs["many"].tolist(), strict=True))
        keys = {int.from_bytes(d[:8], "big"): many for d, (at, _, many) in wanted.items() if at == layer}
        assert mine == keys


def rounding(scores):
    """Whether some scores are what rounding leaves of 0."""
    return ((np.abs(scores) < 1e-12 * np.abs(scores).max()) | (np.abs(scores) < 1e-14)).any()


@pytest.mark.parametrize("name", small.SPACES)
def test_every_program_is_ranked_as_the_reference_ranks_it(name, atlases, source):
    atlas = atlases[name]
    wanted = enumerated(*small.SPACES[name])
    roots = [root for _, root, _ in wanted.values()]
    places = [atlas.lookup(digest) for digest in wanted]
    skipped = 0
    for p, part in enumerate((*small.SPLIT, tuple(range(small.NETWORKS)))):
        targets = np.stack([y[list(part)] for y in small.targets().values()])
        reference = Evaluator(source, part, backend_name="reference").run(roots)
        expected = kendall_many(settled(reference.scores), targets)
        for i, place in enumerate(places):
            status = atlas.status[place.join, place.layers, p]
            taus = place.sign * atlas.taus([place.join], place.layers, p)[0]
            if reference.status[i] in (Status.NAN, Status.INF):
                assert status == NONFINITE, text(roots[i])
            elif reference.status[i] == Status.CONSTANT:
                assert status == CONSTANT, text(roots[i])
            elif status == CONSTANT or not np.allclose(taus, expected[i], atol=1e-9, equal_nan=True):
                assert rounding(reference.scores[i]), text(roots[i])
                skipped += 1
            else:
                assert status == OK
    assert skipped < 0.05 * 3 * len(roots)


@pytest.mark.parametrize("name", small.SPACES)
def test_verify_finds_nothing_wrong(name, atlases, source):
    found = verify(atlases[name], source, small.targets(), 10_000)
    assert found.wrong == 0
    assert found.examples == []
    assert found.programs == min(10_000, len(atlases[name].joins))
    assert found.score < (1e-7 if name == "out of range" else 1e-9)  # log(exp(x)) where exp(x) is nearly 1


def test_what_the_reference_rounds_otherwise_is_the_score_of_the_cpu_backend(atlases, source):
    """log(exp(x)) where exp(x) is nearly 1: the atlas has what `score` gives."""
    atlas = atlases["out of range"]
    kept, scores = (np.load(atlas.folder / f"{name}.npy") for name in ("sample", "scores"))
    evaluator, rows = Evaluator(source, range(small.NETWORKS), backend_name="cpu"), atlas.joins[kept].tolist()
    for layer, layers in enumerate(LAYERS):
        found = evaluator.run([layered(atlas.branches.pool, join_of(atlas.branches, j), layers) for j in rows]).scores
        there = np.isfinite(found).all(axis=1) & np.isfinite(scores[:, layer]).all(axis=1)
        assert there.sum() > 100
        size = np.abs(found[there]).max(axis=1, keepdims=True)
        assert (np.abs(scores[there, layer] - found[there]) <= 1e-9 * np.maximum(size, 1e-30)).all()


@pytest.mark.parametrize("name", small.SPACES)
def test_an_estimate_is_not_below_what_is_built(name, atlases, source):
    atlas = atlases[name]
    cost = estimate(source, atlas.space, len(atlas.targets), 1)
    assert len(atlas.joins) <= cost.joins <= 4 * len(atlas.joins)
    assert all(seconds >= 0 for seconds in cost.seconds.values())
    arrays = sum((atlas.folder / f"{kind}.npy").stat().st_size for kind in ("joins", "status", "agree", "untied"))
    assert 0.9 * arrays < cost.bytes < cost.working


@pytest.mark.parametrize("name", small.SPACES)
def test_what_is_run_is_counted_and_estimated_by_the_joins_with_a_matrix(name, atlases, source, monkeypatch):
    monkeypatch.setattr("proxforge.bench.atlas.estimate.RUN_EXPECTED", 0.5)
    monkeypatch.setattr("proxforge.bench.atlas.estimate.RUN_MOST", 1.0)
    atlas = atlases[name]
    cost, alone = (estimate(source, atlas.space, len(atlas.targets), 1, products) for products in (True, False))
    counts = atlas.manifest["counts"]
    if atlas.space.branches == 3:
        assert (cost.run, cost.most_run, counts["run"]) == (0, 0, 0)
        return
    joins = np.asarray(atlas.joins)
    matrices = atlas.branches.matrix[joins[:, 1:]].sum(axis=1)
    mixed, met = (matrices > 0).sum(), ((matrices == 2) & (joins[:, 0] > MINUS)).sum()
    assert mixed <= cost.most_run <= 4 * mixed
    assert met <= cost.most_run - alone.most_run <= 4 * met
    assert cost.run == pytest.approx(cost.most_run / 2, abs=1)
    assert (name == "out of range") <= (counts["run"] > 0)
    assert counts["run"] <= mixed


def test_what_is_run_takes_as_long_as_the_elements_are_many(source):
    class Larger:
        networks, statistics = source.networks, source.statistics

        def shape(self, *segment):
            return tuple(1000 * length for length in source.shape(*segment))

    space = TreeSpace(("fc1.w", "fc1.g"), "autoprox")
    cost, halved = (estimate(Larger(), space, 2, threads) for threads in (1, 2))
    elements = 1e6 * sum(np.prod(source.shape(n.index, "fc1.w", k)) for n in source.networks for k in range(n.layers))
    assert cost.seconds["run"] == pytest.approx(cost.run * elements * RUN_ELEMENT, rel=0.1)
    assert cost.most_seconds == pytest.approx(cost.most_run * elements * RUN_ELEMENT, rel=0.1)
    assert halved.seconds["run"] == pytest.approx(cost.seconds["run"] / 2, rel=0.1)


def test_verify_sees_a_wrong_correlation(atlases, source, tmp_path):
    atlas = atlases["scalars"]
    agree = np.array(atlas.agree)
    agree[:, :, PARTS.index("search"), 0] += 1
    atlas.agree, kept = agree, atlas.agree
    try:
        found = verify(atlas, source, small.targets(), 100)
    finally:
        atlas.agree = kept
    assert found.wrong > 50
    assert found.examples


def test_all_kinds_of_join_are_there(atlases):
    two = {name: atlas for name, atlas in atlases.items() if atlas.space.branches == 2}
    matrices = {name: set(a.branches.matrix[a.joins[:, 1:]].sum(axis=1).tolist()) for name, a in two.items()}
    assert set.union(*matrices.values()) == {0, 1, 2}
    assert (atlases["out of range"].status == NONFINITE).any()


def test_the_best_are_the_best(atlases):
    atlas = atlases["products"]
    rows = [atlas.row(f) for f in atlas.best(20, 0, atlas.layers, {})]
    values = np.concatenate([atlas.values(layer, 0) for layer in atlas.layers])
    values = np.sort(values[~np.isnan(values)])[::-1]
    assert np.allclose([r["jcm_search"] for r in rows], values[:20])
    assert rows[0]["jcm_search"] == pytest.approx(np.mean(list(rows[0]["taus"]["search"].values())))


def test_one_layer_reduction(tmp_path, source):
    found = small.build(tmp_path / "a", small.task("scalars", source, layers=("sum",)))
    atlas = Atlas(tmp_path / "a")
    assert "mean" not in found
    assert atlas.layers == (1,)
    assert found["sum"]["distinct"] == len(atlas.programs[1])


def test_a_stopped_build_continues_and_gives_the_same(tmp_path, source):
    class StopError(Exception):
        pass

    def stop(step, share):
        if step == "matrices" and share >= 0.5:
            raise StopError

    with pytest.raises(StopError):
        small.build(tmp_path / "a", small.task("products", source), stop)
    with pytest.raises(ProxforgeError, match="not finished"):
        Atlas(tmp_path / "a")
    steps = []
    small.build(tmp_path / "a", small.task("products", source), lambda step, share: steps.append(step))
    assert "programs" not in steps
    small.build(tmp_path / "b", small.task("products", source))
    one, other = (json.loads((tmp_path / n / "manifest.json").read_text()) for n in "ab")
    assert one["files"] == other["files"]


def test_another_build_in_the_folder_is_refused(tmp_path, source):
    small.build(tmp_path / "a", small.task("scalars", source))
    with pytest.raises(ProxforgeError, match="another atlas"):
        small.build(tmp_path / "a", small.task("products", source))


def test_a_damaged_file_is_named(tmp_path, source):
    small.build(tmp_path / "a", small.task("scalars", source))
    place = tmp_path / "a" / "agree.npy"
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    with pytest.raises(ProxforgeError, match=r"agree\.npy is damaged"):
        Atlas(tmp_path / "a").check()


def test_ops_that_are_no_algebra_are_refused(tmp_path, source, monkeypatch):
    made = small.task("scalars", source)
    space = type(made.space)(("qkv.w",), ("abs", "gram", "+"))
    with pytest.raises(ProxforgeError, match="'gram' changes the shape"):
        small.build(tmp_path / "a", type(made)(source, made.targets, made.split, space, {}))
    monkeypatch.setattr(listing, "JOINS", ("+", "-"))
    with pytest.raises(ProxforgeError, match=r"joins by \+ -, not by '\*'"):
        small.build(tmp_path / "a", made)
