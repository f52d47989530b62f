"""What the analysis of programs may know of the data: the facts of a source, without reading a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..grammar.analysis import Known
from ..grammar.ranges import ALL, BELOW, LARGEST, Span, in_range
from ..grammar.reference import FLOAT32_TINY
from ..grammar.types import NETWORK_FACTS, STATISTICS
from ..stats_cache.source import SegmentFacts, Source

Array = NDArray[np.float64]

EXTREME, SPREAD = 8, 3
"""Layers that get a context of their own: those with something extreme, and some over all sizes of networks."""
USED = 4
"""Witnesses that are looked at, of those in the manifest."""
ROWS = BELOW + 1 + USED


def known_of(source: Source, networks: Sequence[int]) -> Known:
    """What the manifest knows of the chosen networks, as contexts of the analysis (`grammar.ranges`).

    Context 0 is every layer of every network; the others are single layers, spread over networks and depths.
    """
    every = [(n, layer) for n in networks for layer in range(source.networks[n].layers)]
    spread = _spread(source, networks)
    labels = ("in every network", *(f"in layer {layer} of network {n}" for n, layer in spread))
    return _known(
        source, networks, [every, *([pair] for pair in spread)], labels, lambda: _each(source, networks, every)
    )


def _each(source: Source, networks: Sequence[int], every: Sequence[tuple[int, int]]) -> Known:
    """Every layer of every network a context of its own."""
    counts = [source.networks[n].layers for n in networks]
    labels = tuple(f"in layer {layer} of network {n}" for n, layer in every)
    known = _known(source, networks, [[pair] for pair in every], labels, None)
    return replace(known, networks=np.cumsum([0, *counts[:-1]]))


def _known(
    source: Source,
    networks: Sequence[int],
    contexts: Sequence[Sequence[tuple[int, int]]],
    labels: tuple[str, ...],
    every: Callable[[], Known] | None,
) -> Known:
    """``contexts``: the (network, layer) pairs that each stands for."""
    leaves, axes = {}, dict[str, Array]()
    flat = [pair for pairs in contexts for pair in pairs]
    starts = np.cumsum([0, *(len(pairs) for pairs in contexts[:-1])])
    for s in sorted(source.statistics):
        segments = [source.segments(n, s)[layer] for n, layer in flat]
        leaves[s] = _leaf(segments, starts)
        type_ = STATISTICS[s].type
        for axis, sizes in ((type_.rows, [x.rows for x in segments]), (type_.cols, [x.cols for x in segments])):
            found = _bounds(np.array(sizes, np.float64), starts)
            old = axes.get(axis, found)
            axes[axis] = np.stack((np.minimum(old[0], found[0]), np.maximum(old[1], found[1])))
    size = [source.networks[n] for n, _ in flat]
    facts = {f: _bounds(np.array([getattr(n.size, f) for n in size], np.float64), starts) for f in NETWORK_FACTS}
    layers = _bounds(np.array([n.layers for n in size], np.float64), starts)
    return Known(labels, ROWS, leaves, axes, layers, facts, len(networks) > 1, every)


def _spread(source: Source, networks: Sequence[int]) -> list[tuple[int, int]]:
    """(network, layer) pairs: those with the largest element of a statistic and with the longest axes, where formulas
    overflow first; then some over all sizes of networks, the layers taking turns."""
    pairs = [(n, layer) for n in networks for layer in range(source.networks[n].layers)]
    statistics = [[source.segments(n, s)[layer] for n, layer in pairs] for s in sorted(source.statistics)]
    sizes = [[max(abs(x.low or 0.0), abs(x.high or 0.0)) for x in found] for found in statistics]
    sizes += [[getattr(x, axis) for x in found] for axis in ("rows", "cols") for found in statistics]
    chosen: list[tuple[int, int]] = []
    for values in sizes:
        if len(chosen) < EXTREME and not any(values[pairs.index(pair)] == max(values) for pair in chosen):
            chosen.append(pairs[int(np.argmax(values))])
    ordered = sorted(networks, key=lambda n: (source.networks[n].size.params, n))
    for i in range(SPREAD):
        network = ordered[round(i * (len(ordered) - 1) / (SPREAD - 1))]
        chosen.append((network, (i * 7) % source.networks[network].layers))
    return list(dict.fromkeys(chosen))


def _bounds(values: Array, starts: NDArray[np.intp]) -> Array:
    """The extremes within every context, ``[.., S]`` -> ``[2, .., C]``."""
    return np.stack((np.minimum.reduceat(values, starts, axis=-1), np.maximum.reduceat(values, starts, axis=-1)))


def _leaf(segments: list[SegmentFacts], starts: NDArray[np.intp]) -> Span:
    """The span of a statistic: in every context the hull of its segments."""
    (lo, hi), (moments_lo, moments_hi) = _columns(segments)
    least, most = _bounds(lo, starts)[0], _bounds(hi, starts)[1]
    moments = np.stack((_bounds(moments_lo, starts)[0], _bounds(moments_hi, starts)[1]))
    gap = np.minimum.reduceat(np.array([_gap(s) for s in segments]), starts)
    zero = np.logical_or.reduceat(np.array([_zero(s) for s in segments]), starts)
    mean, std, mean_abs = (moments[:, i, None] for i in range(3))
    none = np.zeros((1, len(starts)), np.bool_)
    return Span(least[:, None], most[:, None], mean, std, mean_abs, gap[None], zero[None], none)


def _gap(s: SegmentFacts) -> float:
    """The smallest absolute value that is not 0 of a segment, as far as it is known."""
    known = [abs(x) for x in (s.above, s.below) if x is not None and not s.nonfinite]
    return max(min(known, default=0.0), FLOAT32_TINY)


def _zero(s: SegmentFacts) -> bool:
    """Whether an element can be 0, or too small for a float32 to hold with full precision, which is read as 0."""
    tiny = any(x is not None and abs(x) < FLOAT32_TINY for x in (s.above, s.below))
    return bool(s.zeros or s.nonfinite or tiny)


def _columns(segments: list[SegmentFacts]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Lower and upper bounds of the rows ``[R, S]`` and of the moments ``[3, S]`` of S segments."""
    lo = in_range(np.array([_elements(s) for s in segments], np.float64).T)
    hi = lo.copy()
    hi[ALL] = lo[LARGEST]
    moments = np.array([[s.mean, s.std, s.mean_abs] for s in segments], np.float64).T  # None becomes NaN
    slack = 1e-13 * np.maximum(np.abs(lo[ALL]), np.abs(hi[ALL])) + FLOAT32_TINY
    least = np.array([-np.inf, 0.0, 0.0])[:, None]
    moments_lo, moments_hi = np.maximum(moments - slack, least), moments + slack
    return (np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi)), (
        np.where(np.isnan(moments_lo), least, moments_lo),
        np.where(np.isnan(moments_hi), np.inf, moments_hi),
    )


def _elements(s: SegmentFacts) -> list[float | None]:
    """The rows of a segment; nothing of one with elements that are not finite."""
    if s.nonfinite or s.low is None:
        return [None] * ROWS
    above = 0.0 if s.zeros else s.high if s.above is None else s.above
    below = s.low if s.below is None else s.below
    return [s.low, s.low, s.high, above, below, *s.witnesses[:USED]]
