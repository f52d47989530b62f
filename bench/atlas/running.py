"""The joins that are no algebra of what is known of their branches: the VM runs them, as any program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...stats_cache.source import Source
from ...vm.evaluate import Evaluator
from ...vm.result import Status, judge
from .branches import Branches, Joins
from .order import Order
from .patterns import LAYERS, join_of, layered
from .ranks import CONSTANT, NONFINITE, OK, Ranks, rank_scores


def run_joins(
    joins: Joins,
    branches: Branches,
    source: Source,
    parts: Sequence[Sequence[int]],
    order: Order,
    backend: str,
) -> Ranks:
    """The ranks of joins, `Listing.joins`, on the ``parts`` of the networks of ``source``, and their scores."""
    roots = []
    for row in joins.tolist():
        node = join_of(branches, row)
        roots += [layered(branches.pool, node, layers) for layers in LAYERS]
    shape, everything = (len(joins), len(LAYERS)), range(len(source.networks))
    scores, scales = Evaluator(source, everything, backend_name=backend).scored(roots)
    made = rank_scores(scores.reshape(*shape, len(everything)), order)  # the scales say whether they differ
    for p, part in enumerate(parts):
        status = judge(scores[:, part], scales[:, part]).status.reshape(shape)
        made.status[:, :, p] = np.where(
            status == Status.OK, OK, np.where(status == Status.CONSTANT, CONSTANT, NONFINITE)
        )
    return made
