"""Trees of ops, counted by type and depth with exact integers, and numbered: what is numbered is drawn exactly.

The trees of depth at most k with a result of type t are its leaves, and for every op the combinations of operands of
depth at most k - 1: a type without a tree of that depth is never asked for, so there are no dead ends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Generic, Literal, TypeVar

T = TypeVar("T", bound=Hashable)
Distribution = Literal["uniform", "grow"]


@dataclass(frozen=True, slots=True)
class Production(Generic[T]):
    """``symbol`` makes a value of type ``result`` of operands; a leaf has none."""

    symbol: str
    operands: tuple[T, ...]
    result: T


class Trees(Generic[T]):
    """The trees of depth 0 to ``depth`` (ops on the longest path) over some productions, each with a whole weight.

    ``uniform``: every tree weighs 1. ``grow``: a tree weighs in proportion to the probability that the method "grow" of
    Koza (Genetic Programming, 1992) draws it without types: at every place a symbol, uniformly among all ``symbols``
    (name -> arity); at the last level uniformly among the leaves.
    """

    def __init__(
        self,
        productions: Sequence[Production[T]],
        depth: int,
        symbols: Mapping[str, int],
        distribution: Distribution,
    ) -> None:
        self._depth = depth
        most = max(symbols.values())
        count = sum(arity == 0 for arity in symbols.values())
        scale = 1  # of the level below: grow draws one of its trees with probability weight / scale
        self._levels: list[dict[T, _Level[T]]] = []
        for k in range(depth + 1):
            below = {t: level.total for t, level in self._levels[-1].items()} if k else {}
            weights = {n: scale ** (most - n) if distribution == "grow" else 1 for n in range(most + 1)}
            by_result: dict[T, list[tuple[Production[T], int, int]]] = {}
            for p in productions:
                ways = prod(below.get(t, 0) for t in p.operands)
                if ways:
                    by_result.setdefault(p.result, []).append((p, weights[len(p.operands)], ways))
            self._levels.append({t: _Level(choices) for t, choices in by_result.items()})
            scale = scale**most * len(symbols) if k else count
        self._types = tuple(self._levels[-1])
        self._ends = list(accumulate(level.total for level in self._levels[-1].values()))

    @property
    def count(self) -> int:
        """The weight of all trees of all types."""
        return self._ends[-1]

    def numbered(self, index: int) -> list[str]:
        """The tree of that number, from 0 to ``count - 1``: the types one after the other. See `unrank`."""
        place = bisect_right(self._ends, index)
        return self.unrank(self._depth, self._types[place], index - (self._ends[place - 1] if place else 0))

    def total(self, depth: int, type_: T) -> int:
        """The weight of all trees of at most this depth and type."""
        level = self._levels[depth].get(type_)
        return level.total if level else 0

    def unrank(self, depth: int, type_: T, index: int) -> list[str]:
        """The tree of that number, from 0 to ``total - 1``, in prefix order; it has as many numbers as it weighs."""
        symbols: list[str] = []
        todo = [(depth, type_, index)]
        while todo:
            k, t, i = todo.pop()
            level = self._levels[k][t]
            place = bisect_right(level.ends, i)
            production, weight, ways = level.choices[place]
            symbols.append(production.symbol)
            operands = production.operands
            if operands:
                i -= level.ends[place] - weight * ways
                i //= weight
                for operand in reversed(operands[1:]):
                    i, part = divmod(i, self._levels[k - 1][operand].total)
                    todo.append((k - 1, operand, part))
                todo.append((k - 1, operands[0], i))
        return symbols


class _Level(Generic[T]):
    """The choices for one type at one depth: production, weight of each of its trees, number of trees."""

    __slots__ = ("choices", "ends", "total")

    def __init__(self, choices: list[tuple[Production[T], int, int]]) -> None:
        self.choices = choices
        self.ends = list(accumulate(weight * ways for _, weight, ways in choices))
        self.total = self.ends[-1]
