"""Results as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..output import number, table

if TYPE_CHECKING:
    from ..bench.tables import ScoreTable
    from ..search.result import SearchResult


def marked(proxy: str, baseline: bool, shape_only: bool) -> str:
    return f"{proxy}  (baseline)" if baseline else f"{proxy}  (shape only)" if shape_only else proxy


def show_scores(found: ScoreTable) -> None:
    """The table for people."""
    rows = [
        (
            marked(r.proxy, r.baseline, r.shape_only),
            r.target,
            r.n,
            number(r.kendall) if r.status == "ok" else r.status,
            "" if r.kendall_ci is None else f"{r.kendall_ci[0]:.2f} .. {r.kendall_ci[1]:.2f}",
            number(r.spearman),
            number(r.pearson),
            number(r.partial_kendall),
        )
        for r in found.rows
    ]
    part = "" if found.split == "all" else f", {found.split} part"
    title = f"{found.benchmark}: {found.n} networks{part}; {found.backend}"
    table(title, ("proxy", "target", "n", "Kendall", "95 %", "Spearman", "Pearson", "given #params"), rows)


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
            row[r.target] = f"{r.kendall:.3f} [{r.kendall_ci[0]:.2f}, {r.kendall_ci[1]:.2f}]"
            row[r.target] += "" if r.partial_kendall is None else f" / {r.partial_kendall:.2f}"
    head = ["proxy", *(f"{t} (n={counts[t]})" for t in targets)]
    lines = [head, ["---"] * len(head), *([name, *(row[t] for t in targets)] for name, row in cells.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show_search(found: SearchResult) -> None:
    """The result for people: the best formula beside the baselines, on both parts."""
    if found.best is not None:
        rows: dict[str, dict[tuple[str, str], str]] = {}
        for r in found.best.rows:
            cells = rows.setdefault(marked(r["proxy"], r["baseline"], r["shape_only"]), {})
            cells[r["split"], r["target"]] = number(r["kendall"])
        show_taus(rows)
    show_found(found)


def show_taus(rows: dict[str, dict[tuple[str, str], str]]) -> None:
    """Kendall's tau by proxy, part and target."""
    columns = list(next(iter(rows.values())))
    table(
        "Kendall tau-b on the networks of the search part and of the test part",
        ("proxy", *(f"{split}: {target}" for split, target in columns)),
        [(name, *(cells[c] for c in columns)) for name, cells in rows.items()],
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
