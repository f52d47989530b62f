"""Whether what a space draws compiles: samples, mutants and children, each read again from its text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..grammar.canonical import canonical_pool
from ..grammar.errors import ProxyError
from ..grammar.expr import Node
from ..grammar.parse import parse
from ..search.spaces import Genotype, SearchSpace
from ..search.spaces.valid import ValidSpace, refusals
from ..vm.compile import compile_nodes

BATCH = 2000
SHOWN = 1000
"""Failures that are listed."""


@dataclass
class Sampling:
    """``programs``: how it was made -> how many; ``failed``: the same of those that did not compile. ``again``:
    rejected by their values and drawn again. ``distinct``: canonical forms. ``failures``: (text, error)."""

    programs: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    again: int = 0
    forms: set[bytes] = field(default_factory=set)
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; at most 1,000 failures are listed."""
        total = sum(self.programs.values())
        return {
            "samples": total,
            "compiled": total - sum(self.failed.values()),
            "by_origin": {o: {"programs": n, "compiled": n - self.failed[o]} for o, n in self.programs.items()},
            "drawn_again": self.again,
            "distinct": len(self.forms),
            "failures": [{"formula": text, "error": error} for text, error in self.failures[:SHOWN]],
            "seconds": self.seconds,
        }


def measure_sampling(
    space: SearchSpace, samples: int, seed: int = 0, told: Callable[[int], None] | None = None
) -> Sampling:
    """Of ten programs eight are drawn, one is a mutant and one the child of two of them.

    Each is written as text, parsed into a pool of its own, analysed without data, assembled and verified.
    """
    found = Sampling()
    rng = np.random.default_rng(seed)
    began = time.perf_counter()
    while (done := sum(found.programs.values())) < samples:
        valid = ValidSpace(space, canonical_pool())
        made = _made(valid, rng, min(BATCH, samples - done))
        found.again += len(valid.refused())
        found.programs.update(origin for origin, _ in made)
        _compile(space, made, found)
        if told is not None:
            told(sum(found.programs.values()))
    found.seconds = time.perf_counter() - began
    return found


def _made(space: ValidSpace, rng: np.random.Generator, count: int) -> list[tuple[str, Genotype]]:
    varied = count // 10
    drawn = space.samples(rng, count - 2 * varied)

    def parent() -> Genotype:
        return drawn[int(rng.integers(len(drawn)))]

    mutants = [space.mutate(parent(), rng) for _ in range(varied)]
    children = [space.crossover(parent(), parent(), rng) for _ in range(varied)]
    named = zip(("drawn", "mutated", "crossed"), (drawn, mutants, children), strict=True)
    return [(origin, genotype) for origin, genotypes in named for genotype in genotypes]


def _compile(space: SearchSpace, made: Sequence[tuple[str, Genotype]], found: Sampling) -> None:
    pool = canonical_pool()
    roots: list[tuple[str, str, Node]] = []

    def failed(origin: str, text: str, error: ProxyError) -> None:
        found.failed[origin] += 1
        found.failures.append((text, f"{error.kind} error: {error.message}"))

    for origin, genotype in made:
        text = space.text(genotype)
        try:
            roots.append((origin, text, parse(text, pool)))
        except ProxyError as error:
            failed(origin, text, error)
    accepted = []
    for (origin, text, root), reason in zip(roots, refusals([root for *_, root in roots]), strict=True):
        if reason is None:
            accepted.append(root)
        else:
            failed(origin, text, reason)
    compile_nodes(accepted)
    found.forms.update(root.digest for root in accepted)
