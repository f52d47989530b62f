"""``score`` and ``demo``: proxies on a benchmark."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ..grammar.errors import ProxforgeError, ProxyError
from ..grammar.expr import Pool
from ..output import emit, number, progress
from .options import (
    PATH,
    collecting_into,
    collection_options,
    json_option,
    running_options,
    searching,
    seeds_option,
    truth_options,
)
from .show import markdown_scores, show_found, show_scores, show_taus

SHOWN = ("AutoProxA", "AutoProxP", "SNIP", "SynFlow")
"""The published proxies in the tables of the demo."""


@click.command()
@click.argument("expr", nargs=-1)
@click.option("--file", "-f", type=PATH, help="A file with one formula per line; # is a comment.")
@click.option("--ensemble", "ensembles", multiple=True, help="A name, or [log:|linear:] member, member, ..")
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
    ensembles: tuple[str, ...],
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

    EXPR is a formula, or the name of a published one: AutoProxA, AutoProxP, SNIP, SynFlow, .. An ensemble adds the
    ranks of its members, formulas or measures such as NWOT, or their logarithms.
    """
    from .. import api
    from ..bench.ensemble_rows import formulas_of, with_ensembles
    from ..bench.proxies.ensembles import parse_ensemble
    from ..bench.tables import entries
    from ..grammar.canonical import canonical_pool
    from ..stats_cache.recipe import find_space

    pool, began = canonical_pool(), time.perf_counter()
    formulas = list(expr)
    if file is not None:
        formulas += _formulas(file, pool)
    combined = [parse_ensemble(text) for text in ensembles]
    if not formulas and not combined:
        raise ProxforgeError("usage", "no formula was given; write one as an argument, or name a file with --file")
    entries(formulas, pool)  # a formula that is wrong is found before anything is read
    truth = api.benchmark_of(benchmark, data)
    sites = tuple(find_space(truth.space).sites)
    compiled = entries([*formulas, *formulas_of(combined, sites)], pool, sites)
    spent = time.perf_counter() - began
    with progress("scoring", as_json) as bar:
        found = api.score_entries(
            compiled,
            truth,
            split=split,
            split_seed=split_seed,
            backend=backend,
            device=device,
            progress=collecting_into(bar),
            **collection,
        )
        if combined:
            networks = list(range(len(truth))) if split == "all" else truth.split(split_seed)[split == "test"].tolist()
            fields_of = ("input", "batch", "input_seed", "resolution", "rows")
            recipe, batch = api.collection_recipe(truth, **{name: collection[name] for name in fields_of})
            seeds = collection["init_seeds"] or (collection["init_seed"],)
            found = with_ensembles(found, combined, truth, networks, recipe, seeds, batch)
    if as_json:
        seconds = {"compile": spent, **found.seconds, "strategy": 0.0, "total": time.perf_counter() - began}
        emit(found.to_dict() | {"seconds": seconds, "counters": found.counters})
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


@click.command()
@click.option("--out", type=PATH, default=Path("runs/demo"), show_default=True, help="Run directory.")
@click.option("--seed", default=0, show_default=True, help="Seed of the search.")
@json_option
def demo(out: Path, seed: int, as_json: bool) -> None:
    """Collect, search as published (Auto-Prox) and rank, on the embedded benchmark: the main job in one command."""
    from .. import api
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
                entries([*([] if found.best is None else [found.best.proxy]), *SHOWN]),
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
