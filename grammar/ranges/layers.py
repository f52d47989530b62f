"""The rules of the reductions over layers: from one layer to its network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .span import HALF_RANGE, Array, RangeRule, Sizes, Span, scalar_of, settled, times


def layers(kind: str) -> RangeRule:
    """``mean``, ``sum``, ``min``, ``max`` or ``std`` over the layers.

    Context 0 knows every layer. Another context knows that one layer of its network has the value there.
    """

    def rule(args: tuple[Span, ...], sizes: Sizes) -> Span:
        x, depth = args[0], sizes.layers
        least, most, up, down = x.low, x.high, x.low == np.inf, x.high == -np.inf
        if sizes.networks is None:
            low, high = np.broadcast_to(least[:, :1], least.shape), np.broadcast_to(most[:, :1], most.shape)
            if kind == "max":
                low = np.maximum(low, least)
            if kind == "min":
                high = np.minimum(high, most)
        elif kind in ("mean", "sum"):
            low, high = (_over_layers(x, sizes.networks, np.add) / depth[0] for x in (least, most))
        else:
            low = _over_layers(least, sizes.networks, np.maximum if kind == "max" else np.minimum)
            high = _over_layers(most, sizes.networks, np.minimum if kind == "min" else np.maximum)
        if kind == "std":
            with np.errstate(invalid="ignore"):
                width = settled(high - low, np.inf) * HALF_RANGE
            return scalar_of((np.zeros_like(low), width), x, up | down)
        if kind == "sum":
            low, high = times(low, high, depth[0], depth[1])
        if kind in ("mean", "sum"):  # of numbers that are not NaN: one infinite layer decides
            low, high = (
                np.where(down, -np.inf, np.where(up, np.inf, low)),
                np.where(up, np.inf, np.where(down, -np.inf, high)),
            )
        return scalar_of((low, high), x, up & down)

    return rule


def _over_layers(x: Array, networks: NDArray[np.intp], combine: np.ufunc) -> Array:
    """``[B, C]`` -> in every context the sum, minimum or maximum of its network's contexts."""
    return np.asarray(
        np.repeat(combine.reduceat(x, networks, axis=1), np.diff(np.append(networks, x.shape[1])), axis=1)
    )
