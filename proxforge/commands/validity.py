"""``bench validity``: soundness and sharpness of the compiler's rejection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..output import emit, progress, table
from .options import collecting_into, collection_options, json_option, truth_options
from .search_spaces import space_options, taken

if TYPE_CHECKING:
    from ..bench.validity import Validity

LISTED = 20
"""Missed programs in the table for people."""


@click.command()
@truth_options
@space_options
@click.option("--samples", type=click.IntRange(1), default=2000, show_default=True, help="Blind programs.")
@click.option("--seed", default=0, show_default=True, help="Of the programs, and of the choice of networks.")
@click.option("--networks", type=click.IntRange(2), help="So many, drawn at random.  [default: all]")
@click.option("--no-cache-facts", is_flag=True, help="Reject from types alone, without the cache's manifest.")
@click.option("--backend", default="auto", show_default=True, help="What runs the programs that compile.")
@collection_options
@json_option
def validity(
    benchmark: str,
    data: Path | None,
    space: str,
    samples: int,
    seed: int,
    networks: int | None,
    no_cache_facts: bool,
    backend: str,
    as_json: bool,
    **others: Any,
) -> int:
    """Try out what the compiler rejects: blind programs, drawn without types, are compiled and run.

    A false rejection is a rejected program that has a score when it runs with all checks off; there must be none, and
    the exit code is 1 where there is one. The sharpness is the share of the programs without a score that were rejected
    before they touched a tensor.
    """
    from .. import api
    from ..bench.validity import drawn_networks, measure_validity
    from ..search.spaces import make_space

    drawn_from = make_space(space, taken(others))
    truth = api.benchmark_of(benchmark, data)
    with progress("validity", as_json) as bar:
        source = api.statistics(truth, drawn_from.inputs, progress=collecting_into(bar), **others)
        chosen = None if networks is None else drawn_networks(len(source.networks), networks, seed)
        told = None if bar is None else lambda done: bar(f"{done:,} of {samples:,} programs", done / samples)
        found = measure_validity(
            drawn_from,
            source,
            samples,
            seed,
            networks=chosen,
            cache_facts=not no_cache_facts,
            backend=backend,
            told=told,
        )
    if as_json:
        emit(found.to_dict())
    else:
        _show(found, f"{space} space on {benchmark}")
    return 1 if found.false else 0


def _show(found: Validity, what: str) -> None:
    document = found.to_dict()
    rows = [
        (cause, f"{n['invalid']:,}", f"{n['caught']:,}", f"{n['caught'] / n['invalid']:.2%}")
        for cause, n in document["by_cause"].items()
    ]
    sharp = "-" if found.sharpness is None else f"{found.sharpness:.2%}"
    rows.append(("all", f"{document['invalid_when_run']:,}", f"{document['caught']:,}", sharp))
    title = f"{what}: {found.blind:,} blind programs, {document['rejected']:,} rejected, {len(found.false)} falsely"
    table(title, ("without a score when run", "programs", "rejected before", "share"), rows)
    per = document["microseconds_per_program"]
    click.echo(
        f"analysis {per['check']:.0f} us, assembly and verification {per['compile']:.0f} us a program that types"
    )
    for item in document["false"][:LISTED]:
        click.echo(f"false rejection: {item['formula']}: {item['error']}")
    if found.missed:
        click.echo(f"missed ({len(found.missed):,}), for instance:")
    for item in document["missed"][:LISTED]:
        click.echo(f"  {item['cause']:9}{item['formula']}")
