"""Whether a backend agrees with the float64 reference, on digits and on statuses."""

from __future__ import annotations

import numpy as np

from proxforge.grammar.expr import Node, Pool, topological
from proxforge.grammar.op import Form
from proxforge.grammar.text import text
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.result import Status
from tests.rounding import reference_run, rounding


def agree(name: str, source, nodes: list[Node], bound: float) -> int:
    """The backend's scores are the reference's, to ``bound`` of the largest, beyond what rounding can do to them.

    A score that a disturbance of 1e-13 turns into another (a sum that cancels, the sign of a 0) has no digits to agree
    on, and its status may be either. Returns how many programs have a score and were compared.
    """
    nodes = [n for n in nodes if not _rounding_alone(n)] or [Pool().score(Pool().statistic("qkv.w"))]
    expected = reference_run(source, nodes)
    found = Evaluator(source, range(len(source.networks)), backend_name=name).run(nodes)
    noise, steady = rounding(source, nodes, expected.scores)
    wrong = _wrong(found.scores, expected.scores, noise, steady, bound)
    for i in np.flatnonzero(wrong):  # the sign of a 0 came out the same three times, perhaps
        more = rounding(source, [nodes[i]], expected.scores[[i]], range(40))
        noise[i], steady[i] = more[0][0], more[1][0]
    wrong = _wrong(found.scores, expected.scores, noise, steady, bound)
    assert not wrong.any(), [(text(nodes[i]), expected.scores[i], found.scores[i]) for i in np.flatnonzero(wrong)]
    certain = steady.all(axis=1) & (noise.max(axis=1) < bound * _scale(expected.scores, steady)[:, 0])
    np.testing.assert_array_equal(found.status[certain], expected.status[certain])
    return int((certain & (expected.status == Status.OK)).sum())


def _rounding_alone(root: Node) -> bool:
    """Whether a part of it is a sum that is 0 by algebra: a backend may give 0, or what its rounding leaves."""
    sums = (n for n in topological([root]) if n.op.form is Form.REDUCE and n.facts.value == 0)
    return any(n.args[0].facts.zero_sum and n.args[0].facts.value is None for n in sums)


def _scale(expected: np.ndarray, steady: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(expected) & steady, np.abs(expected), 0.0).max(axis=1, keepdims=True)


def _wrong(found: np.ndarray, expected: np.ndarray, noise: np.ndarray, steady: np.ndarray, bound: float) -> np.ndarray:
    """Which programs differ, ``[P]``."""
    with np.errstate(invalid="ignore"):
        error = np.where(np.isfinite(expected) & steady, np.abs(expected - found), 0.0)
    kinds = [np.isnan, np.isposinf, np.isneginf]
    other = np.any([steady & (kind(found) != kind(expected)) for kind in kinds], axis=0)
    return np.asarray((other | (error > bound * _scale(expected, steady) + noise)).any(axis=1))
