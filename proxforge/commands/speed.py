"""``bench speed``: how fast populations are evaluated, against other engines and against the machine's limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..grammar.errors import ProxforgeError, nearest
from ..output import emit, number, progress, table
from .options import PATH, collecting_into, json_option

if TYPE_CHECKING:
    from ..bench.speed.measure import Report

ENGINES = "proxforge,proxforge-float32,torch,numpy,numexpr,gplearn,operon"


def _numbers(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(float(part)) for part in text.split(","))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"'{text[:80]}' is no list of numbers such as 1e5,4e6") from None
    if min(found) < 1:
        raise click.BadParameter(f"'{text[:80]}' holds a number below 1")
    return found


@click.command()
@click.option("--elements", default="1e5,4e6", show_default=True, callback=_numbers, help="Of one array.")
@click.option("--programs", type=click.IntRange(0), default=100, show_default=True, help="Random programs.")
@click.option("--evolved", type=click.IntRange(0), default=0, show_default=True, help="Evolved programs, beside them.")
@click.option("--threads", default="1,2", show_default=True, callback=_numbers, help="Of the engines that have them.")
@click.option("--engines", default=ENGINES, show_default=True, help="Separated by commas; torch-compile is one more.")
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Turns; the median counts.")
@click.option("--versus", type=click.Choice(["rebuild"]), help="Time a search against building every network anew.")
@click.option("--benchmark", "-b", default="digits", show_default=True, help="Whose networks, with --versus.")
@click.option("--data", type=PATH, help="Folder of the benchmark's official files, with --versus.")
@json_option
def speed(
    elements: tuple[int, ...],
    programs: int,
    evolved: int,
    threads: tuple[int, ...],
    engines: str,
    repeats: int,
    versus: str | None,
    benchmark: str,
    data: Path | None,
    as_json: bool,
) -> None:
    """Measure the evaluation of populations.

    Random and evolved programs over three float32 arrays, each ending in a mean, on every engine that is installed (pip
    install "proxforge[bench]"), in turns, after their values were compared. GPops/s: 10^9 operator nodes times elements
    a second, nodes that programs share counted each time. "of limit" relates to the instructions' own speed in the
    first cache.
    """
    if versus is not None:
        _versus_rebuild(benchmark, data, as_json)
        return
    from ..bench.speed.engines import ENGINES as KNOWN
    from ..bench.speed.measure import measure

    names = [name.strip() for name in engines.split(",")]
    for name in names:
        if name not in KNOWN:
            raise ProxforgeError("name", f"no engine is called '{name[:80]}'{nearest(name, KNOWN)}; {', '.join(KNOWN)}")
    if not programs and not evolved:
        raise ProxforgeError("usage", "neither random nor evolved programs; say --programs or --evolved")
    with progress("speed", as_json) as bar:
        told = None if bar is None else lambda text: bar(text, 0.0)
        report = measure(elements, programs, evolved, threads, names, repeats, told)
    if as_json:
        emit({"machine": report.machine, "limits": report.limits, "rows": report.rows, "left_out": report.left_out})
    else:
        _show(report)


def _show(report: Report) -> None:
    machine, limits = report.machine, report.limits
    columns = ("workload", "elements", "engine", "threads", "GPops/s", "±", "x torch", "x Operon", "of limit")
    rows = [
        (
            r["workload"],
            f"{r['elements']:,}",
            r["engine"],
            r["threads"],
            number(r["gpops"], 2),
            f"{r['spread']:.0%}",
            number(r["ratio_torch"], 2),
            number(r["ratio_operon"], 2),
            "-" if r["of_limit"] is None else f"{r['of_limit']:.0%}",
        )
        for r in report.rows
    ]
    table(f"{machine['processor']}, {machine['usable']} processors", columns, rows)
    click.echo(f"memory read by one thread: {limits['memory_gbs']:.0f} GB/s")
    for count, times in limits["thread_gain"].items():
        click.echo(f"{count} threads in the first cache: {times:.2f} times one")
    for what, gpops in limits["kernel_sums"].items():
        click.echo(f"sum of the instructions in the first cache, {what}: {gpops:.1f} GPops/s a thread")
    for engine in report.left_out:
        click.echo(f"left out: {engine}")


def _versus_rebuild(benchmark: str, data: Path | None, as_json: bool) -> None:
    from .. import api
    from ..bench.speed.rebuild import compare
    from ..grammar.types import AUTOPROX_INPUTS

    truth = api.benchmark_of(benchmark, data)
    with progress("statistics", as_json) as bar:
        source = api.statistics(truth, AUTOPROX_INPUTS, progress=collecting_into(bar))
        found = compare(truth, source, None if bar is None else lambda text: bar(text, 0.0))
    if as_json:
        emit(found.to_dict())
        return
    rows = [
        ("search over the cache", number(found.search_seconds, 2), "measured"),
        ("of which evaluation", number(found.evaluate_seconds, 2), "measured"),
        ("making the cache", number(found.collect_seconds, 1), f"{found.sampled} networks measured"),
        ("every network anew", number(found.rebuild_seconds, 0), f"{found.sampled} networks measured"),
    ]
    what = f"{found.evaluations:,} programs on {found.networks:,} networks of {found.benchmark}"
    table(f"{what}: ratio {found.ratio:,.0f}, with the cache made {found.ratio_with_cache:,.0f}",
          ("way", "seconds", "how"), rows)  # fmt: skip
