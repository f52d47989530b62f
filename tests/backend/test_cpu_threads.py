"""What threads share: layouts, jobs, shares of a sweep, memory of their own."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from proxforge.vm.backends.cpu import emit, machine
from proxforge.vm.backends.cpu import layout as layouts
from proxforge.vm.backends.cpu.emit import PAD
from proxforge.vm.backends.cpu.layout import layout
from proxforge.vm.backends.cpu.sweep import SHARES, shares
from proxforge.vm.backends.cpu.threads import Threads, aligned, available
from proxforge.vm.blas import one_blas_thread


def test_layouts_cover_every_element_once():
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(1, 3000, 60), rng.integers(1, 5000, 60)
    for scale in (1, 2):
        found = layout(rows, columns, scale)
        for place in range(60):
            count = np.zeros((rows[place], columns[place]), np.int8)
            for job in found.jobs[found.jobs[:, layouts.LAYER] == place]:
                first, wide = job[layouts.COLUMN], job[layouts.WIDTH]
                count[job[layouts.ROW] : job[layouts.ROW_END], first : first + wide] += 1
                assert 1 <= job[layouts.TILE_ROWS] * wide <= 1536 * scale
            assert (count == 1).all()


def test_the_jobs_of_a_segment_are_of_one_size():
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(1, 3000, 60), rng.integers(1, 1000, 60)
    found = layout(rows, columns, 1).jobs
    for place in range(60):
        mine = found[found[:, layouts.LAYER] == place]
        tiles = -(-(mine[:, layouts.ROW_END] - mine[:, layouts.ROW]) // mine[:, layouts.TILE_ROWS])
        assert tiles.max() - tiles.min() <= 1


def test_threads_get_shares_of_about_one_size():
    rng = np.random.default_rng(2)
    found = layout(rng.integers(1, 3000, 60), rng.integers(1, 5000, 60), 1)
    work = (found.jobs[:, layouts.ROW_END] - found.jobs[:, layouts.ROW]) * found.jobs[:, layouts.WIDTH]
    assert shares(found, 1, 1).tolist() == [0, len(found.jobs)]
    small = layout(np.array([100]), np.array([100]), 1)
    assert shares(small, 1, 2).tolist() == [0, len(small.jobs)]
    four = layout(np.array([316]), np.array([316]), 2)
    assert shares(four, 400, 2).tolist() == [0, 1, 2, 3, 4]
    for instructions, threads in ((1, 2), (5, 3), (400, 2)):
        bounds = shares(found, instructions, threads)
        assert (bounds[0], bounds[-1]) == (0, len(found.jobs))
        sizes = np.add.reduceat(work, bounds[:-1])
        assert len(sizes) >= min(len(found.jobs), SHARES * threads)
        assert sizes.max() <= work.sum() / len(sizes) + work.max()


def test_every_share_is_taken_once_by_any_number_of_threads():
    jobs = np.repeat(layout(np.array([8]), np.array([8]), 1).jobs, 100_000, axis=0)
    x, totals, counter = np.ones((8, 8), np.float32), np.zeros((len(jobs), 1)), np.zeros(1, np.int64)
    code = np.array([(machine.TAKE, 0, 0, 0, 0, 0, 0), (machine.TOTAL, emit.SUM, 0, 0, 0, 0, 0)], np.int64)
    tables, bounds = [np.zeros(8 + PAD) for _ in range(6)], np.arange(len(jobs) + 1)
    together = threading.Barrier(4)

    def work(_: int) -> None:
        together.wait(60)
        machine.compiled("run")(
            counter, len(jobs), bounds, jobs, code, aligned(4096, np.float64), 4096, np.full((1, 1), x.ctypes.data),
            np.ones((1, 1)), totals, *tables[:2], 0, *tables[2:4], 0, *tables[4:], 0,
        )  # fmt: skip

    Threads(4).each(work, range(4))
    np.testing.assert_array_equal(totals, 64.0)


def test_scratch_memory_begins_with_a_cache_line():
    for size in (1, 100, 12345):
        assert aligned(size, np.float32).ctypes.data % 64 == 0
        assert len(aligned(size, np.float64)) == size


def test_threads_raise_what_a_job_raises(monkeypatch):
    for threads in (1, 2):
        with pytest.raises(ZeroDivisionError):
            Threads(threads).each(lambda x: 1 / x, [1, 0, 2])
        with pytest.raises(IndexError):
            Threads(threads).each(lambda x: [][x], [1, 0, 2])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert available() == 1


def test_threads_take_every_item_once():
    taken: list[int] = []
    Threads(3).each(taken.append, range(500))
    assert sorted(taken) == list(range(500))


def test_blas_keeps_to_one_thread_for_a_while():
    def counts():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            assert set(counts()) == {1}
        assert set(counts()) == {2}
