"""The ops on batches of segments, for the torch backend.

Float64 in float32's range (`_in_range`). The largest float32 number is taken as 2^128, which differs from it by half
a unit in its last place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink, leaky_relu, mish

from ...grammar.ops import Op
from ...grammar.reference import EPS, FLOAT32_TINY, LEAK
from ...grammar.types import Kind
from ..export_torch import torch_function

_ALL = (1, 2)
_SHIFT = 2.0**896  # 2^128 * 2^896 overflows float64, and scaling by a power of two is exact
BELOW_TINY = float(np.nextafter(FLOAT32_TINY, 0.0))


def _in_range(x: Tensor, *, grows: bool = True) -> Tensor:
    """Beyond float32's largest number inf, below its smallest normal number +0; ``x`` may be overwritten.

    ``grows``: whether a finite value of ``x`` can be beyond the largest number at all.
    """
    return hardshrink(x.mul_(_SHIFT).mul_(1.0 / _SHIFT) if grows else x, BELOW_TINY)


def _rows(x: Tensor) -> Tensor:
    return x[:, None, None]


def _log(x: Tensor) -> Tensor:
    return torch.where(x < 0, torch.nan, x).add_(EPS).log_()


def _abslog(x: Tensor) -> Tensor:
    return torch.where(x == 0, 1.0, x).abs_().log_()


def _sign(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, x.sign())


def _normalize(x: Tensor) -> Tensor:
    low, high = x.amin(_ALL), x.amax(_ALL)
    centred = x - x.mean(_ALL, keepdim=True)
    spread = _rows((centred.square().sum(_ALL) / max(x[0].numel() - 1, 1)).sqrt_())
    return torch.where(_rows(low == high), centred * 0.0, centred / spread)


def _min_max(x: Tensor) -> Tensor:
    low, high = x.amin(_ALL, keepdim=True), x.amax(_ALL, keepdim=True)
    return (x - low) / (high - low + EPS)


def _std(x: Tensor) -> Tensor:
    count = x[0].numel()
    if count < 2:
        return torch.full((len(x),), torch.nan, dtype=x.dtype, device=x.device)
    low, high = x.amin(_ALL), x.amax(_ALL)
    centred = x - x.mean(_ALL, keepdim=True)
    return torch.where(low == high, low * 0.0, (centred.square_().sum(_ALL) / (count - 1)).sqrt_())


def _heaviside(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), x, (x > 0).to(x.dtype))


def _singular(x: Tensor) -> Tensor:
    """Singular values ``[B, k]``; of a matrix that is not finite NaN or inf."""
    largest = x.abs().amax(_ALL)
    finite = largest.isfinite()
    found = torch.linalg.svdvals(torch.where(_rows(finite), x, 0.0))
    return torch.where(finite[:, None], found, largest[:, None])


def _slogdet(x: Tensor) -> Tensor:
    rows, columns = x.shape[1:]
    least = x.square().mean(_ALL)[:, None].mul_(EPS)
    found = _singular(x).square_().div_(columns).add_(least).log_().sum(1)
    rest = rows - min(rows, columns)
    return found + rest * least[:, 0].log_() if rest else found  # 0 * ln 0 is no 0


MAP: dict[str, Callable[[Tensor], Tensor]] = {
    "log": _log,
    "abslog": _abslog,
    "abs": torch.abs,
    "square": torch.square,
    "exp": torch.exp,
    "normalize": _normalize,
    "relu": lambda x: x.clamp(min=0.0),
    "inv": lambda x: (x + EPS).reciprocal_(),
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1),
    "sqrt": lambda x: x.clamp(min=0.0).sqrt_(),
    "neg": lambda x: 0.0 - x,  # there is no -0 in the language
    "min_max": _min_max,
    "identity": torch.clone,
    "sign": _sign,
    "tanh": torch.tanh,
    "mish": mish,
    "leaky_relu": lambda x: leaky_relu(x, LEAK),
    "pow4": lambda x: x.square().square_(),
    "heaviside": _heaviside,
    "gram": lambda x: (x @ x.mT).div_(x[0].numel()),
}
"""Ops that give a matrix: ``[B, r, c]`` -> ``[B, r, c]`` (gram: ``[B, r, r]``), always a new tensor. A Scalar comes as
``[B, 1, 1]``."""

REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "frobenius": lambda x: x.square().sum(_ALL).sqrt_(),
    "normalized_sum": lambda x: x.sum(_ALL) / (x[0].numel() + EPS),
    "l1_norm": lambda x: x.abs().sum(_ALL) / (x[0].numel() + EPS),
    "mean": lambda x: x.mean(_ALL),
    "std": _std,
    "sum": lambda x: x.sum(_ALL),
    "min": lambda x: x.amin(_ALL),
    "max": lambda x: x.amax(_ALL),
    "nuclear_norm": lambda x: _singular(x).sum(1),
    "slogdet": _slogdet,
}
"""Ops that reduce all elements: ``[B, r, c]`` -> ``[B]``, always a new tensor."""

SCALAR_REDUCE = {**dict.fromkeys(("normalized_sum", "mean", "sum", "min", "max"), torch.clone)} | {
    "frobenius": torch.abs,
    "l1_norm": torch.abs,
    "nuclear_norm": torch.abs,
    "slogdet": lambda s: s.square().mul_(1.0 + EPS).log_(),
    "std": lambda s: torch.full_like(s, torch.nan),
}
"""The same ops on a Scalar ``[B]``."""

JOIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "@": torch.matmul,
    "dot": lambda a, b: (a * b).sum(_ALL),
}
"""Ops of two operands: matrices ``[B, r, c]``, or a Scalar as ``[B, 1, 1]`` beside one."""

SCALAR_JOIN = {**JOIN, "@": torch.mul, "dot": torch.mul}
"""The same ops on two Scalars ``[B]``."""

BUILT_IN = frozenset((*MAP, *REDUCE, *JOIN))
"""The ops above; what a user registers brings its own implementation."""

_KEEPS_RANGE = frozenset(
    ("log", "abslog", "abs", "relu", "sqrt", "neg", "identity", "sign", "min", "max", "heaviside", "slogdet")
)
"""Ops whose results are in range when their operands are."""
_NEVER_GROWS = frozenset(
    (
        *("normalize", "inv", "sigmoid", "softmax", "min_max", "tanh", "mish", "leaky_relu"),
        *("mean", "l1_norm", "normalized_sum"),
    )
)
"""Ops whose results may be too small for the range, but never too large and finite."""


def apply(op: Op, kinds: tuple[Kind, ...], operands: list[Tensor]) -> Tensor:
    """One op on a batch, in float32's range. A Matrix is ``[B, r, c]``, a Scalar ``[B]``."""
    name = op.name
    if name not in BUILT_IN:
        return _in_range(_registered(op, kinds, operands))
    if len(operands) == 2:
        if Kind.MATRIX not in kinds:
            return _in_range(SCALAR_JOIN[name](*operands))
        return _in_range(JOIN[name](*_broadcast(kinds, operands)))
    x = operands[0]
    if name in REDUCE:
        value = REDUCE[name](x) if kinds[0] is Kind.MATRIX else SCALAR_REDUCE[name](x)
    else:
        value = MAP[name](x) if kinds[0] is Kind.MATRIX else MAP[name](_rows(x)).flatten()
    return value if name in _KEEPS_RANGE else _in_range(value, grows=name not in _NEVER_GROWS)


def _broadcast(kinds: tuple[Kind, ...], operands: list[Tensor]) -> list[Tensor]:
    """A Scalar beside a Matrix becomes ``[B, 1, 1]``."""
    mixed = len(set(kinds)) > 1
    return [_rows(x) if mixed and k is Kind.SCALAR else x for k, x in zip(kinds, operands, strict=True)]


def _registered(op: Op, kinds: tuple[Kind, ...], operands: list[Tensor]) -> Tensor:
    """An op that a user registered: its torch expression, or else its reference, on the CPU. Always a new tensor."""
    compute = torch_function(op) if op.torch else _by_reference(op)
    if op.elementwise:
        return compute(*_broadcast(kinds, operands)).clone()
    return torch.stack([compute(*layer) for layer in zip(*operands, strict=True)])


def _by_reference(op: Op) -> Callable[..., Tensor]:
    def compute(*operands: Tensor) -> Tensor:
        with np.errstate(all="ignore"):
            value = op.reference(*(x.cpu().numpy() for x in operands))
        return torch.tensor(np.asarray(value, np.float64), device=operands[0].device)

    return compute
