"""Where statistics are collected: patterns of module names, ready ones for well-known families, and what must line
up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..grammar.errors import nearest
from ..grammar.types import SITES, STATISTICS
from .source import CacheError
from .spaces.base import Pattern

if TYPE_CHECKING:
    from torch import nn

Layers = Mapping[str, Sequence[tuple[str, ...]]]
"""Site -> the names of its modules, layer by layer; more than one where their weights are joined."""

READY: Mapping[str, Mapping[str, Pattern]] = {
    "timm": {
        "qkv": "**.attn.qkv",
        "proj": "**.attn.proj",
        "fc1": "**.mlp.fc1",
        "hidden": "**.mlp.act",
        "fc2": "**.mlp.fc2",
    },
    "huggingface": {
        "qkv": ("**.attention.q_proj", "**.attention.k_proj", "**.attention.v_proj"),
        "proj": "**.attention.o_proj",
        "fc1": "**.mlp.fc1",
        "hidden": "**.mlp.activation_fn",
        "fc2": "**.mlp.fc2",
    },
    "huggingface-4": {
        "qkv": ("**.attention.attention.query", "**.attention.attention.key", "**.attention.attention.value"),
        "proj": "**.attention.output.dense",
        "fc1": "**.intermediate.dense",
        "hidden": "**.intermediate",
        "fc2": "**.layer.*.output.dense",
    },
    "huggingface-4-swin": {
        "qkv": ("**.attention.self.query", "**.attention.self.key", "**.attention.self.value"),
        "proj": "**.attention.output.dense",
        "fc1": "**.intermediate.dense",
        "hidden": "**.intermediate",
        "fc2": "**.blocks.*.output.dense",
    },
    "huggingface-pvt": {
        "qkv": ("**.attention.self.query", "**.attention.self.key", "**.attention.self.value"),
        "proj": "**.attention.output.dense",
        "fc1": "**.mlp.dense1",
        "hidden": "**.mlp.intermediate_act_fn",
        "fc2": "**.mlp.dense2",
    },
}
"""Name -> patterns. ``timm``: its ViT, DeiT, PiT and Swin, and whatever names its modules alike. ``huggingface``: ViT,
DeiT, BEiT, DINOv2 and Swin of transformers 5; ``huggingface-4``: ViT, DeiT, BEiT and DINOv2 of transformers 4."""

ACTIVATIONS = frozenset(s.site for s in STATISTICS.values() if s.kind == "a")
"""The sites whose outputs are collected; of the others it is the weights."""


def sites_for(model: nn.Module, sites: Mapping[str, Pattern] | str | None) -> Mapping[str, Pattern]:
    """The patterns that are meant: given, or the name of ready ones, or (None) the first ready ones that fit.

    Raises CacheError for an unknown name, an unknown site, what is no pattern, or when no ready patterns fit (the
    modules are named).
    """
    if isinstance(sites, str):
        if sites not in READY:
            raise CacheError(f"unknown patterns {sites[:80]!r}{nearest(sites, READY)} (ready: {', '.join(READY)})")
        return READY[sites]
    if sites is not None:
        for site in sites:
            if site not in SITES:
                raise CacheError(f"unknown site {site[:80]!r}{nearest(site, SITES)} (sites: {', '.join(SITES)})")
            pattern = sites[site]
            named = isinstance(pattern, Sequence) and pattern and all(isinstance(one, str) for one in pattern)
            if not named:
                raise CacheError(f"the site {site!r} is {pattern!r}; expected a pattern of module names, or several")
        if not sites:
            raise CacheError(f"no site is named; name at least one of {', '.join(SITES)}")
        return sites
    names = _names(model)
    for patterns in READY.values():
        if all(_matches(one, names) for pattern in patterns.values() for one in _listed(pattern)):
            return patterns
    raise CacheError(f"no ready patterns fit this network; name its sites (modules: {_shown(names)})")


def find_layers(model: nn.Module, sites: Mapping[str, Pattern]) -> dict[str, list[tuple[str, ...]]]:
    """The modules of every site, in natural order of their names (``blocks.2`` before ``blocks.10``).

    ``sites``: site -> pattern; ``*`` stands for characters other than the dot, ``**.`` at the begin for any path or
    none. Several patterns for a site: the weights of their matches are joined, layer by layer. Raises CacheError,
    naming the modules, when a pattern matches nothing or when sites have different numbers of layers.
    """
    names = _names(model)
    found: dict[str, list[tuple[str, ...]]] = {}
    for site, pattern in sites.items():
        parts = []
        for one in _listed(pattern):
            parts.append(_matches(one, names))
            if not parts[-1]:
                hint = nearest(one, names)
                raise CacheError(
                    f"the pattern {one!r} of site {site!r} matches no module{hint} (modules: {_shown(names)})"
                )
        if len({len(part) for part in parts}) > 1:
            listing = "; ".join(
                f"{p}: {_counted([(n,) for n in part])}" for p, part in zip(pattern, parts, strict=True)
            )
            raise CacheError(f"the patterns of site {site!r} do not line up, they need as many modules each: {listing}")
        if site in ACTIVATIONS and len(parts) > 1:
            raise CacheError(f"site {site!r} is an output and has one pattern; {len(parts)} were given")
        found[site] = list(zip(*parts, strict=True))
    if len({len(layers) for layers in found.values()}) > 1:
        listing = "; ".join(f"{site}: {_counted(layers)}" for site, layers in found.items())
        raise CacheError(f"the sites do not line up, they need the same number of layers: {listing}")
    return found


def check_axes(layers: Layers, shapes: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Raises CacheError, naming the modules, where one axis of a layer would have two lengths.

    ``shapes``: statistic -> (rows, cols), layer by layer. The axes are those of the language: the columns of ``fc1.w``
    and the rows of ``fc2.w`` are both the embedding, so they are equal. Three times q is 3q.
    """
    for layer in range(len(next(iter(layers.values())))):
        known: dict[str, tuple[int, str, int]] = {}
        for name, found in shapes.items():
            kind = STATISTICS[name].type
            for axis, length in zip((kind.rows, kind.cols), found[layer], strict=True):
                plain, times = axis.lstrip("3"), 3 if axis.startswith("3") else 1
                site = name.partition(".")[0]
                here = f"{' + '.join(layers[site][layer])} ({site})"
                first, at, said = known.setdefault(plain, (length * 3 // times, here, length))
                if length * 3 != first * times:
                    raise CacheError(
                        f"layer {layer} does not line up: {at} has {said} and {here} has {length} where both hold the "
                        f"axis {plain!r} of a layer; name modules of one layer for each site"
                    )


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if name]


def _listed(pattern: Pattern) -> Sequence[str]:
    return (pattern,) if isinstance(pattern, str) else pattern


def _matches(pattern: str, names: Sequence[str]) -> list[str]:
    anywhere = pattern.startswith("**.")
    rule = re.escape(pattern[3:] if anywhere else pattern).replace(r"\*", "[^.]+")
    compiled = re.compile(rf"(?:.+\.)?{rule}" if anywhere else rule)
    return sorted(filter(compiled.fullmatch, names), key=_natural)


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Numbers in a name compare as numbers."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in name.split("."))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _counted(layers: Sequence[tuple[str, ...]]) -> str:
    return f"{len(layers)} ({layers[0][0]} .. {layers[-1][0]})"
