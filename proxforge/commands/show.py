"""Results as tables for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..output import number, table

if TYPE_CHECKING:
    from ..bench.tables import Row, ScoreTable
    from ..search.result import SearchResult


def marked(proxy: str, baseline: bool, shape_only: bool) -> str:
    return f"{proxy}  (baseline)" if baseline else f"{proxy}  (shape only)" if shape_only else proxy


def show_scores(found: ScoreTable) -> None:
    """A table per target, the best proxy first."""
    part = "" if found.split == "all" else f", {found.split} part"
    click.echo(f"{found.benchmark}: {found.n} networks{part}; {found.backend}")
    for target in dict.fromkeys(r.target for r in found.rows):
        chosen = [r for r in found.rows if r.target == target]
        chosen.sort(key=lambda r: -math.inf if r.kendall is None else r.kendall, reverse=True)
        rows = [
            (
                marked(r.proxy, r.baseline, r.shape_only),
                _tau(r) if r.status == "ok" else f"none: {r.status}",
                "" if r.kendall_ci is None else f"{r.kendall_ci[0]:.2f}..{r.kendall_ci[1]:.2f}",
                number(r.spearman),
                number(r.pearson),
                number(r.partial_kendall),
            )
            for r in chosen
        ]
        columns = ("proxy", "Kendall", "95 %", "Spearman", "Pearson", "given\n#params")
        table(f"{target}, n={chosen[0].n}", columns, rows)


def _tau(r: Row) -> str:
    """Tau-b, and its deviation between initialisations where there are several."""
    return number(r.kendall) + ("" if r.kendall_std is None else f" ± {r.kendall_std:.3f}")


def markdown_scores(found: ScoreTable) -> str:
    """The table as Markdown, a column per target: tau-b [95 % interval] and, after a bar, tau given #params."""
    targets = list(dict.fromkeys(r.target for r in found.rows))
    counts = {r.target: r.n for r in found.rows}
    cells: dict[str, dict[str, str]] = {}
    for r in found.rows:
        row = cells.setdefault(marked(f"`{r.proxy}`", r.baseline, r.shape_only), {})
        if r.kendall is None or r.kendall_ci is None:
            row[r.target] = r.status
        else:
            row[r.target] = f"{_tau(r)} [{r.kendall_ci[0]:.2f}, {r.kendall_ci[1]:.2f}]"
            row[r.target] += "" if r.partial_kendall is None else f" / {r.partial_kendall:.2f}"
    head = ["proxy", *(f"{t} (n={counts[t]})" for t in targets)]
    lines = [head, ["---"] * len(head), *([name, *(row[t] for t in targets)] for name, row in cells.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show_search(found: SearchResult) -> None:
    """The result for people: the best formula beside the baselines, on both parts."""
    if found.best is not None:
        show_taus(found.best.rows, f"search seed {found.params['seed']}, split seed {found.params['split_seed']}")
    show_found(found)


def show_taus(rows: Sequence[Mapping[str, Any]], seeds: str) -> None:
    """Kendall's tau with its interval by proxy, part and target; ``rows`` of tables, each with its ``split``."""
    cells: dict[str, dict[tuple[str, str], str]] = {}
    counts: dict[tuple[str, str], int] = {}
    for r in rows:
        column = (r["split"], r["target"])
        counts[column] = r["n"]
        interval = "" if r["kendall_ci"] is None else f"\n{r['kendall_ci'][0]:.2f}..{r['kendall_ci'][1]:.2f}"
        tau = number(r["kendall"]) + interval if r["status"] == "ok" else r["status"]
        cells.setdefault(marked(r["proxy"], r["baseline"], r["shape_only"]), {})[column] = tau
    table(
        f"Kendall tau-b and its 95 % interval; {seeds}",
        ("proxy", *(f"{split}\n{target}\nn={n}" for (split, target), n in counts.items())),
        [(name, *(row[c] for c in counts)) for name, row in cells.items()],
    )


def show_found(found: SearchResult) -> None:
    """The best formula and what it cost."""
    if found.best is None:
        click.echo(f"no program of {found.evaluations} evaluated ones had a score")
        return
    click.echo(f"best formula: {found.best.proxy}")
    click.echo(
        f"JCM: {number(found.best.jcm_search)} on the search part, {number(found.best.jcm_test)} on the test part"
    )
    click.echo(
        f"{found.evaluations} evaluations ({found.invalid} without a score), {found.rejected} rejected when compiled, "
        f"{found.duplicates} duplicates, {found.seconds['total']:.1f} s"
    )
