"""What an op is: the columns of the op table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import facts as f
from .types import Kind


class Form(Enum):
    """The shape rule of an op."""

    MAP = "keeps the shape"
    REDUCE = "all elements -> Scalar"
    JOIN = "equal shapes, or a Scalar broadcasts"
    PRODUCT = "equal inner axes"
    GRAM = "rows x rows"
    DOT = "equal shapes -> Scalar"
    LAYERS = "all layers -> Score"
    LEAF = "a leaf"


ARITY = {
    Form.MAP: 1, Form.REDUCE: 1, Form.GRAM: 1, Form.LAYERS: 1, Form.JOIN: 2, Form.PRODUCT: 2, Form.DOT: 2, Form.LEAF: 0
}  # fmt: skip
"""The number of operands of each form."""


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One op of the language.

    ``reference``: numpy float64 arrays ``[r, c]`` (Matrix) or 0-d (Scalar) -> the same; of a layer op ``[layers]`` in.
    ``rule``: the definition as text; ``domain``: where it has a finite value; ``edge``: what it gives at the edges.
    ``facts``: the transfer rule of the flag "depends on shape only"; ``ranges``: that of the intervals, None where
    nothing is known of the result. ``latex``: a template with one field per operand. ``torch``: the same for
    a torch expression on float64 tensors ``[r, c]`` or 0-d, and ``sympy`` for a SymPy expression on the elements (of
    an op that is not elementwise on a `symbolic.Family`): what the exports write. ``sets``: the op sets it is in.
    ``elementwise``: an element of the result depends on the same elements of the operands alone.
    ``name`` is how it is written: as a call, or, if it is no word, between its operands with a ``precedence`` (higher
    binds tighter) and a ``mnemonic`` for disassemblies. ``no_scalar`` says why the op has no value on a Scalar.
    """

    name: str
    arity: int
    form: Form
    rule: str
    reference: Callable[..., Any]
    facts: f.Rule = f.unknown
    latex: str = ""
    sets: frozenset[str] = frozenset()
    elementwise: bool = False
    commutative: bool = False
    precedence: int = 9
    mnemonic: str = ""
    no_scalar: str = ""
    kinds: tuple[Kind, ...] = (Kind.MATRIX, Kind.SCALAR)
    domain: str = ""
    edge: str = ""
    torch: str = ""
    sympy: str = ""
    ranges: Any | None = None

    def __post_init__(self) -> None:
        if not self.latex:
            operands = ", ".join(f"{{{i}}}" for i in range(self.arity))
            shown = self.name.replace("_", "")
            object.__setattr__(self, "latex", rf"\operatorname{{{{{shown}}}}}\left({operands}\right)")

    @property
    def infix(self) -> bool:
        """Whether it is written between its operands."""
        return not self.name.isidentifier()

    @property
    def usage(self) -> str:
        """How it is written, for instance ``dot(a, b)``."""
        names = "ab" if self.arity == 2 else "x"
        return f"a {self.name} b" if self.infix else f"{self.name}({', '.join(names)})"

    @property
    def signatures(self) -> tuple[str, ...]:
        """One signature per kind, for instance ``Matrix[r, c] -> Scalar``."""
        return tuple(_signature(self.form, self.arity, kind) for kind in self.kinds)

    def each(self, *scalars: NDArray[np.float64]) -> NDArray[np.float64]:
        """The op on Scalars of many layers: float64 ``[T]`` for every operand -> ``[T]``."""
        if self.elementwise:
            return np.asarray(self.reference(*scalars), np.float64)
        values = zip(*scalars, strict=True)
        return np.array([float(self.reference(*(np.asarray(v) for v in layer))) for layer in values])


def _signature(form: Form, arity: int, kind: Kind) -> str:
    if form is Form.LAYERS:
        return "Scalar -> Score"
    name = kind.name.capitalize()
    if kind is not Kind.MATRIX:
        return f"{', '.join([name] * arity)} -> {name}"
    operands = {Form.PRODUCT: "Matrix[r, k], Matrix[k, c]"}.get(form, ", ".join(["Matrix[r, c]"] * arity))
    results = {Form.REDUCE: "Scalar", Form.DOT: "Scalar", Form.GRAM: "Matrix[r, r]"}
    return f"{operands} -> {results.get(form, 'Matrix[r, c]')}"
