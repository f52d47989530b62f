"""Checks of genes whose values are ranges: what was given, what is allowed, one sentence per error."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from ...grammar.errors import nearest
from .base import SpaceError


def exactly(space: str, arch: Any, genes: Sequence[str]) -> Mapping[str, Any]:
    """``arch``, when it is a mapping with these genes and no other. Raises SpaceError otherwise."""
    wanted = ", ".join(genes)
    if not isinstance(arch, Mapping):
        raise SpaceError(f"an architecture of {space} is a mapping of the genes {wanted}; given: {short(arch)}")
    for gene in arch:
        if gene not in genes:
            hint = nearest(str(gene), genes)
            raise SpaceError(f"unknown gene {short(gene)} in an architecture of {space}{hint} (genes: {wanted})")
    for gene in genes:
        if gene not in arch:
            raise SpaceError(f"an architecture of {space} lacks the gene {gene!r} (genes: {wanted})")
    return arch


def number(gene: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float from ``low`` to ``high``. Raises SpaceError naming the gene."""
    if _is_number(value) and low <= value <= high:
        return float(value)
    raise SpaceError(f"gene {gene!r} is {short(value)}; allowed: a number from {low:g} to {high:g}")


def whole(gene: str, value: Any, low: int, high: int) -> int:
    """``value`` as an int from ``low`` to ``high``; 2.0 passes for 2. Raises SpaceError naming the gene."""
    if _is_number(value) and low <= value <= high and value == int(value):
        return int(value)
    raise SpaceError(f"gene {gene!r} is {short(value)}; allowed: a whole number from {low} to {high}")


def listed(gene: str, values: Any, length: int, per: str) -> list[Any]:
    """``values`` as a list, when it is a list or tuple of ``length``. ``per``: what it has one value for."""
    if isinstance(values, (list, tuple)) and len(values) == length:
        return list(values)
    had = f"has {len(values)} values" if isinstance(values, (list, tuple)) else f"is {short(values)}"
    raise SpaceError(f"gene {gene!r} {had}; expected a list of {length}, one for each {per}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def short(value: Any) -> str:
    """``value`` for a message: at most 60 characters, however long or deep it is."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
