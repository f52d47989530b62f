"""What the whole space looks like: distribution, baselines, marginals, agreement of the two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.ops import OPS
from ...grammar.parse import parse
from ...search.correlation import pearson
from ..proxies import BASELINES, PUBLISHED
from .patterns import JOINS, LAYERS, join_of, layered
from .ranks import STATUSES
from .store import Atlas, Found
from .task import PARTS

Array = NDArray[np.float64]
Values = NDArray[np.float32]

SEARCH, TEST, ALL = range(len(PARTS))
QUANTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)
TOP = 1e-4
"""The share of the programs that is called the top."""
EDGES = np.linspace(-1.0, 1.0, 81)
"""Of the histogram of JCM."""
DRAWS = (100, 220, 1000, 4000, 20_000, 100_000)
"""Evaluations of random searches."""
DRAWN = 1_000_000
"""Programs drawn for the agreement of the two parts."""


class Survey:
    """The JCM of every program of an atlas, on the search part and on the test part."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self.places = [np.asarray(programs["place"]) for programs in atlas.programs]
        self.values = [[atlas.values(layer, part) for layer in range(len(LAYERS))] for part in (SEARCH, TEST)]

    def of(self, part: int) -> Values:
        """All programs with a JCM on a part."""
        joined = np.concatenate(self.values[part])
        return joined[~np.isnan(joined)]

    def position(self, jcm: float) -> tuple[int, float]:
        """The rank on the search part (1: no program is better), and the share of programs that are not better."""
        return position(self.of(SEARCH), jcm)


def position(values: Values, jcm: float) -> tuple[int, float]:
    """The rank of a value among those of all programs (1: none is better), and the share of these not better."""
    better = int((values > np.float32(jcm)).sum())
    return better + 1, 1.0 - better / max(len(values), 1)


def query(atlas: Atlas, formula: str) -> dict[str, Any] | None:
    """The values of a formula, and its place among all programs; None where it is none of them."""
    wanted = PUBLISHED[formula].formula if formula in PUBLISHED else formula
    found = atlas.find(parse(wanted, atlas.branches.pool))
    return None if found is None else placed(atlas, found)


def placed(atlas: Atlas, found: Found) -> dict[str, Any]:
    """A program, and its place on the search part among all with a value."""
    row = atlas.row(found)
    status = {part: int(atlas.status[found.join, found.layers, p]) for p, part in enumerate(PARTS)}
    row["status"] = {part: STATUSES[s] for part, s in status.items()}
    if row["jcm_search"] is None:
        return {**row, "rank": None, "quantile": None}
    better, count = 0, 0
    for layer in atlas.layers:
        values = atlas.values(layer, SEARCH)
        values = values[~np.isnan(values)]
        better += position(values, row["jcm_search"])[0] - 1
        count += len(values)
    return {**row, "rank": better + 1, "quantile": 1.0 - better / count}


def shape_only(atlas: Atlas) -> NDArray[np.bool_]:
    """Which joins are functions of the shapes alone, ``[R]``."""
    branches = atlas.branches
    if atlas.space.branches > 2:
        joined = (join_of(branches, row) for row in atlas.joins.tolist())
        return np.array([layered(branches.pool, node, "mean").facts.shape_only for node in joined], np.bool_)
    kinds: dict[Any, int] = {}
    of = np.array([kinds.setdefault((n.facts, n.type.kind), len(kinds)) for n in branches.nodes])
    examples = {k: i for i, k in reversed(list(enumerate(of.tolist())))}
    joins = np.asarray(atlas.joins)
    keys = (joins[:, 0].astype(np.int64) * len(kinds) + of[joins[:, 1]]) * len(kinds) + of[joins[:, 2]]
    unique, place = np.unique(keys, return_inverse=True)
    found = []
    for key in unique.tolist():
        number, left, right = key // len(kinds) ** 2, key // len(kinds) % len(kinds), key % len(kinds)
        nodes = [branches.nodes[examples[k]] for k in (left, right)]
        facts = OPS[JOINS[number]].facts(tuple(n.facts for n in nodes), tuple(n.type.kind for n in nodes))
        found.append(facts.shape_only)
    return np.array(found, np.bool_)[place.ravel()]


def survey(atlas: Atlas) -> dict[str, Any]:
    """The figures of `proxforge atlas stats`, as plain JSON."""
    made = Survey(atlas)
    shapes = shape_only(atlas)
    of_shapes = np.concatenate([shapes[places >> 1] for places in made.places])
    joined = [np.concatenate(values) for values in made.values]
    valued = [~np.isnan(v) for v in joined]
    baselines = atlas.manifest["baselines"]
    return {
        "benchmark": atlas.manifest["benchmark"],
        "networks": {part: len(atlas.manifest["parts"][part]) for part in PARTS},
        "targets": list(atlas.targets),
        "counts": atlas.manifest["counts"],
        "status": _statuses(atlas, made),
        "distribution": {part: _distribution(joined[p][valued[p]]) for p, part in enumerate(PARTS[:2])},
        "baselines": baselines,
        "published": {name: row for name in PUBLISHED if (row := query(atlas, name)) is not None},
        "params": dict(zip(("rank", "quantile"), made.position(baselines["params"]["search"]), strict=True)),
        "better": {
            "than every baseline": _better(joined, baselines, np.ones(len(of_shapes), np.bool_)),
            "than every baseline, not of shapes alone": _better(joined, baselines, ~of_shapes),
        },
        "shape_only": float(of_shapes.mean()),
        "agreement": _agreement(joined, valued[0] & valued[1]),
        "marginals": _marginals(atlas, made),
        "random": {LAYERS[layer]: _random(atlas, made, layer) for layer in atlas.layers},
        "best": [atlas.row(found) for found in atlas.best(1, SEARCH, atlas.layers, {})],
    }


def _statuses(atlas: Atlas, made: Survey) -> dict[str, dict[str, int]]:
    """Programs of each layer reduction by status on the search part."""
    found = {}
    for layer in atlas.layers:
        status = atlas.status[:, layer, SEARCH][made.places[layer] >> 1]
        found[LAYERS[layer]] = {name: int((status == code).sum()) for code, name in enumerate(STATUSES)}
    return found


def _distribution(values: Values) -> dict[str, Any]:
    counts, _ = np.histogram(values, EDGES)
    return {
        "programs": len(values),
        "quantiles": dict(zip(map(str, QUANTILES), np.quantile(values, QUANTILES).tolist(), strict=True)),
        "largest": float(values.max()),
        "edges": EDGES.tolist(),
        "histogram": counts.tolist(),
    }


def _better(
    joined: Sequence[Values], baselines: Mapping[str, Mapping[str, float | None]], chosen: NDArray[np.bool_]
) -> dict[str, float]:
    """The share of programs above the best baseline of their part: on the search part, on the test part, on both."""
    over = []
    for p, part in enumerate(PARTS[:2]):
        bar = max(v for name in BASELINES if (v := baselines[name][part]) is not None)
        over.append((joined[p] > bar) & chosen)
    count = max(int((chosen & ~np.isnan(joined[SEARCH])).sum()), 1)
    return {
        "search": int(over[0].sum()) / count,
        "test": int(over[1].sum()) / count,
        "both": int((over[0] & over[1]).sum()) / count,
        "programs": count,
    }


def _agreement(joined: Sequence[Values], both: NDArray[np.bool_]) -> dict[str, Any]:
    """How far the two parts rank programs alike."""
    places = np.flatnonzero(both)
    if len(places) > DRAWN:
        places = np.sort(np.random.default_rng(0).choice(places, DRAWN, replace=False))
    search, test = (v[places].astype(np.float64) for v in joined)
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable").astype(np.float64) for v in (search, test)]
    every = [v[both] for v in joined]
    count = max(1, round(TOP * len(every[0])))
    top = np.argpartition(-every[0], count - 1)[:count]
    best_test = np.argpartition(-every[1], count - 1)[:count]
    return {
        "pearson": pearson(search, test),
        "spearman": pearson(*ranks),
        "top": count,
        "top_search_mean": float(every[0][top].mean()),
        "top_test_mean": float(every[1][top].mean()),
        "top_in_both": len(np.intersect1d(top, best_test)) / count,
        "best_test": float(every[1].max()),
        "grid": np.histogram2d(search, test, (EDGES[::2], EDGES[::2]))[0].astype(int).tolist(),
    }


def _random(atlas: Atlas, made: Survey, layer: int) -> list[dict[str, float]]:
    """What random search finds, exactly: over all runs of n genotypes that compile, drawn with replacement, the mean
    JCM of the best one on the search part and of that program on the test part, the mean regret on the search part, and
    the share of runs that reach the best `TOP` of the genotypes."""
    search, test = (values[layer].astype(np.float64) for values in made.values)
    many = np.asarray(atlas.programs[layer]["many"]).astype(np.float64)
    search = np.where(np.isnan(search), -1.0, search)  # a run without any value has found nothing: the lowest tau
    order = np.argsort(search, kind="stable")
    share = np.cumsum(many[order]) / many.sum()
    found, on_test = search[order], np.nan_to_num(test[order])
    rows = []
    for n in DRAWS:
        best = np.diff(share**n, prepend=0.0)
        rows.append(
            {
                "evaluations": n,
                "search": float(best @ found),
                "test": float(best @ on_test),
                "regret": float(found[-1] - best @ found),
                "top": 1.0 - (1.0 - TOP) ** n,
            }
        )
    return rows


def _marginals(atlas: Atlas, made: Survey) -> list[dict[str, Any]]:
    """For each op and input, over the branches and joins it is in: how many programs, their mean |JCM| on the search
    part, and how much more often it is among the best than among all."""
    branches = atlas.branches
    size = len(branches.nodes)
    values = np.concatenate(made.values[SEARCH])
    places = np.concatenate(made.places) >> 1
    known = ~np.isnan(values)
    values, places = values[known], places[known]
    count = max(1, round(TOP * len(values)))
    top = values >= np.partition(values, len(values) - count)[len(values) - count]
    joins = np.asarray(atlas.joins)[places]
    totals = np.zeros((3, size + len(JOINS)))
    for column in range(joins.shape[1]):
        at = joins[:, column].astype(np.int64) + (size if column % 3 == 0 else 0)
        for row, weights in zip(totals, (None, np.abs(values), top), strict=True):
            row += np.bincount(at, weights=weights, minlength=totals.shape[1])
    names: dict[tuple[str, str], Array] = {}

    def add(kind: str, name: str, figures: Array) -> None:
        names[kind, name] = names.get((kind, name), np.zeros(3)) + figures

    for b in range(size):
        statistic, local = branches.statistics[b // branches.each], b % branches.each
        add("input", statistic, totals[:, b])
        for op in set(branches.genes[local][0]) - {"identity"}:
            add("unary", op, totals[:, b])
    for k, op in enumerate(JOINS):
        add("binary", op, totals[:, size + k])
    return [
        {
            "kind": kind,
            "name": name,
            "programs": int(n),
            "mean_abs_jcm": float(total / n),
            "lift": float(best / n / (top.sum() / len(values))),
        }
        for (kind, name), (n, total, best) in names.items()
        if n
    ]
