"""Ensembles beside the formulas of a score table: their members are formulas of the table, or measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..search.correlation import settled
from ..stats_cache.inputs import Batch
from ..stats_cache.recipe import Recipe
from .measures import PARTS
from .measures.scoring import family_of, scorers
from .proxies.ensembles import Ensemble
from .proxy_tables import Column, TableRow, column, row, together
from .proxy_tables_values import network_scores
from .tables import Row, ScoreTable
from .truth.base import Benchmark


def formulas_of(ensembles: Sequence[Ensemble], sites: Sequence[str]) -> list[str]:
    """The members that are formulas, or names of formulas."""
    return [m for e in ensembles for m in e.of(sites) if m not in PARTS]


def with_ensembles(
    table: ScoreTable,
    ensembles: Sequence[Ensemble],
    benchmark: Benchmark,
    networks: Sequence[int],
    recipe: Recipe,
    seeds: Sequence[int],
    batch: Batch | None = None,
) -> ScoreTable:
    """The table with a row per ensemble and target after the others.

    ``networks``: those of the table. ``recipe``: how measures look at all networks of the benchmark. ``seeds``: of the
    initialisation; the scores of every member are averaged over them before they are ranked.
    """
    family = family_of(recipe)
    sites = tuple(family.sites)
    members = [m for e in ensembles for m in e.of(sites)]
    wanted = scorers([m for m in members if m in PARTS], (), family)
    chosen = replace(recipe, archs=tuple(recipe.archs[i] for i in networks))
    values = network_scores(chosen, wanted, seeds, batch=batch) if wanted else {}
    columns: dict[str, Column] = {}
    for s in wanted:
        found = column(s, values, len(networks), seeds)
        columns[s.label] = replace(found, scores=found.scores.mean(axis=0)[None])
    status = {r.proxy: r.status for r in table.rows if r.status != "target"}
    for label in members:
        if label not in columns:
            shape_only = any(r.shape_only for r in table.rows if r.proxy == label)
            columns[label] = Column(
                label, table.scores[label][None], 0.0, status.get(label, "ok"), "formula", shape_only
            )
    params = np.array([family.size(arch, recipe.classes).params for arch in chosen.archs], np.float64)
    rows, scores = list(table.rows), dict(table.scores)
    for ensemble in ensembles:
        combined = together(ensemble, [columns[m] for m in ensemble.of(sites)])
        scores[ensemble.name] = np.asarray(settled(combined.scores)[0])
        for target, truth in benchmark.targets.items():
            made = row(benchmark.name, combined, target, np.array(truth[list(networks)]), params)
            rows.append(_plain(made, ensemble, sites, len(seeds)))
    return replace(table, rows=tuple(rows), scores=scores)


def _plain(made: TableRow, ensemble: Ensemble, sites: Sequence[str], seeds: int) -> Row:
    shared: Mapping[str, Any] = {
        name: getattr(made, name)
        for name in ("target", "n", "kendall", "kendall_ci", "spearman", "pearson", "partial_kendall", "status")
    }
    formula = f"{ensemble.rule}: {', '.join(ensemble.of(sites))}"
    return Row(proxy=ensemble.name, baseline=False, shape_only=made.shape_only, formula=formula, seeds=seeds, **shared)
