"""A user's own ops: checked, then known to the language, the bytecode, every backend and the exports at once."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from contextlib import contextmanager

from ..grammar import ops
from ..grammar.errors import ProxforgeError
from ..grammar.op_sets import PUBLISHED_SETS
from ..grammar.ops import OPS, Op
from ..grammar.parse import MAX_NAME
from ..grammar.types import ALIASES, NETWORK_FACTS, STATISTICS
from . import program
from .op_checks import problems_of

_BUILT_IN = frozenset(OPS)
_RESERVED = {
    **dict.fromkeys(ALIASES, "the alias of a statistic"),
    **dict.fromkeys(NETWORK_FACTS, "a fact of the network"),
    **dict.fromkeys((s.partition(".")[0] for s in STATISTICS), "a site of statistics"),
    **dict.fromkeys(("statistic", "number", "fact", "load", "const", "recall", "ret"), "a word of the bytecode"),
    **dict.fromkeys((op.mnemonic for op in OPS.values() if op.mnemonic), "an instruction of the bytecode"),
}


def register(op: Op) -> Op:
    """Makes the op part of the language, in this process. Returns it.

    ``op.reference`` defines it. ``op.torch`` is used by the torch backend and the torch export; without it the torch
    backend runs the reference, on the CPU, and the export is an error. The same holds for ``op.sympy`` and the SymPy
    export. Without ``op.ranges`` nothing is assumed of its values, so nothing that uses it is rejected because of them.
    One name has one meaning: give an op that you change another name, for what is stored knows it by name only.

    Raises ProxforgeError ``op`` that lists everything that is wrong or missing.
    """
    problems = [*_named(op), *problems_of(op)]
    if problems:
        listed = "; ".join(f"({i}) {p}" for i, p in enumerate(problems, start=1))
        raise ProxforgeError("op", f"the op '{op.name[:80]}' cannot be registered: {listed}")
    ops.add(op)
    program.add(op)
    return op


def built_in(name: str) -> bool:
    """Whether an op is part of the language, so that every process knows it."""
    return name in _BUILT_IN


def unregister(name: str) -> None:
    """Takes a registered op out of the language. ProxforgeError ``op`` for a name that was not registered."""
    if name not in OPS or name in _BUILT_IN:
        what = "is part of the language" if name in _BUILT_IN else "is not registered"
        raise ProxforgeError("op", f"the op '{name[:80]}' {what}; only an op that was registered can be taken out")
    program.remove(OPS[name])
    ops.remove(OPS[name])


@contextmanager
def registered(op: Op) -> Iterator[Op]:
    """`register` for the body of a ``with`` statement."""
    register(op)
    try:
        yield op
    finally:
        unregister(op.name)


def _named(op: Op) -> Iterator[str]:
    name = op.name
    if not (name.isascii() and name.isidentifier() and len(name) <= MAX_NAME and not keyword.iskeyword(name)):
        yield f"name: expected one word of at most {MAX_NAME} letters, digits and '_', as for a name in Python"
    elif name in OPS:
        yield f"name: '{name}' is an op of the language already"
    elif name in _RESERVED:
        yield f"name: '{name}' is {_RESERVED[name]}"
    if not op.rule.strip():
        yield "rule: missing; say in words what the op computes"
    for wrong in sorted(op.sets & set(PUBLISHED_SETS)):
        yield f"sets: '{wrong}' is fixed; choose another name for your own set"
    for wrong in sorted(s for s in op.sets if not s.isidentifier()):
        yield f"sets: '{wrong}' is no name"
    if op.mnemonic or op.precedence != 9:
        yield "mnemonic, precedence: only for ops that are written between their operands, which cannot be registered"
