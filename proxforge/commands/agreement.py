"""``bench agreement``: a backend against the float64 reference."""

from __future__ import annotations

import click

from ..output import emit, progress, table
from .options import json_option

LISTED = 20
"""Disagreeing programs in the table for people."""


@click.command()
@click.option("--programs", type=click.IntRange(0), default=2000, show_default=True, help="Random programs.")
@click.option("--backend", default="cpu", show_default=True, help="What is compared with the reference.")
@click.option("--bound", default=1e-5, show_default=True, help="Of the largest score of a program.")
@click.option("--seed", default=0, show_default=True, help="Of the programs.")
@json_option
def agreement(programs: int, backend: str, bound: float, seed: int, as_json: bool) -> int:
    """Compare a backend with the float64 reference.

    Every op on Matrices and on Scalars, then random programs, over segments with zeros, subnormal, huge, NaN and
    infinite numbers, single elements, single rows, and sizes around the widths of a vector, a tile and a job. Digits
    must agree to the bound, statuses exactly, except where a disturbance of 1e-13 of every value makes as much
    difference. Exit code 1 if a program disagrees.
    """
    from ..bench.agreement.compare import measure_agreement

    with progress("agreement", as_json) as bar:
        told = None if bar is None else lambda done: bar(f"{done:,} of {programs:,} programs", done / max(1, programs))
        found = measure_agreement(backend, programs, seed, bound, told)
    if as_json:
        emit(found.to_dict() | {"backend": backend, "bound": bound, "seed": seed})
    else:
        count = sum(found.programs.values())
        rows = [(status, f"{n:,}") for status, n in sorted(found.statuses.items())]
        rows += [("explained by rounding", f"{found.rounding:,}"), ("disagree", f"{len(found.wrong):,}")]
        title = f"{backend}: {count:,} programs, largest relative difference {found.largest:.1e}"
        table(title, ("outcome, the same as the reference's", "programs"), rows)
        for source, formula in found.wrong[:LISTED]:
            click.echo(f"disagrees on '{source}': {formula}")
    return 1 if found.wrong else 0
