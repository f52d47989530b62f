"""Programs run with all checks off: what really becomes of a program that the compiler rejects."""

from __future__ import annotations

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

MEMORY = 1 << 30
"""Bytes of values that are kept between programs."""
DISTURBANCE = 1e-13
"""Relative change of every computed number that tells rounding from a difference between networks."""
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
        self._values: OrderedDict[tuple[bytes, int, int], Array] = OrderedDict()
        self._bytes = 0
        self._noise: np.random.Generator | None = None

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
        for seed in range(2):
            self._noise = np.random.default_rng(seed)
            disturbed = np.array(list(self._scores(root)))
            change = np.maximum(change, np.abs(disturbed - row[0]))
        self._noise = None
        spread = row.max() - row.min()
        return bool(np.isfinite(change).all() and spread <= max(10 * change.max(), SAME * np.abs(row).max()))

    def _scores(self, root: Node) -> Iterator[float]:
        nodes = topological([root])
        inside = [n for n in nodes if n.type.kind is not Kind.SCORE]
        outside = [n for n in nodes if n.type.kind is Kind.SCORE]
        with np.errstate(all="ignore"):
            for network in self._networks:
                layers = [self._layer(inside, network, i) for i in range(self._source.networks[network].layers)]
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

    def _layer(self, nodes: list[Node], network: int, layer: int) -> dict[Node, Array]:
        values: dict[Node, Array] = {}
        for n in nodes:
            key = (n.digest, network, layer)
            kept = None if self._noise is not None else self._values.get(key)
            values[n] = self._value(n, values, network, layer) if kept is None else kept
            if kept is None and self._noise is None and n.args and n.depth <= 2:  # what many programs share
                self._keep(key, values[n])
        return values

    def _value(self, n: Node, values: dict[Node, Array], network: int, layer: int) -> Array:
        if n.op is STATISTIC:
            value = self._segment(n, network, layer)
        elif n.op is NUMBER:
            value = np.asarray(float(n.attr))
        else:
            operands = [values[a] for a in n.args]
            if n.op.no_scalar and operands[0].ndim == 0:
                raise TypeError(f"{n.op.name} has no form on a Scalar")
            value = in_range(np.asarray(n.op.reference(*operands), np.float64))
        if self._noise is not None:
            value = in_range(value * (1 + DISTURBANCE * self._noise.standard_normal(value.shape)))
        return value

    def _segment(self, n: Node, network: int, layer: int) -> Array:
        key = (n.digest, network, layer)
        if key not in self._values:
            self._keep(key, in_range(self._source.read(network, str(n.attr), layer).astype(np.float64)))
        return self._values[key]

    def _keep(self, key: tuple[bytes, int, int], value: Array) -> None:
        self._values[key] = value
        self._bytes += value.nbytes
        while self._bytes > MEMORY and len(self._values) > 1:
            self._bytes -= self._values.popitem(last=False)[1].nbytes
