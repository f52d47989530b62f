"""A run of a search as one HTML page that needs no other file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.canonical import canonical_pool
from ..grammar.expr import Node
from ..grammar.ops import FACT, NUMBER, STATISTIC
from ..grammar.parse import parse
from ..grammar.text import latex
from ..search.correlation import kendall, partial_kendall, settled
from ..search.verification import Recorded, problem_of
from ..stats_cache.source import Source
from ..vm.evaluate import Evaluator
from .charts import Chart, Series, svg

Array = NDArray[np.float64]

STYLE = (
    "body{font:15px sans-serif;max-width:62em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}"
    "pre{background:#f4f4f4;padding:.7em;overflow:auto}math{font-size:130%}ul{line-height:1.3}"
)


def run_page(run: Recorded, source: Source, targets: Mapping[str, Array]) -> str:
    """The page of a finished run: curve, front, best formula, scatter plots, counters, configuration.

    ``source``, ``targets``: of all networks of the benchmark, as the run's configuration names them.
    """
    result, config = run.result, run.config
    name = str(config["strategy"]["name"])
    parts = [f"<h1>{escape(name)} on {escape(str(config.get('benchmark', 'networks')))}</h1>", _counters(run)]
    parts.append(svg(_curve(run)))
    if result["best"] is None:
        parts.append("<p>No program had a value.</p>")
    else:
        node = parse(result["best"]["proxy"], canonical_pool())
        parts += [*_best(result["best"], node), *_scatter(run, source, targets, node)]
        parts += ["<h2>Front</h2>", _front(result["front"]), _rows(result["best"]["rows"])]
    shown = {k: v for k, v in config.items() if k != "networks"}
    parts.append(f"<h2>Configuration</h2><pre>{escape(json.dumps(shown, indent=1))}</pre>")
    parts.append(f"<h2>Again</h2><pre>{escape(command_of(config))}</pre>")
    head = f'<meta charset="utf-8"><title>{escape(name)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def command_of(config: Mapping[str, Any]) -> str:
    """The command that makes the run, as far as its configuration says: where the data and the cache lie is open."""
    parts = ["proxforge", "search", "--benchmark", str(config.get("benchmark", "?"))]
    options = dict(config["strategy"])
    parts += ["--strategy", str(options.pop("name"))]
    parts += [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", f"{value:g}")]
    space = dict(config["space"])
    parts += ["--space", str(space.pop("name"))]
    for key, value in space.items():
        if isinstance(value, list):
            parts += [f"--{key}", ",".join(map(str, value))] if value else []
        else:
            parts += [f"--{key}", str(value)]
    choice, objective = config.get("choice", {}), config["objective"]
    parts += ["--objective", str(choice.get("name", "jcm"))]
    parts += [word for name in config["targets"] for word in ("--target", name)]
    parts += [word for name, w in choice.get("weights", {}).items() for word in ("--weight", f"{name}={w:g}")]
    if choice.get("name") == "top":
        parts += ["--top-share", f"{choice['share']:g}"]
    if choice.get("penalty"):
        parts += ["--penalty", f"{choice['penalty']:g}"]
    if "networks" in objective:
        parts += ["--networks", str(objective["networks"])]
    parts += [word for formula in config["start"] for word in ("--start", formula)]
    for key, flag in (("budget", "--budget"), ("patience", "--patience"), ("time", "--seconds")):
        if config.get(key) is not None:
            parts += [flag, f"{config[key]:g}"]
    parts += ["--seed", str(config["seed"]), "--split-seed", str(config.get("split_seed", 0)), "--out", "RUN"]
    return shlex.join(parts)


def mathml(node: Node) -> str:
    """The formula as MathML, functions by name."""
    if node.op is STATISTIC or node.op is FACT:
        return f"<mi>{escape(str(node.attr))}</mi>"
    if node.op is NUMBER:
        return f"<mn>{float(node.attr):g}</mn>"
    inside = [mathml(a) for a in node.args]
    if node.op.infix:
        return f"<mrow><mo>(</mo>{inside[0]}<mo>{escape(node.op.name)}</mo>{inside[1]}<mo>)</mo></mrow>"
    return f"<mrow><mi>{escape(node.op.name)}</mi><mo>(</mo>{'<mo>,</mo>'.join(inside)}<mo>)</mo></mrow>"


def tree(node: Node) -> str:
    """The formula as nested lists."""
    name = str(node.attr) if node.op in (STATISTIC, FACT, NUMBER) else node.op.name
    below = "".join(tree(a) for a in node.args)
    inside = f"<ul>{below}</ul>" if below else ""
    return f"<li><code>{escape(name)}</code> <small>{escape(str(node.type))}</small>{inside}</li>"


def _counters(run: Recorded) -> str:
    r = run.result
    counts = ", ".join(f"{r[k]:,} {k}" for k in ("evaluations", "invalid", "rejected", "duplicates"))
    return f"<p>{counts}; ended by: {escape(str(r['stopped']))}.</p>"


def _curve(run: Recorded) -> Chart:
    values = [e.jcm for e in run.events if e.evaluated]
    best, points = -np.inf, []
    for n, value in enumerate(values, start=1):
        if value is not None and value > best:
            best = value
            points.append((float(n), best))
    if points:
        points.append((float(max(len(values), points[-1][0] + 1)), best))
    return Chart("Best so far, on the search part", "evaluations", "objective", [Series("best", points)], steps=True)


def _best(best: Mapping[str, Any], node: Node) -> list[str]:
    note = " It is a function of the networks' shapes alone." if best["shape_only"] else ""
    return [
        f"<h2>Best formula</h2><pre>{escape(best['proxy'])}</pre>",
        f"<p>Objective: {_n(best['jcm_search'])} (search part), {_n(best['jcm_test'])} (test part).{note}</p>",
        f'<p><math display="block">{mathml(node)}</math></p><pre>{escape(latex(node))}</pre><ul>{tree(node)}</ul>',
    ]


def _scatter(run: Recorded, source: Source, targets: Mapping[str, Array], node: Node) -> list[str]:
    """Score against what the networks reached, and #params against it, on both parts."""
    problem = problem_of(run, source, targets)
    parts = []
    for target in problem.targets:
        for what in ("score", "#params"):
            series = []
            for name, part in (("search part", problem.search), ("test part", problem.test)):
                index = [int(i) for i in part]
                evaluator = Evaluator(source, index)
                params = evaluator.facts("params")
                scores = settled(evaluator.run([node]).scores)[0]
                x, y = scores if what == "score" else params, np.asarray(problem.targets[target])[index]
                tau, rest = kendall(x, y), partial_kendall(scores, y, params)
                label = f"{name}: tau {_n(tau, 2)}" + (f", given #params {_n(rest, 2)}" if what == "score" else "")
                keep = np.isfinite(x) & np.isfinite(y)
                points = [(float(a), float(b)) for a, b in zip(x[keep], y[keep], strict=True)]
                series.append((label, Series(name, points)))
            parts.append(svg(Chart(f"{target}: {what}", what, target, [s for _, s in series], lines=False)))
            parts.append(f"<p>{escape('; '.join(label for label, _ in series))}</p>")
    return ["<h2>Score against accuracy</h2>", *parts]


def _front(front: Sequence[Mapping[str, Any]]) -> str:
    head = "<tr><th>formula</th><th>nodes</th><th>search</th><th>test</th><th>shape only</th></tr>"
    rows = "".join(
        f"<tr><td><code>{escape(p['proxy'])}</code></td><td>{p['complexity']}</td><td>{_n(p['search'])}</td>"
        f"<td>{_n(p['test'])}</td><td>{'yes' if p['shape_only'] else ''}</td></tr>"
        for p in front
    )
    return f"<table>{head}{rows}</table>"


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """The best formula and the baselines."""
    head = (
        "<tr><th>proxy</th><th>part</th><th>target</th><th>n</th><th>tau</th><th>95 %</th><th>given #params</th></tr>"
    )
    body = ""
    for r in rows:
        ends = "-" if r["kendall_ci"] is None else f"{r['kendall_ci'][0]:.2f}..{r['kendall_ci'][1]:.2f}"
        body += (
            f"<tr><td><code>{escape(r['proxy'])}</code></td><td>{r['split']}</td><td>{escape(r['target'])}</td>"
            f"<td>{r['n']}</td><td>{_n(r['kendall'])}</td><td>{ends}</td><td>{_n(r['partial_kendall'])}</td></tr>"
        )
    return f"<h2>Beside the baselines</h2><table>{head}{body}</table>"


def _n(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
