"""What can be wrong with an op: its form, its reference, and whatever disagrees with the reference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..grammar.analysis import Analyser
from ..grammar.errors import ProxforgeError
from ..grammar.expr import Node, Pool
from ..grammar.facts import UNKNOWN, Facts
from ..grammar.op import ARITY, Form, Op
from ..grammar.ops import OPS
from ..grammar.reference import in_range
from ..grammar.types import Kind

Array = NDArray[np.float64]

_PROBES = tuple(
    np.array(rows)
    for rows in (
        [[0.5, -2.0, 0.25], [3.0, 1e-3, -0.75]],
        [[0.25, 4.0, 1.5], [0.5, 0.125, 2.0]],
        [[0.0, -1.0, 1e-12], [2.0, 0.0, -1e-30]],
        [[-3.0]],
        [[0.5]],
        [[0.1, 0.2, 0.4]],
        [[1e30, -3e38], [2e-38, 88.0], [-120.0, 5e9]],
        [[np.inf, 1.0], [-np.inf, 2.0]],
        [[np.nan, 1.0], [0.0, np.inf]],
    )
)
_CLOSE = 1e-9
"""The largest difference from the reference, relative to the largest element."""
_NOTHING = 1e-90
"""What 100 digits leave of a difference that is 0."""


def problems_of(op: Op) -> list[str]:
    """Everything that is wrong with the op apart from its name; the first place where each computation goes wrong.

    The reference is run on small matrices and Scalars: zeros, negative and tiny numbers, one row, one element. What
    the op says of itself (elementwise, commutative, facts, ranges), its torch and its sympy expression are compared
    with it there.
    """
    shaped = list(_shaped(op))
    return shaped or _computed(op) or [*_claimed(op), *_exported(op)]


def _shaped(op: Op) -> Iterator[str]:
    if op.form is Form.LEAF:
        yield "form: a leaf is no op"
        return
    if op.arity != ARITY[op.form]:
        yield f"arity: {op.arity} operands, but the form '{op.form.name}' has {ARITY[op.form]}"
    kinds = (Kind.SCALAR,) if op.form is Form.LAYERS else (Kind.MATRIX, Kind.SCALAR)
    if op.kinds != kinds:
        wanted = ", ".join(k.name for k in kinds)
        yield f"kinds: expected ({wanted}); an op without a value on a Scalar says so in no_scalar"
    if op.elementwise and op.form not in (Form.MAP, Form.JOIN):
        yield f"elementwise: not possible for the form '{op.form.name}'"
    if op.form is Form.JOIN and not op.elementwise:
        yield "elementwise: an op of the form 'JOIN' is; a Scalar broadcasts"
    if op.commutative and (ARITY[op.form] != 2 or op.form is Form.PRODUCT):
        yield f"commutative: not possible for the form '{op.form.name}'"
    for what, function in (("reference", op.reference), ("facts", op.facts), ("ranges", op.ranges)):
        if not callable(function) and not (what == "ranges" and function is None):
            yield f"{what}: expected a function"
    for what in ("latex", "torch", "sympy"):
        try:
            shown = getattr(op, what).format(*"xy"[: op.arity])
        except (IndexError, KeyError, ValueError):
            yield f"{what}: the template has other fields than {', '.join(f'{{{i}}}' for i in range(op.arity))}"
        else:
            if what == "latex" and shown.count("{") != shown.count("}"):
                yield "latex: the braces are not balanced"


def _operands(op: Op) -> Iterator[tuple[Array, ...]]:
    """Operands of every kind that the form has, zeros, negative and small numbers, one row and one element."""
    scalars = [np.asarray(x) for x in (0.5, -2.0, 0.0, 1.5, 1e30, np.nan)]
    pairs = [(a, b) for a, b in product(_PROBES, repeat=2) if a.shape == b.shape]
    if op.form is Form.LAYERS:
        yield from ((np.ravel(x),) for x in _PROBES)
    elif op.arity == 1:
        yield from ((x,) for x in _PROBES)
    elif op.form is Form.PRODUCT:
        yield from ((a, b.T) for a, b in pairs)
    else:
        yield from pairs
        if op.form is Form.JOIN:
            yield from ((a, s) for a, s in product(_PROBES[:3], scalars))
            yield from ((s, a) for a, s in product(_PROBES[:3], scalars))
    if op.form is not Form.LAYERS and not op.no_scalar:
        yield from product(scalars, repeat=op.arity)


def _shape(op: Op, operands: tuple[Array, ...]) -> tuple[int, ...]:
    first, last = operands[0].shape, operands[-1].shape
    if op.form in (Form.REDUCE, Form.DOT, Form.LAYERS):
        return ()
    if op.form is Form.GRAM:
        return first[:1] * 2
    return (*first[:1], *last[1:]) if op.form is Form.PRODUCT else np.broadcast_shapes(first, last)


_MISTAKES = (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, SyntaxError, TypeError, ValueError)
"""What a function that does not fit raises."""


def _computed(op: Op) -> list[str]:
    """The first thing that is wrong with the reference."""
    for operands in _operands(op):
        given = tuple(x.copy() for x in operands)
        shown = f"for {_shown(operands)}"
        wanted = _shape(op, operands)
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(op.reference(*given))
                again = op.reference(*(x.copy() for x in operands))
        except _MISTAKES as error:
            return [f"reference: {type(error).__name__} {shown}: {error}"]
        if value.dtype != np.float64 or value.shape != wanted:
            return [f"reference: {value.dtype} {list(value.shape)} instead of float64 {list(wanted)} {shown}"]
        if not all(np.array_equal(*pair, equal_nan=True) for pair in zip(given, operands, strict=True)):
            return [f"reference: it changes its operand, {shown}"]
        if any(np.isnan(x).any() for x in operands) and not np.isnan(value).any():
            return [f"reference: NaN in an operand must give NaN, {shown}"]
        if not np.array_equal(value, again, equal_nan=True):
            return [f"reference: another value the second time, {shown}"]
    return []


def _reference(op: Op, operands: tuple[Array, ...]) -> Array:
    with np.errstate(all="ignore"):
        return in_range(np.asarray(op.reference(*operands), np.float64))


def _claimed(op: Op) -> Iterator[str]:
    """What the op says of itself and does not keep."""
    if op.commutative:
        yield from _compared(op, "commutative: in the other order", lambda x: _reference(op, x[::-1]))
    if op.elementwise:
        yield from _compared(op, "elementwise: element by element", lambda x: _one_by_one(op, x))
    yield from itertools.islice(filter(None, (_false_fact(op, x) for x in _operands(op))), 1)
    if op.ranges is not None:
        yield from itertools.islice(filter(None, (_outside(op, x) for x in _operands(op))), 1)


def _false_fact(op: Op, operands: tuple[Array, ...]) -> str:
    """What the facts say of every operand, where it is not so."""
    value = _reference(op, operands)
    try:
        facts = op.facts((UNKNOWN,) * op.arity, _kinds(op, operands))
    except _MISTAKES as error:
        return f"facts: {type(error).__name__}: {error}"
    if not isinstance(facts, Facts):
        return f"facts: {type(facts).__name__} instead of Facts"
    if not np.isfinite(value).all():
        return ""
    if facts.nonnegative and (value < 0).any():
        return f"facts: nonnegative, but {_shown((value,))} for {_shown(operands)}"
    if facts.value is not None and not np.allclose(value, facts.value, _CLOSE, _CLOSE):
        return f"facts: always {facts.value:g}, but {_shown((value,))} for {_shown(operands)}"
    return ""


def _outside(op: Op, operands: tuple[Array, ...]) -> str:
    """Where the interval that ``ranges`` gives for a network with these statistics does not hold the value."""
    from ..stats_cache.memory import MemoryCache
    from .known import known_of

    operands = tuple(in_range(np.asarray(x, np.float32).astype(np.float64)) for x in operands)
    value = _reference(op, operands)
    if not all(np.isfinite(x).all() for x in operands) or np.isnan(value).any():
        return ""  # nothing is said of NaN, and of infinite statistics nothing is known
    node, layers = _network(op, operands)
    segments = {name: [layer[name] for layer in layers] for name in layers[0]}
    analyser = Analyser(known_of(MemoryCache([segments]), [0]))
    try:
        analyser.check([Pool().score(node)])
        span = analyser.span(node)
    except _MISTAKES as error:
        return f"ranges: {type(error).__name__} for {_shown(operands)}: {error}"
    low, high = span.low[0].max(), span.high[0].min()
    if span.nan.any() or (value < low).any() or (value > high).any():
        said = "NaN" if span.nan.any() else f"between {low:g} and {high:g}"
        return f"ranges: {said}, but {_shown((value,))} for {_shown(operands)}"
    return ""


def _one_by_one(op: Op, operands: tuple[Array, ...]) -> Array:
    whole = np.broadcast_arrays(*operands)
    value = np.empty(whole[0].shape)
    for place in np.ndindex(value.shape):
        value[place] = _reference(op, tuple(np.asarray(x[place]) for x in whole))
    return value


def _exported(op: Op) -> Iterator[str]:
    """Whether torch and SymPy compute what the reference computes."""
    if op.torch:
        yield from _compared(op, "torch: the expression", lambda x: _by_torch(op, x))
    if op.sympy:
        yield from _compared(op, "sympy: the expression", lambda x: _by_sympy(op, x), whole=False)


def _compared(op: Op, what: str, compute: Callable[[tuple[Array, ...]], Array], *, whole: bool = True) -> Iterator[str]:
    """The first operands for which it computes something else than the reference; of a matrix the mean if not whole."""
    for operands in _operands(op):
        expected = _reference(op, operands)
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        if not whole:
            if not all(np.isfinite(x).all() for x in (*operands, expected)):
                continue  # real arithmetic has neither inf nor NaN
            expected = np.asarray(expected.mean())
        try:
            found = np.asarray(compute(operands), np.float64)
        except (*_MISTAKES, ProxforgeError) as error:
            yield f"{what} raises {type(error).__name__} for {_shown(operands)}: {error}"
            return
        bound = max(_CLOSE * scale, _NOTHING)
        if found.shape != expected.shape or not np.allclose(found, expected, _CLOSE, bound, equal_nan=True):
            yield f"{what} gives {_shown((found,))} instead of {_shown((expected,))} for {_shown(operands)}"
            return


def _by_torch(op: Op, operands: tuple[Array, ...]) -> Array:
    """As the backend computes it, in a batch of two; a reduction over layers as the export does."""
    import torch

    from .backends.torch_ops import apply
    from .export_torch import torch_function

    tensors = [torch.from_numpy(x.copy()) for x in operands]
    if op.form is Form.LAYERS:
        return np.asarray(in_range(torch_function(op)(*tensors).numpy()))
    return np.asarray(apply(op, _kinds(op, operands), [torch.stack((x, x)) for x in tensors])[1].numpy())


def _by_sympy(op: Op, operands: tuple[Array, ...]) -> Array:
    """The mean of what it gives, in a network whose statistics are the operands."""
    from ..grammar.symbolic import evaluate

    node, layers = _network(op, operands)
    return np.asarray(evaluate(Pool().score(node), layers))


def _kinds(op: Op, operands: tuple[Array, ...]) -> tuple[Kind, ...]:
    return tuple(Kind.MATRIX if x.ndim and op.form is not Form.LAYERS else Kind.SCALAR for x in operands)


def _network(op: Op, operands: tuple[Array, ...]) -> tuple[Node, list[dict[str, Array]]]:
    """The op on statistics, a Scalar being the maximum of one element, and the layers of a network with them."""
    pool = Pool()
    if op.form is Form.LAYERS:
        layers = [{"conv.w": np.full((1, 1), x)} for x in operands[0]]
        return pool.apply(op, pool.apply(OPS["max"], pool.statistic("conv.w"))), layers
    matrices = ("fc2.w", "fc1.w") if op.form is Form.PRODUCT else ("fc1.w", "fc1.g")
    layer, nodes = {}, []
    for x, matrix, scalar in zip(operands, matrices, ("conv.w", "conv.g"), strict=False):
        name = matrix if x.ndim else scalar
        layer[name] = np.atleast_2d(x)
        nodes.append(pool.statistic(name) if x.ndim else pool.apply(OPS["max"], pool.statistic(name)))
    return pool.apply(op, *nodes), [layer]


def _shown(arrays: tuple[Array, ...]) -> str:
    return " and ".join(np.array2string(x, precision=6, separator=", ").replace("\n", "") for x in arrays)
