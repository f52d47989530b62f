"""The objectives by name, and how a run chooses one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.errors import ProxforgeError, nearest
from ..grammar.expr import Node
from . import measures
from .correlation import settled
from .objective import Factory, Metric, Objective

Array = NDArray[np.float64]

OBJECTIVES: Mapping[str, str] = {
    "jcm": "the Joint Correlation Metric of Auto-Prox: the weighted mean of Kendall's tau-b over the targets",
    "worst": "the smallest tau-b of the targets (the minimum of EZNAS)",
    "partial": "the weighted mean of tau-b given #params: what a program knows beyond size",
    "spearman": "the weighted mean of Spearman's rho",
    "top": "the weighted mean of the precision among the best: see 'share'",
}
"""Name -> one line about it. ``module:function`` or ``file.py:function`` is an objective of one's own, see `Custom`."""


@dataclass(frozen=True)
class Choice:
    """Which objective. ``weights``: of the targets, 1 where not given. ``share``: of the networks that are the best,
    for ``top``. ``penalty``: taken off for every op and leaf of a program."""

    name: str = "jcm"
    weights: Mapping[str, float] = field(default_factory=dict)
    share: float = 0.1
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if ":" not in self.name and self.name not in OBJECTIVES:
            hint = f"{nearest(self.name, OBJECTIVES)}; there are {', '.join(OBJECTIVES)}, or module:function"
            raise _config(f"no objective is called '{self.name[:80]}'{hint}")
        if not 0 < self.share <= 1:
            raise _config(f"the share of the best networks is {self.share}; expected a number above 0, 1 at most")
        if not 0 <= self.penalty < np.inf:
            raise _config(f"the penalty is {self.penalty}; expected a number of 0 or more")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"name": self.name, "weights": dict(self.weights), "share": self.share, "penalty": self.penalty}

    def factory(self) -> Factory:
        """The objective, for any networks. Raises ProxforgeError ``config`` for a function that cannot be had."""
        if ":" in self.name:
            function = _function(self.name)
            return lambda targets, facts: Custom(self.name, function, targets, facts)
        measure = {
            "jcm": measures.kendall,
            "worst": measures.kendall,
            "partial": measures.partial,
            "spearman": measures.rho,
            "top": measures.top(self.share),
        }[self.name]
        name = f"top {self.share:g}" if self.name == "top" else self.name

        def made(targets: Mapping[str, Array], facts: Mapping[str, Array]) -> Objective:
            worst = self.name == "worst"
            return Metric(name, measure, targets, facts, self.weights, worst=worst, penalty=self.penalty)

        return made


class Custom:
    """An objective of one's own: ``function(scores [A], targets {name: [A]}, facts {name: [A]})`` -> a number.

    ``facts``: the networks' own ``params``, ``flops``, ``depth``, ``width``. Larger is better; None or NaN: the program
    has no value.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], targets: Mapping[str, Array], facts: Mapping[str, Array]
    ) -> None:
        self._name, self._function, self._targets, self._facts = name, function, dict(targets), dict(facts)

    def __call__(self, scores: Array, programs: Sequence[Node] = ()) -> list[float | None]:
        """See `Objective`."""
        found = (self._function(row, self._targets, self._facts) for row in settled(scores))
        return [None if v is None or np.isnan(v) else float(v) for v in found]

    def describe(self) -> dict[str, Any]:
        """See `Objective.describe`."""
        return {"name": self._name, "targets": list(self._targets)}


class Sampled:
    """An objective on ``count`` of the networks, drawn anew for each program from (``seed``, its hash).

    So a program has one value, whenever it is asked for, and another one has other networks: the noise of the papers
    (50 networks an evaluation), repeatable. ``search``: what is known of all networks, for `describe`.
    """

    def __init__(
        self,
        factory: Factory,
        targets: Mapping[str, Array],
        facts: Mapping[str, Array],
        count: int,
        seed: int,
    ) -> None:
        self._size = len(next(iter(targets.values())))
        if not 2 <= count <= self._size:
            raise _config(f"{count} networks an evaluation; expected 2 to {self._size}, as many as the search part has")
        self._factory, self._targets, self._facts, self._count, self._seed = factory, targets, facts, count, seed
        self._whole = factory(targets, facts)

    def __call__(self, scores: Array, programs: Sequence[Node] = ()) -> list[float | None]:
        """See `Objective`; ``programs`` must be given."""
        found: list[float | None] = []
        for row, program in zip(scores, programs, strict=True):
            rng = np.random.default_rng([self._seed, int.from_bytes(program.digest, "little")])
            chosen = np.sort(rng.choice(self._size, self._count, replace=False))
            targets = {name: y[chosen] for name, y in self._targets.items()}
            if any(len(np.unique(y[~np.isnan(y)])) < 2 for y in targets.values()):
                found.append(None)
                continue
            facts = {name: values[chosen] for name, values in self._facts.items()}
            found += self._factory(targets, facts)(row[None, chosen], [program])
        return found

    def describe(self) -> dict[str, Any]:
        """See `Objective.describe`."""
        return {**self._whole.describe(), "networks": self._count, "networks_seed": self._seed}


def _function(name: str) -> Callable[..., Any]:
    """What ``module:function`` or ``file.py:function`` names."""
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            if spec is None or spec.loader is None:
                raise _config(f"the objective '{name[:200]}' is in no file that can be loaded")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except (ImportError, OSError, SyntaxError) as error:
        raise _config(f"the objective '{name[:200]}' cannot be loaded: {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise _config(f"'{place[:200]}' has no function '{attribute[:80]}'")
    return found  # type: ignore[no-any-return]


def _config(message: str) -> ProxforgeError:
    return ProxforgeError("config", message)
