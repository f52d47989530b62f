"""Functional equivalence: programs that give the same values on a few probes, whatever they look like.

After Real et al., AutoML-Zero (2020), section 3: two programs whose outputs agree on a few examples are evaluated once.
Canonical form proves that programs are equal and misses what holds only up to rounding, or only for finite values
(``softmax(mean(qkv.w)) * fc1.w = fc1.w``); a fingerprint sees both, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ..grammar.expr import Node, topological
from ..grammar.ops import FACT, NUMBER, STATISTIC, Form
from ..grammar.reference import in_range
from ..grammar.types import AXES, NETWORK_FACTS, STATISTICS, Kind
from .layers import bounds, layer_op

Array = NDArray[np.float64]

DIGITS = 6
"""Significant decimal digits of a score that a fingerprint sees."""
MEMORY = 20_000
"""Values of sub-expressions that are remembered at most between two calls."""
BATCH = 1000
"""Programs at a time, where many are asked for."""
_LAYERS = (2, 3, 1, 1)
"""Layers of each probe network: one network per kind of numbers, see `_segment`."""


@dataclass(frozen=True)
class Distinct:
    """How many of ``programs`` are different. ``canonical``: by canonical form. ``functional``: by fingerprint, of
    those that have one. ``invalid``: canonically different ones without a finite score on any probe."""

    programs: int
    canonical: int
    functional: int
    invalid: int


def fingerprint(nodes: Sequence[Node]) -> list[bytes | None]:
    """16 bytes for each Score expression, see `Fingerprinter`."""
    prints = Fingerprinter()
    return [p for i in range(0, len(nodes), BATCH) for p in prints.of(nodes[i : i + BATCH])]


def distinct(nodes: Iterable[Node]) -> Distinct:
    """Counts the Score expressions that differ canonically, and functionally."""
    every = list(nodes)
    unique = list({n.digest: n for n in every}.values())
    found = fingerprint(unique)
    return Distinct(len(every), len(unique), len(set(found) - {None}), found.count(None))


class Fingerprinter:
    """Fingerprints of populations; sub-expressions that were computed before are remembered.

    The probes are four small networks of seeded random tensors: normal, positive, spread over many powers of ten with
    zeros among them, and small. A fingerprint is a hash of the scores in float64, rounded to `DIGITS` significant
    digits, NaN and infinities as themselves. Programs of one canonical form have one fingerprint. Two programs that
    agree up to rounding have different ones where a score lies at the border of two rounded numbers (less than one in
    100,000), and where the score itself is what rounding leaves of 0.
    """

    def __init__(self) -> None:
        self._values: dict[bytes, Array] = {}

    def of(self, nodes: Sequence[Node]) -> list[bytes | None]:
        """For each Score expression 16 bytes, None where no probe has a finite score."""
        if len(self._values) > MEMORY:
            self._values.clear()
        with np.errstate(all="ignore"):
            for node in topological(nodes, into=lambda n: n.digest not in self._values):
                if node.digest not in self._values:
                    self._values[node.digest] = self._computed(node)
        return [_hashed(self._values[node.digest]) for node in nodes]

    def _computed(self, node: Node) -> Array:
        """``[B, r, c]`` of a Matrix and ``[B]`` of a Scalar, for B layers of all probes; of a Score ``[probe]``."""
        op = node.op
        if op is STATISTIC:
            return _probe(str(node.attr))
        if op is NUMBER:
            count = len(_LAYERS) if node.type.kind is Kind.SCORE else sum(_LAYERS)
            return np.full(count, float(node.attr))
        if op is FACT:
            return _fact(str(node.attr))
        operands = [self._values[a.digest] for a in node.args]
        if op.form is Form.LAYERS:
            found = layer_op(op)(operands[0], *bounds(_LAYERS))
        elif op.elementwise:
            rank = max(x.ndim for x in operands)
            found = np.asarray(op.reference(*(x.reshape(x.shape + (1,) * (rank - x.ndim)) for x in operands)))
        else:
            found = np.array([op.reference(*layer) for layer in zip(*operands, strict=True)], np.float64)
        return in_range(found)


def _hashed(scores: Array) -> bytes | None:
    if not np.isfinite(scores).any():
        return None
    words = " ".join(f"{score:.{DIGITS - 1}e}" for score in (scores + 0.0).tolist())
    return blake2b(words.encode(), digest_size=16).digest()


@cache
def _probe(statistic: str) -> Array:
    """The segments of a statistic in all layers of the probes, ``[B, r, c]``."""
    place = list(STATISTICS).index(statistic)
    sizes = {axis: 3 + i for i, axis in enumerate(AXES)}
    type_ = STATISTICS[statistic].type
    shape = (sizes[type_.rows], sizes[type_.cols])
    layers = [(kind, layer) for kind, count in enumerate(_LAYERS) for layer in range(count)]
    found = [_segment(np.random.default_rng((place, kind, layer)), kind, shape) for kind, layer in layers]
    segments = in_range(np.stack(found).astype(np.float32).astype(np.float64))
    segments.flags.writeable = False
    return segments


def _segment(rng: np.random.Generator, kind: int, shape: tuple[int, int]) -> Array:
    x = rng.normal(size=shape)
    if kind == 1:
        return np.abs(x) + 0.1
    if kind == 2:
        return np.where(rng.random(shape) < 0.1, 0.0, x * 10.0 ** rng.uniform(-6.0, 3.0, shape))
    return 0.02 * x if kind == 3 else x


@cache
def _fact(name: str) -> Array:
    """A fact of the probe networks, ``[probe]``."""
    if name == "depth":
        return np.array(_LAYERS, np.float64)
    rng = np.random.default_rng(len(STATISTICS) + list(NETWORK_FACTS).index(name))
    return np.asarray(np.floor(rng.uniform(10.0, 1e6, len(_LAYERS))))
