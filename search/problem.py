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
from ..grammar.types import NETWORK_FACTS
from ..stats_cache.source import Source
from ..vm.evaluate import Evaluator
from ..vm.known import known_of
from ..vm.result import Result
from .objective import JCM, Factory, Objective, jcm
from .objectives import Sampled

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
    best programs of the run. ``objective``: targets and facts of some networks -> what is maximised there. ``known``:
    what the compiler may know of the statistics of the search part. ``valued``: whether a program is known to have a
    score on the search part, where that can be looked up: it is not analysed then. ``facts``: the networks' own, name
    -> float64 ``[A]`` of all networks. ``sample``: networks that judge one evaluation, drawn with ``sample_seed`` (see
    `Sampled`); None: the whole search part. ``about``: what else makes the run the one it is (benchmark, cache key,
    split seed, backend), as plain JSON.
    """

    evaluator: Callable[[Sequence[int]], Scores]
    targets: Mapping[str, Array]
    search: Sequence[int]
    test: Sequence[int]
    objective: Factory = jcm
    known: Callable[[], Known] = nothing_known
    valued: Callable[[Node], bool] | None = None
    facts: Mapping[str, Array] = field(default_factory=dict)
    sample: int | None = None
    sample_seed: int = 0
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
        objective: Factory | None = None,
        sample: int | None = None,
        sample_seed: int = 0,
        backend: str = "auto",
        device: str = "auto",
        about: Mapping[str, Any] | None = None,
    ) -> Problem:
        """An objective over ``targets``, the JCM with these weights if None, on the statistics of ``source``.

        ``split``: search part, test part. For the others see the class.
        """

        def evaluator(networks: Sequence[int]) -> Evaluator:
            return Evaluator(source, [int(i) for i in networks], backend_name=backend, device=device)

        def known() -> Known:
            return known_of(source, [int(i) for i in split[0]])

        facts = {f: np.array([getattr(n.size, f) for n in source.networks], np.float64) for f in NETWORK_FACTS}
        factory: Factory = (lambda chosen, _: JCM(chosen, weights)) if objective is None else objective
        return Problem(evaluator, targets, *split, factory, known, None, facts, sample, sample_seed, about or {})

    def judge(self, part: Sequence[int]) -> Objective:
        """The objective on some of the networks."""
        return self.objective(*self._on(part))

    def evaluated(self) -> Objective:
        """What an evaluation is: the objective on the search part, or on the networks drawn from it."""
        if self.sample is None:
            return self.judge(self.search)
        return Sampled(self.objective, *self._on(self.search), self.sample, self.sample_seed)

    def describe(self) -> dict[str, Any]:
        """What makes this problem the one it is, as plain JSON: ``about``, the targets' checksums, the two parts."""
        checksums = {n: hashlib.sha256(np.asarray(y, "<f8").tobytes()).hexdigest() for n, y in self.targets.items()}
        return {
            **self.about,
            "objective": self.evaluated().describe(),
            "targets": {name: checksum[:16] for name, checksum in checksums.items()},
            "networks": {"search": [int(i) for i in self.search], "test": [int(i) for i in self.test]},
        }

    def _on(self, part: Sequence[int]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Targets and facts of some of the networks."""
        index = np.asarray(part, np.intp)
        targets = {name: np.asarray(y, np.float64)[index] for name, y in self.targets.items()}
        return targets, {name: values[index] for name, values in self.facts.items()}
