"""The comparison of backends with the reference: what it lets pass, what it finds, and its command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from proxforge.bench.agreement import compare as module
from proxforge.bench.agreement.compare import Agreement, compare, measure_agreement
from proxforge.bench.agreement.programs import every_op, hostile_sources
from proxforge.commands.agreement import agreement
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.expr import Pool
from proxforge.grammar.parse import parse
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.program import in_use
from proxforge.vm.result import Result

TEXTS = ["mean(abs(qkv.w))", "sum(square(qkv.g)) - max(qkv.w)", "log(qkv.w)"]


class Changed(Evaluator):
    """The cpu backend, its results changed."""

    change = staticmethod(lambda found: found)

    def run(self, roots):
        return self.change(super().run(roots))


def outcome(change, monkeypatch, texts=TEXTS) -> Agreement:
    """Of a backend whose results are changed on the way."""
    monkeypatch.setattr(Changed, "change", staticmethod(change))
    wanted = module.reference_run
    monkeypatch.setattr(module, "Evaluator", Changed)
    monkeypatch.setattr(module, "reference_run", wanted)
    found, pool = Agreement(), canonical_pool()
    compare(found, "normal", hostile_sources()["normal"], [parse(t, pool) for t in texts], "cpu", 1e-5)
    return found


def test_the_same_is_the_same(monkeypatch):
    found = outcome(lambda r: r, monkeypatch)
    assert (found.wrong, found.rounding, found.statuses) == ([], 0, {"ok": 2, "nan": 1})
    assert found.largest < 1e-12


def test_another_number_is_found(monkeypatch):
    found = outcome(lambda r: Result(r.scores * (1 + 3e-5), r.status, r.network), monkeypatch)
    assert [t for _, t in found.wrong] == ["abs(qkv.w)", "sum(square(qkv.g)) - max(qkv.w)"]
    assert not outcome(lambda r: Result(r.scores * (1 + 3e-6), r.status, r.network), monkeypatch).wrong


def test_another_status_is_found(monkeypatch):
    found = outcome(lambda r: Result(r.scores, np.zeros_like(r.status), r.network), monkeypatch)
    assert [t for _, t in found.wrong] == ["log(qkv.w)"]


def test_a_number_instead_of_nan_is_found(monkeypatch):
    found = outcome(lambda r: Result(np.nan_to_num(r.scores), r.status, r.network), monkeypatch)
    assert [t for _, t in found.wrong] == ["log(qkv.w)"]


def test_what_is_rounding_alone_is_no_disagreement(monkeypatch):
    """A difference of two equal sums has no digits."""
    texts = ["sum(sigmoid(qkv.w) * 3) - 3 * sum(sigmoid(qkv.w))"]
    found = outcome(lambda r: Result(r.scores + 1e-16, r.status, r.network), monkeypatch, texts)
    assert (found.wrong, found.rounding + found.statuses["constant"]) == ([], 1)


def test_every_op_is_among_the_programs():
    roots = every_op(Pool())
    tried = {(n.op.name, tuple(a.type.kind for a in n.args)) for r in roots for n in _below(r)}
    for opcode in in_use():
        if opcode.op is not None and not (opcode.op.no_scalar and not any(k == 0 for k in opcode.operands)):
            assert (opcode.op.name, opcode.operands) in tried or opcode.result == 2, opcode.name


def _below(root):
    yield root
    for a in root.args:
        yield from _below(a)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_backends_agree_on_random_programs(backend):
    """A small version of what `proxforge bench agreement` does."""
    found = measure_agreement(backend, 900, seed=3)
    assert not found.wrong, found.wrong[:5]
    assert found.statuses["ok"] > 800
    assert found.rounding < 0.1 * sum(found.programs.values())


def test_the_command_says_what_disagrees(monkeypatch):
    monkeypatch.setattr(module, "every_op", lambda pool: every_op(pool)[::40])
    args = ["--programs", "20", "--backend", "cpu-float32", "--bound", "1e-9"]
    found = CliRunner().invoke(agreement, args, standalone_mode=False)
    assert found.return_value == 1
    assert "disagrees on 'normal'" in found.output
    found = CliRunner().invoke(agreement, ["--programs", "100", "--json"], standalone_mode=False)
    document = json.loads(found.stdout)
    assert (found.return_value, document["disagree"], sum(document["programs"].values()) > 100) == (0, 0, True)
