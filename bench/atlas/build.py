"""Builds an atlas in steps, each kept in the folder: what was done before a build was stopped is not done again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError
from ...vm.blas import one_blas_thread
from .baselines import baselines
from .branches import Branches, Joins
from .files import checksum, load, save, write_json
from .listing import DIVIDE, Listing, check_space, list_programs
from .meetings import meeting
from .order import Order
from .patterns import LAYERS
from .ranks import LEFT_OUT, Ranks, rank_joins, rank_sums
from .running import run_joins
from .task import PARTS, Task
from .values import Values, branch_values, counted, starts_of, stored_values
from .worker import can_work, meetings_of, met, place_of

Array = NDArray[np.float64]
Told = Callable[[str, float], None]

Block = tuple[Ranks, NDArray[np.int64]]
"""The ranks of some joins, ascending, and those of them that have to be run."""
BLOCK = 1 << 17
"""Joins that are ranked at once."""
SAMPLE, OF_MATRICES = 20_000, 5_000
"""Joins whose scores are kept, drawn evenly; and more of those of two matrices."""


class Building:
    """One build in a folder. ``threads``: that rank and join. ``told``: a text and the share of the step done."""

    def __init__(self, task: Task, out: Path, threads: int, backend: str, told: Told) -> None:
        check_space(task.space)
        self._task, self._out, self._threads, self._backend, self._told = task, out, threads, backend, told
        self._work = out / "work"
        self._seconds: dict[str, float] = {}
        self._ran = 0
        self._branches = Branches.of(task.space)
        self._starts = starts_of(task.source)
        self._counted = counted(task.source, self._branches)
        self._order = Order.of([np.asarray(y, np.float64) for y in task.targets.values()], task.parts)
        for name, untied in zip(task.targets, self._order.untied.T, strict=True):
            if not untied.all():
                raise ProxforgeError("config", f"the target '{name}' orders no two networks of one part of the split")

    def run(self) -> dict[str, Any]:
        """Builds what is missing; the counts, the seconds of each step and the bytes."""
        self._claim()
        listing = self._timed("programs", self._listing)
        self._compute(listing.joins)
        self._timed("run", lambda: self._run_left(listing.joins))
        self._timed("files", lambda: self._finish(listing))
        shutil.rmtree(self._work)
        return self._summary(listing)

    def _compute(self, joins: Joins) -> None:
        """The ranks of all joins, in files for `_finish`."""
        values = self._timed("branches", self._values)
        both = self._meeting(joins)
        if self._task.products:
            self._timed("matrices", self._meet)
        sums = [load(place) for place in sorted(self._work.glob("network_*.npy"))]

        def block(rows: NDArray[np.int64], keep: bool) -> Block:
            return self._block(joins, rows, values, both, sums, keep=keep)

        self._timed("ranks", lambda: self._rank(joins, both, block))

    def _timed(self, name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = step()
        self._seconds[name] = round(time.perf_counter() - began, 2)
        return found

    def _claim(self) -> None:
        """The folder is new, or of a build with the same settings."""
        self._work.mkdir(parents=True, exist_ok=True)
        place = self._work / "settings.json"
        wanted = json.loads(json.dumps(self._task.settings()))
        if (place.exists() and json.loads(place.read_text()) != wanted) or (self._out / "manifest.json").exists():
            raise ProxforgeError("atlas", f"{self._out} holds another atlas, or a finished one; choose another folder")
        write_json(place, wanted)

    def _listing(self) -> Listing:
        names = ("joins", *(f"programs_{layers}" for layers in LAYERS))
        if not (self._out / "joins.npy").exists():
            made = self._listed(lambda share: self._told("programs", share))
            for layers, array in zip(LAYERS, made.programs, strict=True):
                chosen = array if layers in self._task.layers else array[:0]
                save(self._out / f"programs_{layers}.npy", chosen)
            save(self._out / "joins.npy", made.joins)
        joins, *programs = (load(self._out / f"{name}.npy") for name in names)
        return Listing(tuple(programs), np.asarray(joins))

    def _listed(self, told: Callable[[float], None]) -> Listing:
        return list_programs(self._task.space, self._branches, told)

    def _values(self) -> Values:
        places = {name: self._work / f"{name}.npy" for name in ("values", "largest", "moments")}
        ops_place = self._work / "moments.json"
        if not ops_place.exists():
            networks = range(len(self._task.source.networks))
            made = branch_values(
                self._task.source, networks, self._branches, self._backend, lambda share: self._told("branches", share)
            )
            save(places["values"], made.values)
            save(places["largest"], made.largest)
            save(places["moments"], np.stack(list(made.moments.values())))
            write_json(ops_place, [list(key) for key in made.moments])
        return stored_values(self._work)

    def _meeting(self, joins: Joins) -> NDArray[np.int64]:
        """The joins whose sums over the layers are in files, see `_meet`."""
        return meeting(joins, self._branches)

    def _meet(self) -> None:
        """A file for each network."""
        count = len(self._task.source.networks)
        left = [i for i in range(count) if not place_of(self._out, i).exists()]
        if not left:
            return
        if can_work(self._task.source, self._task.space):
            with met(self._task, self._out, left, min(self._threads, len(left))) as networks:
                for done, _ in enumerate(networks, 1 + count - len(left)):
                    self._told("matrices", done / count)
            return
        with one_blas_thread():
            meetings = meetings_of(self._task.source, self._task.space, self._out)
            for network in left:
                save(place_of(self._out, network), meetings.of(network, network))
                self._told("matrices", (network + 1) / count)

    def _each(self, function: Callable[[int], None], items: Sequence[int]) -> None:
        with one_blas_thread(), ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(function, items):
                pass

    def _rank(self, joins: Joins, both: NDArray[np.int64], block: Callable[[NDArray[np.int64], bool], Block]) -> None:
        """A file for each block of joins."""
        sample = self._sample(len(joins), both)
        blocks = range(0, len(joins), BLOCK)
        done = 0

        def one(start: int) -> None:
            nonlocal done
            place = self._work / f"block_{start:09}.npz"
            if not place.exists():
                rows = np.arange(start, min(start + BLOCK, len(joins)))
                made, left = block(rows, False)
                mine = sample[(sample >= rows[0]) & (sample <= rows[-1])]
                scores = block(mine, True)[0].scores
                save(place, left=left, status=made.status, agree=made.agree, untied=made.untied, scores=scores)
            done += 1
            self._told("ranks", done / len(blocks))

        self._each(one, blocks)

    def _run_left(self, joins: Joins) -> None:
        """A file of the joins that are no algebra: run together, they share their work."""
        place = self._work / "left.npz"
        self._told("run", 0.0)
        if not place.exists():
            rows = self._joined("left")
            made = self._run(joins[rows])
            save(place, left=rows, status=made.status, agree=made.agree, untied=made.untied, scores=made.scores)
        self._ran = len(np.load(place)["left"])

    def _run(self, joins: Joins) -> Ranks:
        return run_joins(joins, self._branches, self._task.source, self._task.parts, self._order, self._backend)

    def _joined(self, name: str) -> NDArray[Any]:
        """An array of all blocks."""
        return np.concatenate([np.load(place)[name] for place in sorted(self._work.glob("block_*.npz"))])

    def _sample(self, joins: int, both: NDArray[np.int64]) -> NDArray[np.int64]:
        """The joins whose scores are kept."""
        rng = np.random.default_rng(0)
        even = rng.choice(joins, min(SAMPLE, joins), replace=False)
        return np.unique(np.concatenate((even, rng.choice(both, min(OF_MATRICES, len(both)), replace=False))))

    def _block(
        self, joins: Joins, rows: NDArray[np.int64], values: Values, both: NDArray[np.int64],
        sums: Sequence[NDArray[Any]], *, keep: bool,
    ) -> Block:  # fmt: skip
        """``keep``: with scores."""
        made = Ranks.room(len(rows), len(LAYERS), self._order, keep)
        doubtful = np.zeros(len(rows), np.bool_)
        met, among, place = np.intersect1d(rows, both, assume_unique=True, return_indices=True)
        divided = (joins[rows, 0] == DIVIDE) & self._branches.matrix[joins[rows, 2]]
        made.status[divided] = LEFT_OUT
        others = np.setdiff1d(np.flatnonzero(~divided), among, assume_unique=True)
        if len(others):
            found, doubtful[others] = rank_joins(
                np.ascontiguousarray(joins[rows[others]]), values.values, values.largest, self._counted,
                self._branches.matrix, self._starts, self._order, keep,
            )  # fmt: skip
            _put(made, others, found)
        if not self._task.products:
            made.status[among] = LEFT_OUT
        elif len(met):
            read = np.stack([network[place[0] : place[-1] + 1][place - place[0]] for network in sums])
            total, highest, size = (np.ascontiguousarray(read[n], np.float64) for n in ("total", "highest", "size"))
            _put(made, among, rank_sums(total, highest, size, self._starts, self._order, keep))
            finite = np.isfinite(total)
            doubtful[among] = np.any(
                [(read["doubtful"] & finite)[part].any(axis=0) & finite[part].all(axis=0) for part in self._task.parts],
                axis=0,
            )
        return made, rows[doubtful]

    def _finish(self, listing: Listing) -> None:
        """One file of each kind, of all blocks."""
        sample = self._sample(len(listing.joins), self._meeting(listing.joins))
        run = np.load(self._work / "left.npz")
        _, kept, of_run = np.intersect1d(sample, run["left"], assume_unique=True, return_indices=True)
        for done, name in enumerate(("status", "agree", "untied", "scores")):
            array = self._joined(name)
            if name == "scores":
                array[kept] = run[name][of_run]
            else:
                array[run["left"]] = run[name]
            save(self._out / f"{name}.npy", array)
            self._told("files", (1 + done) / 4)
        save(self._out / "sample.npy", sample)
        names = ("joins", *(f"programs_{layers}" for layers in LAYERS), "status", "agree", "untied", "sample", "scores")
        manifest = {
            **self._task.settings(),
            "targets": list(self._task.targets),
            "masks": list(self._order.mask),
            "pairs": self._order.untied.tolist(),
            "counts": self._counts(listing),
            "baselines": baselines(
                self._task.source, self._task.targets, dict(zip(PARTS, self._task.parts, strict=True)), self._backend
            ),
            "seconds": self._seconds,
            "files": {f"{name}.npy": checksum(self._out / f"{name}.npy") for name in names},
        }
        write_json(self._out / "manifest.json", manifest)

    def _counts(self, listing: Listing) -> dict[str, Any]:
        space = self._task.space
        counts = {
            layers: {"valid": int(programs["many"].sum(dtype=np.int64)), "distinct": len(programs)}
            for layers, programs in zip(LAYERS, listing.programs, strict=True)
            if layers in self._task.layers
        }
        return {
            "raw": space.size(),
            "typed": space.typed_size(),
            "joins": len(listing.joins),
            "run": self._ran,
            **counts,
        }

    def _summary(self, listing: Listing) -> dict[str, Any]:
        size = sum(place.stat().st_size for place in self._out.iterdir())
        return {**self._counts(listing), "seconds": self._seconds, "bytes": size}


def _put(made: Ranks, rows: NDArray[np.int64], found: Ranks) -> None:
    for name in ("status", "agree", "untied"):
        getattr(made, name)[rows] = getattr(found, name)
    if len(made.scores):
        made.scores[rows] = found.scores
