"""A search for architectures by score: random draws, or evolution over the whole history. Nothing is trained.

The candidate of a step is a function of the seed, the step and the history before it; every scored candidate is one
line of a journal. So a run that was killed continues, and ends with what it would have found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError, nearest
from ...search.correlation import settled
from ...stats_cache.inputs import Batch
from ...stats_cache.recipe import Recipe, canonical
from ...stats_cache.spaces.budget import Budget
from ..journal import journal
from ..measures.scoring import Scorer, family_of, score_network, scorers
from ..pool import pool
from ..proxies.ensembles import Ensemble, aggregate
from ..proxy_tables_values import document, number_text

Array = NDArray[np.float64]
Told = Callable[[int, int], None]

STRATEGIES = ("random", "evolution")
HISTORY = "history.jsonl"


@dataclass(frozen=True)
class NasOptions:
    """``samples``: networks that are scored. ``strategy``: ``random``, or ``evolution`` (AZ-NAS, algorithm 1): after
    ``initial`` random ones every candidate is a mutation of one of the ``population`` best of the whole history, ranked
    anew at every step. ``seed``: of the candidates.
    """

    samples: int = 1000
    strategy: str = "random"
    seed: int = 0
    initial: int = 50
    population: int = 1024

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            hint = nearest(self.strategy, STRATEGIES)
            raise ProxforgeError(
                "config", f"no strategy is called {self.strategy!r}{hint}; there are random, evolution"
            )
        for name, least in (("samples", 1), ("seed", 0), ("initial", 1), ("population", 1)):
            if getattr(self, name) < least:
                raise ProxforgeError("config", f"{name} is {getattr(self, name)}; expected at least {least}")


@dataclass(frozen=True)
class Candidate:
    """A scored architecture. ``scores``: proxy -> value, NaN or infinite where it has none."""

    arch: Mapping[str, Any]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Found:
    """``history``: every candidate in order; ``totals``: what they are ranked by, float64 ``[n]`` (NaN: no score)."""

    history: tuple[Candidate, ...]
    totals: Array = field(repr=False)
    seconds: float

    def order(self) -> list[int]:
        """The candidates with a score, the best first, each architecture once; of equal ones the first drawn."""
        known = [i for i in range(len(self.history)) if not math.isnan(self.totals[i])]
        best = sorted(known, key=lambda i: (-self.totals[i], i))
        return list({canonical(self.history[i].arch): i for i in reversed(best)}.values())[::-1]


def by_score(ensemble: Ensemble, labels: Sequence[str], history: Sequence[Candidate]) -> Array:
    """What candidates are ranked by: the score of the one proxy, or the aggregated ranks over the whole history."""
    table = settled(np.array([[c.scores[label] for c in history] for label in labels]).reshape(len(labels), -1))
    table = np.where(np.isposinf(table), np.nan, table)
    return table[0] if len(labels) == 1 else aggregate(table, ensemble.rule)


def scorers_of(recipe: Recipe, ensemble: Ensemble) -> list[Scorer]:
    """What computes the ensemble's scores. ProxforgeError ``usage`` where the recipe's networks lack what it reads."""
    wanted = scorers((), (ensemble,), family_of(recipe))
    for scorer in wanted:
        if scorer.proxy is None and scorer.measure is None:
            raise ProxforgeError("usage", f"{scorer.label} reads what networks of {recipe.space} do not have")
    return wanted


def run_nas(
    recipe: Recipe,
    ensemble: Ensemble,
    options: NasOptions,
    budget: Budget,
    *,
    batch: Batch | None = None,
    out: Path | None = None,
    workers: int = 1,
    progress: Told | None = None,
) -> Found:
    """Searches the recipe's space (its ``archs`` do not matter) for the network that the proxies rank highest.

    ``ensemble``: of one proxy or more. ``out``: a folder with the journal; the same settings continue it. ``workers``:
    processes for random draws; evolution is one step after another. Raises ProxforgeError, ProxyError.
    """
    family = family_of(recipe)
    wanted = scorers_of(recipe, ensemble)
    labels = [s.label for s in wanted]
    header = {
        "recipe": replace(recipe, archs=({},)).to_json(),
        "options": {k: v for k, v in asdict(options).items() if k != "samples"},
        "budget": str(budget),
        "keys": [s.key for s in wanted],
        "rule": ensemble.rule,
    }
    began = time.perf_counter()
    path = None if out is None else Path(out) / HISTORY
    with journal(path, header, _line, "a history of a search") as lines, _mapper(workers) as run:
        spent = max((seconds for _, seconds in lines.rows), default=0.0)
        history = [candidate for candidate, _ in lines.rows[: options.samples]]
        known = {canonical(c.arch): c.scores for c in history}

        def candidate(step: int) -> dict[str, Any]:
            rng = np.random.default_rng([options.seed, step])
            if options.strategy == "random" or step < options.initial:
                return family.sample_within(rng, budget, recipe.classes)
            totals = np.nan_to_num(by_score(ensemble, labels, history), nan=-np.inf)
            best = np.argsort(-totals, kind="stable")[: options.population]
            return family.mutate_within(history[int(rng.choice(best))].arch, rng, budget, recipe.classes)

        while len(history) < options.samples:
            step = len(history)
            drawn = options.samples if options.strategy == "random" else min(options.initial, options.samples)
            chunk = [candidate(i) for i in range(step, min(step + 8 * workers, max(step + 1, drawn)))]
            new = list({canonical(arch): arch for arch in chunk if canonical(arch) not in known}.items())
            tasks = [(replace(recipe, archs=(arch,)), wanted, batch) for _, arch in new]
            for (name, _), scores in zip(new, run(tasks), strict=True):
                known[name] = scores
            seconds = round(spent + time.perf_counter() - began, 3)
            for arch in chunk:
                history.append(Candidate(arch, known[canonical(arch)]))
                values = {label: number_text(v) for label, v in history[-1].scores.items()}
                lines.append({"arch": arch, "scores": values, "seconds": seconds})
            if progress is not None:
                progress(len(history), options.samples)
    return Found(tuple(history), by_score(ensemble, labels, history), spent + time.perf_counter() - began)


Task = tuple[Recipe, Sequence[Scorer], Batch | None]


def score_task(task: Task) -> dict[str, float]:
    """Proxy -> score of one network: what a worker process runs."""
    recipe, wanted, batch = task
    found = score_network(recipe, wanted, batch)
    return {s.label: found[s.key].value for s in wanted}


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[[Sequence[Task]], Iterator[dict[str, float]]]]:
    """Runs tasks in order, here or in worker processes."""
    if workers == 1:
        yield lambda tasks: map(score_task, tasks)
        return
    with pool(workers) as processes:
        yield lambda tasks: processes.map(score_task, tasks)


def _line(row: Any) -> tuple[Candidate, float]:
    return Candidate(row["arch"], {k: float(v) for k, v in row["scores"].items()}), float(row["seconds"])


def plain(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores for a JSON document."""
    return {label: document(value) for label, value in scores.items()}
