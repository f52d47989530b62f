"""What a search leaves behind: the winners as JSON, and the best as a Python file that builds the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...stats_cache.recipe import Recipe
from ..measures.scoring import family_of
from .run import Found, plain

TOP = 10
"""Winners that are written."""


def winners(recipe: Recipe, found: Found, count: int = TOP) -> list[dict[str, Any]]:
    """The best candidates, best first, each ``{"arch", "params", "flops", "scores"}``."""
    family = family_of(recipe)
    rows = []
    for i in found.order()[:count]:
        candidate = found.history[i]
        size = family.size(candidate.arch, recipe.classes)
        scores = plain({**candidate.scores, "total": float(found.totals[i])})
        rows.append({"arch": dict(candidate.arch), "params": size.params, "flops": size.flops, "scores": scores})
    return rows


def winners_text(recipe: Recipe, rows: Sequence[dict[str, Any]]) -> str:
    """The winners as JSON, with the space that they are of."""
    about = {"space": recipe.space, "classes": recipe.classes, "resolution": recipe.resolution, "winners": list(rows)}
    return json.dumps(about, indent=1, allow_nan=False) + "\n"


def module_text(recipe: Recipe, arch: dict[str, Any]) -> str:
    """A Python file with ``build(seed)``: the winner as an untrained ``torch.nn.Module``."""
    family = family_of(recipe)
    images = f"[batch, {family.channels}, {family.resolution}, {family.resolution}]"
    at = "" if recipe.resolution is None else f".at({recipe.resolution})"
    return f'''"""The network that a training-free search chose in the space {recipe.space}."""

from proxforge.stats_cache.recipe import find_space

ARCH = {arch!r}


def build(seed=0, classes={recipe.classes}):
    """The untrained network, ``{images} -> [batch, classes]``, initialised from ``seed`` alone."""
    return find_space({recipe.space!r}){at}.build(ARCH, seed=seed, classes=classes)
'''
