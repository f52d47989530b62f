"""Programs run with all checks off: what really becomes of a program that the compiler rejects."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..grammar import facts as f
from ..grammar.errors import ProxyError
from ..grammar.expr import Node, Pool, topological
from ..grammar.ops import FACT, NUMBER, STATISTIC, Form, Op
from ..grammar.reference import in_range
from ..grammar.types import SCALAR, SCORE, Kind, matrix
from ..stats_cache.source import Source
from ..vm.result import SAME, Status, judge

Array = NDArray[np.float64]
Place = tuple[bytes, int, int, int]
"""A value, a network, a layer, and the seed of the disturbance, 0 for none."""

MEMORY = 1 << 30
"""Bytes of values that are kept between programs."""
DISTURBANCE = 1e-13
"""Relative change of every computed number that tells rounding from a difference between networks."""
DISTURBED = 2
"""So many times."""
GAUSS = 1 << 16
"""Gaussian numbers that disturbances are made of."""
ENTRY = 400
"""Bytes of an entry of the memory besides its numbers."""
EXCEPTION = "exception"
"""The cause of a program that cannot be run at all."""


class UncheckedPool(Pool):
    """Makes nodes of any operands. What does not type-check is a matrix of unknown axes, unless it is reduced."""

    @property
    def nodes(self) -> list[Node]:
        """Every value that was made, in order."""
        return list(self._nodes.values())

    def apply(self, op: Op, *args: Node) -> Node:
        """See `Pool.apply`; only the limits of size are kept."""
        try:
            return super().apply(op, *args)
        except ProxyError as error:
            if error.kind == "size":
                raise
        reduced = op.form in (Form.REDUCE, Form.DOT)
        type_ = SCORE if op.form is Form.LAYERS else SCALAR if reduced else matrix("?", "?")
        return self._make(op, args, "", type_, f.UNKNOWN)


class Unchecked:
    """Runs programs with the reference functions over networks, the smallest first, until one makes them invalid."""

    def __init__(self, source: Source, networks: Sequence[int]) -> None:
        self._source = source
        self._networks = sorted(networks, key=lambda n: (source.networks[n].size.params, n))
        self._values: OrderedDict[Place, Array] = OrderedDict()
        self._bytes = 0
        self._gauss = np.random.default_rng(0).standard_normal(GAUSS)

    def cause(self, root: Node, program: Sequence[Node]) -> str | None:
        """Why a program is invalid: ``exception``, ``nan``, ``inf``, ``constant``; None where it is not.

        ``root``: its Score, ``program``: all its values, as an `UncheckedPool` made them, those that nothing reads
        included. Scores that differ between networks by no more than a disturbance of 1e-13 changes them are constant.
        """
        scores = []
        try:
            self._run_unread(root, program)
            for score in self._scores(root):
                if not np.isfinite(score):
                    return (Status.NAN if np.isnan(score) else Status.INF).word
                scores.append(score)
            row = np.array([scores])
            if judge(row).status[0] == Status.CONSTANT:
                return Status.CONSTANT.word
            return Status.CONSTANT.word if self._only_rounding(root, row) else None
        except (ValueError, TypeError, np.linalg.LinAlgError):  # shapes that do not fit, or no value at all
            return EXCEPTION

    def _run_unread(self, root: Node, program: Sequence[Node]) -> None:
        """Runs what does not reach the score, for the exceptions: in one layer, where shapes fit or do not."""
        read = set(topological([root]))
        inside = [n for n in topological(program) if n.type.kind is not Kind.SCORE]
        if not read.issuperset(inside):
            with np.errstate(all="ignore"):
                self._layer(inside, self._networks[0], 0)

    def _only_rounding(self, root: Node, row: Array) -> bool:
        """Whether the differences are no larger than what a disturbance of every value does."""
        change = np.zeros(row.shape[1])
        for seed in range(1, 1 + DISTURBED):
            change = np.maximum(change, np.abs(np.array(list(self._scores(root, seed))) - row[0]))
        spread = row.max() - row.min()
        return bool(np.isfinite(change).all() and spread <= max(10 * change.max(), SAME * np.abs(row).max()))

    def _scores(self, root: Node, seed: int = 0) -> Iterator[float]:
        """Network by network; a ``seed`` other than 0 disturbs every value."""
        outside = [n for n in topological([root]) if n.type.kind is Kind.SCORE]
        reduced = [n.args[0] for n in outside if n.op.form is Form.LAYERS]
        with np.errstate(all="ignore"):
            for network in self._networks:
                counts = range(self._source.networks[network].layers)
                layers = [self._layer(reduced, network, layer, seed) for layer in counts]
                found: dict[Node, Array] = {}
                for n in outside:
                    found[n] = self._score(n, found, layers, network)
                yield float(found[root])

    def _score(self, n: Node, found: dict[Node, Array], layers: list[dict[Node, Array]], network: int) -> Array:
        if n.op is NUMBER:
            return np.asarray(float(n.attr))
        if n.op is FACT:
            return np.asarray(float(getattr(self._source.networks[network].size, str(n.attr))))
        if n.op.form is Form.LAYERS:
            operands = [np.array([float(layer[n.args[0]]) for layer in layers])]
        else:
            operands = [found[a] for a in n.args]
        return in_range(np.asarray(n.op.reference(*operands)))

    def _layer(self, wanted: Sequence[Node], network: int, layer: int, seed: int = 0) -> dict[Node, Array]:
        """The wanted values of one layer, and what they were computed from."""
        values: dict[Node, Array] = {}
        stack = list(wanted)
        while stack:
            n = stack[-1]
            key = (n.digest, network, layer, seed)
            if n not in values and key in self._values:
                values[n] = self._values[key]
            if n in values:
                stack.pop()
                continue
            missing = [a for a in n.args if a not in values]
            stack += missing
            if not missing:
                values[n] = self._value(n, values, network, layer, seed)
                if n.args and (values[n].ndim == 0 or (seed == 0 and n.depth <= 2)):  # what many programs share
                    self._keep(key, values[n])
        return values

    def _value(self, n: Node, values: dict[Node, Array], network: int, layer: int, seed: int) -> Array:
        if n.op is STATISTIC:
            value = self._segment(n, network, layer)
        elif n.op is NUMBER:
            value = np.asarray(float(n.attr))
        else:
            operands = [values[a] for a in n.args]
            if n.op.no_scalar and operands[0].ndim == 0:
                raise TypeError(f"{n.op.name} has no form on a Scalar")
            value = in_range(np.asarray(n.op.reference(*operands), np.float64))
        return value if seed == 0 else in_range(value * (1 + DISTURBANCE * self._noise(n, network, layer, seed, value)))

    def _segment(self, n: Node, network: int, layer: int) -> Array:
        key = (n.digest, network, layer, 0)
        if key not in self._values:
            self._keep(key, in_range(self._source.read(network, str(n.attr), layer).astype(np.float64)))
        return self._values[key]

    def _noise(self, n: Node, network: int, layer: int, seed: int, value: Array) -> Array:
        """Gaussian numbers that depend on the value's place alone."""
        place = zlib.crc32(f"{seed} {network} {layer}".encode(), zlib.crc32(n.digest)) % len(self._gauss)
        return np.take(self._gauss, np.arange(place, place + value.size), mode="wrap").reshape(value.shape)

    def _keep(self, key: Place, value: Array) -> None:
        self._values[key] = value
        self._bytes += value.nbytes + ENTRY
        while self._bytes > MEMORY and len(self._values) > 1:
            self._bytes -= self._values.popitem(last=False)[1].nbytes + ENTRY
