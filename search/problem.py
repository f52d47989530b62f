"""What is searched on: networks in two parts, what is known of them, and what scores programs on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..grammar.analysis import Known, nothing_known
from ..grammar.errors import ProxforgeError
from ..grammar.expr import Node
from ..stats_cache.source import Source
from ..vm.evaluate import Evaluator
from ..vm.known import known_of
from ..vm.result import Result
from .objective import JCM, Objective

Array = NDArray[np.float64]


class Scores(Protocol):
    """Runs programs on a fixed list of networks, as `vm.evaluate.Evaluator` does."""

    def run(self, roots: Sequence[Node]) -> Result:
        """Scores ``[P, A]`` and statuses ``[P]``."""
        ...


@dataclass(frozen=True, eq=False)
class Problem:
    """What is searched on.

    ``evaluator``: indices of networks -> what scores programs on them. ``targets``: name -> float64 ``[A]`` of all
    networks, NaN = not measured. ``search``, ``test``: indices of the two parts; the test part is scored once, for the
    best program of the run. ``objective``: targets on some networks -> what is maximised there. ``known``: what
    the compiler may know of the statistics of the search part. ``about``: what else
    makes the run the one it is (benchmark, cache key, split seed, backend), as plain JSON.
    """

    evaluator: Callable[[Sequence[int]], Scores]
    targets: Mapping[str, Array]
    search: Sequence[int]
    test: Sequence[int]
    objective: Callable[[Mapping[str, Array]], Objective] = JCM
    known: Callable[[], Known] = nothing_known
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shared = sorted(set(map(int, self.search)) & set(map(int, self.test)))
        if shared:
            raise ProxforgeError("config", f"the networks {shared[:5]} are in the search part and in the test part")

    @staticmethod
    def of(
        source: Source,
        targets: Mapping[str, Array],
        split: tuple[Sequence[int], Sequence[int]],
        *,
        weights: Mapping[str, float] | None = None,
        backend: str = "auto",
        device: str = "auto",
        about: Mapping[str, Any] | None = None,
    ) -> Problem:
        """The JCM of ``targets`` on the statistics of ``source``; ``split``: search part, test part."""

        def evaluator(networks: Sequence[int]) -> Evaluator:
            return Evaluator(source, [int(i) for i in networks], backend_name=backend, device=device)

        def known() -> Known:
            return known_of(source, [int(i) for i in split[0]])

        return Problem(evaluator, targets, *split, lambda chosen: JCM(chosen, weights), known, about or {})

    def judge(self, part: Sequence[int]) -> Objective:
        """The objective on some of the networks."""
        index = np.asarray(part, np.intp)
        return self.objective({name: np.asarray(y, np.float64)[index] for name, y in self.targets.items()})

    def describe(self) -> dict[str, Any]:
        """What makes this problem the one it is, as plain JSON: ``about``, the targets' checksums, the two parts."""
        checksums = {n: hashlib.sha256(np.asarray(y, "<f8").tobytes()).hexdigest() for n, y in self.targets.items()}
        return {
            **self.about,
            "objective": self.judge(self.search).describe(),
            "targets": {name: checksum[:16] for name, checksum in checksums.items()},
            "networks": {"search": [int(i) for i in self.search], "test": [int(i) for i in self.test]},
        }
