"""The scores of every network of a benchmark at every seed, kept in a journal so that a run can be continued."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..stats_cache.inputs import Batch
from ..stats_cache.recipe import Recipe
from .journal import journal
from .measures.scoring import Scored, Scorer, score_network
from .pool import pool

Values = dict[tuple[int, int], dict[str, Scored]]
"""(network, seed) -> scorer key -> score."""
FORMAT = 1


@dataclass(frozen=True)
class Unit:
    """One network at one seed, and what is still wanted of it."""

    network: int
    seed: int
    recipe: Recipe
    wanted: tuple[Scorer, ...]


def network_scores(
    recipe: Recipe,
    wanted: Sequence[Scorer],
    seeds: Sequence[int],
    *,
    path: Path | None = None,
    batch: Batch | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Values:
    """The scores of all networks of the recipe, initialised from each of the seeds.

    ``path``: a journal of JSON lines; what it holds is not computed again, whatever the proxies it was begun with.
    ``workers``: processes, of one thread each. Raises ProxforgeError ``file`` for a journal of another recipe.
    """
    header = {"format": FORMAT, "networks and input": replace(recipe, seed=0).key}
    with journal(path, header, _read, "a journal of scores") as lines:
        known: Values = {}
        for unit, scored in lines.rows:
            known.setdefault(unit, {}).update(scored)
        units = []
        for seed in seeds:
            for network, arch in enumerate(recipe.archs):
                have = known.get((network, seed), {})
                missing = tuple(s for s in wanted if s.key not in have)
                if missing:
                    units.append(Unit(network, seed, replace(recipe, archs=(arch,), seed=seed), missing))
        total = len(seeds) * len(recipe.archs)
        if progress is not None:
            progress(total - len(units), total)
        for done, (new, scored) in enumerate(_run(units, batch, workers), start=total - len(units) + 1):
            known.setdefault((new.network, new.seed), {}).update(scored)
            lines.append(_row(new, scored))
            if progress is not None:
                progress(done, total)
    return known


def run_unit(unit: Unit, batch: Batch | None) -> dict[str, Scored]:
    """The scores of one unit: what a worker process runs."""
    return score_network(unit.recipe, unit.wanted, batch)


def _run(units: Sequence[Unit], batch: Batch | None, workers: int) -> Iterator[tuple[Unit, dict[str, Scored]]]:
    if workers == 1 or len(units) < 2:
        for unit in units:
            yield unit, run_unit(unit, batch)
        return
    with pool(workers) as processes:
        running = {processes.submit(run_unit, unit, batch): unit for unit in units}
        for future in as_completed(running):
            yield running[future], future.result()


def _row(unit: Unit, scored: Mapping[str, Scored]) -> dict[str, Any]:
    values = {key: [number_text(s.value), round(s.ms, 3), s.reason] for key, s in scored.items()}
    return {"network": unit.network, "seed": unit.seed, "scores": values}


def number_text(value: float) -> float | str:
    """A number as JSON can hold it: what is not finite as text."""
    return value if math.isfinite(value) else repr(value)


def _read(row: Any) -> tuple[tuple[int, int], dict[str, Scored]]:
    scores = {key: Scored(float(v), float(ms), str(why)) for key, (v, ms, why) in row["scores"].items()}
    return (int(row["network"]), int(row["seed"])), scores


def document(value: float | None) -> Any:
    """A number for the JSON document: None where it is not finite."""
    return None if value is None or not math.isfinite(value) else value
