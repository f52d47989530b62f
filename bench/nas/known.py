"""A search among the networks of a benchmark, whose accuracies are known."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...grammar.errors import ProxforgeError
from ...stats_cache.inputs import Batch
from ...stats_cache.recipe import Recipe
from ...stats_cache.spaces.budget import Budget
from ..measures.scoring import family_of
from ..proxies.ensembles import Ensemble
from ..proxy_tables import JOURNAL
from ..proxy_tables_values import network_scores
from ..truth.base import Benchmark
from .regret import regrets
from .run import Candidate, Found, by_score, scorers_of


def search_benchmark(
    benchmark: Benchmark,
    recipe: Recipe,
    ensemble: Ensemble,
    budget: Budget,
    *,
    batch: Batch | None = None,
    out: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Found, dict[str, Any]]:
    """Every network of the benchmark within the budget, scored, and target -> what choosing the best costs.

    ``recipe``: how its networks are measured. ``out``: a folder with the journal of scores, the one of `proxy_table`.
    """
    began = time.perf_counter()
    family = family_of(recipe)
    wanted = scorers_of(recipe, ensemble)
    sizes = [family.size(arch, recipe.classes) for arch in recipe.archs]
    inside = [i for i, size in enumerate(sizes) if budget.allows(size)]
    if len(inside) < 2:
        raise ProxforgeError("space", f"{len(inside)} networks of {benchmark.name} have {budget}; choose a wider range")
    path = None if out is None else Path(out) / JOURNAL
    values = network_scores(recipe, wanted, (recipe.seed,), path=path, batch=batch, workers=workers, progress=progress)
    history = tuple(
        Candidate(recipe.archs[i], {s.label: values[i, recipe.seed][s.key].value for s in wanted}) for i in inside
    )
    totals = by_score(ensemble, [s.label for s in wanted], history)
    params = np.array([sizes[i].params for i in inside], np.float64)
    truth = {name: values[inside] for name, values in benchmark.targets.items()}
    return Found(history, totals, time.perf_counter() - began), regrets(totals, truth, params)
