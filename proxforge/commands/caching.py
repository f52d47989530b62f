"""``collect`` and ``cache``: statistics on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..grammar.errors import ProxforgeError
from ..output import WRONG, emit, progress, table
from .options import PATH, collecting_into, collection_options, json_option, truth_options

if TYPE_CHECKING:
    from ..stats_cache import Problem

workers_option = click.option("--workers", type=click.IntRange(1), help="Processes that collect.  [default: by size]")


@click.command()
@truth_options
@click.option(
    "--statistic", "statistics", multiple=True, help="A statistic, such as qkv.w; may be repeated.  [default: all]"
)
@click.option("--estimate", is_flag=True, help="Collect nothing; say how much room it takes, and how much there is.")
@collection_options
@json_option
def collect(
    benchmark: str, data: Path | None, statistics: tuple[str, ...], estimate: bool, as_json: bool, **collection: Any
) -> None:
    """Collect statistics of a benchmark's networks into the cache; what is there already is kept."""
    from .. import api
    from ..grammar.types import ALIASES
    from ..stats_cache.recipe import find_space

    truth = api.benchmark_of(benchmark, data)
    names = tuple(ALIASES.get(name, name) for name in statistics) or find_space(truth.space).statistics()
    if estimate:
        _estimate(truth, names, as_json, **collection)
        return
    with progress("collecting statistics", as_json) as bar:
        found = api.statistics(truth, names, progress=collecting_into(bar), **collection)
    _show(_document(found.path, []), as_json)


def _estimate(
    truth: Any,
    names: tuple[str, ...],
    as_json: bool,
    *,
    cache: Path | None,
    workers: int | None,
    collect_on: str,
    **settings: Any,
) -> None:
    from .. import api
    from ..stats_cache import estimate

    recipe, _ = api.collection_recipe(truth, **settings)
    sizes = estimate(recipe, names)
    root = api.cache_root() if cache is None else cache
    there = next(place for place in (root, *root.absolute().parents) if place.exists())
    found: dict[str, Any] = {
        "networks": len(truth),
        "statistics": sorted(names),
        "bytes": None if sizes is None else sum(sizes),
        "free": shutil.disk_usage(there).free,
    }
    if as_json:
        emit(found)
    elif sizes is None:
        click.echo(f"the space {truth.space} has no formula for its shapes: the size cannot be told before")
    else:
        click.echo(
            f"{len(truth)} networks, {len(names)} statistics: {_bytes(sum(sizes))}; free: {_bytes(found['free'])}"
        )


@click.group()
def cache() -> None:
    """Look into caches of statistics, check them, mend them, throw away what is not needed."""


@cache.command()
@click.argument("directory", type=PATH)
@json_option
def info(directory: Path, as_json: bool) -> int:
    """What a cache holds: networks, statistics, bytes, recipe. Its files are looked at, not read."""
    from ..stats_cache import glance

    return _report([(path, glance(path)) for path in _caches(directory)], as_json)


@cache.command()
@click.argument("directory", type=PATH)
@json_option
def verify(directory: Path, as_json: bool) -> int:
    """Read every byte of a cache and name what is not as it was written; exit code 1 if there is anything."""
    from ..stats_cache import verify as verify_cache

    return _report([(path, verify_cache(path)) for path in _caches(directory)], as_json, short=True)


@cache.command()
@click.argument("directory", type=PATH)
@workers_option
@click.option("--collect-on", default="cpu", show_default=True, help="Device that collects: the one that began it.")
@json_option
def repair(directory: Path, workers: int | None, collect_on: str, as_json: bool) -> int:
    """Delete what is damaged and collect it again; exit code 1 if something cannot be mended."""
    from ..stats_cache import Problem
    from ..stats_cache import repair as repair_cache
    from ..stats_cache import verify as verify_cache

    left, mended = [], []
    for path in _caches(directory):
        try:
            with progress(f"repairing {path.name}", as_json) as bar:
                before, after = repair_cache(path, workers=workers, device=collect_on, progress=collecting_into(bar))
        except ProxforgeError as error:  # the other caches can still be mended
            before, after = [], [*verify_cache(path), Problem(".", "repair", error.message)]
        left.append((path, after))
        kept = {(problem.file, problem.kind) for problem in after}
        mended += [_problem(path, problem) for problem in before if (problem.file, problem.kind) not in kept]
    return _report(left, as_json, short=True, repaired=mended)


@cache.command()
@click.argument("directory", type=PATH)
@click.option(
    "--drop", multiple=True, metavar="STATISTIC", help="A statistic to take out of every file; may be repeated."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def prune(directory: Path, drop: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete what no cache needs: leftovers of killed collections, caches of an older format, statistics in --drop."""
    from ..stats_cache import prune as prune_caches

    if not directory.is_dir():
        raise ProxforgeError("cache", f"{directory} is no directory; expected a cache, or the folder that holds caches")
    gone = [str(path) for path in prune_caches(directory, drop=drop, dry_run=dry_run)]
    if as_json:
        emit({"pruned": gone, "dry_run": dry_run})
        return
    for path in gone:
        click.echo(path)
    click.echo(f"{'would be' if dry_run else 'was'} {'changed or ' if drop else ''}deleted: {len(gone)}")


@cache.command()
@click.argument("spaces", nargs=-1)
@click.option(
    "--networks", type=click.IntRange(2), default=12, show_default=True, help="Random networks of each space."
)
@click.option("--batch", type=click.IntRange(1), help="Images per network.  [default: 16 of 8 or 32 pixels, 2 of 224]")
@click.option("--rows", type=click.IntRange(1), help="Keep at most so many rows of an activation.  [default: all]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes that collect.")
@json_option
def speed(
    spaces: tuple[str, ...], networks: int, batch: int | None, rows: int | None, workers: int, as_json: bool
) -> None:
    """Measure the collection of all statistics: networks a second, the share of the bare passes, bytes a network.

    SPACES: names; all if none is given.
    """
    from dataclasses import asdict

    from ..stats_cache.recipe import find_space
    from ..stats_cache.spaces import SPACES
    from ..stats_cache.speed import speed as measured

    found = []
    for name in spaces or SPACES:
        images = (16 if find_space(name).resolution <= 32 else 2) if batch is None else batch
        found.append(measured(name, networks=networks, batch=images, rows=rows, workers=workers))
    if as_json:
        emit({"spaces": [asdict(one) for one in found]})
        return
    columns = ("space", "images", "networks/s", "CPU s/network", "forward and backward", "MB/network")
    table(
        f"All statistics, {workers} processes",
        columns,
        [
            (r.space, r.batch, f"{r.per_second:.2f}", f"{r.seconds:.3f}", f"{r.share:.0%}", f"{r.bytes / 1e6:.1f}")
            for r in found
        ],
    )


@cache.command()
@click.option("--kills", type=click.IntRange(0), default=50, show_default=True, help="Collections that are killed.")
@click.option("--flips", type=click.IntRange(0), default=200, show_default=True, help="Bytes that are changed.")
@click.option("--networks", type=click.IntRange(1), default=24, show_default=True, help="Random micro networks.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the networks and the moments.")
@json_option
def stress(kills: int, flips: int, networks: int, seed: int, as_json: bool) -> int:
    """Kill collections (SIGKILL) at random moments, continue them, and compare; change bytes, and verify.

    In a temporary folder; exit code 1 if a continued cache is not the undisturbed one, or a byte is not found.
    """
    from dataclasses import asdict

    from ..stats_cache.stress import stress as stressed

    with progress("collections", as_json) as bar:
        found = stressed(kills, flips, networks=networks, seed=seed, told=bar)
    if as_json:
        emit({"ok": found.ok, **asdict(found)})
    else:
        files = [kill.files for kill in found.kills] or [0]
        click.echo(f"{networks} networks, {_bytes(found.bytes)}, collected in {found.seconds:.1f} s")
        click.echo(
            f"killed: {kills}, at {min(files)} to {max(files)} files, "
            f"{sum(not k.listed for k in found.kills)} before there was a manifest, "
            f"{sum(k.half > 0 for k in found.kills)} amid a file; equal when continued: "
            f"{sum(k.equal for k in found.kills)}"
        )
        click.echo(f"bytes changed: {flips}; found and named: {sum(f.found for f in found.flips)}")
    return 0 if found.ok else WRONG


def _caches(directory: Path) -> list[Path]:
    """The cache in this directory, or those below it."""
    if not directory.is_dir():
        raise ProxforgeError("cache", f"{directory} is no directory; expected a cache, or the folder that holds caches")
    places = [directory, *sorted(path for path in directory.iterdir() if path.is_dir())]
    found = [path for path in places if (path / "manifest.json").exists() or (path / "networks").is_dir()]
    if not found:
        raise ProxforgeError("cache", f"{directory} holds no cache; collect one first")
    return found[:1] if found[0] == directory else found


def _report(
    found: list[tuple[Path, list[Problem]]],
    as_json: bool,
    *,
    short: bool = False,
    repaired: list[dict[str, str]] | None = None,
) -> int:
    """Prints what was found in the caches; the exit code. ``short``: the problems only, for people."""
    documents = [_document(path, problems) for path, problems in found]
    whole = documents[0]
    if len(documents) > 1:
        statistics = set.intersection(*(set(d["statistics"]) for d in documents))
        whole = {
            "ok": all(d["ok"] for d in documents),
            "networks": sum(d["networks"] for d in documents),
            "statistics": sorted(statistics),
            "bytes": sum(d["bytes"] for d in documents),
            "problems": [problem for d in documents for problem in d["problems"]],
            "caches": documents,
        }
    if repaired is not None:
        whole = whole | {"repaired": repaired}
    if short and not as_json:
        for problem in repaired or ():
            click.echo(f"mended: {problem['message']}")
        for problem in whole["problems"]:
            click.echo(f"{problem['kind']}: {problem['message']}")
        click.echo(f"problems: {len(whole['problems'])}" if whole["problems"] else "the cache is as it was written")
    else:
        _show(whole, as_json)
    return 0 if whole["ok"] else WRONG


def _document(path: Path, problems: list[Problem]) -> dict[str, Any]:
    """A cache in short. Of one whose manifest cannot be read only the problem is told."""
    from ..stats_cache import open_cache

    unreadable = any(problem.kind == "manifest" for problem in problems)
    known = {"path": str(path), "networks": 0, "statistics": [], "bytes": 0} if unreadable else open_cache(path).info()
    return {"ok": not problems, **known, "problems": [_problem(path, problem) for problem in problems]}


def _problem(path: Path, problem: Problem) -> dict[str, str]:
    return {"file": str(path / problem.file), "kind": problem.kind, "message": problem.message}


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    for one in found.get("caches", [found]):
        for key, value in one.items():
            if key == "problems":
                shown = "; ".join(problem["message"] for problem in value) or "none"
            elif isinstance(value, dict):
                shown = ", ".join(f"{k} {v}" for k, v in value.items())
            elif isinstance(value, bool):
                shown = "yes" if value else "no"
            else:
                shown = ", ".join(value) if isinstance(value, list) else str(value)
            click.echo(f"{key:13}{shown}")


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
