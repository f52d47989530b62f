"""An atlas against the reference backend: programs drawn from those whose scores it keeps, run as any other program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.text import text
from ...search.correlation import kendall_many, settled
from ...stats_cache.source import Source
from ...vm.evaluate import Evaluator
from ...vm.result import Status, judge
from .files import load
from .patterns import LAYERS, join_of, layered
from .ranks import CONSTANT, LEFT_OUT, NONFINITE, OK, STATUSES
from .store import Atlas
from .task import PARTS

Array = NDArray[np.float64]

TAU, SCORE = 1e-9, 1e-5
"""Allowed differences: of tau, and of scores relative to the largest of the program's scores."""
AT_ONCE = 2_000
"""Programs that are run together: what they share is computed once."""
NOTHING = 1e-12
"""Scores that small against the largest of a program are rounding of 0."""
KINDS = {
    2: ("two Scalars", "a matrix and a Scalar", "two matrices"),
    3: ("three Scalars", "a matrix and two Scalars", "two matrices and a Scalar", "three matrices"),
}
"""Joins by the number of branches, and of matrices among these."""
EXAMPLES = 20
_STATUS = {Status.OK: OK, Status.CONSTANT: CONSTANT, Status.NAN: NONFINITE, Status.INF: NONFINITE}


@dataclass
class Verified:
    """``programs`` checked, by `KINDS` in ``kinds``. ``wrong``: their number, ``examples`` some of them. ``undecided``:
    the atlas differs from the reference because rounding is ranked: the cpu backend differs from the reference too, or
    nothing differs once what is rounding of 0 is 0. ``tau``, ``score``: the largest differences of all others."""

    programs: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    wrong: int = 0
    undecided: int = 0
    tau: float = 0.0
    score: float = 0.0
    examples: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def verify(
    atlas: Atlas,
    source: Source,
    targets: Mapping[str, Array],
    samples: int,
    seed: int = 0,
    told: Callable[[float], None] = lambda share: None,
) -> Verified:
    """Re-scores ``samples`` programs, of each join both layer reductions in turn, on all parts.

    ``source``, ``targets``: those that the atlas was built from.
    """
    kept, scores = np.asarray(load(atlas.folder / "sample.npy")), load(atlas.folder / "scores.npy")
    rng = np.random.default_rng(seed)
    there = np.flatnonzero(atlas.status[kept, 0, 0] != LEFT_OUT)
    chosen = np.sort(rng.choice(there, min(samples, len(there)), replace=False))
    parts = [atlas.manifest["parts"][part] for part in PARTS]
    known = np.stack([np.asarray(targets[name], np.float64) for name in atlas.targets])
    values = [np.ascontiguousarray(known[:, part]) for part in parts]
    everything = range(len(source.networks))
    reference, other = (Evaluator(source, everything, backend_name=name) for name in ("reference", "cpu"))
    found = Verified(kinds=dict.fromkeys(KINDS[atlas.space.branches], 0))
    for start in range(0, len(chosen), AT_ONCE):
        few = chosen[start : start + AT_ONCE]
        rows = kept[few]
        layers = rng.integers(0, len(LAYERS), len(few))
        roots = [_root(atlas, int(row), LAYERS[layer]) for row, layer in zip(rows, layers, strict=True)]
        wrong = np.zeros((len(parts), len(few)), np.bool_)
        worst = np.zeros((2, len(few)))
        ran = reference.scored(roots)
        for p, part in enumerate(parts):
            mine = np.asarray(scores[few, layers][:, part])
            expected = _scored(ran, part, values[p])
            status = atlas.status[rows, layers, p]
            taus = np.stack([atlas.taus([row], int(layer), p)[0] for row, layer in zip(rows, layers, strict=True)])
            both = (status == OK) & (expected.status == OK)
            tau = np.where(both[:, None], np.abs(taus - expected.taus), 0.0).max(axis=1)
            score = np.where(both, _apart(mine, expected.scores), 0.0)
            worst = np.maximum(worst, np.stack((tau, score)))
            wrong[p] = (status != expected.status) | (tau > TAU) | (score > SCORE)
            if p == len(parts) - 1:
                for code, name in enumerate(found.statuses):
                    found.statuses[name] += int((status == code).sum())
        real = wrong.copy()
        places = np.flatnonzero(wrong.any(axis=0))
        again = other.scored([roots[i] for i in places])
        for p, part in enumerate(parts):
            mine = np.asarray(scores[few, layers][places][:, part])
            expected = _scored(ran, part, values[p]).of(places)
            real[p, places] &= ~_rounding(mine, expected, _scored(again, part, values[p]), values[p])
        _enter(found, atlas, rows, np.asarray(wrong.any(axis=0)), np.asarray(real.any(axis=0)), worst, roots)
        told(min(1.0, (start + AT_ONCE) / len(chosen)))
    return found


@dataclass(frozen=True, eq=False)
class _Scored:
    """Programs as a backend scores them: ``scores`` ``[P, A]``, ``status`` as those of `ranks`, ``taus`` by target."""

    scores: Array
    status: NDArray[np.int64]
    taus: Array

    def of(self, places: NDArray[np.intp]) -> _Scored:
        """Some of the programs."""
        return _Scored(self.scores[places], self.status[places], self.taus[places])


def _apart(scores: Array, others: Array) -> Array:
    """The largest difference of each program's scores, relative to the largest of the others; NaN if not finite."""
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(others).max(axis=1), np.finfo(np.float32).tiny)
        return np.asarray(np.abs(scores - others).max(axis=1) / size)


def _rounding(mine: Array, expected: _Scored, again: _Scored, targets: Array) -> NDArray[np.bool_]:
    """Whether rounding alone makes the difference.

    It does where two backends differ as well, where the atlas's scores differ from the reference's as much as from 0,
    and where nothing is left of the difference once scores that are nothing against the largest are 0.
    """
    found = (expected.status != again.status) | (_apart(again.scores, expected.scores) > SCORE)
    found |= ~(np.abs(again.taus - expected.taus).max(axis=1) <= TAU)
    apart = _apart(mine, expected.scores)
    found |= (expected.status == OK) & (apart > 0.1) & (np.abs(expected.scores).max(axis=1) < NOTHING)
    with np.errstate(invalid="ignore"):
        sizes = np.abs(expected.scores).max(axis=1, keepdims=True)
        small = np.abs(expected.scores) <= NOTHING * sizes
    clean = (np.where(small, 0.0, s) for s in (mine, expected.scores))
    taus = [kendall_many(settled(s), targets) for s in clean]
    same = (np.abs(taus[0] - taus[1]).max(axis=1) <= TAU) & (apart <= SCORE)
    return np.asarray(found | ((small & (expected.scores != 0)).any(axis=1) & same))


def _enter(
    found: Verified, atlas: Atlas, rows: NDArray[Any], wrong: NDArray[np.bool_], real: NDArray[np.bool_],
    worst: Array, roots: Sequence[Any],
) -> None:  # fmt: skip
    found.programs += len(rows)
    joins = np.asarray(atlas.joins[rows])
    matrix = atlas.branches.matrix[np.delete(joins, np.s_[::3], axis=1)].sum(axis=1)
    for k, name in enumerate(found.kinds):
        found.kinds[name] += int((matrix == k).sum())
    found.undecided += int((wrong & ~real).sum())
    found.wrong += int(real.sum())
    found.examples += [text(roots[i]) for i in np.flatnonzero(real)[: EXAMPLES - len(found.examples)]]
    if not wrong.all():
        tau, score = worst[:, ~wrong].max(axis=1).tolist()
        found.tau, found.score = max(found.tau, tau), max(found.score, score)


def _root(atlas: Atlas, row: int, layers: str) -> Any:
    return layered(atlas.branches.pool, join_of(atlas.branches, atlas.joins[row].tolist()), layers)


def _scored(ran: tuple[Array, Array], part: Sequence[int], targets: Array) -> _Scored:
    """What `Evaluator.scored` gave, on some of the networks."""
    result = judge(*(np.ascontiguousarray(values[:, part]) for values in ran))
    status = np.array([_STATUS[Status(s)] for s in result.status.tolist()], np.int64)
    with np.errstate(invalid="ignore"):
        taus = kendall_many(settled(np.where((status == OK)[:, None], result.scores, 0.0)), targets)
    return _Scored(result.scores, status, taus)
