"""What a build will cost, before it starts."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...grammar.types import STATISTICS
from ...search.spaces.tree import TreeSpace
from ...stats_cache.source import Source
from ..limits import beyond
from .branches import Branches
from .build import BLOCK
from .listing import PROGRAM, patterns_of
from .matrices import chains_of, groups_of
from .meetings import SUMS

MULTIPLY_ADDS = 4e10
"""float64 multiply-adds of a matrix product per second and thread, as seen on one core of a server."""
LIVE = 0.55
"""The share of the matrices that are rows of the tall matrix: finite, and no multiple of another plus numbers."""
FILLED = 1e-9
"""Seconds and thread per element of the tall matrix, to compute it and to add it up by column and row."""
MET = 7e-8
"""Seconds and thread per join of two matrices and layer."""
RANKED = 2e-9
"""Seconds and thread per join and pair of networks in 64 bits, and per join and layer."""
JOINED = 1.2e-5
"""Seconds per join of two branches of stand-ins, to list the programs of a pattern."""
LISTED = 8e-7
"""Seconds per program, to hash and sort them."""
RUN = 1.2e-10
"""Seconds and thread per element and branch, to run the branches."""
PROGRAMS = 1.45
"""Programs with one layer reduction per join."""
APPLIED = 6e-5
"""Seconds per join of three branches, to list it."""
RUN_ONE, RUN_LAYER, RUN_ELEMENT = 4e-5, 5e-8, 4e-10
"""Seconds per program of three branches, to run it: each; and for each layer; and for each element, if it has any."""
RUN_EXPECTED, RUN_MOST = 4.5e-4, 2e-3
"""Of the joins with a matrix, those that the VM runs because digits or float32's range are doubtful. Which these are
follows from the values of the branches and from the products, so before a build there are only the shares of earlier
ones: 3,793 of 8,354,156 on the AutoFormers, and 13,927 of 7,902,384 on `digits` with the ops of Auto-DAS."""
OF_TRIPLE = 12_000
"""Bytes of memory of a join of three branches, while they are listed."""
OF_PATTERN, OF_PROGRAM, OF_MEETING = 400, 150, 100
"""Bytes of memory: of a join of stand-ins, while its pattern is listed; of a program; and of a join of two matrices."""


@dataclass(frozen=True)
class Estimate:
    """``joins``: at most so many have to be ranked. ``seconds`` by step; ``bytes`` of the finished atlas; ``working``:
    bytes of the folder while it is built, ``memory``: bytes of memory, at most. ``run``: so many joins are no algebra
    and are run by the VM, as expected, which takes ``seconds["run"]``; ``most_run``, ``most_seconds``: where they are
    many."""

    joins: int
    seconds: dict[str, float]
    bytes: int
    working: int
    memory: int
    run: int = 0
    most_run: int = 0
    most_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Counts:
    """Joins of a space, at most. ``mixed``: by + - * / of a matrix with a Scalar, or of two by + and -; ``meeting``: of
    two matrices by * or @ or dot; ``patterns``: of all stand-ins; ``largest``: of one pattern."""

    joins: int
    mixed: int
    meeting: int
    patterns: int
    largest: int

    @staticmethod
    def of(space: TreeSpace, branches: Branches) -> _Counts:
        """Those of a space."""
        single = branches.base == np.arange(len(branches.nodes))
        scalars, matrices = int((single & ~branches.matrix).sum()), int((single & branches.matrix).sum())
        each = matrices // len(branches.statistics)
        alike = sum((len(n) * each) * (len(n) * each + 1) // 2 for n in groups_of(branches.statistics))
        types = [STATISTICS[name].type for name in branches.statistics]
        chained = sum(a.cols == b.rows for a in types for b in types) * each**2
        ops = len({"*" if op in ("@", "dot") else op for op in space.binary}) + ("/" in space.binary)
        meeting = alike * (("*" in space.binary) + ("dot" in space.binary)) + chained * ("@" in space.binary)
        added = len({"+", "-"} & set(space.binary)) + 2 * ("/" in space.binary)
        joins = ops * (scalars * (scalars + 1) // 2 + scalars * matrices) + added * alike + meeting
        mixed = (ops - ("/" in space.binary)) * scalars * matrices + len({"+", "-"} & set(space.binary)) * alike
        one, pairs = patterns_of(branches.statistics)
        side = branches.each**2
        sizes = [side // 2 for _ in dict.fromkeys(one.values())]
        sizes += [side for _ in dict.fromkeys(p for several in pairs.values() for p in several)]
        return _Counts(joins, mixed, meeting, ops * sum(sizes), ops * max(sizes))


def estimate(source: Source, space: TreeSpace, targets: int, threads: int, with_products: bool = True) -> Estimate:
    """A rough guess, within a factor of two or three. ``with_products``: whether two matrices are joined by * and @."""
    branches = Branches.of(space)
    counts = _Counts.of(space, branches)
    if space.branches == 3:
        return _one_by_one(source, space, branches, counts.joins, targets)
    chains = chains_of(branches)
    joins, meeting = counts.joins, counts.meeting if with_products else 0
    networks, layers = len(source.networks), sum(n.layers for n in source.networks)
    products, elements, most = 0.0, 0.0, 0
    for names in groups_of(branches.statistics):
        positions = sum(
            height * width
            for n in source.networks
            for layer in range(n.layers)
            for height, width in (source.shape(n.index, names[0], layer),)
        )
        rows = LIVE * len(chains) * len(names)
        products += positions * (rows**2 / 2 / MULTIPLY_ADDS + rows * FILLED)
        elements += positions * len(names)
        most = max(most, len(chains) * len(names))
    doubtful, most_doubtful = (round((counts.mixed + meeting) * share) for share in (RUN_EXPECTED, RUN_MOST))
    one = 2 * (RUN_ONE + layers * RUN_LAYER) + elements / len(branches.statistics) * RUN_ELEMENT  # one mean for both
    most_run = round(most_doubtful * one / threads, 1)
    words = -(-networks // 64)
    ranks = joins * (2 * 3 * (2 * targets + 1) * networks * words / 8 + layers) * RANKED
    seconds = {
        "programs": counts.patterns * JOINED + 2 * PROGRAMS * joins * LISTED,
        "branches": elements * branches.each * RUN / threads,
        "matrices": (products + meeting * layers * MET) / threads if with_products else 0.0,
        "ranks": ranks / threads,
        "run": doubtful * one / threads,
    }
    ranked = joins * _ranked(networks, targets)
    listed = joins * 3 * branches.number.itemsize + int(2 * PROGRAMS * joins) * PROGRAM.itemsize
    working = 2 * ranked + listed + meeting * networks * SUMS.itemsize
    listing = counts.largest * OF_PATTERN + int(PROGRAMS * joins) * OF_PROGRAM
    meets = threads * (8 * 8 * most**2 + meeting * OF_MEETING) if with_products else 0
    memory = max(listing, meets, 2 * ranked)
    rounded = {name: round(s, 1) for name, s in seconds.items()}
    return Estimate(joins, rounded, ranked + listed, working, memory, doubtful, most_doubtful, most_run)


def _ranked(networks: int, targets: int) -> int:
    """Bytes of the ranks of a join."""
    wide = 2 if networks * (networks - 1) // 2 < 1 << 15 else 4
    return 2 * 3 * (1 + wide * (targets + 1))


def _one_by_one(source: Source, space: TreeSpace, branches: Branches, pairs: int, targets: int) -> Estimate:
    """Of three branches. ``pairs``: joins of two."""
    single = branches.base == np.arange(len(branches.nodes))
    ops = len(space.binary) + ("-" in space.binary and "+" not in space.binary)  # (x - y) - z and (y - x) - z
    joins = pairs * int(single.sum()) * ops
    networks, layers = len(source.networks), sum(n.layers for n in source.networks)
    elements = sum(
        float(np.prod(source.shape(n.index, name, layer)))
        for n in source.networks
        for name in branches.statistics
        for layer in range(n.layers)
    ) / len(branches.statistics)  # fmt: skip
    of_matrices = 1.0 - float(np.mean(~branches.matrix)) ** 3
    seconds = {
        "programs": 2 * pairs * len(branches.nodes) * len(space.binary) * APPLIED,
        "ranks": 2 * joins * (RUN_ONE + layers * RUN_LAYER + of_matrices * elements * RUN_ELEMENT),
    }
    size = joins * (_ranked(networks, targets) + 5 * branches.number.itemsize + 2 * 2 * PROGRAM.itemsize)
    memory = joins * OF_TRIPLE + 4 * 8 * 2 * networks * min(joins, BLOCK)
    return Estimate(joins, {name: round(s, 1) for name, s in seconds.items()}, size, 2 * size, memory)


def refusal(cost: Estimate, folder: Path, gigabytes: float, minutes: float) -> str | None:
    """Why a build is not begun that would not end within the limits, this disk or this memory; None if it would.
    ``folder``: of the atlas, which need not exist."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    needed = sum(cost.seconds.values()) / 60
    reasons = [
        (cost.working > gigabytes * 1e9, f"--limit-gb is {gigabytes:g}"),
        (cost.working > free, f"the disk has {free / 1e9:.0f} GB left"),
    ]
    found = [words for holds, words in reasons if holds] + beyond(cost.memory, needed, minutes)
    if not found:
        return None
    return (
        f"this atlas would have about {cost.joins:,} joins and take {cost.working / 1e9:.3g} GB of disk, "
        f"{cost.memory / 1e9:.3g} GB of memory and {needed:,.0f} minutes; {', '.join(found)}: choose fewer --inputs, "
        "fewer --ops or fewer --unaries, --no-products, or higher limits"
    )


def left_out(space: TreeSpace, with_products: bool) -> list[str]:
    """What of the space will have the status ``left out``, a line each."""
    found = []
    if "/" in space.binary and space.branches == 2:
        found.append("left out: quotients by a matrix, whose means do not follow from those of the branches")
    if not with_products:
        found.append("left out: products of two matrices")
    return found
