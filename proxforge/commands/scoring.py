"""``score``, ``search``, ``strategies`` and ``demo``: proxies on a benchmark."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from ..grammar.errors import ProxforgeError, ProxyError
from ..grammar.expr import Pool
from ..output import emit, number, progress, table
from .options import (
    PATH,
    Command,
    collecting_into,
    collection_options,
    json_option,
    running_options,
    searching,
    seeds_option,
    truth_options,
)
from .search_spaces import space_options, taken
from .show import markdown_scores, show_found, show_scores, show_search, show_taus


@click.command()
@click.argument("expr", nargs=-1)
@click.option("--file", "-f", type=PATH, help="A file with one formula per line; # is a comment.")
@truth_options
@click.option("--markdown", is_flag=True, help="The table as Markdown: tau [95 % interval] / tau given #params.")
@click.option("--split", default="all", show_default=True, help="all networks, or the search or the test part.")
@click.option("--split-seed", default=0, show_default=True, help="Seed of the 60/40 split.")
@running_options
@collection_options
@seeds_option
@json_option
def score(
    expr: tuple[str, ...],
    file: Path | None,
    markdown: bool,
    benchmark: str,
    data: Path | None,
    split: str,
    split_seed: int,
    backend: str,
    device: str,
    as_json: bool,
    **collection: Any,
) -> None:
    """Rank proxies on a benchmark, beside the baselines that look at no statistic.

    EXPR is a formula, or the name of a published proxy: AutoProxA, AutoProxP, SNIP, SynFlow.
    """
    from ..api import benchmark_of, score_entries
    from ..bench.tables import entries
    from ..grammar.canonical import canonical_pool

    pool = canonical_pool()
    formulas = list(expr)
    if file is not None:
        formulas += _formulas(file, pool)
    if not formulas:
        raise ProxforgeError("usage", "no formula was given; write one as an argument, or name a file with --file")
    compiled = entries(formulas, pool)
    truth = benchmark_of(benchmark, data)
    with progress("scoring", as_json) as bar:
        found = score_entries(
            compiled,
            truth,
            split=split,
            split_seed=split_seed,
            backend=backend,
            device=device,
            progress=collecting_into(bar),
            **collection,
        )
    if as_json:
        emit(found.to_dict())
    elif markdown:
        click.echo(markdown_scores(found), nl=False)
    else:
        show_scores(found)


def _formulas(file: Path, pool: Pool) -> list[str]:
    """The formulas of a file; an error in one names the line of the file."""
    from ..bench.proxies import PUBLISHED
    from ..vm.compile import compile_text

    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProxforgeError("file", f"cannot read {file}: {error}; expected a text file, one formula a line") from None
    formulas = []
    for place, line in enumerate(lines, start=1):
        formula = line.split("#")[0].strip()
        if not formula:
            continue
        try:
            if formula not in PUBLISHED:
                compile_text(formula, pool)
        except ProxyError as error:
            hint = " (a line is a formula of its own: join statements with ';')" if error.kind == "syntax" else ""
            message = f"{file}, line {place}: {error.message}{hint}"
            raise ProxyError(error.kind, message, place, error.column) from None
        formulas.append(formula)
    return formulas


def _strategy_options() -> dict[str, tuple[type, str]]:
    """Every option of any strategy: its type and its help."""
    from ..search.strategies import STRATEGIES

    texts: dict[str, list[str]] = {}
    kinds: dict[str, type] = {}
    for name, cls in STRATEGIES.items():
        for f in fields(cls.options):
            texts.setdefault(f.name, []).append(f"{name}: {f.metadata['help']} (default {f.default:g})")
            kinds[f.name] = type(f.default)
    return {option: (kind, f"{'; '.join(texts[option])}.") for option, kind in kinds.items()}


def strategy_options(command: Command) -> Command:
    """One flag per option of any strategy, from the fields of their configurations."""
    for option, (kind, text) in reversed(_strategy_options().items()):
        command = click.option(f"--{option.replace('_', '-')}", option, type=kind, help=text)(command)
    return command


@click.command()
@truth_options
@click.option("--strategy", "-s", default="elitism_preserve", show_default=True, help="elitism_preserve or random.")
@strategy_options
@space_options
@click.option("--seed", default=0, show_default=True, help="Seed of the search.")
@click.option("--split-seed", default=0, show_default=True, help="Seed of the 60/40 split into search and test part.")
@click.option(
    "--target", "targets", multiple=True, help="A target of the JCM; may be repeated.  [default: the benchmark's]"
)
@click.option("--budget", type=click.IntRange(1), help="Evaluations at most.")
@click.option("--out", type=PATH, help="Run directory; a run that was begun there is continued.")
@running_options
@collection_options
@json_option
def search(
    benchmark: str,
    data: Path | None,
    strategy: str,
    space: str,
    seed: int,
    split_seed: int,
    targets: tuple[str, ...],
    budget: int | None,
    out: Path | None,
    backend: str,
    device: str,
    as_json: bool,
    **others: Any,
) -> None:
    """Search a space for the proxy with the highest JCM on the search part: by default the trees of Auto-Prox."""
    from ..api import benchmark_of
    from ..api import search as api_search

    of_strategy = {key: others.pop(key) for key in _strategy_options()}
    of_space = taken(others)
    truth = benchmark_of(benchmark, data)
    with progress("searching", as_json) as bar:
        found = api_search(
            truth,
            strategy,
            space=space,
            space_options=of_space,
            options={key: value for key, value in of_strategy.items() if value is not None},
            seed=seed,
            split_seed=split_seed,
            targets=targets or None,
            budget=budget,
            out=out,
            backend=backend,
            device=device,
            progress=searching(bar),
            collecting=collecting_into(bar),
            **others,
        )
    if as_json:
        emit(found.to_dict())
    else:
        show_search(found)
        if out is not None:
            click.echo(f"the run is in {out}")


@click.command()
@json_option
def strategies(as_json: bool) -> None:
    """List the search strategies with their papers and options."""
    from ..search.strategies import STRATEGIES

    options = {name: {f.name: f.default for f in fields(cls.options)} for name, cls in STRATEGIES.items()}
    if as_json:
        emit([{"name": name, "paper": cls.paper, "options": options[name]} for name, cls in STRATEGIES.items()])
        return
    rows = [
        (name, cls.paper, ", ".join(f"{key} {value:g}" for key, value in options[name].items()))
        for name, cls in STRATEGIES.items()
    ]
    table("search strategies", ("name", "paper", "options"), rows, text=True)


@click.command()
@click.option("--out", type=PATH, default=Path("runs/demo"), show_default=True, help="Run directory.")
@click.option("--seed", default=0, show_default=True, help="Seed of the search.")
@json_option
def demo(out: Path, seed: int, as_json: bool) -> None:
    """Collect, search as published (Auto-Prox) and rank, on the embedded benchmark: the main job in one command."""
    from .. import api
    from ..bench.proxies import PUBLISHED
    from ..bench.tables import entries

    truth = api.benchmark_of("digits")
    place = out / "cache"
    with progress("collecting statistics", as_json) as bar:
        found = api.search(
            truth,
            "elitism_preserve",
            seed=seed,
            out=out / "search",
            cache=place,
            progress=searching(bar),
            collecting=collecting_into(bar),
        )
        tables = [
            api.score_entries(
                entries([*([] if found.best is None else [found.best.proxy]), *PUBLISHED]),
                truth,
                split=split,
                cache=place,
                progress=collecting_into(bar),
            )
            for split in ("search", "test")
        ]
    if as_json:
        emit({"search": found.to_dict(), "tables": [t.to_dict() for t in tables]})
        return
    show_taus(
        [{"split": t.split, **row} for t in tables for row in t.to_dict()["rows"]],
        f"search seed {seed}, split seed 0, initialisation seed 0",
    )
    show_found(found)
    ceilings = ", ".join(f"{target} {number(tau)}" for target, tau in truth.noise_ceiling.items())
    click.echo(f"noise ceiling (tau between means of disjoint training seeds): {ceilings}")
