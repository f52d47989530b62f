"""A comparison for people and papers: CSV, Markdown, LaTeX, charts, and one page with all of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ...grammar.errors import ProxforgeError
from ..charts import Chart, Series, png, svg
from .plan import Plan, Run
from .statistics import Comparison, Interval, compare, curves, ecdf, ecdf_targets, grouped
from .whole import Whole

PLACES = 80
"""Numbers of evaluations in a curve."""
COLUMNS = (
    "strategy",
    "seeds",
    "search JCM",
    "test JCM",
    "to target",
    "p (test)",
    "A12 (test)",
    "rank",
    "shape only",
    "rejected",
    "duplicates",
    "s / run",
)
OF_ATLAS = ("regret", "top 0.01 %")
"""More columns where the whole space is known."""


@dataclass(frozen=True)
class Report:
    """All that is said about the runs of a plan. ``command``: what makes them. ``whole``: what an atlas knows."""

    plan: Plan
    runs: Sequence[Run]
    command: str
    whole: Whole | None = None

    def comparisons(self) -> list[Comparison]:
        """One for each budget."""
        return [compare(self.runs, budget, self.whole) for budget in self.plan.budgets]

    def to_dict(self) -> dict[str, Any]:
        """The largest budget, and ``at`` each of them."""
        every = [c.to_dict() for c in self.comparisons()]
        found = {"benchmark": self.plan.benchmark, "split_seed": self.plan.split_seed, **every[-1], "at": every}
        return {**found, "whole": None if self.whole is None else asdict(self.whole)}

    def write(self, out: Path) -> list[str]:
        """Writes everything to the folder; what could not be written, in words."""
        comparisons = self.comparisons()
        charts = self.charts()
        problems = []
        try:
            for c in comparisons:
                (out / f"table-{c.budget}.csv").write_text(to_csv(c), encoding="utf-8", newline="")
                (out / f"pairs-{c.budget}.csv").write_text(pairs_to_csv(c), encoding="utf-8", newline="")
                (out / f"table-{c.budget}.md").write_text(to_markdown(c), encoding="utf-8")
                (out / f"table-{c.budget}.tex").write_text(to_latex(c), encoding="utf-8")
            (out / "summary.json").write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
            for name, chart in charts.items():
                (out / f"{name}.svg").write_text(svg(chart), encoding="utf-8")
            (out / "index.html").write_text(self.page(comparisons, charts), encoding="utf-8")
            for name, chart in charts.items():
                (out / f"{name}.png").write_bytes(png(chart))
        except ProxforgeError as error:
            problems.append(error.message)
        except OSError as error:
            raise ProxforgeError("file", f"cannot write to {out}: {error}") from error
        return problems

    def charts(self) -> dict[str, Chart]:
        """The any-time curves on both parts, and the ECDF of evaluations to targets."""
        budget = self.plan.budgets[-1]
        places = sorted({round(v) for v in np.geomspace(1, budget, PLACES)})
        by_name = grouped(self.runs)
        seeds = min(map(len, by_name.values()))
        found = {}
        for part, words in (("search", "search part"), ("test", "test part")):
            series = []
            for name, mine in by_name.items():
                mean, low, high = curves(mine, places, test=part == "test")
                at = [(float(x), float(y)) for x, y in zip(places, mean, strict=True)]
                band = [(float(x), float(a), float(b)) for x, a, b in zip(places, low, high, strict=True)]
                series.append(Series(name, at, band))
            title = f"{self.plan.benchmark}: best so far, on the {words}, {seeds} seeds"
            found[part] = Chart(title, "evaluations", "JCM", series, log=True)
            if part == "search" and self.whole is not None:
                title = f"{self.plan.benchmark}: regret against the optimum of the space, {seeds} seeds"
                found["regret"] = Chart(title, "evaluations", "JCM", _below(self.whole, series), log=True)
        values = ecdf_targets(self.runs, budget)
        lines = [
            Series(name, [(float(x), float(y)) for x, y in zip(places, ecdf(mine, values, places), strict=True)])
            for name, mine in by_name.items()
        ]
        title = f"{self.plan.benchmark}: share of {len(values)} targets, {values[0]:.2f} to {values[-1]:.2f}, reached"
        found["ecdf"] = Chart(title, "evaluations", "share", lines, log=True, steps=True)
        return found

    def page(self, comparisons: Sequence[Comparison], charts: dict[str, Chart]) -> str:
        """One HTML page that needs no other file."""
        plan = self.plan
        name, options = plan.space
        parts = [f"<h1>Search strategies on {escape(plan.benchmark)}</h1>"]
        parts.append(
            f"<p>Space <code>{escape(name)}</code> {escape(json.dumps(dict(options)))}, {len(plan.split[0])} networks "
            f"searched on, {len(plan.split[1])} held out (split seed {plan.split_seed}), targets "
            f"{escape(', '.join(plan.targets))}. An evaluation is a program that was scored; what the compiler rejects "
            "and duplicates cost none and are counted apart. Intervals: 95 % bootstrap of the mean over seeds. p: "
            "Mann-Whitney, two-sided, against random search. A12: the chance to be better, 0.5 is no difference.</p>"
            f"<pre>{escape(self.command)}</pre>"
        )
        if self.whole is not None:
            parts.append(
                f"<p>Of the {self.whole.programs:,} programs of the space with a value on the search part the best has "
                f"{self.whole.optimum:.3f} there and {self.whole.optimum_test:.3f} on the test part; the best 0.01 % "
                f"have {self.whole.top:.3f} or more. Regret: the optimum less the value, both on the search part.</p>"
            )
        parts += [svg(chart) for chart in charts.values()]
        for c in comparisons:
            parts.append(f"<h2>{c.budget:,} evaluations</h2>{_html(_columns(c), _cells(c))}")
            parts.append(f"<details><summary>All pairs</summary>{_html(PAIRS, _pair_cells(c))}</details>")
        parts.append(f"<h2>Best formulas, {plan.budgets[-1]:,} evaluations</h2>")
        parts.append(_html(("strategy", "seed", "search", "test", "nodes", "shape only", "formula"), self._formulas()))
        style = (
            "body{font:15px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
            "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child,"
            "td:last-child{text-align:left}pre{background:#f4f4f4;padding:.7em;overflow:auto}"
        )
        head = f'<meta charset="utf-8"><title>Strategies on {escape(plan.benchmark)}</title><style>{style}</style>'
        return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"

    def _formulas(self) -> list[list[str]]:
        """The best run of every strategy, by its value on the search part."""
        rows = []
        for name, mine in grouped(self.runs).items():
            best = max((r for r in mine if r.best), key=lambda r: r.best[-1].search, default=None)
            if best is not None:
                s = best.best[-1]
                shape = "yes" if s.shape_only else "no"
                rows.append([name, str(best.seed), _n(s.search), _n(s.test), str(s.complexity), shape, s.formula])
        return rows


PAIRS = ("a", "b", "search: a - b", "p", "Holm", "A12", "test: a - b", "p", "Holm", "A12")


def to_csv(c: Comparison) -> str:
    """A line per strategy, every figure in a column of its own."""
    rows = []
    for r in c.to_dict()["rows"]:
        flat: dict[str, Any] = {}
        for key, value in r.items():
            if key in ("jcm_search", "jcm_test", "regret", "top"):
                flat |= dict(zip((key, f"{key}_low", f"{key}_high"), value or (None,) * 3, strict=True))
            else:
                flat[key] = value
        rows.append(flat)
    return _csv(rows)


def pairs_to_csv(c: Comparison) -> str:
    """A line per pair of strategies."""
    rows = []
    for p in c.to_dict()["pairs"]:
        flat: dict[str, Any] = {}
        for key, value in p.items():
            wide = key.startswith("difference")
            flat |= dict(zip((key, f"{key}_low", f"{key}_high"), value, strict=True)) if wide else {key: value}
        rows.append(flat)
    return _csv(rows)


def to_markdown(c: Comparison) -> str:
    """The table of strategies."""
    lines = [_columns(c), ["---", *["---:"] * (len(_columns(c)) - 1)], *_cells(c)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(c: Comparison) -> str:
    """The table of strategies, for the package ``booktabs``."""
    head = " & ".join(_columns(c)).replace("%", r"\%")
    body = "".join(" & ".join(row).replace("_", r"\_").replace("%", r"\%") + r" \\" + "\n" for row in _cells(c))
    rules = r"\toprule", r"\midrule", r"\bottomrule"
    columns = f"l{'r' * (len(_columns(c)) - 1)}"
    return f"\\begin{{tabular}}{{{columns}}}\n{rules[0]}\n{head} \\\\\n{rules[1]}\n{body}{rules[2]}\n\\end{{tabular}}\n"


def _cells(c: Comparison) -> list[list[str]]:
    return [
        [
            r.strategy,
            str(r.seeds),
            _ends(r.jcm_search),
            _ends(r.jcm_test),
            "-" if r.evaluations_to_target is None else f"{r.evaluations_to_target:.0f}",
            _p(r.p_vs_random),
            _n(r.effect, 2),
            f"{r.rank:.2f}",
            f"{r.shape_only:.0%}",
            _n(r.rejected, 0),
            _n(r.duplicates, 0),
            _n(r.seconds, 2),
            *([] if r.regret is None and r.top is None else [_ends(r.regret), _ends(r.top)]),
        ]
        for r in c.rows
    ]


def _columns(c: Comparison) -> tuple[str, ...]:
    return COLUMNS if all(r.regret is None and r.top is None for r in c.rows) else (*COLUMNS, *OF_ATLAS)


def _below(whole: Whole, series: Sequence[Series]) -> list[Series]:
    """Curves of values as curves of regret."""
    return [
        Series(
            s.name,
            [(x, whole.regret(y)) for x, y in s.points],
            [(x, whole.regret(high), whole.regret(low)) for x, low, high in s.band],
        )
        for s in series
    ]


def _pair_cells(c: Comparison) -> list[list[str]]:
    return [
        [
            p.a,
            p.b,
            _ends(p.difference_search),
            _p(p.p_search),
            _p(p.holm_search),
            _n(p.a12_search, 2),
            _ends(p.difference_test),
            _p(p.p_test),
            _p(p.holm_test),
            _n(p.a12_test, 2),
        ]
        for p in c.pairs
    ]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _html(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(v)}</td>' for v in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _ends(value: Interval | None) -> str:
    return "-" if value is None else f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def _n(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    return "-" if value is None else "<1e-4" if value < 1e-4 else f"{value:.4f}"
