"""The rewrite rules of the canonical form, one line each with its algebra.

A rule holds for every input: zeros, negatives, huge, tiny and non-finite values, matrices and Scalars. Both sides are
the same float64 number, bit by bit, except where ``rounding`` says that their last digits may differ. So these are no
rules: ``sqrt(square(x)) = abs(x)`` (the square leaves float32's range where x does not), regrouped sums and products
(what cancels or overflows on the way differs), ``a / -b = -(a / b)`` (not where b is 0), ``softmax(mean(x)) = 1`` (not
where x is infinite), ``mean(x) = normalized_sum(x)`` (it has an epsilon).

Signs move outwards (``mean(-x) = -mean(x)``) and the operands of ``+ - *`` stand in one order (``b - a = -(a - b)``):
what does not see the sign (``abs(b - a)``) loses it.

Rewriting ends: every rule lowers a measure. It is confluent: in whatever order rules are taken, the result is the same
(but for parts that are 0 for every input, as ``x - x``, and numbers that overflow). Tests hold both.
"""

from __future__ import annotations

from .rewriting import (
    Rule,
    absolute,
    absolute_of,
    below_zero,
    call_of,
    magnified,
    merged,
    negative,
    operand,
    outwards,
    positive,
    power_of_two,
    renamed,
    same,
    scalar,
    sided,
    times,
    unordered,
    unsigned,
    value,
    within,
)
from .types import Kind

_EVEN = ("abs", "square", "pow4", "abslog", "frobenius", "l1_norm")
"""What depends on abs(x) alone."""
_SYMMETRIC = ("std", "gram", "layer_std")
"""What is the same of x and -x."""
_ODD = ("sign", "tanh", "mean", "sum", "normalized_sum", "normalize", "layer_mean", "layer_sum")
"""What is the opposite of -x."""
_MIRRORED = (("min", "max"), ("max", "min"), ("layer_min", "layer_max"), ("layer_max", "layer_min"))
_RISING = ("sign", "heaviside", "relu", "sqrt", "leaky_relu")
"""What never falls where x rises, exactly."""
_GROWING = ("exp", "sigmoid", "tanh")
"""What never falls where x rises, but for its last digits."""

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("identity", "identity(x) = x", operand(0)),
    # one number in every layer
    *(Rule(f, f"{f}(s) = s", operand(0), condition=scalar) for f in ("mean", "sum", "min", "max", "normalized_sum")),
    *(Rule(f, f"{f}(s) = abs(s)", renamed("abs"), condition=scalar) for f in ("l1_norm", "frobenius", "nuclear_norm")),
    Rule("gram", "gram(s) = square(s)", renamed("square"), condition=scalar),
    Rule("@", "s @ t = s * t", renamed("*"), condition=scalar),
    Rule("dot", "dot(s, t) = s * t", renamed("*"), condition=scalar),
    # signs move outwards
    Rule("neg", "-(-x) = x", lambda pool, a: a[0].args[0], "neg"),
    *(Rule(f, f"{f}(-x) = {f}(x)", within(f), "neg") for f in (*_EVEN, *_SYMMETRIC)),
    Rule("nuclear_norm", "nuclear_norm(-x) = nuclear_norm(x)", within("nuclear_norm"), "neg", rounding=True),
    *(Rule(f, f"{f}(-x) = -{f}(x)", within("neg", f), "neg") for f in _ODD),
    *(Rule(f, f"{f}(-x) = -{g}(x)", within("neg", g), "neg") for f, g in _MIRRORED),
    *(Rule(f, f"-a {f} -b = a {f} b", unsigned(f), "neg", "neg") for f in "*@"),
    Rule("dot", "dot(-a, -b) = dot(a, b)", unsigned("dot"), "neg", "neg"),
    *(Rule(f, f"-a {f} b = -(a {f} b)", outwards(f, 0), "neg") for f in "*/@"),
    *(Rule(f, f"a {f} -b = -(a {f} b)", outwards(f, 1), "", "neg") for f in "*@"),
    *(Rule(f, f"-c {f} b = -(c {f} b)", outwards(f, 0), "number", condition=below_zero(0)) for f in "*/"),
    *(Rule(f, f"a {f} -c = -(a {f} c)", outwards(f, 1), "", "number", below_zero(1)) for f in "*/"),
    Rule("dot", "dot(-a, b) = -dot(a, b)", outwards("dot", 0), "neg"),
    Rule("dot", "dot(a, -b) = -dot(a, b)", outwards("dot", 1), "", "neg"),
    *(Rule(f, f"{f}(-sign(x)) = heaviside(-x)",
           lambda pool, a: ("heaviside", ("neg", a[0].args[0].args[0])), "neg",
           condition=lambda pool, a: a[0].args[0].op.name == "sign") for f in ("relu", "sqrt", "heaviside")),
    # what is on one side of 0
    *(Rule(f, f"{f}(x) = x where x >= 0", operand(0), condition=positive) for f in ("abs", "relu", "leaky_relu")),
    Rule("abs", "abs(x) = -x where x <= 0", renamed("neg"), condition=negative),
    Rule("heaviside", "heaviside(x) = sign(x) where x >= 0", renamed("sign"), condition=positive),
    Rule("l1_norm", "l1_norm(x) = normalized_sum(x) where x >= 0", renamed("normalized_sum"), condition=positive),
    Rule("l1_norm", "l1_norm(x) = -normalized_sum(x) where x <= 0",
         lambda pool, a: ("neg", ("normalized_sum", a[0])), condition=negative),
    Rule("normalized_sum", "normalized_sum(x) = l1_norm(y) where x = abs(y)", merged("l1_norm"), condition=absolute),
    # absolute values
    *(Rule(f, f"{f}(x) = {f}(y) where abs(x) = abs(y), as of a * abs(b) and a * b", merged(f), condition=magnified)
      for f in _EVEN),
    *(Rule(f, f"x = abs(y) where x = a {f} b >= 0 and abs(x) = abs(y), as of abs(a) {f} abs(b) and a {f} b",
           merged(f, "abs"), condition=sided(f, 1)) for f in "*/"),
    *(Rule(f, f"x = -abs(y) where x = a {f} b <= 0 and abs(x) = abs(y)", merged(f, "neg", "abs"),
           condition=sided(f, -1)) for f in "*/"),
    Rule("abs", "abs(tanh(x)) = tanh(abs(x))", within("tanh", "abs"), "tanh"),
    *(Rule(f, f"{f}(sign(x)) = sign(abs(x))", within("sign", "abs"), "sign") for f in ("abs", "square", "pow4")),
    # one op that says less than the other
    *(Rule(f, f"{f}({g}(x)) = {f}(x)", within(f), g) for f, g in (
        ("relu", "leaky_relu"), ("sqrt", "relu"), ("sqrt", "leaky_relu"), ("heaviside", "relu"),
        ("heaviside", "leaky_relu"), ("heaviside", "sqrt"), ("heaviside", "sign"), ("sign", "sign"))),
    *(Rule(f, f"{f}({g}(x)) = {g}(x)", operand(0), g) for f, g in (
        ("sign", "heaviside"), ("sqrt", "heaviside"), ("square", "heaviside"), ("pow4", "heaviside"))),
    *(Rule(f, f"{f}({g}(x)) = heaviside(x)", within("heaviside"), g) for f, g in (
        ("sign", "relu"), ("sign", "sqrt"), ("relu", "sign"), ("sqrt", "sign"))),
    *(Rule(f, f"{f}(log_softmax(x)) = {f}(x)", within(f), "log_softmax", rounding=True)
      for f in ("softmax", "log_softmax")),
    Rule("square", "square(square(x)) = pow4(x)", within("pow4"), "square"),
    Rule("pow4", "pow4(square(x)) = square(pow4(x))", within("square", "pow4"), "square"),
    # the smallest and the largest element
    *(Rule(f, f"{f}({g}(x)) = {g}({f}(x))", within(g, f), g) for f in ("min", "max") for g in _RISING),
    *(Rule(f, f"{f}({g}(x)) = {g}({f}(x))", within(g, f), g, rounding=True) for f in ("min", "max") for g in _GROWING),
    *(Rule(f, f"{f}({g}(x)) = {g}({f}(abs(x)))", within(g, f, "abs"), g)
      for f in ("min", "max") for g in ("square", "pow4")),
    Rule("min", "min(log(x)) = log(min(x))", within("log", "min"), "log", rounding=True),
    # numbers
    Rule("+", "0 + x = x", operand(1), "number", condition=value(0, 0.0)),
    Rule("+", "x + 0 = x", operand(0), "", "number", value(1, 0.0)),
    Rule("-", "x - c = -c + x", lambda pool, a: ("+", ("neg", a[1]), a[0]), "", "number"),
    Rule("-", "c - x = -(-c + x)", lambda pool, a: ("neg", ("+", ("neg", a[0]), a[1])), "number"),
    Rule("*", "1 * x = x", operand(1), "number", condition=value(0, 1.0)),
    Rule("*", "x * 1 = x", operand(0), "", "number", value(1, 1.0)),
    Rule("/", "x / 1 = x", operand(0), "", "number", value(1, 1.0)),
    Rule("/", "x / c = (1/c) * x where c is a power of 2",
         lambda pool, a: ("*", pool.like(a[0], 1.0 / float(a[1].attr)), a[0]), "", "number", power_of_two),
    # sums, differences and products
    Rule("+", "-a + b = b - a", lambda pool, a: ("-", a[1], a[0].args[0]), "neg"),
    Rule("+", "a + -b = a - b", lambda pool, a: ("-", a[0], a[1].args[0]), "", "neg"),
    Rule("-", "a - -b = a + b", lambda pool, a: ("+", a[0], a[1].args[0]), "", "neg"),
    Rule("-", "-a - b = -(a + b)", lambda pool, a: ("neg", ("+", a[0].args[0], a[1])), "neg"),
    Rule("-", "b - a = -(a - b) where a comes first",
         lambda pool, a: ("neg", ("-", a[1], a[0])), condition=unordered),
    Rule("+", "x + x = 2 * x", lambda pool, a: ("*", pool.like(a[0], 2.0), a[0]), condition=same),
    Rule("*", "x * x = square(x)", lambda pool, a: ("square", a[0]),
         condition=lambda pool, a: a[0] is a[1] and a[0].type.kind is not Kind.SCORE),
    *times("sign", "x", "abs", lambda pool, x, y: y is x),
    *(rule for f in ("sign", "heaviside") for g in ("relu", "sqrt") for rule in times(f, f"{g}(x)", g, call_of(g))),
    *times("sign", "y", "", absolute_of),
)
# fmt: on
"""Tried in this order; the first that applies is taken."""
