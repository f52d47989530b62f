"""Budgets: ranges of parameters and multiply-accumulates, as text ``4M..6M``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .base import Size, SpaceError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_END = re.compile(r"(\d+(?:\.\d+)?(?:E\d+)?)([KMG]?)", re.IGNORECASE)


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included."""

    low: float = 0.0
    high: float = math.inf

    @staticmethod
    def parse(text: str) -> Range:
        """``4M..6M``, ``..6e8`` or ``4.5M..``; K, M and G are 10^3, 10^6 and 10^9. Raises SpaceError."""
        low, dots, high = text.strip().partition("..")
        if not dots or not (low or high):
            raise SpaceError(f"{text[:80]!r} is no range; expected A..B, A.. or ..B, such as 4M..6M")
        found = Range(_number(low, text) if low else 0.0, _number(high, text) if high else math.inf)
        if found.low > found.high:
            raise SpaceError(f"the range {text[:80]!r} is empty: its begin lies above its end")
        return found

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return "..".join(_short(end) if 0 < end < math.inf else "" for end in (self.low, self.high))


@dataclass(frozen=True)
class Budget:
    """What a network may cost. ``params``: learnable parameters, ``flops``: multiply-accumulates of one image."""

    params: Range = Range()
    flops: Range = Range()

    def allows(self, size: Size) -> bool:
        """Whether both lie within."""
        return size.params in self.params and size.flops in self.flops

    def __str__(self) -> str:
        parts = [(self.params, "parameters"), (self.flops, "multiply-accumulates")]
        return " and ".join(f"{part} {what}" for part, what in parts if part != Range()) or "any size"


def _number(text: str, whole: str) -> float:
    match = _END.fullmatch(text.strip())
    if match is None:
        raise SpaceError(f"{text[:40]!r} in {whole[:80]!r} is no number; expected one such as 4.5M or 600000")
    return float(match[1]) * _UNITS[match[2].upper()]


def _short(value: float) -> str:
    unit = max((u for u in _UNITS if value >= _UNITS[u]), key=_UNITS.__getitem__, default="")
    return f"{value / _UNITS[unit]:g}{unit}"
