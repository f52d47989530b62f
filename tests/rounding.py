"""Which digits of a score mean anything: the reference run again with every intermediate value slightly off."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.grammar.expr import Node
from proxforge.grammar.reference import in_range
from proxforge.vm.backends import reference
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.result import Result

NOISE = 1e-13
"""The largest relative disturbance of a value."""


def reference_run(source, nodes: list[Node]) -> Result:
    """The float64 reference over all networks of the source."""
    return Evaluator(source, range(len(source.networks)), backend_name="reference").run(nodes)


def rounding(source, nodes: list[Node], expected: np.ndarray, seeds=range(3)) -> tuple[np.ndarray, np.ndarray]:
    """(how far rounding may move each score ``[P, A]``, whether each stays finite or non-finite throughout)."""
    moved = []
    for seed in seeds:
        rng = np.random.default_rng(seed)

        def noisy(x, rng=rng):
            return in_range(x * (1.0 + NOISE * rng.uniform(-1.0, 1.0, np.shape(x))))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "in_range", noisy)
            moved.append(reference_run(source, nodes).scores)
    steady = (np.isfinite(moved) == np.isfinite(expected)).all(axis=0)
    finite = np.isfinite(expected) & steady
    with np.errstate(invalid="ignore"):
        return np.where(finite, 100.0 * np.abs(np.stack(moved) - expected).max(axis=0), 0.0), steady
