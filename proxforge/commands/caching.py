"""``collect`` and ``cache``: statistics on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..grammar.errors import ProxforgeError
from ..output import WRONG, emit, progress
from .options import PATH, collecting_into, collection_options, json_option, truth_options


@click.command()
@truth_options
@click.option(
    "--statistic", "statistics", multiple=True, help="A statistic, such as qkv.w; may be repeated.  [default: all]"
)
@collection_options
@json_option
def collect(benchmark: str, data: Path | None, statistics: tuple[str, ...], as_json: bool, **collection: Any) -> None:
    """Collect statistics of a benchmark's networks into the cache; what is there already is kept."""
    from .. import api
    from ..grammar.types import ALIASES, STATISTICS

    truth = api.benchmark_of(benchmark, data)
    names = tuple(ALIASES.get(name, name) for name in statistics) or tuple(STATISTICS)
    with progress("collecting statistics", as_json) as bar:
        cache = api.statistics(truth, names, progress=collecting_into(bar), **collection)
    _show(cache.info(), as_json)


@click.group()
def cache() -> None:
    """Look into a cache of statistics."""


@cache.command()
@click.argument("directory", type=PATH)
@json_option
def info(directory: Path, as_json: bool) -> None:
    """What a cache holds: networks, statistics, bytes, recipe."""
    from ..stats_cache import open_cache

    found = [open_cache(path).info() for path in _caches(directory)]
    _show(found[0] if len(found) == 1 else {"caches": found}, as_json)


@cache.command()
@click.argument("directory", type=PATH)
@json_option
def verify(directory: Path, as_json: bool) -> int:
    """Read every byte of a cache and name what is not as it was written; exit code 1 if there is anything."""
    from ..stats_cache import verify as verify_cache

    problems = [
        {"file": str(path / p.file), "kind": p.kind, "message": p.message}
        for path in _caches(directory)
        for p in verify_cache(path)
    ]
    if as_json:
        emit({"ok": not problems, "problems": problems})
    else:
        for p in problems:
            click.echo(f"{p['kind']}: {p['message']}")
        click.echo("the cache is as it was written" if not problems else f"problems: {len(problems)}")
    return WRONG if problems else 0


def _caches(directory: Path) -> list[Path]:
    """The cache in this directory, or those below it."""
    if not directory.is_dir():
        raise ProxforgeError("cache", f"{directory} is no directory; expected a cache, or the folder that holds caches")
    if (directory / "manifest.json").exists():
        return [directory]
    below = sorted(p.parent for p in directory.glob("*/manifest.json"))
    return below or [directory]


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    for one in found.get("caches", [found]):
        for key, value in one.items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else shown
            click.echo(f"{key:13}{', '.join(shown) if isinstance(shown, list) else shown}")
