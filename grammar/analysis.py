"""Which programs can have no score, proven before a tensor is touched. The rules are in the op table (`ranges`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .errors import ProxyError
from .explain import infinite_score, never_finite, no_value, one_score
from .expr import Node
from .ops import FACT, NUMBER, Form, Op
from .ranges import BELOW, Sizes, Span, within
from .ranges.table import Rows, Table
from .reference import FLOAT32_TINY
from .types import Kind, Type

Array = NDArray[np.float64]

SAME = 9.9e-11
"""Scores within this relative distance of each other are one score for every network (a run allows 1e-10)."""
MEMORY = 20_000
"""Values that an analysis remembers at most between two calls."""
CHUNK = 5_000
"""Programs that are analysed together."""
PLACE, FAULT, TYPE, WILD = range(4)
"""What is kept of a value: its place in the table of spans, the value that makes it NaN (or -1), its type, and whether
every element of it is infinite or NaN, though it may not be known which."""
WILD_FROM_ANY = frozenset(("+", "-", "*"))
_MAPS = ("identity", "neg", "abs", "square", "pow4", "log", "abslog", "/")
WILD_FROM_FIRST = frozenset((*_MAPS, "sum", "mean", "normalized_sum", "l1_norm", "frobenius", "std", "min", "max"))
"""The ops whose result is infinite or NaN where any operand is, or where the first is; so are the layer reductions."""


@dataclass(frozen=True)
class Known:
    """What is known of the data, per context (see `ranges`).

    ``labels``: what a context is, for messages. ``rows``: of the spans of matrices. ``leaves``: statistic -> a `Span`
    with B = 1; others are unknown. ``axes``: axis name -> ``[2, C]``, ``layers`` ``[2, C]``, ``facts``: network fact ->
    ``[2, C]``: lower and upper bounds. ``several``: whether the scores of more than one network are compared.
    ``every``: makes the same with a context for every layer of every network, and none for all: there ``networks`` says
    where each network begins.
    """

    labels: tuple[str, ...]
    rows: int = BELOW + 1
    leaves: Mapping[str, Span] = field(default_factory=dict)
    axes: Mapping[str, Array] = field(default_factory=dict)
    layers: Array = field(default_factory=lambda: np.array([[1.0], [np.inf]]))
    facts: Mapping[str, Array] = field(default_factory=dict)
    several: bool = True
    every: Callable[[], Known] | None = None
    networks: NDArray[np.intp] | None = None


@cache
def nothing_known() -> Known:
    """Of programs without data: one context, everything is possible."""
    return Known(("whatever the data",))


class Analyser:
    """Proves programs invalid over what is known of the data; remembers the values of recent calls."""

    def __init__(self, known: Known | None = None) -> None:
        self.known = nothing_known() if known is None else known
        self._contexts = len(self.known.labels)
        self._one = np.ones((2, self._contexts))
        self._any = np.array([[1.0], [np.inf]]) * np.ones(self._contexts)
        self._layers = np.broadcast_to(self.known.layers, (2, self._contexts))[:, None]
        self._closer: Analyser | None = None
        self._matrices, self._numbers = Table(self.known.rows, self._contexts), Table(1, self._contexts)
        self._forget()

    def check(self, roots: Sequence[Node]) -> list[ProxyError | None]:
        """For each Score expression why it can have no score, or None; one error may be that of several."""
        errors: list[ProxyError | None] = []
        with np.errstate(all="ignore"):
            for start in range(0, len(roots), CHUNK):
                if len(self._nodes) > MEMORY:
                    self._forget()
                chunk = roots[start : start + CHUNK]
                for wave in self._waves(chunk):
                    self._analyse(wave)
                errors += self._verdicts(chunk)
        return errors

    def span(self, node: Node) -> Span:
        """What is known of a value that was checked, B = 1."""
        return self._read(np.array([self._place[node]]), node.type.kind is Kind.MATRIX)

    def _forget(self) -> None:
        self._place: dict[Node, int] = {}
        self._nodes: list[Node] = []
        self._types: dict[int, int] = {}  # by identity: the nodes keep their types alive
        self._axes = np.empty((2, 2, 0, self._contexts))
        self._facts = Rows(4)
        self._explained: dict[int, ProxyError] = {}
        self._matrices.clear()
        self._numbers.clear()

    def _waves(self, roots: Sequence[Node]) -> Iterable[list[Node]]:
        """The values that are not known yet, operands first, in groups of one op that can be analysed together."""
        place = self._place
        groups: dict[tuple[int, str, int], list[Node]] = {}
        stack = list(reversed(roots))
        while stack:
            node = stack[-1]
            if node in place:
                stack.pop()
                continue
            depth, kinds, ready = 0, 1, True
            for a in node.args:
                found = place.get(a)
                if found is None:
                    stack.append(a)
                    ready = False
                elif found < depth:
                    depth = found
                kinds = 2 * kinds + (a.type.kind == 0)
            if ready:
                stack.pop()
                place[node] = depth - 1  # until it is analysed: minus its height above what is known
                key = (1 - depth, node.op.name, kinds)
                group = groups.get(key)
                if group is None:
                    groups[key] = [node]
                else:
                    group.append(node)
        return [groups[key] for key in sorted(groups)]

    def _analyse(self, nodes: list[Node]) -> None:
        """Nodes of one op, with operands of the same kinds, all of them known."""
        op, place = nodes[0].op, self._place
        if op.form is Form.LEAF:
            return self._enter(nodes, np.full(len(nodes), -1), self._leaves(nodes))
        places = [np.array([place[n.args[i]] for n in nodes]) for i in range(op.arity)]
        kinds = [a.type.kind is Kind.MATRIX for a in nodes[0].args]
        args = tuple(self._read(p, k) for p, k in zip(places, kinds, strict=True))
        span = self._anything(nodes) if op.ranges is None else op.ranges(args, self._sizes(places, kinds))
        if op.name == "-":
            _cancel(places, span)
        faults = np.max([self._facts.values[FAULT, p] for p in places], axis=0)
        bad = span.nan.any(axis=1)
        if bad.any():
            own = np.arange(len(self._nodes), len(self._nodes) + len(nodes))
            faults = np.where((faults < 0) & bad, own, faults)
        return self._enter(nodes, faults, span, self._wild(op, places, args))

    def _wild(self, op: Op, places: list[NDArray[np.intp]], args: tuple[Span, ...]) -> NDArray[np.intp] | int:
        """Whether values of an op are infinite or NaN throughout, see `WILD`."""
        if op.name in WILD_FROM_ANY:
            flags = [self._facts.values[WILD, p] | _infinite(a) for p, a in zip(places, args, strict=True)]
            return np.asarray(flags[0] | flags[1])
        if op.name in WILD_FROM_FIRST or op.form is Form.LAYERS:
            flag = self._facts.values[WILD, places[0]]
            return np.asarray(flag | _zero(args[1]) if op.name == "/" else flag)
        return 0

    def _sizes(self, places: list[NDArray[np.intp]], kinds: list[bool]) -> Sizes:
        types = [self._facts.values[TYPE, p] for p in places]
        rows, cols = ([self._axes[i][:, t] for t in types] for i in (0, 1))
        return Sizes(tuple(rows), tuple(cols), self._layers, tuple(not k for k in kinds), self.known.networks)

    def _leaves(self, nodes: list[Node]) -> Span:
        known, shape = self.known, (len(nodes), self._contexts)
        if nodes[0].op is NUMBER:
            numbers = np.array([[float(n.attr)] for n in nodes]) * np.ones(shape)
            return within(numbers, numbers)
        if nodes[0].op is FACT:
            low, high = np.stack([known.facts.get(str(n.attr), self._any) for n in nodes], 1)
            return within(low, high)
        free = self._anything(nodes[:1])
        return Span.joined([known.leaves.get(str(n.attr), free) for n in nodes])

    def _anything(self, nodes: list[Node]) -> Span:
        """Values of which nothing is known."""
        matrix = nodes[0].type.kind is Kind.MATRIX
        infinite = np.full((len(nodes), self._contexts), np.inf)
        free = within(-infinite, infinite)
        rows = (self.known.rows if matrix else 1, *infinite.shape)
        spread = np.stack((np.zeros_like(infinite), infinite if matrix else np.zeros_like(infinite)))
        return replace(free, lo=np.broadcast_to(free.lo, rows), hi=np.broadcast_to(free.hi, rows), std=spread)

    def _read(self, places: NDArray[np.intp], matrix: bool) -> Span:
        return (self._matrices if matrix else self._numbers).read(self._facts.values[PLACE, places])

    def _enter(self, nodes: list[Node], faults: NDArray[np.intp], span: Span, wild: NDArray[np.intp] | int = 0) -> None:
        table = self._matrices if nodes[0].type.kind is Kind.MATRIX else self._numbers
        first, count = table.append(span), len(self._nodes)
        self._place.update(zip(nodes, range(count, count + len(nodes)), strict=True))
        types = [self._types.get(id(n.type), -1) for n in nodes]
        if min(types) < 0:
            types = [self._type(n.type) for n in nodes]
        rows = (range(first, first + len(nodes)), faults, types, np.broadcast_to(wild, len(nodes)))
        self._facts.append(np.array(rows))
        self._nodes += nodes

    def _type(self, type_: Type) -> int:
        found = self._types.get(id(type_))
        if found is None:
            found = self._types[id(type_)] = len(self._types)
            matrix = type_.kind is Kind.MATRIX
            axes = [self.known.axes.get(a, self._any) if matrix else self._one for a in (type_.rows, type_.cols)]
            self._axes = np.concatenate((self._axes, np.stack(axes)[:, :, None]), axis=2)
        return found

    # Verdicts

    def _verdicts(self, roots: Sequence[Node]) -> list[ProxyError | None]:
        places = np.array([self._place[root] for root in roots])
        faults = self._facts.values[FAULT, places]
        errors: list[ProxyError | None] = [None] * len(roots)
        for i, root in enumerate(roots):
            if root.facts.value is not None:
                errors[i] = one_score(root, root.facts.value, root.facts.value)
        for i in np.flatnonzero(faults >= 0).tolist():
            fault = int(faults[i])
            if fault not in self._explained:
                self._explained[fault] = no_value(self._nodes[fault], self.span, self.known.labels)
            errors[i] = self._explained[fault]
        span = self._read(places, False)
        infinite = (span.low == np.inf) | (span.high == -np.inf)
        low, high = span.low[:, 0], span.high[:, 0]
        if self.known.networks is not None:
            low, high = span.low.min(axis=1), span.high.max(axis=1)
        constant = _one(low, high) & self.known.several
        for i in np.flatnonzero(infinite.any(axis=1) | constant).tolist():
            if errors[i] is None and infinite[i].any():
                errors[i] = infinite_score(roots[i], int(np.argmax(infinite[i])), self.span, self.known.labels)
            elif errors[i] is None:
                errors[i] = one_score(roots[i], float(low[i]), float(high[i]))
        for i in np.flatnonzero(self._facts.values[WILD, places]).tolist():
            errors[i] = errors[i] or self._never_finite(roots[i])
        if self.known.several and self.known.every is not None:
            self._look_closer(roots, errors, self.known.every)
        return errors

    def _never_finite(self, root: Node) -> ProxyError:
        """The first value that is infinite or NaN, down from the root, is at fault."""
        node = root
        while wild := [a for a in node.args if self._facts.values[WILD, self._place[a]]]:
            node = wild[0]
        return never_finite(node, self.span, self.known.labels)

    def _look_closer(self, roots: Sequence[Node], errors: list[ProxyError | None], every: Callable[[], Known]) -> None:
        """Where the layers with a context of their own all have one value, every layer of every network decides."""
        reduced = [i for i, root in enumerate(roots) if errors[i] is None and root.op.form is Form.LAYERS]
        if not reduced:
            return
        span = self._read(np.array([self._place[roots[i].args[0]] for i in reduced]), False)
        alike = _one(span.low[:, 1:].min(axis=1), span.high[:, 1:].max(axis=1))
        chosen = [reduced[k] for k in np.flatnonzero(alike).tolist()]
        if chosen:
            self._closer = self._closer or Analyser(every())
            for i, error in zip(chosen, self._closer.check([roots[i] for i in chosen]), strict=True):
                errors[i] = error


def _infinite(span: Span) -> NDArray[np.bool_]:
    """Whether all elements are inf, or all -inf, in every context."""
    return np.asarray(((span.low == np.inf) | (span.high == -np.inf)).all(axis=1))


def _zero(span: Span) -> NDArray[np.bool_]:
    """Whether all elements are 0, in every context."""
    return np.asarray(((span.low == 0) & (span.high == 0)).all(axis=1))


def _one(low: Array, high: Array) -> NDArray[np.bool_]:
    """Whether all numbers between the two are the same score."""
    finite = np.isfinite(low) & np.isfinite(high) & (low <= high)
    return finite & (high - low <= SAME * np.minimum(np.abs(low), np.abs(high)))


def _cancel(places: list[NDArray[np.intp]], span: Span) -> None:
    """x - x is 0, where it is not NaN."""
    same = np.flatnonzero(places[0] == places[1])
    if len(same):
        for part in (span.lo, span.hi, span.mean, span.std, span.mean_abs):
            part[:, same] = 0.0
        span.gap[same], span.zero[same] = FLOAT32_TINY, True
