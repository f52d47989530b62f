"""What the cpu backend makes of a population before it runs: the order of the values, and sums that are not stored."""

from __future__ import annotations

import numpy as np
import pytest

from proxforge.bench.speed.engines import program_of, source_of
from proxforge.bench.speed.workloads import evolved_workload
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.parse import parse
from proxforge.stats_cache import MemoryCache
from proxforge.vm.backends import order
from proxforge.vm.backends.cpu import CpuBackend, machine
from proxforge.vm.backends.cpu.plan import plan
from proxforge.vm.compile import compile_nodes


def test_few_tiles_are_held_at_once_and_the_order_changes_no_digit(monkeypatch):
    workload = evolved_workload(1000, 3000)
    program, source = program_of(workload.trees), source_of(workload)

    def made():
        (sweep,) = plan(program, [10.0] * 3).passes[0]
        return sweep.registers, CpuBackend(source, [0], 1, np.float32, remembered=0).run(program)[0]

    registers, scores = made()
    monkeypatch.setattr(order, "LACKING", 0)  # as the programs stand
    more, same = made()
    assert registers < more / 2
    np.testing.assert_array_equal(scores, same)


@pytest.mark.parametrize(
    ("formulas", "kinds"),
    [
        (["mean(exp(qkv.w))"], {machine.TAKE, machine.STEP_SUM}),
        (["mean(exp(qkv.w))", "frobenius(exp(qkv.w))"], {machine.TAKE, machine.STEP, machine.TOTAL}),
        (["mean(exp(qkv.w))", "mean(sqrt(exp(qkv.w)))"], {machine.TAKE, machine.STEP, machine.TOTAL, machine.STEP_SUM}),
        (["mean(leaky_relu(qkv.w))"], {machine.TAKE, machine.STEP, machine.TOTAL}),
    ],
)
def test_what_nothing_else_reads_is_added_up_without_being_stored(formulas, kinds):
    pool = canonical_pool()
    (sweep,) = plan(compile_nodes([parse(text, pool) for text in formulas]), [10.0]).passes[0]
    assert set(sweep.code[:, 0].tolist()) == kinds


@pytest.mark.parametrize(
    ("formula", "variants"),
    [
        ("sum(qkv.w)", [machine.NOW]),
        ("l1_norm(exp(qkv.w))", [machine.LATER]),
        ("mean(exp(abs(qkv.w)))", [machine.LATER]),
        ("max(softmax(qkv.w))", [machine.LATER]),
        ("mean(relu(qkv.w * qkv.v))", [machine.NOW, machine.NOW]),
        ("l1_norm(qkv.w / (qkv.v * qkv.g))", [machine.NOW, machine.NOW, machine.LATER]),
    ],
)
def test_who_asks_for_the_next_tile(formula, variants):
    program = compile_nodes([parse(formula, canonical_pool())])
    (sweep,) = plan(program, [10.0] * 3).passes[0]
    assert sweep.code[sweep.code[:, 0] == machine.TAKE, 1].tolist() == variants


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_no_digit_depends_on_who_asks_for_the_next_tile(number, monkeypatch):
    program = compile_nodes([parse("l1_norm(exp(qkv.w)) + mean(qkv.w)", canonical_pool())])
    rng = np.random.default_rng(0)
    source = MemoryCache([{"qkv.w": [rng.normal(size=(rows, columns))]} for rows, columns in ((3, 5000), (700, 90))])

    def scores():
        return CpuBackend(source, [0, 1], 2, number, remembered=0).run(program)[0]

    wanted = scores()
    monkeypatch.setattr(machine, "_heavy", lambda kind, variant: False)
    np.testing.assert_array_equal(scores(), wanted)
