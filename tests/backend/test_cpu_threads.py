"""What threads share: layouts, jobs, shares of a sweep, memory of their own."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from proxforge.vm.backends.cpu import emit, machine
from proxforge.vm.backends.cpu import layout as layouts
from proxforge.vm.backends.cpu.atomics import INSIDE, NEXT
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
    assert shares(found, 1, 1, False).tolist() == [0, len(found.jobs)]
    small = layout(np.array([100]), np.array([100]), 1)
    assert shares(small, 1, 2, False).tolist() == [0, len(small.jobs)]
    one = layout(np.array([316]), np.array([316]), 2)
    assert shares(one, 400, 2, False).tolist() == list(range(len(one.jobs) + 1))
    assert shares(one, 400, 2, True).tolist() == one.groups.tolist() == [0, 4, 8, 12, 14]
    for instructions, threads, grouped in itertools.product((1, 5, 400), (2, 3), (False, True)):
        bounds = shares(found, instructions, threads, grouped)
        assert (bounds[0], bounds[-1]) == (0, len(found.jobs))
        sizes = np.add.reduceat(work, bounds[:-1])
        units = found.groups if grouped else np.arange(len(found.jobs) + 1)
        assert set(bounds) <= set(units)
        assert len(sizes) >= min(len(units) - 1, SHARES * threads)
        assert sizes.max() <= work.sum() / len(sizes) + np.add.reduceat(work, units[:-1]).max()


def test_a_group_is_some_jobs_with_the_same_columns_that_follow_each_other():
    rng = np.random.default_rng(3)
    found = layout(rng.integers(1, 3000, 60), rng.integers(1, 5000, 60), 1)
    assert (found.groups[0], found.groups[-1]) == (0, len(found.jobs))
    for start, stop in itertools.pairwise(found.groups):
        jobs = found.jobs[start:stop]
        assert 1 <= len(jobs) <= layouts.TOGETHER
        for same in (layouts.LAYER, layouts.COLUMN, layouts.WIDTH, layouts.NEW_COLUMNS, layouts.OLD_COLUMNS):
            assert len(set(jobs[:, same])) == 1
        np.testing.assert_array_equal(jobs[1:, layouts.ROW], jobs[:-1, layouts.ROW_END])
    first, end = found.column_jobs[:, layouts.NEW_COLUMNS], found.column_jobs[:, layouts.WIDTH] + PAD
    np.testing.assert_array_equal(np.append(first[1:], found.new_columns), first + end)


def test_every_share_is_taken_once_by_any_number_of_threads():
    jobs = np.repeat(layout(np.array([8]), np.array([8]), 1).jobs, 100_000, axis=0)
    x, totals, counter = np.ones((8, 8), np.float32), np.zeros((len(jobs), 1)), np.zeros(2, np.int64)
    code = np.array([(machine.TAKE, 0, 0, 0, 0, 0, 0), (machine.TOTAL, emit.SUM, 0, 0, 0, 0, 0)], np.int64)
    tables, bounds = [np.zeros(8 + PAD) for _ in range(6)], np.arange(len(jobs) + 1)
    together = threading.Barrier(4)

    def work(_: int) -> None:
        together.wait(60)
        machine.compiled("run")(
            np.zeros(1, np.int64), counter, len(jobs), bounds, jobs, code, aligned(4096, np.float64), 4096,
            np.full((1, 1), x.ctypes.data), np.ones((1, 1)), totals, *tables[:2], 0, *tables[2:4], 0, *tables[4:], 0,
        )  # fmt: skip

    Threads(4).each(work, range(4))
    np.testing.assert_array_equal(totals, 64.0)


def test_threads_that_wait_awake_or_asleep_take_all_shares_again_and_again():
    jobs = np.repeat(layout(np.array([8]), np.array([8]), 1).jobs, 40, axis=0)
    x, addresses = np.ones((8, 8), np.float32), np.empty((1, 1), np.int64)
    addresses[:] = x.ctypes.data
    code = np.array([(machine.TAKE, 0, 0, 0, 0, 0, 0), (machine.TOTAL, emit.SUM, 0, 0, 0, 0, 0)], np.int64)
    tables, bounds = [np.zeros(8 + PAD) for _ in range(6)], np.arange(len(jobs) + 1)
    threads, run = Threads(3), machine.compiled("run")
    for turn in range(300):
        totals, counters = np.zeros((len(jobs), 1)), np.array([[0, 0], [20, 0]])

        def work(bell, totals=totals, counters=counters):
            for counter, last in zip(counters, (20, 40), strict=True):
                run(
                    bell, counter, last, bounds, jobs, code, aligned(4096, np.float64), 4096, addresses,
                    np.ones((1, 1)), totals, *tables[:2], 0, *tables[2:4], 0, *tables[4:], 0,
                )  # fmt: skip

        threads.together(work, 3, counters)
        np.testing.assert_array_equal(totals, 64.0)
        if turn % 50 == 0:
            time.sleep(0.02)  # longer than a thread waits awake


def test_who_has_a_share_is_waited_for():
    caller, met, done = threading.get_ident(), threading.Barrier(2), []
    counters = np.zeros((1, 2), np.int64)

    def work(_):
        if threading.get_ident() == caller:
            met.wait(60)
        else:
            counters[0, INSIDE] += 1
            met.wait(60)
            time.sleep(0.05)
            done.append(True)
            counters[0, INSIDE] -= 1

    Threads(2).together(work, 2, counters)
    assert done


def test_who_has_not_begun_is_not_waited_for():
    threads, free = Threads(2), threading.Event()
    threads.ahead(lambda: free.wait(60))
    done: list[int] = []
    threads.together(lambda _: done.append(threading.get_ident()), 2, np.zeros((1, 2), np.int64))
    assert done == [threading.get_ident()]
    free.set()


def test_what_work_raises_is_raised_to_who_asked_for_it():
    threads, caller = Threads(2), threading.get_ident()
    counters = np.zeros((1, 2), np.int64)

    def fails(here):
        def work(_):
            if (threading.get_ident() == caller) == here:
                raise ZeroDivisionError

        return work

    with pytest.raises(ZeroDivisionError):
        threads.together(fails(True), 2, counters)
    assert counters[0, NEXT] > 1 << 60  # nobody takes a share any more

    def until_it_is_known():  # it may come when the caller is done: then the next work is told
        for _ in range(6000):
            threads.together(fails(False), 2, counters)
            time.sleep(0.01)

    with pytest.raises(ZeroDivisionError):
        until_it_is_known()


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
