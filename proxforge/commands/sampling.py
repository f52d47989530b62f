"""``bench sampling``: whether what a space draws compiles."""

from __future__ import annotations

from typing import Any

import click

from ..output import WRONG, emit, progress, table
from .options import json_option
from .search_spaces import space_options, taken

LISTED = 20
"""Failures in the table for people."""


@click.command()
@space_options
@click.option("--samples", type=click.IntRange(1), default=100_000, show_default=True, help="Programs.")
@click.option("--seed", default=0, show_default=True, help="Of the programs.")
@json_option
def sampling(space: str, samples: int, seed: int, as_json: bool, **others: Any) -> int:
    """Draw programs of a space as a search does, also mutants and children: each must compile.

    Each is read again from its text and compiled apart. Exit code 1 where one does not compile.
    """
    from ..bench.sampling import measure_sampling
    from ..search.spaces import make_space

    drawn_from = make_space(space, taken(others))
    with progress("sampling", as_json) as bar:
        told = None if bar is None else lambda done: bar(f"{done:,} of {samples:,} programs", done / samples)
        found = measure_sampling(drawn_from, samples, seed, told)
    document = found.to_dict()
    if as_json:
        emit(document)
    else:
        origins = document["by_origin"].items()
        table(
            f"{space} space: {document['samples']:,} programs, {document['distinct']:,} different ones",
            ("origin", "programs", "compiled"),
            [(origin, f"{n['programs']:,}", f"{n['compiled']:,}") for origin, n in origins],
        )
        click.echo(f"{document['drawn_again']:,} were rejected by their values and drawn again")
        for item in document["failures"][:LISTED]:
            click.echo(f"  {item['formula']}: {item['error']}")
    return WRONG if found.failures else 0
