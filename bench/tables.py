"""The table of proxies on a benchmark: correlations with intervals, beside the baselines that look at no statistic."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.canonical import canonical_pool
from ..grammar.expr import Pool
from ..search.correlation import kendall, kendall_interval, partial_kendall, pearson, settled, spearman
from ..vm.compile import Proxy, compile_text
from ..vm.evaluate import Evaluator
from ..vm.result import Status
from .proxies import BASELINES, PUBLISHED

if TYPE_CHECKING:
    import pandas

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One proxy against one target, over the ``n`` networks that were measured on it.

    ``proxy``: as it was given; ``formula``: in canonical form. ``kendall``: tau-b, ``kendall_ci``: its 95 % bootstrap
    interval, ``spearman``, ``pearson``; ``partial_kendall``: tau-b given #params. None where a value does not exist.
    ``status``: ``ok``; why there is no score (see `Status`); ``target``: fewer than two different values were measured.
    ``baseline``: one of the four that look at no statistic. ``shape_only``: the score depends on the shapes alone.
    ``seeds``: initialisations whose scores are averaged for every network; ``kendall_std``: deviation (unbiased) of tau
    between these initialisations taken alone, None for one.
    """

    proxy: str
    target: str
    n: int
    kendall: float | None
    kendall_ci: tuple[float, float] | None
    spearman: float | None
    pearson: float | None
    partial_kendall: float | None
    status: str
    baseline: bool
    shape_only: bool
    formula: str
    seeds: int = 1
    kendall_std: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"kendall_ci": None if self.kendall_ci is None else list(self.kendall_ci)}


@dataclass(frozen=True)
class ScoreTable:
    """Proxies on ``n`` networks of a benchmark. ``split``: the part of the networks, ``backend``: what ran.

    ``scores``: proxy as given -> float64 ``[n]``, one score per network (not finite where the proxy has none), the mean
    over the initialisations; ``spread``: their deviation (unbiased) between the initialisations, empty for one.
    ``seconds``: by phase, ``counters``: of what was evaluated (`vm.evaluate.Counters`); no part of the table.
    """

    benchmark: str
    n: int
    split: str
    backend: str
    rows: tuple[Row, ...]
    scores: Mapping[str, Array] = field(repr=False, compare=False, default_factory=dict)
    spread: Mapping[str, Array] = field(repr=False, compare=False, default_factory=dict)
    seconds: Mapping[str, float] = field(repr=False, compare=False, default_factory=dict)
    counters: Mapping[str, int] = field(repr=False, compare=False, default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "benchmark": self.benchmark,
            "n": self.n,
            "split": self.split,
            "backend": self.backend,
            "rows": [r.to_dict() for r in self.rows],
        }

    def to_frame(self) -> pandas.DataFrame:
        """One row per proxy and target."""
        import pandas

        return pandas.DataFrame([asdict(r) for r in self.rows])


@dataclass(frozen=True)
class Entry:
    """A compiled proxy with the name it has in a table."""

    label: str
    proxy: Proxy
    baseline: bool


def entries(formulas: Sequence[str | Proxy], pool: Pool | None = None, sites: Collection[str] = ()) -> list[Entry]:
    """The proxies of a table: those given (formulas, names of published ones, or compiled), then the baselines.

    ``sites``: of the networks: a name stands for its formula over convolutions where they have nothing else.

    Raises ProxyError for the first formula that does not compile.
    """
    pool = canonical_pool() if pool is None else pool
    found: dict[str, Entry] = {}
    for given in (*formulas, *BASELINES):
        source = given.source if isinstance(given, Proxy) else given
        label = source.strip()
        known = PUBLISHED.get(label)
        proxy = compile_text(source if known is None else known.form(sites) or known.formula, pool)
        found.setdefault(label, Entry(label, proxy, label in BASELINES))
    return list(found.values())


def score_table(
    name: str,
    proxies: Sequence[Entry],
    evaluator: Evaluator | Sequence[Evaluator],
    targets: Mapping[str, Array],
    split: str = "all",
) -> ScoreTable:
    """The table of these proxies over the evaluator's networks.

    ``evaluator``: or one for each initialisation of the same networks; a proxy's score is then the mean over them, and
    has a spread. ``targets``: name -> float64 ``[A]`` of those networks, in their order, NaN = not measured.
    """
    evaluators = [evaluator] if isinstance(evaluator, Evaluator) else list(evaluator)
    began = time.perf_counter()
    results = [one.run([e.proxy.node for e in proxies]) for one in evaluators]
    evaluated = time.perf_counter()
    each = np.stack([result.scores for result in results])  # [seed, proxy, network]
    statuses = np.stack([result.status for result in results])
    with np.errstate(invalid="ignore"):  # infinity less infinity, where the proxy has no score
        scores = each[0] if len(each) == 1 else each.mean(axis=0)
        spread = each.std(axis=0, ddof=1) if len(each) > 1 else None
    params = np.asarray(evaluators[0].facts("params"))
    rows = []
    for i, entry in enumerate(proxies):
        status = Status(next((s for s in statuses[:, i] if s != Status.OK), Status.OK))
        for target, truth in targets.items():
            row = _row(entry, target, settled(scores[i : i + 1])[0], truth, params, status)
            if len(each) > 1 and row.kendall is not None:
                taus = [kendall(values, truth) for values in settled(each[:, i])]
                known = [tau for tau in taus if tau is not None]
                row = replace(row, kendall_std=float(np.std(known, ddof=1)) if len(known) == len(each) else None)
            rows.append(replace(row, seeds=len(each)))
    return ScoreTable(
        name,
        len(evaluators[0].networks),
        split,
        evaluators[0].backend,
        tuple(rows),
        {e.label: s for e, s in zip(proxies, scores, strict=True)},
        {} if spread is None else {e.label: s for e, s in zip(proxies, spread, strict=True)},
        {"evaluate": evaluated - began, "correlate": time.perf_counter() - evaluated},
        {name: sum(one.counters.to_dict()[name] for one in evaluators) for name in evaluators[0].counters.to_dict()},
    )


def _row(entry: Entry, target: str, scores: Array, truth: Array, params: Array, status: Status) -> Row:
    valid = status is Status.OK
    measured = truth[~np.isnan(truth)]
    undefined = valid and len(np.unique(measured)) < 2
    return Row(
        proxy=entry.label,
        target=target,
        n=len(measured),
        kendall=kendall(scores, truth) if valid else None,
        kendall_ci=kendall_interval(scores, truth) if valid else None,
        spearman=spearman(scores, truth) if valid else None,
        pearson=pearson(scores, truth) if valid else None,
        partial_kendall=partial_kendall(scores, truth, params) if valid else None,
        status="target" if undefined else status.word,
        baseline=entry.baseline,
        shape_only=entry.proxy.shape_only,
        formula=entry.proxy.canonical,
    )
