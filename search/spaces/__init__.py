"""What a search draws from: typed genotypes, drawn and varied without ever leaving the programs that type-check."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from ...grammar.errors import nearest
from .base import Genotype, SearchSpace, config
from .expression import Expression, ExpressionSpace
from .memory import Memory, MemorySpace
from .tree import Tree, TreeSpace
from .valid import ValidSpace, compiles, refusals

SPACES: dict[str, type[SearchSpace]] = {cls.name: cls for cls in (TreeSpace, ExpressionSpace, MemorySpace)}
"""Every space by name."""

__all__ = [
    "SPACES",
    "Expression",
    "ExpressionSpace",
    "Genotype",
    "Memory",
    "MemorySpace",
    "SearchSpace",
    "Tree",
    "TreeSpace",
    "ValidSpace",
    "compiles",
    "make_space",
    "options_of",
    "refusals",
]


def options_of(cls: type[SearchSpace]) -> dict[str, Any]:
    """The options of a space with their defaults."""
    return {name: p.default for name, p in signature(cls).parameters.items()}


def make_space(name: str, options: Mapping[str, Any] | None = None) -> SearchSpace:
    """The space of that name with the options given, the others at their defaults.

    Raises ProxforgeError ``config`` for an unknown name or option, or a value that the space refuses.
    """
    if name not in SPACES:
        raise config(f"no search space is called '{name[:80]}'{nearest(name, SPACES)}; there are {', '.join(SPACES)}")
    known = options_of(SPACES[name])
    for given in options or {}:
        if given not in known:
            hint = f"{nearest(given, known)}; it has {', '.join(known)}"
            raise config(f"the search space '{name}' has no option '{given[:80]}'{hint}")
    return SPACES[name](**(options or {}))
