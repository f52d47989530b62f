"""What is not begun because it would take too much."""

from __future__ import annotations

from ..stats_cache.addresses import installed


def beyond(memory: float, minutes: float, limit: float) -> list[str]:
    """What so many bytes of memory and so many minutes are beyond: this machine's memory, ``limit`` minutes."""
    most = installed()
    reasons = [
        (memory > most, f"the machine has {most / 1e9:.0f} GB of memory"),
        (minutes > limit, f"--limit-minutes is {limit:g}"),
    ]
    return [words for holds, words in reasons if holds]
