"""``bench strategies``: search strategies against each other."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..output import emit, number, progress, table
from .options import PATH, collecting_into, collection_options, json_option, truth_options
from .search_spaces import space_options, taken

if TYPE_CHECKING:
    from ..bench.strategies.statistics import Comparison


def _budgets(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in value.split(",") if part.strip()}))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers with commas between them", ctx, param) from None


@click.command("strategies")
@truth_options
@click.option("--strategies", "names", default="all", show_default=True, help="Names with commas between them.")
@click.option("--seeds", type=click.IntRange(2), default=20, show_default=True, help="Runs of every strategy.")
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True, help="Their seeds begin here.")
@click.option("--budget", "budgets", default="220", show_default=True, callback=_budgets,
              help="Evaluations; 220,2200 also reads the runs after 220.")  # fmt: skip
@click.option("--split-seed", default=0, show_default=True, help="Seed of the 60/40 split into search and test part.")
@click.option("--target", "targets", multiple=True, help="A target of the JCM; may be repeated.")
@space_options
@click.option("--out", type=PATH, required=True, help="Folder of the results; what is there is not run again.")
@click.option("--atlas", type=PATH, help="Look scores up in this atlas of the space (see 'atlas build').")
@click.option("--backend", default="auto", show_default=True, help="auto, cpu, cpu-float32, reference or torch.")
@collection_options
@json_option
def compare_strategies(
    benchmark: str,
    data: Path | None,
    names: str,
    seeds: int,
    first_seed: int,
    budgets: tuple[int, ...],
    split_seed: int,
    targets: tuple[str, ...],
    space: str,
    out: Path,
    atlas: Path | None,
    backend: str,
    workers: int | None,
    as_json: bool,
    **others: Any,
) -> None:
    """Compare search strategies at equal budgets of evaluations, with their published settings.

    Writes to --out: every run (runs.jsonl), tables (CSV, Markdown, LaTeX), charts (SVG; PNG with Pillow) and index.html
    with all of it. A killed comparison is continued by the same command. --workers: processes (default 1); the runs do
    not depend on it.
    """
    from .. import api
    from ..bench.strategies.pages import Report
    from ..bench.strategies.plan import Plan
    from ..bench.strategies.runner import run_all
    from ..bench.strategies.whole import whole_of
    from ..search.spaces import make_space
    from ..search.strategies import STRATEGIES, make_strategy

    of_space = taken(others)
    drawn_from = make_space(space, of_space)
    chosen = list(STRATEGIES) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        make_strategy(name, drawn_from)
    truth = api.benchmark_of(benchmark, data)
    judged = api.known_targets(truth, targets or None)
    with progress("comparing", as_json) as bar:
        cache = api.statistics(truth, drawn_from.inputs, progress=collecting_into(bar), **others)
        split = truth.split(split_seed)
        plan = Plan(
            benchmark=truth.name,
            cache=str(cache.path),
            targets={name: [None if np.isnan(v) else float(v) for v in truth.targets[name]] for name in judged},
            split=(split[0].tolist(), split[1].tolist()),
            split_seed=split_seed,
            space=(space, {key: list(v) if isinstance(v, tuple) else v for key, v in of_space.items()}),
            strategies={name: {} for name in chosen},
            budgets=budgets,
            backend=backend,
            atlas=None if atlas is None else str(atlas),
        )
        told = None if bar is None else lambda done, total: bar(f"{done} of {total} runs", done / total)
        runs = run_all(plan, range(first_seed, first_seed + seeds), out, workers=workers or 1, told=told)
    command = _command(benchmark, space, names, seeds, first_seed, budgets, split_seed, data, atlas, out)
    report = Report(plan, runs, command, None if atlas is None else whole_of(atlas))
    problems = report.write(out)
    if as_json:
        emit(report.to_dict())
        return
    for comparison in report.comparisons():
        _show(comparison, truth.name)
    for problem in problems:
        click.echo(f"left out: {problem}")
    click.echo(f"{out / 'index.html'} has curves, all pairs and formulas")


def _command(
    benchmark: str,
    space: str,
    names: str,
    seeds: int,
    first_seed: int,
    budgets: tuple[int, ...],
    split_seed: int,
    data: Path | None,
    atlas: Path | None,
    out: Path,
) -> str:
    """What to type to have this again, the options that are often given."""
    parts = ["proxforge", "bench", "strategies", "--benchmark", benchmark]
    parts += [] if data is None else ["--data", "DIR"]
    parts += [] if space == "tree" else ["--space", space]
    parts += ["--strategies", names, "--seeds", str(seeds), "--budget", ",".join(map(str, budgets))]
    parts += ["--first-seed", str(first_seed)] if first_seed else []
    parts += ["--split-seed", str(split_seed)] if split_seed else []
    parts += [] if atlas is None else ["--atlas", atlas.name]
    return shlex.join([*parts, "--out", out.name])


def _show(c: Comparison, benchmark: str) -> None:
    def ends(value: tuple[float, float, float] | None) -> str:
        return "-" if value is None else f"{value[0]:.3f}\n{value[1]:.3f}..{value[2]:.3f}"

    rows = [
        (
            r.strategy,
            r.seeds,
            ends(r.jcm_search),
            ends(r.jcm_test),
            number(r.evaluations_to_target, 0),
            "-" if r.p_vs_random is None else f"{r.p_vs_random:.2g}",
            number(r.effect, 2),
            number(r.rank, 2),
            number(r.seconds, 2),
            *([] if r.top is None else [ends(r.regret), f"{r.top[0]:.1%}"]),
        )
        for r in c.rows
    ]
    columns = (
        "strategy",
        "seeds",
        "search\nJCM",
        "test\nJCM",
        "to\ntarget",
        "p\n(test)",
        "A12\n(test)",
        "rank",
        "s/run",
        *([] if c.rows[0].top is None else ["regret", "top\n0.01 %"]),
    )
    table(f"{benchmark}, {c.budget:,} evaluations", columns, rows)
