"""``space``: the families of networks: genes, sizes, samples within a budget."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..grammar.errors import ProxforgeError
from ..output import emit, table
from .options import json_option

if TYPE_CHECKING:
    from ..stats_cache.spaces.base import Space
    from ..stats_cache.spaces.budget import Budget

LISTED = 1_000_000
"""A larger space is sampled, not listed."""


@click.command()
@click.argument("name", required=False)
@click.option("--arch", "archs", multiple=True, metavar="JSON", help="A network, as JSON; may be repeated.")
@click.option("--sample", type=click.IntRange(0), default=0, help="So many random networks within the budgets.")
@click.option(
    "--mutate", type=click.IntRange(0), default=0, help="So many mutations of each --arch within the budgets."
)
@click.option("--all", "every", is_flag=True, help="Every network of the space within the budgets.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random networks.")
@click.option("--params", metavar="A..B", help="Parameters: a range such as 4M..6M, 4M.. or ..600K.")
@click.option("--flops", metavar="A..B", help="Multiply-accumulates of one image: a range.")
@click.option("--classes", type=click.IntRange(1), help="Of the head.  [default: the space's]")
@json_option
def space(
    name: str | None,
    archs: tuple[str, ...],
    sample: int,
    mutate: int,
    every: bool,
    seed: int,
    params: str | None,
    flops: str | None,
    classes: int | None,
    as_json: bool,
) -> None:
    """The families of networks: genes, number of networks, parameters and multiply-accumulates without building.

    NAME: one of those that the command lists without it, or a class of your own as module:Class.
    """
    import numpy as np

    from ..stats_cache.recipe import find_space
    from ..stats_cache.spaces import SPACES
    from ..stats_cache.spaces.budget import Budget, Range

    if name is None:
        _list([find_space(known) for known in SPACES], as_json)
        return
    family = find_space(name)
    budget = Budget(*(Range() if text is None else Range.parse(text) for text in (params, flops)))
    rng = np.random.default_rng(seed)
    given = [family.check(_parsed(text)) for text in archs]
    mutants = (family.mutate_within(arch, rng, budget, classes) for arch in given for _ in range(mutate))
    drawn = (family.sample_within(rng, budget, classes) for _ in range(sample))
    chosen = itertools.chain(given, mutants, drawn, _every(family, budget, classes) if every else ())
    networks = [{"arch": arch, **_sizes(family, arch, classes)} for arch in chosen]
    found: dict[str, Any] = {"name": family.name, "size": family.count(), "genes": family.genes(), "networks": networks}
    if as_json:
        emit(found)
        return
    click.echo(f"{family.name}: {family.count():,} networks; images {_images(family)}, {family.classes} classes")
    for gene, values in found["genes"].items():
        click.echo(f"  {gene}: {json.dumps(values)}")
    if networks:
        columns = ("network", "parameters", "MACs", "layers", "width")
        rows = [
            (json.dumps(n["arch"]), f"{n['params']:,}", f"{n['flops']:,}", n["depth"], f"{n['width']:g}")
            for n in networks
        ]
        table(f"{len(networks)} networks", columns, rows)


def _list(families: list[Space], as_json: bool) -> None:
    if as_json:
        emit({"spaces": [{"name": family.name, "size": family.count()} for family in families]})
        return
    rows = [(family.name, f"{family.count():,}", _images(family), ", ".join(family.sites)) for family in families]
    table("Spaces", ("name", "networks", "images", "sites"), rows, text=True)


def _every(family: Space, budget: Budget, classes: int | None) -> Iterator[dict[str, Any]]:
    count = family.count()
    if count > LISTED:
        raise ProxforgeError(
            "space", f"{family.name} has {count:,} networks, too many to list (at most {LISTED:,}); use --sample N"
        )
    return (arch for arch in family.enumerate() if budget.allows(family.size(arch, classes)))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProxforgeError("space", f"--arch {text[:80]!r} is not JSON: {error}") from error


def _sizes(family: Space, arch: dict[str, Any], classes: int | None) -> dict[str, Any]:
    size = family.size(arch, classes)
    return {"params": size.params, "flops": size.flops, "depth": size.depth, "width": size.width}


def _images(family: Space) -> str:
    return f"{family.channels} x {family.resolution} x {family.resolution}"
