"""Programs -> their outcomes: what runs them, and the objective that judges their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..grammar.expr import Node
from ..vm.result import Result, Status
from .archive import Known
from .objective import Objective


def outcomes(result: Result, objective: Objective, programs: Sequence[Node]) -> list[Known]:
    """Value and status of every program of a run; a score that orders no two networks of a target is constant."""
    valid = np.flatnonzero(result.status == Status.OK).tolist()
    values: dict[int, float | None] = {}
    if valid:
        found = objective(result.scores[valid], [programs[i] for i in valid])
        values = dict(zip(valid, found, strict=True))
    known = []
    for i, status in enumerate(result.status):
        value = values.get(i)
        undefined = status == Status.OK and value is None
        known.append(Known(value, Status.CONSTANT.word if undefined else Status(status).word))
    return known
