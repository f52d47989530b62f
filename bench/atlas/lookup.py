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
from .patterns import LAYERS
from .ranks import CONSTANT, OK
from .store import Atlas, Found
from .task import PARTS

Array = NDArray[np.float64]

MEMORY = 500_000
"""Places of programs that are remembered at most."""


class AtlasScores:
    """Stands where an `Evaluator` does: the "scores" ``[P, networks]`` of a program are its JCM, in every column.

    ``part``: index of `PARTS`. ProxforgeError ``atlas`` for a program that the atlas does not have.
    """

    def __init__(self, atlas: Atlas, part: int) -> None:
        self._atlas, self._part = atlas, part
        self._known: dict[bytes, Found] = {}
        self._networks = len(atlas.manifest["parts"][PARTS[part]])

    def run(self, roots: Sequence[Node]) -> Result:
        """See `Evaluator.run`."""
        values, status = self.values(roots)
        scores = np.repeat(values[:, None], self._networks, axis=1)
        return Result(scores, status, np.zeros(len(roots), np.int64))

    def values(self, roots: Sequence[Node]) -> tuple[Array, NDArray[np.uint8]]:
        """The JCM of Scores, NaN where there is none, and their `Status`."""
        found = []
        for root in roots:
            place = self._find(root)
            if place is None:
                raise ProxforgeError("atlas", f"the atlas in {self._atlas.folder} has no program {root.digest.hex()}")
            found.append(place)
        join, layers, sign = np.array([(f.join, f.layers, f.sign) for f in found], np.int64).reshape(-1, 3).T
        codes = np.array([self._code(f) for f in found], np.uint8)
        values = np.full(len(roots), np.nan)
        for layer in range(len(LAYERS)):
            chosen = (codes == OK) & (layers == layer)
            values[chosen] = sign[chosen] * self._atlas.jcm(join[chosen], layer, self._part)
        status = np.select([codes == OK, codes == CONSTANT], [Status.OK, Status.CONSTANT], Status.NAN)
        return values, status.astype(np.uint8)

    def valued(self, root: Node) -> bool:
        """Whether the program is one of the atlas, with scores that order the networks of the part."""
        found = self._find(root)
        return found is not None and self._code(found) == OK

    def _find(self, root: Node) -> Found | None:
        found = self._known.get(root.digest)
        if found is None:
            found = self._atlas.lookup(root.digest)
            if found is not None:
                if len(self._known) >= MEMORY:
                    self._known.clear()
                self._known[root.digest] = found
        return found

    def _code(self, found: Found) -> int:
        return int(self._atlas.status[found.join, found.layers, self._part])


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
    made = [AtlasScores(atlas, part) for part in range(len(PARTS))]

    def scores(networks: Sequence[int]) -> AtlasScores:
        part = next((p for p, name in enumerate(PARTS) if atlas.manifest["parts"][name] == list(networks)), None)
        if part is None:
            raise ProxforgeError("atlas", f"the atlas knows its own search and test part, not {len(networks)} others")
        return made[part]

    about = {"atlas": atlas.manifest["source"], "benchmark": atlas.manifest["benchmark"]}
    valued = made[PARTS.index("search")].valued
    return Problem(scores, targets, search, test, lambda targets, facts: Looked(), valued=valued, about=about)
