"""Which digits of a score mean anything: the reference run again with every intermediate value slightly off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...grammar.expr import Node
from ...grammar.reference import in_range
from ...stats_cache.source import Source
from ...vm.backends.reference import ReferenceBackend
from ...vm.compile import compile_nodes
from ...vm.evaluate import Evaluator
from ...vm.result import Result

Array = NDArray[np.float64]

NOISE = 1e-13
"""The largest relative disturbance of a value."""
SAFETY = 100.0
"""A score may differ by so many times what the disturbances moved it."""


def reference_run(source: Source, nodes: Sequence[Node]) -> Result:
    """The float64 reference over all networks of the source."""
    return Evaluator(source, range(len(source.networks)), backend_name="reference").run(nodes)


def rounding(
    source: Source, nodes: Sequence[Node], expected: Array, seeds: Iterable[int] = range(3)
) -> tuple[Array, NDArray[np.bool_]]:
    """(how far rounding may move each score ``[P, A]``, whether each stays finite or non-finite throughout)."""
    program, networks = compile_nodes(nodes), range(len(source.networks))
    moved = []
    for seed in seeds:
        rng = np.random.default_rng(seed)

        def noisy(x: Array, rng: np.random.Generator = rng) -> Array:
            return in_range(x * (1.0 + NOISE * rng.uniform(-1.0, 1.0, np.shape(x))))

        moved.append(ReferenceBackend(source, networks, noisy).run(program)[0])
    steady = np.asarray((np.isfinite(moved) == np.isfinite(expected)).all(axis=0))
    finite = np.isfinite(expected) & steady
    with np.errstate(invalid="ignore"):
        return np.where(finite, SAFETY * np.abs(np.stack(moved) - expected).max(axis=0), 0.0), steady
