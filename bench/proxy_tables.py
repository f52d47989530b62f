"""The table of proxies on a benchmark: formulas, measures and ensembles, beside the baselines and the papers' figures.

The networks are scored one after another and nothing but their scores is kept (see `proxy_tables_values`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.errors import ProxforgeError, nearest
from ..search.correlation import kendall, kendall_interval, partial_kendall, pearson, settled, spearman
from ..stats_cache.inputs import Batch
from ..stats_cache.recipe import Recipe
from ..vm.result import SAME
from .measures import PARTS
from .measures.scoring import OK, UNDEFINED, Scorer, family_of, scorers
from .nas.regret import Regret, regret_of
from .proxies import BASELINES, FIGURES, PUBLISHED
from .proxies.ensembles import ENSEMBLES, Ensemble, aggregate
from .proxy_tables_values import Values, document, network_scores
from .truth.base import Benchmark

Array = NDArray[np.float64]

JOURNAL = "scores.jsonl"
EVERY: tuple[str, ...] = (*PUBLISHED, *PARTS)
"""What a table holds unless told otherwise; with the published ensembles and the baselines."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One proxy against one target, over the ``n`` networks that were measured on it, scores averaged over ``seeds``.

    ``kendall``: tau-b, ``kendall_ci``: its 95 % bootstrap interval, ``partial_kendall``: tau-b given #params.
    ``seed_std``: deviation (unbiased) of tau between the seeds, None for one. ``ms_per_network``: as if nothing else
    were computed, building the network included. ``paper``: the tau that the paper reports for this benchmark.
    ``status``: ``ok``, or why there is no score. ``worst``: networks without a score by the proxy's own rule, ranked
    last. ``kind``: formula, measure, ensemble or baseline. ``regret``: what choosing the network with the highest score
    costs, see `nas.regret`.
    """

    proxy: str
    target: str
    n: int
    seeds: int
    kendall: float | None
    kendall_ci: tuple[float, float] | None
    spearman: float | None
    pearson: float | None
    partial_kendall: float | None
    seed_std: float | None
    ms_per_network: float
    paper: float | None
    status: str
    kind: str
    shape_only: bool
    worst: int
    regret: Regret | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        interval = None if self.kendall_ci is None else list(self.kendall_ci)
        return asdict(self) | {
            "kendall_ci": interval,
            "regret": None if self.regret is None else self.regret.to_dict(),
        }


@dataclass(frozen=True)
class ProxyTable:
    """``scores``: proxy -> float64 ``[n]``, the mean over the seeds, for those with a score."""

    benchmark: str
    n: int
    rows: tuple[TableRow, ...]
    targets: Mapping[str, Array] = field(repr=False, compare=False)
    scores: Mapping[str, Array] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"benchmark": self.benchmark, "n": self.n, "rows": [row.to_dict() for row in self.rows]}


@dataclass(frozen=True)
class Column:
    """What a proxy gave: scores ``[seeds, n]``, what it cost, and whether they are scores."""

    label: str
    scores: Array
    ms: float
    status: str
    kind: str
    shape_only: bool = False


def proxy_table(
    benchmark: Benchmark,
    proxies: Sequence[str] = EVERY,
    ensembles: Sequence[Ensemble] = tuple(ENSEMBLES.values()),
    *,
    seeds: int = 1,
    targets: Sequence[str] | None = None,
    recipe: Recipe | None = None,
    batch: Batch | None = None,
    out: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> ProxyTable:
    """The table of these proxies on the benchmark's networks, initialised from the seeds 0 to ``seeds - 1``.

    ``recipe``: how the networks are measured, the benchmark's own if None. ``out``: a folder with the journal of the
    scores; the same networks continue it. Raises ProxyError for a formula that does not compile, ProxforgeError for an
    unknown target or a journal of other networks.
    """
    recipe = benchmark.recipe() if recipe is None else recipe
    chosen = tuple(benchmark.targets) if targets is None else tuple(targets)
    for name in chosen:
        if name not in benchmark.targets:
            known = ", ".join(benchmark.targets)
            hint = nearest(name, benchmark.targets)
            raise ProxforgeError("config", f"{benchmark.name} has no target {name[:80]!r}{hint}; it has {known}")
    family = family_of(recipe)
    labels = list(dict.fromkeys((*proxies, *BASELINES)))
    wanted = scorers(labels, ensembles, family)
    journal = None if out is None else Path(out) / JOURNAL
    numbers = tuple(range(seeds))
    values = network_scores(recipe, wanted, numbers, path=journal, batch=batch, workers=workers, progress=progress)
    by_label = {s.label: s for s in wanted}
    columns = [column(by_label[label], values, len(recipe.archs), numbers) for label in labels]
    members = {label: column(s, values, len(recipe.archs), numbers) for label, s in by_label.items()}
    columns += [together(e, [members[m] for m in e.of(tuple(family.sites))]) for e in ensembles]
    truth = {name: benchmark.targets[name].copy() for name in chosen}
    params = np.array([family.size(arch, recipe.classes).params for arch in recipe.archs], np.float64)
    rows = [row(benchmark.name, c, target, y, params) for c in columns for target, y in truth.items()]
    means = {c.label: averaged(c) for c in columns if c.status == OK}
    return ProxyTable(benchmark.name, len(benchmark), tuple(rows), truth, means)


def column(scorer: Scorer, values: Values, networks: int, seeds: Sequence[int]) -> Column:
    """The scores of one formula or measure, with its status."""
    found = [[values[network, seed][scorer.key] for network in range(networks)] for seed in seeds]
    scores = np.array([[one.value for one in line] for line in found])
    ms = float(np.mean([one.ms for line in found for one in line]))
    worst = scorer.measure is not None and PARTS[scorer.label].worst
    undefined = (scorer.proxy is None and scorer.measure is None) or any(one.reason for line in found for one in line)
    kind = "measure" if scorer.measure is not None else "baseline" if scorer.label in BASELINES else "formula"
    shape_only = scorer.proxy is not None and scorer.proxy.shape_only
    return Column(scorer.label, scores, ms, UNDEFINED if undefined else judged(scores, worst), kind, shape_only)


def judged(scores: Array, worst: bool) -> str:
    """``ok``, ``nan``, ``inf`` or ``constant``, of scores ``[seeds, n]``. ``worst``: -inf is the lowest rank."""
    if np.isnan(scores).any():
        return "nan"
    if np.isposinf(scores).any() or (np.isneginf(scores).any() and not worst):
        return "inf"
    means = scores.mean(axis=0)
    finite = means[np.isfinite(means)]
    same = len(finite) == 0 or (len(finite) == len(means) and np.ptp(finite) <= SAME * np.abs(finite).max())
    return "constant" if same else OK


def together(ensemble: Ensemble, members: Sequence[Column]) -> Column:
    """The scores of an ensemble, aggregated seed by seed; without a score where a member has none."""
    bad = next((m.status for m in members if m.status not in (OK, "constant")), OK)
    stacked = np.stack([m.scores for m in members])  # [members, seeds, n]
    scores = np.stack([aggregate(settled(stacked[:, seed]), ensemble.rule) for seed in range(stacked.shape[1])])
    spent: dict[str, float] = {}
    for m in members:  # parts of one measure are computed together
        source = PARTS[m.label].name if m.label in PARTS else m.label
        spent[source] = max(m.ms, spent.get(source, 0.0))
    shape_only = all(m.shape_only for m in members)
    return Column(ensemble.name, scores, sum(spent.values()), bad, "ensemble", shape_only)


def averaged(c: Column) -> Array:
    """The mean over the seeds, ``[n]``."""
    return np.asarray(settled(c.scores.mean(axis=0)[None])[0])


def row(benchmark: str, c: Column, target: str, truth: Array, params: Array) -> TableRow:
    """The row of one proxy and target."""
    measured = truth[~np.isnan(truth)]
    status = "target" if c.status == OK and len(np.unique(measured)) < 2 else c.status
    scores = averaged(c)
    ranked = lowest(scores)
    tau = kendall(ranked, truth) if status == OK else None
    taus = [kendall(lowest(line), truth) for line in settled(c.scores)] if status == OK else []
    known = [t for t in taus if t is not None]
    spread = float(np.std(known, ddof=1)) if len(known) == len(taus) > 1 else None
    return TableRow(
        proxy=c.label,
        target=target,
        n=len(measured),
        seeds=len(c.scores),
        kendall=tau,
        kendall_ci=None if tau is None else kendall_interval(ranked, truth),
        spearman=None if tau is None else spearman(ranked, truth),
        pearson=None if tau is None else pearson(scores, truth),
        partial_kendall=None if tau is None else partial_kendall(ranked, truth, params),
        seed_std=spread,
        ms_per_network=c.ms,
        paper=document(FIGURES.get((benchmark.partition(":")[0], c.label, target))),
        status=status,
        kind=c.kind,
        shape_only=c.shape_only,
        worst=int(np.isneginf(scores).sum()),
        regret=None if tau is None else regret_of(scores, truth, params),
    )


def lowest(scores: Array) -> Array:
    """With -inf as a number below all others, so that it has the lowest rank."""
    finite = scores[np.isfinite(scores)]
    return np.where(np.isneginf(scores), finite.min() - 1 - abs(finite.min()), scores) if len(finite) else scores
