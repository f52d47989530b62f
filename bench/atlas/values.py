"""What a layer's score needs of a branch alone, for every layer of every network: run by the VM as any program."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...grammar.expr import Node
from ...grammar.ops import OPS, Form
from ...grammar.reference import FLOAT32_MAX
from ...stats_cache.source import Network, SegmentFacts, Source, StatFacts
from ...vm.evaluate import Evaluator
from .branches import Branches, Unaries
from .files import load

Array = NDArray[np.float64]

AT_ONCE = 200
"""Layers that are run together."""
MOMENTS = ("mean", "std", "min", "max")
"""What is kept of the result of the inner ops in a branch."""
COUNTED = ("sign", "heaviside")
"""Ops that give -1, 0 and 1."""


class Layers:
    """Some networks of a source, each layer as a network of its own: see `Source`."""

    def __init__(self, source: Source, networks: Sequence[int]) -> None:
        self._source = source
        self.places = [(n, layer) for n in networks for layer in range(source.networks[n].layers)]
        self.networks = tuple(
            Network(i, source.networks[n].arch, source.networks[n].size, 1) for i, (n, _) in enumerate(self.places)
        )
        self.statistics = source.statistics
        self.key = f"{source.key}, layers of {len(networks)} networks"

    def shape(self, net: int, stat: str, layer: int) -> tuple[int, int]:
        """See `Source.shape`."""
        network, at = self.places[net]
        return self._source.shape(network, stat, at)

    def read(self, net: int, stat: str, layer: int) -> NDArray[np.float32]:
        """See `Source.read`."""
        network, at = self.places[net]
        return self._source.read(network, stat, at)

    def facts(self, stat: str, net: int | None = None) -> StatFacts:
        """See `Source.facts`."""
        if net is None:
            return StatFacts.joined(self._source.facts(stat, n) for n in dict.fromkeys(n for n, _ in self.places))
        return self.segments(net, stat)[0].range

    def segments(self, net: int, stat: str) -> tuple[SegmentFacts, ...]:
        """See `Source.segments`."""
        network, at = self.places[net]
        return (self._source.segments(network, stat)[at],)


if TYPE_CHECKING:
    _: type[Source] = Layers


@dataclass(frozen=True, eq=False)
class Values:
    """Of T layers, ``[.., T]``, float64.

    ``values``: of every branch the Scalar, or the mean of the matrix. ``largest``: of matrices, a bound of the absolute
    value of an element, else 0. ``moments``: (statistic, inner ops) -> `MOMENTS` of the result of these ``[4, T]``.
    """

    values: Array
    largest: Array
    moments: dict[tuple[str, ...], Array]


def branch_values(
    source: Source, networks: Sequence[int], branches: Branches, backend: str, told: Callable[[float], None]
) -> Values:
    """The values of all layers of the networks, in order. ``told``: the share that is done."""
    inner = _operands(branches)
    roots = _roots(branches, inner)
    parts = []
    for chunk in _chunks(source, networks):
        layers = Layers(source, chunk)
        run = Evaluator(layers, range(len(layers.networks)), backend_name=backend).run(roots)
        parts.append(run.scores)
        told(sum(p.shape[1] for p in parts) / sum(source.networks[n].layers for n in networks))
    found = np.concatenate(parts, axis=1)
    size, count = len(branches.nodes), len(branches.statistics) * len(inner)
    moments = found[size : size + 4 * count].reshape(count, 4, -1)
    pairs = [(statistic, *ops) for statistic in branches.statistics for ops in inner]
    by_inner = dict(zip(pairs, moments, strict=True))
    largest = np.zeros((size, found.shape[1]))
    extra = iter(found[size + 4 * count :])
    with np.errstate(all="ignore"):
        for i, (statistic, (*a, b)) in enumerate(_genes(branches)):
            if branches.matrix[i]:
                low, high = by_inner[statistic, *a][2:]
                largest[i] = _BOUNDS[b](low, high) if b in _BOUNDS else np.abs(next(extra))
    largest[largest > FLOAT32_MAX] = np.inf
    return Values(found[:size], largest, by_inner)


def stored_values(work: Path) -> Values:
    """What a build has kept of `branch_values`."""
    values, largest, moments = (np.array(load(work / f"{name}.npy")) for name in ("values", "largest", "moments"))
    keys = [tuple(key) for key in json.loads((work / "moments.json").read_text())]
    return Values(values, largest, dict(zip(keys, moments, strict=True)))


def starts_of(source: Source) -> NDArray[np.int64]:
    """Where the layers of each network begin among all layers, ``[A + 1]``."""
    return np.concatenate(([0], np.cumsum([network.layers for network in source.networks]))).astype(np.int64)


def counted(source: Source, branches: Branches) -> Array:
    """The number of elements of the branches whose elements are -1, 0 or 1, in every layer, ``[B, T]``; of others 0."""
    places = [(n, layer) for n, network in enumerate(source.networks) for layer in range(network.layers)]
    found = np.zeros((len(branches.nodes), len(places)))
    for name in branches.statistics:
        sizes = [float(np.prod(source.shape(n, name, layer))) for n, layer in places]
        for i in branches.matrices(name):
            if branches.nodes[i].op.name in COUNTED:
                found[i] = sizes
    return found


def _chunks(source: Source, networks: Sequence[int]) -> list[list[int]]:
    """The networks in groups of about `AT_ONCE` layers."""
    chunks: list[list[int]] = [[]]
    for n in networks:
        if chunks[-1] and sum(source.networks[m].layers for m in chunks[-1]) >= AT_ONCE:
            chunks.append([])
        chunks[-1].append(n)
    return chunks


def _genes(branches: Branches) -> list[tuple[str, Unaries]]:
    return [(statistic, genes[0]) for statistic in branches.statistics for genes in branches.genes]


def _operands(branches: Branches) -> list[Unaries]:
    """The inner ops of matrices, and all but the last of them with identity in its place."""
    genes = [g for several in branches.genes for g in several]
    found = dict.fromkeys(ops for g in genes for ops in ((*g[:-2], "identity"), g[:-1]))
    return [ops for ops in found if all(OPS[op].form is Form.MAP for op in ops)]


def _roots(branches: Branches, inner: Sequence[Unaries]) -> list[Node]:
    """The Scores of one layer: every branch, the moments of inner results, the largest elements without a bound."""
    pool = branches.pool

    def score(node: Node) -> Node:
        return pool.apply(OPS["layer_sum"], node)

    roots = [score(node) for node in branches.nodes]
    for statistic in branches.statistics:
        for ops in inner:
            node = pool.statistic(statistic)
            for op in ops:
                node = pool.apply(OPS[op], node)
            roots += [score(pool.apply(OPS[moment], node)) for moment in MOMENTS]
    for i, (_, (*_, b)) in enumerate(_genes(branches)):
        if branches.matrix[i] and b not in _BOUNDS:
            largest = pool.apply(OPS["max"], pool.apply(OPS["abs"], branches.nodes[i]))
            roots.append(score(largest))
    return roots


def _size(low: Array, high: Array) -> Array:
    return np.asarray(np.maximum(np.abs(low), np.abs(high)))


def _one(low: Array, high: Array) -> Array:
    return np.ones_like(high)


_LOG = 89.0
"""No logarithm of a number in float32's range is larger."""
_ROOT = 1e6
"""Larger than the square root of the number of elements: a bound of (x - mean)/std."""
_BOUNDS: dict[str, Callable[[Array, Array], Array]] = {
    **dict.fromkeys(("identity", "abs", "neg", "relu", "leaky_relu", "mish"), _size),
    **dict.fromkeys(("sigmoid", "softmax", "tanh", "sign", "heaviside", "min_max"), _one),
    **dict.fromkeys(("log", "abslog"), lambda low, high: _LOG * np.ones_like(high)),
    "log_softmax": lambda low, high: high - low + _LOG,
    "normalize": lambda low, high: _ROOT * np.ones_like(high),
    "sqrt": lambda low, high: np.sqrt(np.maximum(high, 0.0)),
    "square": lambda low, high: np.square(_size(low, high)),
    "pow4": lambda low, high: np.square(np.square(_size(low, high))),
    "exp": lambda low, high: np.exp(high),
}
"""Bounds of the absolute value of an element from the extremes of the op's operand, by the outer op."""
