"""``bench performance``: every figure of docs/performance.md, measured in one run."""

from __future__ import annotations

from pathlib import Path

import click

from ..output import progress
from .options import PATH, collecting_into


@click.command()
@click.option("--benchmark", "-b", default="digits", show_default=True, help="Whose networks are searched on.")
@click.option("--data", type=PATH, help="Folder of the benchmark's official files.")
@click.option("--write", "page", type=PATH, default=Path("docs/performance.md"), show_default=True, help="The page.")
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Turns of the engines.")
@click.option("--quick", is_flag=True, help="Small workloads, to try it out.")
def performance(benchmark: str, data: Path | None, page: Path, repeats: int, quick: bool) -> None:
    """Measure everything that docs/performance.md states, and write it there.

    Takes about ten minutes and wants an idle machine: engines on random and evolved programs, the machine's limits and
    every instruction, correlations, the first call of a process, searches, a population of 1,000 programs with its
    memory, and building every network anew. The picture goes beside the page.
    """
    from .. import api
    from ..bench.speed.document import write_figures
    from ..grammar.types import AUTOPROX_INPUTS

    truth = api.benchmark_of(benchmark, data)
    with progress("performance", False) as bar:
        source = api.statistics(truth, AUTOPROX_INPUTS, progress=collecting_into(bar))
        tell = (lambda text: None) if bar is None else lambda text: bar(text, 0.0)
        write_figures(page, truth, source, repeats=repeats, quick=quick, tell=tell)
    click.echo(f"written: {page} and {page.parent / 'roofline.svg'}")
