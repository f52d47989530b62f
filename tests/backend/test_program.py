"""Bytecode: liveness, storage, and a verifier that sees every damage."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxforge.grammar.expr import Pool
from proxforge.vm.compile import compile_nodes, compile_text
from proxforge.vm.program import CODE, OPCODES, Program
from proxforge.vm.verify import VerifyError, verify
from tests.random_programs import random_score

FORMULA = "layer_sum(sum(fc2.w @ fc1.w)) / params + layer_mean(frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))) * 2"


def program() -> Program:
    return compile_text(FORMULA).program


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_every_compiled_population_verifies_and_survives_storage(seed, count):
    rng = np.random.default_rng(seed)
    pool = Pool()
    made = compile_nodes([random_score(rng, pool, 4) for _ in range(count)])
    verify(made)
    again = Program.from_dict(json.loads(json.dumps(made.to_dict())))
    verify(again)
    assert again.disassemble() == made.disassemble()
    assert len(made.outputs) == count


def test_shared_parts_run_once():
    pool = Pool()
    one = compile_text("frobenius(sigmoid(qkv.w))", pool)
    two = compile_text("frobenius(sigmoid(qkv.w)) * mean(fc1.w)", pool)
    together = compile_nodes([one.node, two.node])
    assert len(together) < len(one.program) + len(two.program)
    assert sum("sigmoid.m" in line for line in together.disassemble()) == 1


def test_registers_are_used_again():
    chain = "".join(f"a{i} = abs(a{i - 1}) * 2\n" if i else "a0 = qkv.w\n" for i in range(50)) + "a49"
    assert compile_text(chain).program.registers[0] <= 3


def damaged(**changes: object) -> Program:
    return dataclasses.replace(program(), **changes)


def changed(field: str, index: tuple[int, ...], value: int) -> Program:
    array = getattr(program(), field).copy()
    array[index] = value
    return damaged(**{field: array})


def where(name: str) -> int:
    return program().opcode.tolist().index(CODE[name])


DAMAGES = [
    ("unknown opcode", lambda: changed("opcode", (0,), 999), "outside"),
    ("destination outside its file", lambda: changed("dst", (0,), 99), "register of its file"),
    ("statistic outside the table", lambda: changed("src", (0, 0), 99), "entry of its table"),
    ("operand never written", lambda: changed("src", (where("sigmoid.m"), 0), 7), "written before"),
    (
        "result over its operand",
        lambda: changed("dst", (where("sigmoid.m"),), int(program().src[where("sigmoid.m"), 0])),
        "does not overwrite",
    ),
    ("axes that do not meet", lambda: changed("opcode", (where("matmul.mm"),), CODE["add.mm"]), "axes fit"),
    (
        "axes that do not follow",
        lambda: damaged(axes=(("m", "m"), *program().axes[1:])),
        "follow from the operands",
    ),
    ("no output", lambda: damaged(outputs=np.empty(0, np.int32)), "no output"),
    ("output never written", lambda: damaged(outputs=np.array([99], np.int32)), "never written"),
    ("arrays of unequal length", lambda: damaged(dst=program().dst[:-1]), "differ in length"),
    ("unknown statistic", lambda: damaged(statistics=("qkv.z", *program().statistics[1:])), "no statistic"),
    ("constant not finite", lambda: damaged(constants=(float("nan"),)), "not finite"),
]


def test_the_undamaged_program_verifies():
    verify(program())


@pytest.mark.parametrize(("name", "make", "part"), DAMAGES, ids=[d[0] for d in DAMAGES])
def test_the_verifier_names_what_is_wrong(name, make, part):
    with pytest.raises(VerifyError, match=part):
        verify(make())


def test_layer_instructions_come_first():
    p = program()
    first = [OPCODES[c].result.name != "SCORE" for c in p.opcode]
    assert first == sorted(first, reverse=True)
    swapped = [p.opcode.copy(), p.dst.copy(), p.src.copy()]
    order = list(range(len(p)))
    fact = where("fact.x")
    order.insert(0, order.pop(fact))
    arrays = [a[order] for a in swapped]
    bad = damaged(opcode=arrays[0], dst=arrays[1], src=arrays[2], axes=tuple(p.axes[i] for i in order))
    with pytest.raises(VerifyError, match="on a layer comes before what works on a network"):
        verify(bad)
