"""What every program is measured against: the JCM of what looks at no statistic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...search.correlation import kendall_many, settled
from ...stats_cache.source import Source
from ...vm.compile import compile_text
from ...vm.evaluate import Evaluator
from ..proxies import BASELINES


def baselines(
    source: Source, targets: Mapping[str, NDArray[np.float64]], parts: Mapping[str, Sequence[int]], backend: str
) -> dict[str, dict[str, float | None]]:
    """The JCM of each of `BASELINES` on each part of the networks of ``source``; None where there is none."""
    roots = [compile_text(formula).node for formula in BASELINES]
    found: dict[str, dict[str, float | None]] = {name: {} for name in BASELINES}
    for part, networks in parts.items():
        scores = Evaluator(source, networks, backend_name=backend).run(roots).scores
        measured = np.stack([np.asarray(y, np.float64)[networks] for y in targets.values()])
        for name, tau in zip(BASELINES, kendall_many(settled(scores), measured).mean(axis=1).tolist(), strict=True):
            found[name][part] = None if np.isnan(tau) else tau
    return found
