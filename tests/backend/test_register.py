"""A user's own op works wherever an op of the language does; what is wrong with one is said at once, and all of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from proxforge.cli import run
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError, ProxyError
from proxforge.grammar.facts import UNKNOWN, Facts
from proxforge.grammar.ops import CALLABLE, OP_SETS, OPS, Form, Op
from proxforge.grammar.parse import parse
from proxforge.grammar.symbolic import evaluate
from proxforge.grammar.text import latex, text
from proxforge.grammar.types import Kind
from proxforge.vm.backends import NAMES
from proxforge.vm.compile import compile_text
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.export_torch import to_torch
from proxforge.vm.op_checks import problems_of
from proxforge.vm.program import CODE, CODE_OF, Program
from proxforge.vm.register import register, registered, unregister
from proxforge.vm.result import Status
from proxforge.vm.verify import verify
from tests.random_programs import random_source

SINH = Op(
    "sinh",
    1,
    Form.MAP,
    "(exp(x) - exp(-x))/2",
    np.sinh,
    latex=r"\sinh\left({0}\right)",
    elementwise=True,
    torch="torch.sinh({0})",
    sympy="sinh({0})",
    sets=frozenset({"mine"}),
)
HYPOT = Op(
    "hypot",
    2,
    Form.JOIN,
    "sqrt(a² + b²)",
    lambda a, b: np.sqrt(a * a + b * b),
    elementwise=True,
    commutative=True,
    torch="torch.sqrt({0} * {0} + {1} * {1})",
    sympy="sqrt({0}**2 + {1}**2)",
)
CENTRED = Op("centred", 1, Form.MAP, "x - mean", lambda x: np.asarray(x - x.mean()), sympy="{0}.expr - {0}.mean()")
MEDIAN = Op("median", 1, Form.REDUCE, "the middle element", lambda x: np.asarray(np.median(x)))
DISTANCE = Op(
    "distance",
    2,
    Form.DOT,
    "Σ |a - b|",
    lambda a, b: np.asarray(np.abs(a - b).sum()),
    commutative=True,
    torch="torch.abs({0} - {1}).sum()",
    sympy="{0}.over(Sum, Abs({0}.expr - {1}.expr))",
)
BETWEEN = Op(
    "between",
    2,
    Form.PRODUCT,
    "mean over k of a b",
    lambda a, b: np.asarray(a * b if a.ndim == 0 else a @ b / a.shape[1]),
    torch="{0} * {1} if {0}.dim() == 0 else {0} @ {1} / {0}.shape[1]",
)
SQUARES = Op("squares", 1, Form.GRAM, "x xᵀ", lambda x: np.asarray(x * x if x.ndim == 0 else x @ x.T))
LAYER_RANGE = Op(
    "layer_range",
    1,
    Form.LAYERS,
    "largest - smallest over the layers",
    lambda x: np.asarray(x.max() - x.min()),
    kinds=(Kind.SCALAR,),
    torch="{0}.max() - {0}.min()",
    sympy="over_layers(Maximum, {0}) - over_layers(Minimum, {0})",
)

SOURCE = random_source(5, [(4, 6, 5, 2), (3, 5, 2, 3), (4, 6, 5, 1), (5, 7, 1, 2)])

CASES = [
    (SINH, "frobenius(sinh(qkv.w)) + sinh(mean(qkv.g))"),
    (HYPOT, "max(hypot(qkv.g, qkv.w)) + mean(hypot(mean(fc1.w), fc1.g)) * mean(qkv.w)"),
    (HYPOT, "hypot(layer_sum(qkv.w), params)"),
    (CENTRED, "max(centred(fc1.w)) + centred(mean(qkv.w))"),
    (MEDIAN, "median(abs(fc1.w)) - median(sum(qkv.w))"),
    (DISTANCE, "distance(qkv.g, qkv.w) + distance(mean(qkv.g), max(qkv.w))"),
    (BETWEEN, "max(between(fc2.w, fc1.w)) + between(mean(fc2.w), mean(fc1.w))"),
    (SQUARES, "std(squares(qkv.w)) * squares(mean(qkv.w))"),
    (LAYER_RANGE, "layer_range(frobenius(qkv.w)) + layer_range(2 * mean(fc1.w)) * depth"),
]


def tables() -> tuple[object, ...]:
    return dict(OPS), dict(CALLABLE), dict(OP_SETS), dict(CODE), dict(CODE_OF)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    before = tables()
    yield
    assert tables() == before


def layers_of(network: int) -> list[dict[str, np.ndarray]]:
    count = SOURCE.networks[network].layers
    return [{s: SOURCE.read(network, s, layer) for s in SOURCE.statistics} for layer in range(count)]


@pytest.mark.parametrize(("op", "formula"), CASES, ids=[formula for _, formula in CASES])
def test_a_registered_op_works_in_the_language_and_in_every_backend(op, formula):
    with pytest.raises(ProxyError, match=f"no op is called '{op.name}'"):
        parse(formula)
    with registered(op):
        node = parse(formula)
        assert parse(text(node)).digest == node.digest
        assert op.name in text(node)
        assert latex(node).count("{") == latex(node).count("}")
        proxy = compile_text(formula)
        assert any(f" {op.name}." in line for line in proxy.disassemble())
        verify(proxy.program)
        again = Program.from_dict(json.loads(json.dumps(proxy.program.to_dict())))
        assert again.disassemble() == proxy.disassemble()
        expected = Evaluator(SOURCE, range(4), backend_name="reference").run([node])
        assert Status(expected.status[0]) is Status.OK
        assert len(set(expected.scores[0])) == 4
        for name in NAMES:
            found = Evaluator(SOURCE, range(4), backend_name=name, device="cpu").run([node])
            np.testing.assert_allclose(
                found.scores, expected.scores, rtol=1e-9 if name in ("reference", "torch") else 1e-5
            )
            np.testing.assert_array_equal(found.status, expected.status)
    with pytest.raises(ProxyError, match=f"no op is called '{op.name}'"):
        parse(formula)


@pytest.mark.parametrize(("op", "formula"), CASES, ids=[formula for _, formula in CASES])
def test_a_registered_op_is_exported(op, formula):
    with registered(op):
        node = parse(formula)
        scores = Evaluator(SOURCE, range(4), backend_name="reference").run([node]).scores[0]
        facts = [vars_of(n) for n in range(4)]
        if op.torch:
            module: dict[str, object] = {}
            exec(to_torch(node), module)
            import torch

            for n in range(4):
                layers = [{s: torch.tensor(x) for s, x in layer.items()} for layer in layers_of(n)]
                given = (layers, facts[n]) if "facts[" in to_torch(node) else (layers,)
                assert module["score"](*given) == pytest.approx(scores[n], rel=1e-9)
        else:
            with pytest.raises(ProxforgeError, match=f"'{op.name}' has no torch expression; register it with one"):
                to_torch(node)
        if op.sympy:
            for n in (0, 1):
                assert evaluate(node, layers_of(n), facts[n]) == pytest.approx(scores[n], rel=1e-9)
        else:
            with pytest.raises(ProxforgeError, match=f"'{op.name}' has no sympy expression; register it with one"):
                evaluate(node, layers_of(0), facts[0])


def vars_of(network: int) -> dict[str, float]:
    size = SOURCE.networks[network].size
    return {"params": size.params, "flops": size.flops, "depth": size.depth, "width": size.width}


def test_nothing_is_assumed_of_a_registered_op():
    """No interval rule, no facts: whatever it gives, it is neither constant nor out of range at compile time."""
    with registered(SINH), registered(MEDIAN):
        node = parse("log(sinh(qkv.w)) + 1 / median(qkv.w * 0)")
        assert SINH.facts((UNKNOWN,), (Kind.MATRIX,)) == UNKNOWN
        assert node.facts.value is None
        assert not node.facts.shape_only
        result = Evaluator(SOURCE, range(4)).run([node, parse("layer_sum(sinh(1e3 * qkv.w) * 0) + params")])
    assert [Status(s).word for s in result.status] == ["nan", "nan"]


def test_rounding_stays_rounding_through_a_registered_op():
    """What rounding leaves of a difference is no score after the op either; a small number that is one stays one."""
    with registered(SINH), registered(HYPOT):
        formulas = [
            "sinh(sum(softmax(qkv.w)) - sum(softmax(qkv.g)))",
            "hypot(std(normalize(qkv.w)) - std(normalize(qkv.g)), 0)",
            "1 + hypot(1e-6 * mean(qkv.w), 0)",
        ]
        result = Evaluator(random_source(9, [(16, 24, 20, 2), (12, 20, 20, 3)]), range(2)).run(
            list(map(parse, formulas))
        )
    assert [Status(s).word for s in result.status] == ["constant", "constant", "ok"]


def test_commutative_operands_have_one_order_and_a_typo_is_corrected():
    with registered(HYPOT):
        pool = canonical_pool()
        assert parse("hypot(qkv.g, qkv.w)", pool) is parse("hypot(qkv.w, qkv.g)", pool)
        with pytest.raises(ProxyError, match="did you mean 'hypot'"):
            parse("hipot(qkv.g, qkv.w)")
        with pytest.raises(ProxyError, match=r"'hypot' takes 2 operands, 1 was given: write hypot\(a, b\)"):
            parse("hypot(qkv.g)")
        with pytest.raises(ProxyError, match="'hypot' is a name of the language and cannot be assigned"):
            parse("hypot = 2; hypot * qkv.w")


def test_a_set_of_its_own_is_listed_and_searched(capsys):
    from proxforge.search.spaces import TreeSpace

    with registered(SINH):
        assert OP_SETS["mine"] == ("sinh",)
        assert run(["ops", "--set", "mine", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["name"], found["sets"]) == ("sinh", ["mine"])
        assert found["signatures"] == ["Matrix[r, c] -> Matrix[r, c]", "Scalar -> Scalar"]
        space = TreeSpace(ops=("sinh", "mean", "identity", "+"))
        names = {n.op.name for seed in range(50) for n in _nodes(space.sample(np.random.default_rng(seed)), space)}
        assert "sinh" in names


def _nodes(genotype, space):
    from proxforge.grammar.expr import topological

    return topological([space.expression(genotype, canonical_pool())])


def test_a_program_outlives_its_op():
    """What was compiled with the op still runs when the op is gone, and when another op was registered since."""
    with registered(SINH):
        node = compile_text("mean(sinh(qkv.w))").node
        before = Evaluator(SOURCE, range(4)).run([node]).scores
        program = compile_text("mean(sinh(qkv.w))").program
    with registered(MEDIAN):
        lines = program.disassemble()
        assert any(" sinh.m " in line for line in lines)
        verify(program)
    with registered(SINH):
        np.testing.assert_array_equal(Evaluator(SOURCE, range(4)).run([node]).scores, before)


def changed(op: Op, **changes: object) -> Op:
    from dataclasses import replace

    return replace(op, **changes)


RNG = np.random.default_rng(0)

WRONG = [
    ({"name": "abs"}, "name: 'abs' is an op of the language already"),
    ({"name": "F1g"}, "name: 'F1g' is the alias of a statistic"),
    ({"name": "params"}, "name: 'params' is a fact of the network"),
    ({"name": "qkv"}, "name: 'qkv' is a site of statistics"),
    ({"name": "number"}, "name: 'number' is a word of the bytecode"),
    ({"name": "matmul"}, "name: 'matmul' is an instruction of the bytecode"),
    ({"name": "a b"}, "name: expected one word"),
    ({"name": "**"}, "name: expected one word"),
    ({"name": ""}, "name: expected one word"),
    ({"name": "sinhé"}, "name: expected one word"),
    ({"name": "lambda"}, "name: expected one word"),
    ({"name": "s" * 65}, "name: expected one word of at most 64"),
    ({"rule": " "}, "rule: missing"),
    ({"sets": frozenset({"autoprox"})}, "sets: 'autoprox' is fixed"),
    ({"sets": frozenset({"my set"})}, "sets: 'my set' is no name"),
    ({"mnemonic": "sh"}, "mnemonic, precedence"),
    ({"arity": 2}, "arity: 2 operands, but the form 'MAP' has 1"),
    ({"form": Form.LEAF}, "form: a leaf is no op"),
    ({"form": Form.REDUCE}, "elementwise: not possible for the form 'REDUCE'"),
    ({"kinds": (Kind.MATRIX,)}, r"kinds: expected \(MATRIX, SCALAR\)"),
    ({"commutative": True}, "commutative: not possible for the form 'MAP'"),
    ({"facts": lambda args, kinds: None}, "facts: NoneType instead of Facts"),
    ({"facts": lambda args, kinds: 1 / 0}, "facts: ZeroDivisionError"),
    ({"facts": lambda args, kinds: Facts(nonnegative=True)}, "facts: nonnegative, but"),
    ({"facts": lambda args, kinds: Facts(value=0.0)}, "facts: always 0, but"),
    ({"ranges": OPS["sigmoid"].ranges}, "ranges: between .* and 0.952574, but"),
    ({"ranges": OPS["log"].ranges}, "ranges: NaN, but"),
    ({"ranges": lambda args, sizes: args[1]}, "ranges: IndexError"),
    ({"reference": None}, "reference: expected a function"),
    ({"facts": 3}, "facts: expected a function"),
    ({"ranges": 3}, "ranges: expected a function"),
    ({"latex": "{1}"}, r"latex: the template has other fields than \{0\}"),
    ({"latex": r"\sinh{{ {0}"}, "latex: the braces are not balanced"),
    ({"torch": "torch.sinh({x})"}, r"torch: the template has other fields than \{0\}"),
    ({"torch": "torch.cosh({0})"}, r"torch: the expression gives .* instead of .* for"),
    ({"torch": "torch.sinc_h({0})"}, "torch: the expression raises AttributeError"),
    ({"torch": "torch.sinh({0}"}, "torch: the expression raises SyntaxError"),
    ({"torch": "torch.sinh({0}).sum()"}, "torch: the expression"),
    ({"sympy": "cosh({0})"}, r"sympy: the expression gives .* instead of .* for"),
    ({"sympy": "sinhh({0})"}, "sympy: the expression raises NameError"),
    ({"reference": lambda x: 1 / 0}, "reference: ZeroDivisionError"),
    ({"reference": lambda x: x.sum()}, r"reference: float64 \[\] instead of float64 \[2, 3\]"),
    ({"reference": lambda x: x > 0}, r"reference: bool \[2, 3\] instead of float64"),
    ({"reference": lambda x: np.sinh(x, out=x)}, "reference: it changes its operand"),
    ({"reference": lambda x: x + RNG.random()}, "reference: another value the second"),
    ({"reference": lambda x: np.asarray(x - x.mean())}, "elementwise: element by element gives"),
]


@pytest.mark.parametrize(("changes", "part"), WRONG, ids=[f"{next(iter(c))}-{i}" for i, (c, _) in enumerate(WRONG)])
def test_what_is_wrong_with_an_op_is_named(changes, part):
    with pytest.raises(ProxforgeError, match=part) as error:
        register(changed(SINH, **changes))
    assert error.value.kind == "op"


def test_a_false_claim_of_order_is_named():
    op = changed(HYPOT, reference=np.subtract, torch="{0} - {1}", sympy="")
    with pytest.raises(ProxforgeError, match="commutative: in the other order gives"):
        register(op)


def test_an_op_must_not_lose_a_nan():
    """C's hypot of infinity and NaN is infinity; the analysis counts on NaN to stay."""
    with pytest.raises(ProxforgeError, match="NaN in an operand must give NaN"):
        register(changed(HYPOT, reference=np.hypot, torch=""))


def test_everything_that_is_wrong_is_said_at_once():
    op = changed(SINH, name="exp", rule="", torch="torch.cosh({0})", sympy="cosh({0})", sets=frozenset({"layer"}))
    with pytest.raises(ProxforgeError) as error:
        register(op)
    message = str(error.value)
    for part in ("(1) name:", "(2) rule:", "(3) sets:", "(4) torch:", "(5) sympy:"):
        assert part in message


def test_what_is_wrong_with_its_form_hides_no_wrong_name():
    with pytest.raises(ProxforgeError, match=r"\(1\) name: .*\(2\) arity"):
        register(changed(SINH, name="exp", arity=3))


def test_only_what_was_registered_can_be_taken_out():
    with pytest.raises(ProxforgeError, match="'abs' is part of the language"):
        unregister("abs")
    with pytest.raises(ProxforgeError, match="'sinh' is not registered"):
        unregister("sinh")
    register(SINH)
    with pytest.raises(ProxforgeError, match="'sinh' is an op of the language already"):
        register(SINH)
    unregister("sinh")


def test_an_op_without_a_value_on_a_scalar():
    op = changed(MEDIAN, no_scalar="it is the number itself")
    with registered(op), pytest.raises(ProxyError, match="'median' of a Scalar has no value: it is the number itself"):
        parse("median(mean(qkv.w))")


@pytest.mark.parametrize("name", sorted(OPS))
def test_the_ops_of_the_language_would_pass(name):
    """The torch backend and SymPy compute what the reference computes: zeros, NaN, infinity, huge, tiny."""
    assert problems_of(OPS[name]) == []
