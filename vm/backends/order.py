"""In which order a backend that keeps values in registers computes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

LACKING = 5
"""See `scheduled`. With a thousand programs of about six nodes it leaves a quarter of the registers that their own
order takes."""


def needed(wanted: Iterable[int], operands: Callable[[int], Iterable[int]]) -> set[int]:
    """The values, and all that they are computed from."""
    found: set[int] = set()
    waiting = list(wanted)
    while waiting:
        x = waiting.pop()
        if x not in found:
            found.add(x)
            waiting.extend(operands(x))
    return found


def scheduled(before: Mapping[int, Collection[int]]) -> list[int]:
    """Values in an order in which each comes after those ``before`` it: as soon as it lacks no more than `LACKING`
    others, these first. So a value is read soon after it was made, and few are held at once."""
    after: dict[int, list[int]] = {x: [] for x in before}
    for x in sorted(before):
        for y in before[x]:
            after[y].append(x)
    order: dict[int, None] = {}

    def lacking(x: int, most: int) -> list[int]:
        """What has to be computed up to x; nothing where it is there, or where that is too much."""
        found: set[int] = set()
        waiting = [x]
        while waiting and len(found) <= most:
            y = waiting.pop()
            if y not in order and y not in found:
                found.add(y)
                waiting.extend(before[y])
        return sorted(found) if len(found) <= most else []

    for first in sorted(before):
        recent = lacking(first, len(before))
        order.update(dict.fromkeys(recent))
        while recent:
            waiting = after[recent[-1]]
            made = lacking(waiting.pop(), LACKING) if waiting else []
            order.update(dict.fromkeys(made))
            if made:
                recent += made
            elif not waiting:
                recent.pop()
    return list(order)
