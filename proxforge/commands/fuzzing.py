"""``bench fuzz``: hostile input."""

from __future__ import annotations

import click

from ..output import WRONG, emit, progress, table
from .options import json_option


@click.command()
@click.option("--count", type=click.IntRange(1), default=100_000, show_default=True, help="Texts to try.")
@click.option("--seed", default=0, show_default=True, help="Seed of the texts.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@json_option
def fuzz(count: int, seed: int, workers: int, as_json: bool) -> int:
    """Try random, broken and hostile texts: each must be a program or one error, at once.

    Exit code 1 if one took more than 50 milliseconds. Anything but a program or an error of the language is a crash,
    which names the text.
    """
    from ..bench.fuzz import LIMIT, text_of
    from ..bench.fuzz import fuzz as run

    with progress("fuzzing", as_json) as bar:
        moved = None if bar is None else lambda done: bar(f"fuzzing: {done:,} of {count:,}", done / count)
        report = run(count, seed, workers=workers, progress=moved)
    if as_json:
        emit({**report.to_dict(), "limit": LIMIT, "ok": not report.beyond_limit})
        return WRONG if report.beyond_limit else 0
    table(
        f"{report.count:,} texts, seed {seed}",
        ("what became of them", "texts", "share"),
        [(kind, f"{n:,}", f"{n / report.count:.1%}") for kind, n in report.outcomes.items()],
    )
    table(
        f"the slowest; {report.beyond_limit} beyond {LIMIT * 1e3:.0f} ms, mean {report.seconds / count * 1e3:.2f} ms",
        ("text", "characters", "milliseconds", "outcome", "begins with"),
        [
            (s.index, f"{s.characters:,}", f"{s.seconds * 1e3:.1f}", s.outcome, repr(text_of(seed, s.index)[:30]))
            for s in report.slowest
        ],
    )
    return WRONG if report.beyond_limit else 0
