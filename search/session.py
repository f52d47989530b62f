"""One run in memory: a strategy asks, what is new is handed out to be scored, the strategy is told.

No file, clock or evaluation is in here, so a session can be one of many that share an evaluator (`search.together`).
A strategy draws from a `ValidSpace`: what the compiler rejects is drawn again before the strategy sees it. That is as
sound as the compiler, and the cheapest place: a rejected program costs its compilation and nothing else.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.canonical import canonical_pool, hash_of
from ..grammar.errors import ProxforgeError
from ..grammar.expr import Node, Pool, topological
from ..grammar.parse import parse
from ..grammar.text import text
from ..vm.fingerprint import Fingerprinter
from .archive import Archive, Known
from .checkpoint import freeze, thaw
from .events import DUPLICATE, REJECTED, Event
from .spaces.base import Genotype
from .spaces.valid import Check, Compiled, ValidSpace, refusals
from .strategies.base import Evaluated, Strategy, Wanted


class Session:
    """A strategy over the programs that compile, with a seed, a budget and what is known so far.

    ``check``: why a program is rejected; ``pool``: where the programs are made. ``start``: genotypes that take the
    places of the first candidates of the first ask. ``patience``: evaluations without a better best after which it is
    over. ``brief``: events name the formula of a better best alone (where no log is kept, for writing takes time).
    ``fingerprinter``: one that others use too; what it remembers of parts of programs serves all. In turn `ask`, then
    `tell` with the outcomes of what it gave, until it is `over`.
    """

    def __init__(
        self,
        strategy: Strategy[Any],
        *,
        seed: int = 0,
        budget: int | None = None,
        patience: int | None = None,
        start: Sequence[Genotype] = (),
        pool: Pool | None = None,
        check: Check = refusals,
        brief: bool = False,
        fingerprinter: Fingerprinter | None = None,
    ) -> None:
        self.pool = canonical_pool() if pool is None else pool
        self.space = ValidSpace(strategy.space, self.pool, check)
        self.strategy = strategy.over(self.space)
        self.seed, self.budget, self.patience = seed, budget, patience
        self.start = tuple(start)
        self.brief = brief
        self.asks = 0
        self.archive = Archive()
        self.state = strategy.init()
        self._prints = _Prints(fingerprinter or Fingerprinter()) if strategy.functional else None
        self._asked: tuple[Any, Sequence[Genotype], list[Compiled]] = (self.state, (), [])

    @property
    def stopped(self) -> str | None:
        """Why it is over: ``steps``, ``budget`` or ``patience``; None while it goes on."""
        done, steps = self.strategy.progress(self.state)
        if done >= steps:
            return "steps"
        if self.budget is not None and self.archive.evaluations >= self.budget:
            return "budget"
        return "patience" if self.patience is not None and self.archive.stale >= self.patience else None

    @property
    def over(self) -> bool:
        """Whether there is nothing more to ask."""
        return self.stopped is not None

    def frozen(self) -> dict[str, Any]:
        """What a checkpoint holds beside the events, as plain JSON."""
        return {"asks": self.asks, "state": freeze(self.state, self.strategy.space)}

    def resume(self, frozen: Mapping[str, Any], events: Sequence[Event]) -> None:
        """Back to where it was. KeyError, TypeError, ValueError or ProxforgeError for what is no checkpoint of it."""
        self.asks = int(frozen["asks"])
        self.state = thaw(self.strategy.states, frozen["state"], self.strategy.space)
        self.archive = Archive(events)
        if self._prints is not None:
            self._prints.add([parse(e.formula, self.pool) for e in self.archive.history if e.formula is not None])

    def move(self, pool: Pool) -> None:
        """Makes programs in another pool from the next `ask` on."""
        self.pool = pool
        self.space.move(pool)

    def ask(self) -> dict[str, Node]:
        """The programs of the next step that must be scored, by hash: new ones, as many as the budget allows."""
        self.draw()
        return self.new()

    def draw(self) -> None:
        """Asks the strategy. Nothing changes but what `new` gives: it can be done again, with another ``check``."""
        self.space.again()
        self._drawn(*self.strategy.ask(self.state, self._generator))

    def drawing(self) -> Generator[Wanted, NDArray[Any], None]:
        """`draw` in parts, see `Strategy.asking`."""
        self.space.again()
        self._drawn(*(yield from self.strategy.asking(self.state, self._generator)))

    def _drawn(self, state: Any, genotypes: Sequence[Genotype]) -> None:
        if self.asks == 0 and self.start:
            genotypes = self._started(genotypes)
        self._asked = state, genotypes, [self.space.compiled(g) for g in genotypes]

    def settle(self) -> None:
        """Asks ``check`` again why what was drawn is rejected: where it had guessed, and rightly."""
        self.space.settle()
        state, genotypes, _ = self._asked
        self._asked = state, genotypes, [self.space.compiled(g) for g in genotypes]

    def new(self) -> dict[str, Node]:
        """What was drawn and must be scored, see `ask`."""
        return self._new(self._asked[2])

    def tell(self, outcomes: Mapping[str, Known]) -> list[Event]:
        """The events of the step, with the outcomes of the programs that `ask` gave (others may be among them)."""
        state, genotypes, candidates = self._asked
        events = [self._rejected(index, compiled) for index, compiled in enumerate(self.space.refused())]
        for rejected in events:
            self.archive.add(rejected)
        evaluated: list[Evaluated] = []
        for genotype, compiled in zip(genotypes, candidates, strict=True):
            event = self._event(len(events), compiled, outcomes)
            if event is None:  # the budget is used up
                return events
            self.archive.add(event)
            events.append(event)
            evaluated.append(self._told(genotype, compiled[0], event))
        self.state = self.strategy.tell(state, evaluated)
        self.asks += 1
        return events

    def _generator(self, index: int) -> np.random.Generator:
        words = self.seed, self.asks, index
        return np.random.default_rng(np.array(words, np.uint32) if max(words) < 1 << 32 else words)  # the same numbers

    def _started(self, genotypes: Sequence[Genotype]) -> tuple[Genotype, ...]:
        if len(self.start) > len(genotypes):
            raise ProxforgeError(
                "config",
                f"{len(self.start)} starting formulas were given, and the first population holds {len(genotypes)} "
                "programs; give fewer, or raise the option 'population'",
            )
        for genotype in self.start:
            _, error = self.space.compiled(genotype)
            if error is not None:
                raise ProxforgeError("config", f"a starting formula has no score on these networks: {error.message}")
        return (*self.start, *genotypes[len(self.start) :])

    def _new(self, candidates: Sequence[Compiled]) -> dict[str, Node]:
        new: dict[str, Node] = {}
        left = None if self.budget is None else self.budget - self.archive.evaluations
        valid = [node for node, error in candidates if node is not None and error is None]
        if self._prints is not None:
            self._prints.see(valid)
        for node in valid:
            digest = hash_of(node)
            if self._known(node, digest) is None and digest not in new:
                if self._prints is not None and self._prints.leader(node) in new:
                    continue
                if len(new) == left:
                    break
                new[digest] = node
                if self._prints is not None:
                    self._prints.lead(node)
        return new

    def _known(self, node: Node, digest: str) -> Known | None:
        """What became of the program, or of one that is functionally equal."""
        found = self.archive.known(digest)
        if found is None and self._prints is not None:
            leader = self._prints.leader(node)
            found = None if leader is None else self.archive.known(leader)
        return found

    def _rejected(self, index: int, compiled: Compiled) -> Event:
        node, error = compiled
        formula, digest = (None, None) if node is None or self.brief else (text(node), hash_of(node))
        return Event(self.asks, index, REJECTED, None if error is None else error.kind, formula, digest, None)

    def _event(self, index: int, compiled: Compiled, outcomes: Mapping[str, Known]) -> Event | None:
        node, error = compiled
        if node is None or error is not None:
            return self._rejected(index, compiled)
        digest = hash_of(node)
        found, status = self._known(node, digest), DUPLICATE
        if found is None:
            if digest not in outcomes:
                return None
            found = outcomes[digest]
            status = found.status
        formula, nodes = None, None
        if not self.brief or (found.value is not None and self.archive.better(found.value)):
            formula, nodes = text(node), len(topological([node]))
        return Event(self.asks, index, status, None, formula, digest, found.value, nodes)

    def _told(self, genotype: Genotype, node: Node | None, event: Event) -> Evaluated:
        known = None if node is None or event.hash is None else self._known(node, event.hash)
        return Evaluated(genotype, event.jcm, event.hash, event.status if known is None else known.status)


class _Prints:
    """Which program was scored first of those that are functionally equal (`vm.fingerprint`)."""

    def __init__(self, maker: Fingerprinter) -> None:
        self._maker = maker
        self._print: dict[str, bytes | None] = {}
        self._leader: dict[bytes, str] = {}

    def see(self, nodes: Sequence[Node]) -> None:
        """Takes the fingerprints of programs that are about to be asked for."""
        new = list({hash_of(n): n for n in nodes if hash_of(n) not in self._print}.values())
        self._print.update(zip(map(hash_of, new), self._maker.of(new), strict=True))

    def leader(self, node: Node) -> str | None:
        """The hash of the first program with its fingerprint; None where it has none or is the first."""
        found = self._print.get(hash_of(node))
        return None if found is None else self._leader.get(found)

    def lead(self, node: Node) -> None:
        """The program is scored: it stands for those equal to it from now on."""
        found = self._print.get(hash_of(node))
        if found is not None:
            self._leader.setdefault(found, hash_of(node))

    def add(self, nodes: Sequence[Node]) -> None:
        """Programs that were scored before, in order."""
        self.see(nodes)
        for node in nodes:
            self.lead(node)
