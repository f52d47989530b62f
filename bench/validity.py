"""How sound and how sharp the compiler's rejection is, on blind random programs: drawn from a space without types."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..grammar.analysis import Analyser
from ..grammar.canonical import canonical_pool
from ..grammar.errors import ProxyError
from ..grammar.expr import Node
from ..grammar.text import text
from ..search.spaces import Genotype, SearchSpace
from ..stats_cache.source import Source
from ..vm.compile import compile_nodes
from ..vm.evaluate import Evaluator
from ..vm.known import known_of
from ..vm.result import Status
from .unchecked import Unchecked, UncheckedPool

BATCH = 1000
NODES = 100_000
"""Values in a pool before a new one is begun: what programs share is made once."""
SHOWN = 1000
"""Missed or falsely rejected programs that are listed."""
PHASES = ("known", "check", "compile", "run")


@dataclass
class Validity:
    """What was found.

    ``rejected``: kind of error -> blind programs. ``invalid``: cause when run -> programs; ``caught``: those of them
    that were rejected. ``false``: rejected programs that have a score. ``missed``: (formula, cause) of
    invalid programs that compile. ``seconds``: ``check`` and ``compile`` of the ``typed`` programs that type-check, and
    ``run`` of all."""

    blind: int = 0
    typed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    invalid: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)
    false: list[tuple[str, str]] = field(default_factory=list)
    missed: list[tuple[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    @property
    def sharpness(self) -> float | None:
        """The share of the invalid programs that were rejected; None where none is invalid."""
        total = sum(self.invalid.values())
        return sum(self.caught.values()) / total if total else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; at most 1,000 programs are listed."""
        per_program = {name: 1e6 * self.seconds[name] / max(self.typed, 1) for name in ("check", "compile")}
        return {
            "blind": self.blind,
            "typed": self.typed,
            "rejected": sum(self.rejected.values()),
            "false_rejections": len(self.false),
            "invalid_when_run": sum(self.invalid.values()),
            "caught": sum(self.caught.values()),
            "sharpness": self.sharpness,
            "rejected_as": dict(self.rejected),
            "by_cause": {c: {"invalid": n, "caught": self.caught[c]} for c, n in sorted(self.invalid.items())},
            "missed": [{"formula": text, "cause": cause} for text, cause in self.missed[:SHOWN]],
            "false": [{"formula": text, "error": error} for text, error in self.false[:SHOWN]],
            "microseconds_per_program": per_program,
            "seconds": dict(self.seconds),
        }


def measure_validity(
    space: SearchSpace,
    source: Source,
    samples: int,
    seed: int = 0,
    *,
    networks: Sequence[int] | None = None,
    cache_facts: bool = True,
    backend: str = "auto",
    told: Callable[[int], None] | None = None,
) -> Validity:
    """Draws ``samples`` blind programs; each is compiled, and run whether it compiles or not.

    What is rejected runs with checks off (`Unchecked`), on networks in order of size until one makes it invalid; what
    compiles runs on all of them. ``networks``: indices into those of the source, or all. ``cache_facts``: whether the
    compiler knows the source's manifest.
    """
    found = Validity()
    networks = range(len(source.networks)) if networks is None else networks
    began = time.perf_counter()
    known = known_of(source, networks) if cache_facts else None
    found.seconds["known"] = time.perf_counter() - began
    trial = _Trial(
        found, space, Analyser(known), Unchecked(source, networks), Evaluator(source, networks, backend_name=backend)
    )
    rng = np.random.default_rng(seed)
    while found.blind < samples:
        trial.batch([space.blind(rng) for _ in range(min(BATCH, samples - found.blind))])
        if told is not None:
            told(found.blind)
    return found


def drawn_networks(count: int, chosen: int, seed: int) -> list[int]:
    """Indices of some of ``count`` networks, at most all, in order."""
    return sorted(np.random.default_rng(seed).permutation(count)[:chosen].tolist())


class _Trial:
    def __init__(
        self,
        found: Validity,
        space: SearchSpace,
        analyser: Analyser,
        unchecked: Unchecked,
        evaluator: Evaluator,
    ) -> None:
        self._found = found
        self._space = space
        self._analyser = analyser
        self._unchecked = unchecked
        self._evaluator = evaluator
        self._pool = canonical_pool()
        self._causes: dict[bytes, str | None] = {}
        self._status: dict[bytes, str] = {}

    def batch(self, genotypes: Sequence[Genotype]) -> None:
        """Compiles and runs some programs."""
        found = self._found
        if len(self._pool) > NODES:
            self._pool = canonical_pool()
        pool = self._pool
        found.blind += len(genotypes)
        roots: list[tuple[Genotype, Node]] = []
        for genotype in genotypes:
            try:
                roots.append((genotype, self._space.expression(genotype, pool)))
            except ProxyError as error:
                self._rejected(genotype, error)
        found.typed += len(roots)
        began = time.process_time()
        errors = self._analyser.check([root for _, root in roots])
        found.seconds["check"] += time.process_time() - began
        accepted = []
        for (genotype, root), refused in zip(roots, errors, strict=True):
            if refused is None:
                accepted.append(root)
            else:
                self._rejected(genotype, refused)
        if accepted:
            self._accepted(accepted)

    def _rejected(self, genotype: Genotype, error: ProxyError) -> None:
        self._found.rejected[error.kind] += 1
        began = time.perf_counter()
        pool = UncheckedPool()
        root = self._space.expression(genotype, pool)
        program = b"".join(node.digest for node in pool.nodes)
        if program not in self._causes:
            self._causes[program] = self._unchecked.cause(root, pool.nodes)
        self._found.seconds["run"] += time.perf_counter() - began
        cause = self._causes[program]
        if cause is None:
            self._found.false.append((str(self._space.encode(genotype)), f"{error.kind} error: {error.message}"))
        else:
            self._found.invalid[cause] += 1
            self._found.caught[cause] += 1

    def _accepted(self, roots: list[Node]) -> None:
        began = time.process_time()
        compile_nodes(roots)
        self._found.seconds["compile"] += time.process_time() - began
        began = time.perf_counter()
        new = list({r.digest: r for r in roots if r.digest not in self._status}.values())
        if new:
            statuses = self._evaluator.run(new).status
            self._status.update({r.digest: Status(s).word for r, s in zip(new, statuses, strict=True)})
        self._found.seconds["run"] += time.perf_counter() - began
        for root in roots:
            cause = self._status[root.digest]
            if cause != Status.OK.word:
                self._found.invalid[cause] += 1
                self._found.missed.append((text(root), cause))
