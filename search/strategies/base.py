"""What a strategy is: ask for programs, be told their values. State is a value, randomness an argument.

A strategy never evaluates, counts or stores anything itself: the loop does. That makes every strategy resumable,
repeatable and independent of the number of workers, and registering it here turns its tests on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError, nearest
from ..spaces import Genotype, SearchSpace

Rng = Callable[[int], np.random.Generator]
"""``rng(i)``: a fresh generator that depends on (seed, step, i) alone; by habit i is the place of a candidate."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A candidate with what became of it. ``value``: what is maximised, None for an invalid program: the worst.

    ``hash``: of the canonical form, None where it does not type-check. ``status``: ``ok``, or why there is no value.
    """

    genotype: Genotype
    value: float | None
    hash: str | None
    status: str


@dataclass(frozen=True, slots=True)
class State:
    """The state of a strategy: a frozen dataclass of numbers, strings, genotypes, `Evaluated`, and tuples of these.

    It is written to the checkpoint from its type hints, see `search.checkpoint`.
    """


def option(default: Any, text: str, low: float, high: float = math.inf) -> Any:
    """A field of a `Config`: its default, its line of help, and the smallest and largest value allowed."""
    return field(default=default, metadata={"help": text, "low": low, "high": high})


@dataclass(frozen=True)
class Config:
    """Options of a strategy: numbers, declared with `option`. ProxforgeError ``config`` for a value out of range."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value, low, high = getattr(self, f.name), f.metadata["low"], f.metadata["high"]
            whole = isinstance(f.default, int)
            if type(value) not in ((int,) if whole else (int, float)) or not low <= value <= high:
                number = "a whole number" if whole else "a number"
                end = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
                raise ProxforgeError("config", f"the option '{f.name}' is {value!r}; expected {number} {end}")

    def to_dict(self) -> dict[str, Any]:
        """The options by name."""
        return asdict(self)


S = TypeVar("S", bound=State)
R = TypeVar("R")


@dataclass(frozen=True)
class Wanted:
    """What a strategy wants to know of some genotypes before it can go on: ``of(space, genotypes)``, a row of an array
    for each, that depends on this genotype alone."""

    of: Callable[[SearchSpace, Sequence[Genotype]], NDArray[Any]]
    space: SearchSpace
    genotypes: Sequence[Genotype]


Asking = Generator[Wanted, NDArray[Any], tuple[S, tuple[Genotype, ...]]]
"""See `Strategy.asking`."""


def alone(parts: Generator[Wanted, NDArray[Any], R]) -> R:
    """Runs a generator to its end, with what it wants, and gives what it returns."""
    try:
        wanted = next(parts)
        while True:
            wanted = parts.send(wanted.of(wanted.space, wanted.genotypes))
    except StopIteration as end:
        found: R = end.value
        return found


class Strategy(ABC, Generic[S]):
    """One algorithm with its options over one space; holds no state.

    ``name``: in the registry. ``paper``: where it comes from. ``options``: the class of its `Config`. ``states``: the
    class of its `State`.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    options: ClassVar[type[Config]]
    states: ClassVar[type[State]]

    def __init__(self, space: SearchSpace, config: Config) -> None:
        self.space = space
        self.config = config

    def over(self, space: SearchSpace) -> Self:
        """The same algorithm with the same options over another space."""
        return type(self)(space, self.config)

    @property
    def functional(self) -> bool:
        """Whether programs that give the same values on a few probes (`vm.fingerprint`) are one, and scored once."""
        return False

    @abstractmethod
    def init(self) -> S:
        """The state before the first step."""

    def asking(self, state: S, rng: Rng) -> Asking[S]:
        """`ask` in parts, for many runs in step: yields what it wants to know, and is sent it. One part, unless a
        strategy has more to say."""
        yield from ()
        return self.ask(state, rng)

    @abstractmethod
    def ask(self, state: S, rng: Rng) -> tuple[S, tuple[Genotype, ...]]:
        """The candidates of the next step, at least one, and the state that remembers what `tell` must know of them."""

    @abstractmethod
    def tell(self, state: S, evaluated: Sequence[Evaluated]) -> S:
        """The state after the step; ``evaluated`` are the candidates that were asked for, in order."""

    @abstractmethod
    def progress(self, state: S) -> tuple[int, int]:
        """(steps of the algorithm done, of how many); the search is over when they are equal."""


STRATEGIES: dict[str, type[Strategy[Any]]] = {}
"""Every registered strategy by name."""

C = TypeVar("C", bound=type[Strategy[Any]])


def register(cls: C) -> C:
    """Enters a strategy into the registry (a class decorator)."""
    if cls.name in STRATEGIES:
        raise ValueError(f"two strategies are called {cls.name!r}")
    STRATEGIES[cls.name] = cls
    return cls


def make_strategy(name: str, space: SearchSpace, options: Mapping[str, Any] | None = None) -> Strategy[Any]:
    """The strategy of that name with the options given, the others at their defaults.

    Raises ProxforgeError ``config`` for an unknown name or option, or a value out of range.
    """
    if name not in STRATEGIES:
        message = f"no strategy is called '{name[:80]}'{nearest(name, STRATEGIES)}; there are {', '.join(STRATEGIES)}"
        raise ProxforgeError("config", message)
    cls = STRATEGIES[name]
    known = [f.name for f in fields(cls.options)]
    for given in options or {}:
        if given not in known:
            message = f"'{name}' has no option '{given[:80]}'{nearest(given, known)}; it has {', '.join(known)}"
            raise ProxforgeError("config", message)
    return cls(space, cls.options(**(options or {})))


def rank(member: Evaluated) -> float:
    """The value as a sort key; an invalid program is below every valid one."""
    return -math.inf if member.value is None else member.value


def best_of(members: Iterable[Evaluated]) -> Evaluated | None:
    """The valid member with the largest value, the first among equals; None where none is valid."""
    best = max(members, key=rank, default=None)
    return None if best is None or best.value is None else best


def tournament(members: Sequence[Evaluated], size: int, rng: np.random.Generator) -> Evaluated:
    """The best of ``size`` members drawn without replacement (all, where there are fewer), the first among equals."""
    drawn: list[int] = sorted(rng.choice(len(members), min(size, len(members)), replace=False).tolist())
    return max([members[i] for i in drawn], key=rank)


def top_of_share(members: Sequence[Evaluated], share: float, count: int, rng: np.random.Generator) -> list[Evaluated]:
    """The ``count`` best of a share of the members drawn at random, the best first, of equals the oldest."""
    size = max(1, round(share * len(members)))
    drawn = sorted(rng.choice(len(members), size, replace=False).tolist())
    return sorted([members[i] for i in drawn], key=rank, reverse=True)[:count]  # stable


def without_worst(members: tuple[Evaluated, ...]) -> tuple[Evaluated, ...]:
    """The members, oldest first, without the worst, among equals the oldest."""
    ranks = [rank(member) for member in members]
    worst = ranks.index(min(ranks))
    return members[:worst] + members[worst + 1 :]
