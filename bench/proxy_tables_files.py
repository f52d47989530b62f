"""A table of proxies as files: CSV, Markdown, LaTeX, and HTML with a scatter plot per proxy and target."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import fields

import numpy as np

from .nas.regret import Regret
from .proxy_tables import Array, ProxyTable, TableRow

WIDTH, HEIGHT = 220, 160
"""Of a plot, in pixels."""


def csv_text(table: ProxyTable) -> str:
    """One line per proxy and target: the fields of `TableRow`, an interval as ``low..high``, the regret as a number."""
    out = io.StringIO()
    names = [f.name for f in fields(TableRow)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in table.rows:
        cells = {name: getattr(row, name) for name in names}
        cells["regret"] = None if row.regret is None else row.regret.regret
        cells["kendall_ci"] = "" if row.kendall_ci is None else f"{row.kendall_ci[0]:.4f}..{row.kendall_ci[1]:.4f}"
        writer.writerow("" if cells[name] is None else cells[name] for name in names)
    return out.getvalue()


def markdown_text(table: ProxyTable) -> str:
    """A column per target: tau ± deviation over seeds [interval] / tau given #params (paper: its figure)."""
    head, lines = _grid(table, _cell)
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def regret_text(table: ProxyTable) -> str:
    """A column per target: what the choice of the highest score costs in percent [interval] / the percentile of the
    chosen network [interval]; the least regret on the first target first, and the mean of all networks last."""
    found: dict[str, dict[str, Regret]] = {}
    for row in table.rows:
        if row.regret is not None:
            found.setdefault(row.proxy, {})[row.target] = row.regret
    targets = list(dict.fromkeys(row.target for row in table.rows))
    known = [(proxy, [of[t] for t in targets]) for proxy, of in found.items() if len(of) == len(targets)]
    known.sort(key=lambda line: line[1][0].regret)
    rows = [[proxy, *map(_regret, regrets)] for proxy, regrets in known]
    rows += [["at random (mean)", *(f"{r.random:.2f} / 50" for r in regrets)] for _, regrets in known[:1]]
    counts = {row.target: row.n for row in table.rows}
    head = ["chosen by", *(f"{target} (n={counts[target]})" for target in targets)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rows])


def latex_text(table: ProxyTable) -> str:
    """A ``tabular`` of the same cells."""
    head, lines = _grid(table, _cell)
    body = "".join(" & ".join(_tex(cell) for cell in cells) + r" \\" + "\n" for cells in [head, *lines])
    return rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}" + "\n" + body + r"\end{tabular}" + "\n"


def html_text(table: ProxyTable) -> str:
    """A page without outside parts: the table, and a scatter plot of every proxy with a score against every target."""
    head, lines = _grid(table, _cell)
    title = html.escape(f"{table.benchmark}: {table.n} networks")
    parts = [f"<!doctype html><meta charset='utf-8'><title>{title}</title><h1>{title}</h1><table border='1'>"]
    parts += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>" for cells in [head, *lines]]
    parts.append("</table>")
    for row in table.rows:
        if row.status == "ok":
            plot = scatter(table.scores[row.proxy], table.targets[row.target], f"{row.proxy} / {row.target}")
            parts.append(plot)
    return "\n".join(parts) + "\n"


def json_text(table: ProxyTable) -> str:
    """The JSON document."""
    return json.dumps(table.to_dict(), indent=1, allow_nan=False) + "\n"


FORMS: Mapping[str, Callable[[ProxyTable], str]] = {
    "table.json": json_text,
    "table.csv": csv_text,
    "table.md": markdown_text,
    "regret.md": regret_text,
    "table.tex": latex_text,
    "table.html": html_text,
}
"""File name -> what makes its content."""


def scatter(scores: Array, truth: Array, title: str) -> str:
    """An SVG: the rank of the score to the right, the target upward; networks that were not measured are left out."""
    keep = ~np.isnan(truth)
    x, y = np.argsort(np.argsort(scores[keep], kind="stable"), kind="stable"), truth[keep]
    span = max(float(np.ptp(y)), 1e-12) if len(y) else 1.0
    dots = "".join(
        f"<circle cx='{10 + (WIDTH - 20) * a / max(len(x) - 1, 1):.1f}' "
        f"cy='{HEIGHT - 10 - (HEIGHT - 40) * (b - y.min()) / span:.1f}' r='2'/>"
        for a, b in zip(x, y, strict=True)
    )
    label = f"<text x='6' y='16' font-size='11'>{html.escape(title)}</text>"
    frame = f"<rect width='{WIDTH}' height='{HEIGHT}' fill='none' stroke='#999'/>"
    return f"<svg width='{WIDTH}' height='{HEIGHT}'>{frame}{label}<g fill='#36c' opacity='.6'>{dots}</g></svg>"


def _grid(table: ProxyTable, cell: Callable[[TableRow], str]) -> tuple[list[str], list[list[str]]]:
    targets = list(dict.fromkeys(row.target for row in table.rows))
    counts = {row.target: row.n for row in table.rows}
    found: dict[str, dict[str, str]] = {}
    cost: dict[str, float] = {}
    for row in table.rows:
        mark = "baseline" if row.kind == "baseline" else "shape only" if row.shape_only else ""
        name = f"{row.proxy} ({mark})" if mark else row.proxy
        found.setdefault(name, {})[row.target] = cell(row)
        cost[name] = row.ms_per_network
    head = ["proxy", *(f"{target} (n={counts[target]})" for target in targets), "ms"]
    return head, [[name, *(cells[t] for t in targets), f"{cost[name]:.0f}"] for name, cells in found.items()]


def _cell(row: TableRow) -> str:
    if row.kendall is None or row.kendall_ci is None:
        return row.status
    spread = "" if row.seed_std is None else f" ± {row.seed_std:.3f}"
    given = "" if row.partial_kendall is None else f" / {row.partial_kendall:.2f}"
    paper = "" if row.paper is None else f" (paper {row.paper:.3f})"
    return f"{row.kendall:.3f}{spread} [{row.kendall_ci[0]:.2f}, {row.kendall_ci[1]:.2f}]{given}{paper}"


def _regret(r: Regret) -> str:
    (low, high), (worst, best) = r.regret_ci, r.percentile_ci
    return f"{r.regret:.2f} [{low:.2f}, {high:.2f}] / {r.percentile:.0f} [{worst:.0f}, {best:.0f}]"


def _tex(cell: str) -> str:
    for letter in "&%#_":
        cell = cell.replace(letter, f"\\{letter}")
    return cell.replace("±", r"$\pm$")
