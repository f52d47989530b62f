"""An atlas of a space with division and inner products, against plain enumeration by the reference backend."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.bench.atlas.listing import DIVIDE
from proxforge.bench.atlas.ranks import CONSTANT, LEFT_OUT, NONFINITE, OK
from proxforge.bench.atlas.store import Atlas
from proxforge.bench.atlas.task import Task
from proxforge.bench.atlas.verify import verify
from proxforge.grammar.text import text
from proxforge.search.correlation import kendall_many, settled
from proxforge.search.spaces import TreeSpace
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.result import Status

from . import small
from .test_atlas import enumerated, rounding

SPACE = (("fc1.w", "fc1.g"), ("neg", "square", "sum", "min", "identity", "/", "-", "dot"))


@pytest.fixture(scope="module")
def source():
    return small.cache()


@pytest.fixture(scope="module")
def atlas(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("division") / "a"
    small.build(folder, Task(source, small.targets(), small.SPLIT, TreeSpace(*SPACE), {"benchmark": "small"}))
    return Atlas(folder)


def test_every_program_is_there_and_ranked_as_the_reference_ranks_it(atlas, source):
    wanted = enumerated(*SPACE)
    for layer, programs in enumerate(atlas.programs):
        mine = dict(zip(programs["key"].tolist(), programs["many"].tolist(), strict=True))
        assert mine == {int.from_bytes(d[:8], "big"): many for d, (at, _, many) in wanted.items() if at == layer}
    roots = [root for _, root, _ in wanted.values()]
    places = [atlas.lookup(digest) for digest in wanted]
    every = tuple(range(small.NETWORKS))
    reference = Evaluator(source, every, backend_name="reference").run(roots)
    expected = kendall_many(settled(reference.scores), np.stack(list(small.targets().values())))
    seen = dict.fromkeys((OK, NONFINITE, CONSTANT, LEFT_OUT), 0)
    for i, place in enumerate(places):
        status = int(atlas.status[place.join, place.layers, 2])
        op, _, y = atlas.joins[place.join]
        seen[status] += 1
        assert (status == LEFT_OUT) == (op == DIVIDE and atlas.branches.matrix[y]), text(roots[i])
        if status == LEFT_OUT:
            continue
        taus = place.sign * atlas.taus([place.join], place.layers, 2)[0]
        if reference.status[i] in (Status.NAN, Status.INF):
            assert status == NONFINITE, text(roots[i])
        elif not np.allclose(taus, expected[i], atol=1e-9, equal_nan=True):
            assert rounding(reference.scores[i]), text(roots[i])
        else:
            assert status == (CONSTANT if reference.status[i] == Status.CONSTANT else OK), text(roots[i])
    assert seen[OK] > 100
    assert seen[LEFT_OUT] > 100
    assert seen[NONFINITE] > 0


def test_what_is_left_out_is_not_verified(atlas, source):
    found = verify(atlas, source, small.targets(), 10_000)
    assert found.wrong == 0
    assert found.statuses["left out"] == 0
    assert 0 < found.programs < len(atlas.joins)
