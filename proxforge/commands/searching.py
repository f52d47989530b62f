"""``search``, ``strategies``, ``verify`` and ``report``: runs of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..grammar.errors import ProxforgeError
from ..output import WRONG, emit, progress, table
from .options import (
    PATH,
    Command,
    collecting_into,
    collection_options,
    json_option,
    running_options,
    searching,
    together,
    truth_options,
)
from .search_spaces import space_options, taken
from .show import show_search

if TYPE_CHECKING:
    from ..search.verification import Recorded
    from ..stats_cache import Cache


def _strategy_options() -> dict[str, tuple[type, str]]:
    """Every option of any strategy: its type and its help."""
    from ..search.strategies import STRATEGIES

    texts: dict[str, dict[str, list[str]]] = {}
    kinds: dict[str, type] = {}
    for name, cls in STRATEGIES.items():
        for f in fields(cls.options):
            text = f"{f.metadata['help']} (default {f.default:g})"
            texts.setdefault(f.name, {}).setdefault(text, []).append(name)
            kinds[f.name] = type(f.default)
    found = {}
    for option, kind in kinds.items():
        parts = [f"{', '.join(names)}: {text}" for text, names in texts[option].items()]
        found[option] = kind, f"{'; '.join(parts)}."
    return found


def strategy_options(command: Command) -> Command:
    """One flag per option of any strategy, from the fields of their configurations."""
    for option, (kind, text) in reversed(_strategy_options().items()):
        command = click.option(f"--{option.replace('_', '-')}", option, type=kind, help=text)(command)
    return command


def _weights(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, float]:
    """``target=number``, each."""
    found = {}
    for text in value:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise click.BadParameter(f"{text!r} is no weight such as c100=2", ctx, param) from None
    return found


objective_options = together(
    click.option(
        "--objective",
        default="jcm",
        show_default=True,
        help="jcm, worst, partial (tau given #params), spearman, top, or module:function, file.py:function.",
    ),
    click.option("--target", "targets", multiple=True, help="A target; may be repeated.  [default: the benchmark's]"),
    click.option("--weight", "weights", multiple=True, callback=_weights, help="target=number; may be repeated."),
    click.option("--top-share", default=0.1, show_default=True, help="top: share of the networks that are the best."),
    click.option("--penalty", default=0.0, show_default=True, help="Taken off for every op and leaf of a program."),
    click.option("--networks", type=click.IntRange(2), help="So many judge an evaluation, drawn for each program."),
)


@click.command()
@truth_options
@click.option("--strategy", "-s", default="elitism_preserve", show_default=True, help="See the command 'strategies'.")
@strategy_options
@space_options
@click.option("--forbid", multiple=True, metavar="OP", help="An op that is not drawn; may be repeated.")
@click.option("--gradient-free", is_flag=True, help="No statistics that need a backward pass.")
@objective_options
@click.option("--start", multiple=True, metavar="EXPR", help="A formula of the first population; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Seed of the search.")
@click.option("--split-seed", default=0, show_default=True, help="Seed of the 60/40 split into search and test part.")
@click.option("--budget", type=click.IntRange(1), help="Evaluations at most.")
@click.option("--patience", type=click.IntRange(1), help="Stop after so many evaluations without a better best.")
@click.option("--seconds", type=float, help="Stop after that time; what is found then depends on the machine.")
@click.option("--out", type=PATH, help="Run directory; a run that was begun there is continued.")
@running_options
@collection_options
@json_option
def search(
    benchmark: str,
    data: Path | None,
    strategy: str,
    space: str,
    forbid: tuple[str, ...],
    objective: str,
    targets: tuple[str, ...],
    weights: dict[str, float],
    top_share: float,
    penalty: float,
    out: Path | None,
    as_json: bool,
    **others: Any,
) -> None:
    """Search a space for the proxy with the highest JCM on the search part: by default the trees of Auto-Prox."""
    from ..api import benchmark_of
    from ..api import search as api_search
    from ..search.objectives import Choice

    of_strategy = {key: others.pop(key) for key in _strategy_options()}
    of_space = taken(others)
    truth = benchmark_of(benchmark, data)
    with progress("searching", as_json) as bar:
        found = api_search(
            truth,
            strategy,
            space=space,
            space_options=of_space,
            forbid=[name.strip() for text in forbid for name in text.split(",")],
            options={key: value for key, value in of_strategy.items() if value is not None},
            objective=Choice(objective, weights, top_share, penalty),
            targets=targets or None,
            out=out,
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


run_options = together(
    click.argument("run", type=PATH),
    click.option("--data", type=PATH, help="Folder of the benchmark's official files."),
    click.option("--cache", type=PATH, help="Where caches lie.  [default: the user's cache folder]"),
)


@click.command()
@run_options
@json_option
def verify(run: Path, data: Path | None, cache: Path | None, as_json: bool) -> int:
    """Recompute every score that a run reports, with the reference backend.

    Every program is parsed again from its text and scored in float64; its status must be the same, and its value up to
    what float32 backends may differ by. Exit code 1 where one is not. Damaged runs are an error.
    """
    from ..search.verification import verify_run

    found, source, targets = _searched(run, data, cache)
    with progress("verifying", as_json) as bar:
        told = None if bar is None else lambda done, total: bar(f"{done} of {total} programs", done / max(total, 1))
        verified = verify_run(found, source, targets, told)
    if as_json:
        emit(verified.to_dict())
    else:
        verdict = "as reported" if verified.ok else f"{len(verified.problems)} problems"
        click.echo(f"{verified.checked} scores, largest difference {verified.largest_difference:.2g}: {verdict}")
        for problem in verified.problems[:20]:
            click.echo(f"  {problem}")
    return 0 if verified.ok else WRONG


@click.command()
@run_options
@click.option("--out", type=PATH, required=True, help="The HTML file to write.")
@json_option
def report(run: Path, data: Path | None, cache: Path | None, out: Path, as_json: bool) -> None:
    """Make a page of a search: curve, front, best formula, scatter plots beside #params, configuration.

    One HTML file that needs no other.
    """
    from ..bench.run_report import run_page

    found, source, targets = _searched(run, data, cache)
    page = run_page(found, source, targets)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ProxforgeError("file", f"cannot write {out}: {error.strerror or error}") from error
    if as_json:
        emit({"run": str(run), "file": str(out), "bytes": len(page.encode())})
    else:
        click.echo(f"{out} is written")


def _searched(run: Path, data: Path | None, cache: Path | None) -> tuple[Recorded, Cache, Mapping[str, Any]]:
    """A run with the statistics and targets that it was searched on."""
    from .. import api
    from ..search.verification import recorded
    from ..stats_cache import open_cache

    found = recorded(run)
    benchmark, key = found.config.get("benchmark"), found.config.get("cache")
    if not isinstance(benchmark, str) or not isinstance(key, str):
        raise ProxforgeError("run", f"{run} does not say what it was searched on: it is no run of 'search'")
    truth = api.benchmark_of(benchmark, data)
    place = (api.cache_root() if cache is None else cache) / key
    if not place.is_dir():
        raise ProxforgeError("run", f"the statistics {key} are not in {place.parent}; name their place with --cache")
    return found, open_cache(place), truth.targets
