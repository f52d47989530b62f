"""The figures of docs/performance.md: everything is measured in one run, and put where the page says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ...stats_cache.source import Source
from ...vm.backends.cpu import emit, machine
from ..pool import pool
from ..truth.base import Benchmark
from .correlations import compare_bootstrap, compare_correlations
from .engines import Real
from .limits import steady_instruction_seconds
from .measure import Report, measure
from .rebuild import Comparison, compare
from .roofline import intensity, roofline
from .tasks import Population, first_call, population, searches
from .workloads import random_workload

ENGINES = ("proxforge", "proxforge-float32", "torch", "numpy", "numexpr", "gplearn", "operon")
PICTURE = "roofline.svg"
_POPULATION = 1000
_DRAWN_AT = 100_000
_MARK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Tell = Callable[[str], None]


def write_figures(
    page: Path, benchmark: Benchmark, source: Source, threads: Sequence[int] = (1, 2), repeats: int = 7,
    quick: bool = False, tell: Tell = lambda text: None,
) -> None:  # fmt: skip
    """Measures everything and writes it into the page, between ``<!-- figures: NAME -->`` and ``<!-- end -->``, and the
    roofline beside it. ``quick``: small workloads, to try it out."""
    found = figures(benchmark, source, threads, repeats, quick, tell)
    text = page.read_text(encoding="utf-8")
    names = [name for _, name, _ in _MARK.findall(text)]
    missing = sorted(set(found) - {PICTURE} - set(names))
    assert not missing, f"{page} has no place for {missing}"
    text = _MARK.sub(lambda m: f"{m[1]}{found[m[2]].rstrip()}\n{m[3]}" if m[2] in found else m[0], text)
    page.write_text(text, encoding="utf-8")
    (page.parent / PICTURE).write_text(found[PICTURE], encoding="utf-8")


def figures(
    benchmark: Benchmark, source: Source, threads: Sequence[int], repeats: int, quick: bool, tell: Tell
) -> dict[str, str]:
    """Name of a place in the page -> Markdown, and the picture."""
    sizes, programs, evolved = ((2000, 4000), 6, 10) if quick else ((100_000, 4_000_000), 100, 1000)
    small = measure(sizes[:1], programs, evolved, threads, ENGINES, repeats, tell)
    large = measure(sizes[1:], programs, 0, threads, ENGINES, repeats, tell)
    compiled = measure(sizes[:1], programs // 10 or 1, 0, threads[:1], ("torch", "torch-compile"), 3, tell)
    tell("correlations")
    correlations = [*compare_correlations((36,) if quick else (36, 100, 400, 15625)), compare_bootstrap()]
    tell("first call")
    loading, first = first_call(1 if quick else 3)
    tell("search")
    found = searches(benchmark, source, (0,) if quick else (0, 1, 2))
    tell("population")
    crowd = [_apart(source, n) for n in ((20,) if quick else (_POPULATION // 4, _POPULATION))]
    tell("rebuild")
    rebuilt = compare(benchmark, source, tell)
    where, limits = small.machine, small.limits
    about = (
        f"{where['processor']}, {where['usable']} processors, {where['system']}, Python {where['python']}, one run. "
        f"One thread reads memory at {limits['memory_gbs']:.0f} GB/s.\n"
    )
    return {
        "machine": about,
        "engines": _engines([*small.rows, *large.rows]),
        "compiled": _engines(compiled.rows, prepare=True),
        "limits": _limits([small, large]),
        "instructions": _instructions(1 if quick else repeats),
        "correlations": _table(
            ("measure", "networks", "ours, µs", "scipy, µs", "ratio", "largest difference"),
            [
                (c.measure, c.networks, f"{c.ours_us:.2f}", f"{c.scipy_us:.0f}", f"{c.ratio:.0f}", f"{c.apart:.0e}")
                for c in correlations
            ],
        ),
        "first": f"Imports {loading:.2f} s, first evaluation {first:.2f} s (medians of fresh processes).\n",
        "search": _table(
            ("seed", "networks", "evaluations", *found[0].seconds, "reductions computed", "recalled"),
            [
                (s.seed, s.networks, s.evaluations, *(f"{v:.2f}" for v in s.seconds.values()),
                 s.counters["reduced"], s.counters["recalled"])
                for s in found
            ],
        ),
        "population": _table(
            ("programs", "networks", "drawn and typed, s", "evaluated, s", "peak memory, MB"),
            [
                (p.programs, p.networks, f"{p.compile_s:.2f}", f"{p.evaluate_s:.1f}",
                 "-" if p.peak_mb is None else f"{p.peak_mb:.0f}")
                for p in crowd
            ],
        ),
        "rebuild": _rebuilt(rebuilt),
        PICTURE: _picture(small, programs, sizes[0]),
    }  # fmt: skip


def _table(columns: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _apart(source: Source, programs: int) -> Population:
    """`population` in a fresh process: this one has memory that it needs no more, and would use again."""
    with pool(1) as fresh:
        return fresh.submit(population, source, programs).result()


def _engines(rows: Sequence[dict[str, object]], prepare: bool = False) -> str:
    def number(value: object, form: str) -> str:
        return "-" if value is None else format(value, form)

    columns = ["workload", "elements", "engine", "threads", "GPops/s", "spread", "x torch", "x Operon", "of kernel sum"]
    return _table(
        [*columns, "to compile, s"] if prepare else columns,
        [
            (
                r["workload"],
                f"{r['elements']:,}",
                r["engine"],
                r["threads"],
                number(r["gpops"], ".2f"),
                number(r["spread"], ".0%"),
                number(r["ratio_torch"], ".2f"),
                number(r["ratio_operon"], ".2f"),
                number(r["of_limit"], ".0%"),
                *([number(r["prepare_s"], ".1f")] if prepare else []),
            )
            for r in rows
        ],
    )


def _limits(reports: Sequence[Report]) -> str:
    sums = [(what, f"{gpops:.1f}") for r in reports for what, gpops in r.limits["kernel_sums"].items()]
    gains = {n: times for n, times in reports[0].limits["thread_gain"].items() if n != "1"}
    text = "".join(
        f"\n{n} threads do {times:.2f} times what one does in the first cache.\n" for n, times in gains.items()
    )
    return _table(("engine, workload, elements", "kernel sum, GPops/s a thread"), sums) + text


def _instructions(rounds: int) -> str:
    taken = [(machine.STEP, k, name) for k, name in enumerate(emit.STEPS)]
    taken += [(machine.TOTAL, k, f"total: {name}") for k, name in enumerate(_TOTALS)]
    taken += [(machine.STEP_SUM, k, f"total: Σ {name}, not stored") for k, name in enumerate(emit.SUMMED)]
    taken += [(machine.TAKE, machine.NOW, "take a segment"), (machine.COLUMN_STATISTICS, 0, "statistics of columns")]
    formats: tuple[Real, ...] = (np.float64, np.float32)
    columns = [steady_instruction_seconds([(kind, k) for kind, k, _ in taken], number, rounds) for number in formats]
    return _table(
        ("instruction", "float64 tile, ns", "float32 tile, ns"),
        [
            (name, *(f"{seconds * 1e9:.3f}" for seconds in row))
            for (_, _, name), *row in zip(taken, *columns, strict=True)
        ],
    )


_TOTALS = ("Σ x", "Σ abs x", "Σ x²", "Σ a b", "Σ (x - s)²", "min", "max", "Σ x in float64")


def _rebuilt(found: Comparison) -> str:
    return (
        f"{found.evaluations:,} programs on {found.networks} networks of {found.benchmark}: the search takes "
        f"{found.search_seconds:.1f} s; building, forward and backward take {found.network_seconds:.3f} s a network "
        f"(mean of {found.sampled}), so {found.rebuild_seconds:,.0f} s for every program and network (extrapolated). "
        f"Ratio {found.ratio:,.0f}; {found.ratio_with_cache:,.0f} where the cache has to be made first.\n"
    )


def _picture(report: Report, programs: int, elements: int) -> str:
    workload = random_workload(programs, elements)
    rows = [r for r in report.rows if r["workload"] == workload.name and r["threads"] == 1]
    points = [(r["engine"], intensity(workload, r["engine"]), r["gpops"]) for r in rows]
    sums = report.limits["kernel_sums"]
    roofs = {
        "kernels, float64": sums[f"proxforge {workload.name} {elements:g}"],
        "kernels, float32": sums[f"proxforge-float32 {workload.name} {elements:g}"],
    }
    title = f"{programs} random programs, {elements:,} elements, one thread, {report.machine['processor']}"
    return roofline(points, report.limits["memory_gbs"], roofs, title)
