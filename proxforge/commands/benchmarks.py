"""``bench``: the embedded ground truth, and what is measured of the language itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ..grammar.errors import ProxforgeError
from ..output import emit, number, progress, table
from .options import PATH, json_option
from .search_spaces import space_options, taken


@click.group()
def bench() -> None:
    """Benchmarks: the embedded ground truth, and what is measured of the language itself."""


@bench.command()
@click.argument("name", metavar="NAME", type=click.Choice(["digits"]))
@click.option("--out", type=PATH, default=Path("digits.json"), show_default=True, help="The file to write.")
@click.option("--networks", type=click.IntRange(1), help="Only the first so many networks.  [default: all]")
@click.option("--seeds", type=click.IntRange(1), help="Trainings of every network.  [default: as in the package]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes, one thread each.")
@json_option
def train(name: str, out: Path, networks: int | None, seeds: int | None, workers: int, as_json: bool) -> None:
    """Train the networks of an embedded benchmark anew and write their ground truth.

    A killed training continues where it stopped. With scikit-learn: pip install "proxforge[train]".
    """
    from ..bench.truth.digits import parse_digits_truth
    from ..bench.truth.train import SEEDS, train_digits

    with progress("training", as_json) as bar:
        moved = None if bar is None else lambda done, total: bar(f"training: {done} of {total}", done / total)
        path = train_digits(out, networks=networks, seeds=seeds or SEEDS, workers=workers, progress=moved)
    truth = parse_digits_truth(path.read_text(encoding="utf-8"))
    ceiling = dict(truth.noise_ceiling)
    if as_json:
        emit({"benchmark": name, "file": str(path), "networks": len(truth.archs), "noise_ceiling": ceiling})
        return
    table(
        f"{path}: {len(truth.archs)} networks",
        ("target", "noise ceiling (tau)", "accuracy: from", "to"),
        [(t, number(ceiling[t]), number(y.min(), 1), number(y.max(), 1)) for t, y in truth.targets.items()],
    )


@bench.command("space")
@space_options
@click.option("--limit-minutes", type=float, default=120.0, show_default=True, help="Refuse what takes longer.")
@json_option
def count_space(space: str, limit_minutes: float, as_json: bool, **others: Any) -> None:
    """Count the programs of a search space: all, those that type-check, those that compile, and the different ones.

    The numbers are exact. Of a tree space branches are joined for stand-ins; others are compiled program by program.
    """
    from ..bench.space_count import count_programs, refusal
    from ..search.spaces import make_space

    chosen = make_space(space, taken(others))
    refused = refusal(chosen, limit_minutes)
    if refused is not None:
        raise ProxforgeError("size", refused)
    began = time.perf_counter()
    with progress("counting", as_json) as bar:
        found = count_programs(chosen, told=None if bar is None else lambda share: bar("counting", share))
    seconds = time.perf_counter() - began
    if as_json:
        emit(found.to_dict() | {"seconds": seconds})
        return
    shares = [(what, f"{count:,}", f"{count / found.raw:.2%}") for what, count in found.to_dict().items()]
    table(f"{space} space, {seconds:.0f} s", ("programs", "number", "share"), shares)
