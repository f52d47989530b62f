"""What a search may not use: the options of a space without some ops, or without statistics that need gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..grammar.errors import ProxforgeError, nearest
from ..grammar.types import STATISTICS
from .spaces import SPACES, options_of
from .spaces.base import input_names, op_names

FORWARD = ("w", "a")
"""The kinds of statistics that a forward pass gives."""


def constrained(
    space: str, options: Mapping[str, Any], forbid: Sequence[str] = (), *, gradient_free: bool = False
) -> dict[str, Any]:
    """The options of a space, without the ops ``forbid``; ``gradient_free``: without statistics of a backward pass.

    Raises ProxforgeError ``config`` for an op that the space does not have. An unknown space is left to `make_space`.
    """
    found = dict(options)
    if space not in SPACES or not (forbid or gradient_free):
        return found
    defaults = options_of(SPACES[space])
    if forbid:
        ops = op_names(found.get("ops", defaults["ops"]), space)
        for name in forbid:
            if name not in ops:
                raise ProxforgeError(
                    "config", f"'{name[:80]}' is no op of this space{nearest(name, ops)}; it cannot be forbidden"
                )
        found["ops"] = tuple(name for name in ops if name not in forbid)
    if gradient_free:
        inputs = input_names(found.get("inputs", defaults["inputs"]), space)
        found["inputs"] = tuple(name for name in inputs if STATISTICS[name].kind in FORWARD)
    return found
