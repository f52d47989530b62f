"""The subtrees of an expression in prefix order, with their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...grammar.types import Type


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A subtree: ``genes[start:end]``. ``depth``: ops above it, ``height``: on its longest path, ``type``: its result.

    ``operands``: its own subtrees.
    """

    start: int
    end: int
    depth: int
    height: int
    type: Type
    operands: tuple[Part, ...]

    @property
    def signature(self) -> tuple[Type, tuple[Type, ...]]:
        """(result, operands)."""
        return self.type, tuple(o.type for o in self.operands)

    def flat(self) -> list[Part]:
        """The part and all inside it, in the order of the genes."""
        found = [self]
        for operand in self.operands:
            found += operand.flat()
        return found

    def replaced(self, genes: tuple[str, ...], by: Sequence[str]) -> tuple[str, ...]:
        """The genes with others in the place of this part."""
        return (*genes[: self.start], *by, *genes[self.end :])


def part_at(
    genes: Sequence[str],
    start: int,
    arities: Mapping[str, int],
    result: Callable[[str, tuple[Type, ...]], Type],
    depth: int = 0,
) -> Part:
    """The subtree that begins at ``start``; ``result``: symbol, types of its operands -> type of its value."""
    operands: list[Part] = []
    end = start + 1
    for _ in range(arities[genes[start]]):
        operands.append(part_at(genes, end, arities, result, depth + 1))
        end = operands[-1].end
    height = 1 + max(o.height for o in operands) if operands else 0
    return Part(start, end, depth, height, result(genes[start], tuple(o.type for o in operands)), tuple(operands))
