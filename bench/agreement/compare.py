"""A backend against the float64 reference, program by program: digits and statuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.expr import Node, Pool, topological
from ...grammar.op import Form
from ...grammar.text import text
from ...stats_cache.source import Source
from ...vm.evaluate import Evaluator
from ...vm.result import Status
from .programs import every_op, hostile_sources, random_score
from .rounding import reference_run, rounding

Array = NDArray[np.float64]

BOUND = 1e-5
"""Of the largest score of the program: how far a backend may be from the reference."""
BATCH = 100
"""Programs that are run as one."""
LISTED = 100
"""Programs that disagree, in a report."""
RARE = 8
"""Of so many batches one is on large segments."""
MORE = range(40)
"""Disturbances that are tried before a program is said to disagree."""


@dataclass
class Agreement:
    """``programs``: source -> how many. ``statuses``: of those that agree. ``largest``: the largest difference of a
    score with a value, relative to the largest score of its program. ``rounding``: programs whose digits or status a
    disturbance of 1e-13 of every value turns into others, and whose difference it explains: nothing can agree there.
    ``wrong``: (source, text) of the others."""

    programs: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    largest: float = 0.0
    rounding: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; at most 100 programs that disagree are listed."""
        return {
            "programs": dict(self.programs),
            "statuses": dict(self.statuses),
            "largest": self.largest,
            "rounding": self.rounding,
            "disagree": len(self.wrong),
            "disagreeing": [{"source": s, "formula": t} for s, t in self.wrong[:LISTED]],
        }


def measure_agreement(
    backend: str, programs: int, seed: int = 0, bound: float = BOUND, told: Callable[[int], None] | None = None
) -> Agreement:
    """Every op on every hostile source, then random programs over all of them in turn."""
    found, rng = Agreement(), np.random.default_rng(seed)
    sources = hostile_sources()
    for name, source in sources.items():
        compare(found, name, source, every_op(Pool()), backend, bound)
    small = [name for name in sources if name != "edges"]
    for start in range(0, programs, BATCH):
        batch = start // BATCH
        name = "edges" if batch % RARE == RARE - 1 else small[batch % len(small)]
        pool = Pool()
        roots = [random_score(rng, pool) for _ in range(min(BATCH, programs - start))]
        compare(found, name, sources[name], roots, backend, bound)
        if told is not None:
            told(start + len(roots))
    return found


def compare(found: Agreement, name: str, source: Source, roots: Sequence[Node], backend: str, bound: float) -> None:
    """Takes one population on one source into what was found."""
    expected = reference_run(source, roots)
    run = Evaluator(source, range(len(source.networks)), backend_name=backend, device="cpu").run(roots)
    found.programs[name] += len(roots)
    with np.errstate(invalid="ignore"):
        error = np.where(np.isfinite(expected.scores), np.abs(expected.scores - run.scores), 0.0)
    scale = _scale(expected.scores)
    apart = _kinds(expected.scores, run.scores) | ~(error <= bound * scale[:, None]).all(axis=1)
    same = expected.status == run.status
    apart |= ~same
    for i, root in enumerate(roots):
        if not apart[i]:
            status = Status(int(expected.status[i]))
            found.statuses[status.word] += 1
            if status is Status.OK:
                found.largest = max(found.largest, float(error[i].max() / scale[i]))
        elif rounding_alone(root) or explained(
            source, root, expected.scores[[i]], run.scores[[i]], bool(same[i]), bound
        ):
            found.rounding += 1
        else:
            found.wrong.append((name, text(root)))


def rounding_alone(root: Node) -> bool:
    """Whether a part of it is a sum that is 0 by algebra: a backend may give 0, or what its rounding leaves."""
    sums = (n for n in topological([root]) if n.op.form is Form.REDUCE and n.facts.value == 0)
    return any(n.args[0].facts.zero_sum and n.args[0].facts.value is None for n in sums)


def explained(source: Source, root: Node, expected: Array, found: Array, same_status: bool, bound: float) -> bool:
    """Whether disturbances of the reference move one program's scores ``[1, A]`` as far, or across its status.

    The sign of a 0 may come out the same three times: a program disagrees when forty disturbances do not explain it.
    """
    for seeds in (range(3), MORE):
        noise, steady = rounding(source, [root], expected, seeds)
        with np.errstate(invalid="ignore"):
            error = np.where(np.isfinite(expected) & steady, np.abs(expected - found), 0.0)
        scale = _scale(np.where(steady, expected, 0.0))
        near = (error <= bound * scale[:, None] + noise).all() and not _kinds(expected, found, steady).any()
        certain = bool(steady.all() and noise.max() <= bound * scale[0])
        if near and (same_status or not certain):
            return True
    return False


def _scale(scores: Array) -> Array:
    """The largest finite score of each program, ``[P]``."""
    return np.asarray(np.where(np.isfinite(scores), np.abs(scores), 0.0).max(axis=1))


def _kinds(expected: Array, found: Array, steady: NDArray[np.bool_] | bool = True) -> NDArray[np.bool_]:
    """Where one is NaN or infinite and the other is not, ``[P]``."""
    kinds = (np.isnan, np.isposinf, np.isneginf)
    return np.asarray(np.any([steady & (kind(found) != kind(expected)) for kind in kinds], axis=(0, 2)))
