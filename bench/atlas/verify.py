"""An atlas against the reference backend: programs drawn from those whose scores it keeps, run as any other program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar import reference
from ...grammar.errors import ProxforgeError
from ...grammar.expr import Node
from ...grammar.text import text
from ...search.correlation import kendall_many, settled
from ...stats_cache.source import Source
from ...vm.backends import reference as backend
from ...vm.compile import compile_nodes
from ...vm.evaluate import Evaluator
from ...vm.result import Status, judge
from .files import checksum, load, write_json
from .patterns import LAYERS
from .ranks import CONSTANT, LEFT_OUT, NONFINITE, OK, STATUSES
from .rescore import rescored, roots_of
from .store import Atlas
from .task import PARTS

Array = NDArray[np.float64]

TAU, SCORE = 1e-9, 1e-5
"""Allowed differences: of tau, and of scores relative to the largest of the program's scores."""
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
    the atlas differs from the reference because rounding is ranked: the cpu backend differs from the reference too,
    nothing differs once what is rounding of 0 is 0, or the atlas agrees with the reference's functions on longer
    numbers. ``tau``, ``score``: the largest differences of all others."""

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
    *,
    out: Path | None = None,
    workers: int = 1,
    told: Callable[[int, float], None] = lambda done, share: None,
) -> Verified:
    """Re-scores ``samples`` programs, of each join both layer reductions in turn, on all parts.

    ``source``, ``targets``: those that the atlas was built from. ``out``: a folder that keeps what was run, network by
    network, so that a verification that was stopped continues. ``workers``: processes; the result does not depend on
    them. ``told``: how many networks are done, and their share of the elements. Raises ProxforgeError ``atlas`` for a
    folder that holds another verification.
    """
    kept, scores = np.asarray(load(atlas.folder / "sample.npy")), load(atlas.folder / "scores.npy")
    rng = np.random.default_rng(seed)
    there = np.flatnonzero(atlas.status[kept, 0, 0] != LEFT_OUT)
    chosen = np.sort(rng.choice(there, min(samples, len(there)), replace=False))
    layers = rng.integers(0, len(LAYERS), len(chosen))
    near = _near(atlas, kept[chosen])
    chosen, layers = chosen[near], layers[near]
    rows = kept[chosen]
    with _begun(out, atlas, samples, seed) as folder:
        ran = rescored(atlas, source, rows, layers, folder, workers, told)
    parts = [atlas.manifest["parts"][part] for part in PARTS]
    known = np.stack([np.asarray(targets[name], np.float64) for name in atlas.targets])
    values = [np.ascontiguousarray(known[:, part]) for part in parts]
    wrong = np.zeros((len(parts), len(chosen)), np.bool_)
    worst = np.zeros((2, len(chosen)))
    found = Verified()
    for p, part in enumerate(parts):
        mine = np.asarray(scores[chosen, layers][:, part])
        expected = _scored(ran, part, values[p])
        status = atlas.status[rows, layers, p]
        taus = np.stack([atlas.taus([row], int(layer), p)[0] for row, layer in zip(rows, layers, strict=True)])
        both = (status == OK) & (expected.status == OK)
        tau = np.where(both[:, None], np.abs(taus - expected.taus), 0.0).max(axis=1)
        score = np.where(both, _apart(mine, expected.scores), 0.0)
        worst = np.maximum(worst, np.stack((tau, score)))
        wrong[p] = (status != expected.status) | (tau > TAU) | (score > SCORE)
        if p == len(parts) - 1:
            found.statuses = {name: int((status == code).sum()) for code, name in enumerate(STATUSES)}
    real = wrong.copy()
    places = np.flatnonzero(wrong.any(axis=0))
    roots = roots_of(atlas, rows[places], layers[places])
    again = Evaluator(source, range(len(source.networks)), backend_name="cpu").scored(roots)
    for p, part in enumerate(parts):
        mine = np.asarray(scores[chosen, layers][places][:, part])
        expected = _scored(ran, part, values[p]).of(places)
        real[p, places] &= ~_rounding(mine, expected, _scored(again, part, values[p]), values[p])
    for i in np.flatnonzero(real[:, places].any(axis=0))[:EXAMPLES].tolist():
        place, longer = places[i], _in_longer_numbers(source, roots[i])
        if longer is None:
            continue
        for p, part in enumerate(parts):
            exact = _scored((longer, ran[1][[place]]), part, values[p])
            mine = np.asarray(scores[chosen[place], layers[place]])[None, part]
            real[p, place] &= not _same(atlas, rows[place], int(layers[place]), p, mine, exact)
    _enter(found, atlas, rows, np.asarray(wrong.any(axis=0)), np.asarray(real.any(axis=0)), worst)
    found.examples = [text(roots[i]) for i in np.flatnonzero(real[:, places].any(axis=0))[:EXAMPLES]]
    return found


@contextmanager
def _begun(out: Path | None, atlas: Atlas, samples: int, seed: int) -> Iterator[Path]:
    """The folder of a verification, which says of what it is; without ``out`` one that is gone afterwards."""
    if out is None:
        with TemporaryDirectory(prefix="proxforge-") as made:
            yield Path(made)
        return
    code = [checksum(Path(str(module.__file__))) for module in (reference, backend)]
    settings = {
        "atlas": checksum(atlas.folder / "manifest.json"), "samples": samples, "seed": seed,
        "reference": code, "numpy": np.__version__,
    }  # fmt: skip
    place = out / "settings.json"
    out.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        if any(out.iterdir()):
            raise ProxforgeError("atlas", f"{out} holds something else; choose an empty folder for --out")
        write_json(place, settings)
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProxforgeError("atlas", f"cannot read {place}: {error}; choose an empty folder for --out") from None
    if kept != settings:
        message = f"{out} holds the verification of another atlas, of other samples, or by another version"
        raise ProxforgeError("atlas", message)
    yield out


def _near(atlas: Atlas, rows: NDArray[Any]) -> NDArray[np.intp]:
    """The order in which programs that share branches are near each other."""
    joins = np.asarray(atlas.joins[rows])
    return np.lexsort((joins[:, 1], joins[:, 2], joins[:, 1] // atlas.branches.each))


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


def _in_longer_numbers(source: Source, root: Node) -> Array | None:
    """Scores ``[1, A]`` by the reference's functions on 80-bit numbers; None where the machine has none, or an op of
    the program takes none."""
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        return None

    def longer(x: Array) -> Array:
        return reference.in_range(x.astype(np.longdouble))

    try:
        return backend.ReferenceBackend(source, range(len(source.networks)), longer).run(compile_nodes([root]))[0]
    except TypeError:  # numpy's decompositions
        return None


def _same(atlas: Atlas, row: int, layer: int, part: int, mine: Array, exact: _Scored) -> bool:
    """Whether the atlas has a program's status, taus and scores, within what is allowed."""
    if atlas.status[row, layer, part] != exact.status[0]:
        return False
    taus = atlas.taus([row], layer, part)[0]
    return bool(_apart(mine, exact.scores)[0] <= SCORE and np.abs(taus - exact.taus[0]).max() <= TAU)


def _enter(
    found: Verified, atlas: Atlas, rows: NDArray[Any], wrong: NDArray[np.bool_], real: NDArray[np.bool_], worst: Array
) -> None:
    found.programs = len(rows)
    joins = np.asarray(atlas.joins[rows])
    matrix = atlas.branches.matrix[np.delete(joins, np.s_[::3], axis=1)].sum(axis=1)
    found.kinds = {name: int((matrix == k).sum()) for k, name in enumerate(KINDS[atlas.space.branches])}
    found.undecided = int((wrong & ~real).sum())
    found.wrong = int(real.sum())
    if not wrong.all():
        found.tau, found.score = worst[:, ~wrong].max(axis=1).tolist()


def _scored(ran: tuple[Array, Array], part: Sequence[int], targets: Array) -> _Scored:
    """What `Evaluator.scored` gave, on some of the networks."""
    result = judge(*(np.ascontiguousarray(values[:, part]) for values in ran))
    status = np.array([_STATUS[Status(s)] for s in result.status.tolist()], np.int64)
    with np.errstate(invalid="ignore"):
        taus = kendall_many(settled(np.where((status == OK)[:, None], result.scores, 0.0)), targets)
    return _Scored(result.scores, status, taus)
