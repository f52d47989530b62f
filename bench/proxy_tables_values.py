"""The scores of every network of a benchmark at every seed, kept in a journal so that a run can be continued."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from ..grammar.errors import ProxforgeError
from ..stats_cache.inputs import Batch
from ..stats_cache.recipe import Recipe
from .measures.scoring import Scored, Scorer, score_network

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
    journal: Path | None = None,
    batch: Batch | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Values:
    """The scores of all networks of the recipe, initialised from each of the seeds.

    ``journal``: a file of JSON lines; what it holds is not computed again, whatever the proxies it was begun with.
    ``workers``: processes, of one thread each. Raises ProxforgeError ``file`` for a journal of another recipe.
    """
    known = {} if journal is None else _begin(journal, recipe)
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
    with nullcontext(None) if journal is None else journal.open("a", encoding="utf-8") as lines:
        for done, (unit, scored) in enumerate(_run(units, batch, workers), start=total - len(units) + 1):
            known.setdefault((unit.network, unit.seed), {}).update(scored)
            if lines is not None:
                _append(lines, unit, scored)
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
    from concurrent.futures import as_completed

    from .truth.train import _pool

    with _pool(workers) as pool:
        running = {pool.submit(run_unit, unit, batch): unit for unit in units}
        for future in as_completed(running):
            yield running[future], future.result()


def _append(lines: TextIO, unit: Unit, scored: Mapping[str, Scored]) -> None:
    """One line, forced to disk."""
    values = {key: [number_text(s.value), round(s.ms, 3), s.reason] for key, s in scored.items()}
    lines.write(json.dumps({"network": unit.network, "seed": unit.seed, "scores": values}) + "\n")
    lines.flush()
    os.fsync(lines.fileno())


def number_text(value: float) -> float | str:
    """A number as JSON can hold it: what is not finite as text."""
    return value if math.isfinite(value) else repr(value)


def _begin(journal: Path, recipe: Recipe) -> Values:
    """What the journal holds; a new one where there is none."""
    header = {"format": FORMAT, "recipe": replace(recipe, seed=0).key}
    if not journal.exists() or journal.stat().st_size == 0:
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return {}
    whole, _, cut = journal.read_text(encoding="utf-8").rpartition("\n")
    try:
        first, *rest = [json.loads(line) for line in whole.split("\n")]
        found: Values = {}
        for row in rest:
            scores = {key: Scored(float(v), float(ms), str(why)) for key, (v, ms, why) in row["scores"].items()}
            found.setdefault((int(row["network"]), int(row["seed"])), {}).update(scores)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{journal} is no journal of scores ({error!r}): delete it, or choose another folder"
        raise ProxforgeError("file", message) from error
    if first != header:
        message = f"{journal} was begun with other networks or another input: delete it, or choose another folder"
        raise ProxforgeError("file", message)
    if cut:  # a line without its end was being written when the run was killed
        journal.write_text(whole + "\n", encoding="utf-8")
    return found


def document(value: float | None) -> Any:
    """A number for the JSON document: None where it is not finite."""
    return None if value is None or not math.isfinite(value) else value
