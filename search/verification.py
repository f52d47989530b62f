"""A run, checked: every value that it reports is computed again, from the text of the program, in float64."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grammar.canonical import canonical_pool, hash_of
from ..grammar.expr import Node
from ..grammar.parse import parse
from ..stats_cache.source import Source
from ..vm.result import Status
from .archive import Known
from .events import Event
from .front import front_of
from .objectives import Choice
from .problem import Problem, Scores
from .rundir import CONFIG, EVENTS, RESULT, RunError
from .scoring import outcomes

TOLERANCE = 0.005
"""By how much a value may differ: a backend that differs in a score's last digits may order close networks otherwise,
and one pair of 30 networks is 0.0046 of tau."""
AT_ONCE = 100
"""Programs between two reports of progress."""


@dataclass(frozen=True)
class Recorded:
    """What the files of a finished run say."""

    path: Path
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    events: Sequence[Event]


@dataclass(frozen=True)
class Verification:
    """``checked``: values computed again; ``largest_difference``: between reported and computed."""

    checked: int
    largest_difference: float
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as reported."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            "largest_difference": self.largest_difference,
            "problems": list(self.problems),
        }


def recorded(path: Path) -> Recorded:
    """The files of a run. RunError for a directory without a finished run."""
    try:
        config, result = (json.loads((path / name).read_text(encoding="utf-8")) for name in (CONFIG, RESULT))
        lines = (path / EVENTS).read_text(encoding="utf-8").splitlines()
        return Recorded(path, config, result, [Event.from_line(line) for line in lines])
    except OSError as error:
        raise RunError(f"{path} holds no finished run: {error.strerror or error} ({error.filename})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def problem_of(
    run: Recorded, source: Source, targets: Mapping[str, NDArray[np.float64]], backend: str = "reference"
) -> Problem:
    """What the run was searched on, from its configuration."""
    config = run.config
    try:
        sampled = config["objective"].get("networks")
        choice = Choice(**config["choice"])
        names, parts = list(config["targets"]), config["networks"]
        return Problem.of(
            source,
            {name: targets[name] for name in names},
            (parts["search"], parts["test"]),
            objective=choice.factory(),
            sample=sampled,
            sample_seed=config["objective"].get("networks_seed", 0),
            backend=backend,
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"the configuration in {run.path} is not one of a search: {error}") from error


def verify_run(
    run: Recorded,
    source: Source,
    targets: Mapping[str, NDArray[np.float64]],
    told: Callable[[int, int], None] | None = None,
) -> Verification:
    """Checks every event with a value or a status, the best program, the front and the counters."""
    problem = problem_of(run, source, targets)
    pool = canonical_pool()
    problems = [
        f"the targets differ: {name}"
        for name, checksum in problem.describe()["targets"].items()
        if run.config["targets"].get(name) != checksum
    ]
    problems += _counted(run)
    evaluated = [e for e in run.events if e.evaluated and e.formula is not None]
    largest, checked = 0.0, 0
    scores = problem.evaluator(problem.search)
    for start in range(0, len(evaluated), AT_ONCE):
        part = evaluated[start : start + AT_ONCE]
        nodes = [parse(e.formula, pool) for e in part if e.formula is not None]
        problems += [f"{e.formula}: hash {e.hash}" for e, n in zip(part, nodes, strict=True) if hash_of(n) != e.hash]
        for event, known in zip(part, outcomes(scores.run(nodes), problem.evaluated(), nodes), strict=True):
            difference, wrong = _compared(event.formula, event.jcm, event.status, known)
            largest, checked = max(largest, difference), checked + 1
            problems += wrong
        if told is not None:
            told(checked, len(evaluated))
    for what, formula, value, known in _final(run, problem, scores, [*_points(run)]):
        status = Status.OK.word if value is not None else known.status
        difference, wrong = _compared(f"{what} {formula}", value, status, known)
        largest, checked = max(largest, difference), checked + 1
        problems += wrong
    return Verification(checked, largest, tuple(problems))


def _compared(what: str | None, value: float | None, status: str, known: Known) -> tuple[float, list[str]]:
    if value is None or known.value is None:
        same = value is known.value and status == known.status
        return 0.0, [] if same else [f"{what}: reported {value} ({status}), computed {known.value} ({known.status})"]
    difference = abs(value - known.value)
    return difference, [] if difference <= TOLERANCE else [f"{what}: reported {value}, computed {known.value}"]


def _points(run: Recorded) -> Iterator[tuple[str, str, float | None, float | None]]:
    """What, formula, value on the search part and on the test part."""
    best = run.result["best"]
    if best is not None:
        yield "best", best["proxy"], best["jcm_search"], best["jcm_test"]
    for point in run.result["front"]:
        yield "front", point["proxy"], point["search"], point["test"]


def _final(
    run: Recorded, problem: Problem, scores: Scores, points: Sequence[tuple[str, str, float | None, float | None]]
) -> Iterator[tuple[str, str, float | None, Known]]:
    if not points:
        return
    pool = canonical_pool()
    nodes: list[Node] = [parse(formula, pool) for _, formula, _, _ in points]
    search = outcomes(scores.run(nodes), problem.judge(problem.search), nodes)
    test = outcomes(problem.evaluator(problem.test).run(nodes), problem.judge(problem.test), nodes)
    for (what, formula, on_search, on_test), s, t in zip(points, search, test, strict=True):
        yield f"{what} on the search part", formula, on_search, s
        yield f"{what} on the test part", formula, on_test, t


def _counted(run: Recorded) -> list[str]:
    """The counters, the best and the front against the events."""
    result, events = run.result, run.events
    scored = [e for e in events if e.evaluated]
    counts = {
        "evaluations": len(scored),
        "rejected": sum(e.status == "rejected" for e in events),
        "duplicates": sum(e.status == "duplicate" for e in events),
        "invalid": sum(e.jcm is None for e in scored),
    }
    problems = [f"{k}: reported {result[k]}, the events say {n}" for k, n in counts.items() if result[k] != n]
    front = [e.hash for e in front_of(scored)]
    if [p["hash"] for p in result["front"]] != front:
        problems.append("the front is not the one of the events")
    values = [e.jcm for e in scored if e.jcm is not None]
    best = next((e.hash for e in scored if values and e.jcm == max(values)), None)
    if (None if result["best"] is None else result["best"]["hash"]) != best:
        problems.append("the best program is not the best of the events")
    return problems
