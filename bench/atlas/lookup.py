"""A search in a space with an atlas evaluates nothing: its values are looked up by canonical hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.errors import ProxforgeError
from ...grammar.expr import Node
from ...search.problem import Problem
from ...vm.result import Result, Status
from .build import PARTS
from .ranks import CONSTANT, OK
from .store import Atlas

Array = NDArray[np.float64]


class AtlasScores:
    """Stands where an `Evaluator` does: the "scores" ``[P, networks]`` of a program are its JCM, in every column.

    ``part``: index of `PARTS`. ProxforgeError ``atlas`` for a program that the atlas does not have.
    """

    def __init__(self, atlas: Atlas, part: int) -> None:
        self._atlas, self._part = atlas, part
        self._networks = len(atlas.manifest["parts"][PARTS[part]])

    def run(self, roots: Sequence[Node]) -> Result:
        """See `Evaluator.run`."""
        values, status = self.values(roots)
        scores = np.repeat(values[:, None], self._networks, axis=1)
        return Result(scores, status, np.zeros(len(roots), np.int64))

    def values(self, roots: Sequence[Node]) -> tuple[Array, NDArray[np.uint8]]:
        """The JCM of Scores, NaN where there is none, and their `Status`."""
        values, status = np.full(len(roots), np.nan), np.zeros(len(roots), np.uint8)
        for i, root in enumerate(roots):
            found = self._atlas.lookup(root.digest)
            if found is None:
                raise ProxforgeError("atlas", f"the atlas in {self._atlas.folder} has no program {root.digest.hex()}")
            code = int(self._atlas.status[found.join, found.layers, self._part])
            if code == OK:
                values[i] = found.sign * float(self._atlas.jcm([found.join], found.layers, self._part)[0])
            else:
                status[i] = Status.CONSTANT if code == CONSTANT else Status.NAN
        return values, status


class Looked:
    """The objective that reads a JCM out of what `AtlasScores` gives."""

    def __call__(self, scores: Array, programs: Sequence[Node] = ()) -> list[float | None]:
        """The JCM of every row; None where tau with one of the targets is undefined."""
        return [None if np.isnan(row[0]) else float(row[0]) for row in scores]

    def describe(self) -> dict[str, Any]:
        """See `Objective.describe`."""
        return {"name": "jcm", "from": "atlas"}


def problem_of(atlas: Atlas, targets: Mapping[str, Array]) -> Problem:
    """The problem whose values the atlas holds. ``targets``: those that it was built from."""
    search, test, _ = (atlas.manifest["parts"][part] for part in PARTS)

    def scores(networks: Sequence[int]) -> AtlasScores:
        part = next((p for p, name in enumerate(PARTS) if atlas.manifest["parts"][name] == list(networks)), None)
        if part is None:
            raise ProxforgeError("atlas", f"the atlas knows its own search and test part, not {len(networks)} others")
        return AtlasScores(atlas, part)

    about = {"atlas": atlas.manifest["source"], "benchmark": atlas.manifest["benchmark"]}
    return Problem(scores, targets, search, test, lambda targets, facts: Looked(), about=about)
