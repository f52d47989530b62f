"""A proxy in other forms: text, LaTeX, SymPy, a stand-alone torch file. All are generated from the op table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from .grammar.errors import ProxforgeError, nearest
from .grammar.expr import Node
from .grammar.text import latex, text


def _sympy(node: Node) -> str:
    from .grammar.export_sympy import sympy_source  # SymPy takes a second to load

    return sympy_source(node)


def _torch(node: Node) -> str:
    from .vm.export_torch import to_torch

    return to_torch(node)


FORMS: Mapping[str, Callable[[Node], str]] = {
    "text": lambda node: f"{text(node)}\n",
    "latex": lambda node: f"{latex(node)}\n",
    "sympy": _sympy,
    "torch": _torch,
}
"""Form -> what makes it of a Score, a text that ends with a new line.

``text``: the canonical formula. ``latex``: for math mode. ``sympy``: a Python file that defines the SymPy expression
``score`` and its ``arguments``. ``torch``: a Python file that defines ``score(layers, facts)`` and needs torch alone.
"""


def export(node: Node, to: str) -> str:
    """The Score in the form ``to``: text, latex, sympy or torch.

    Raises ProxforgeError ``usage`` for another form, ``export`` for an op or a size that the form cannot have.
    """
    if to not in FORMS:
        message = f"no export is called '{to[:80]}'{nearest(to, FORMS)}; there are {', '.join(FORMS)}"
        raise ProxforgeError("usage", message)
    return FORMS[to](node)


def write(content: str, path: Path) -> None:
    """The text as a file, whole or not at all; a file that is there is replaced. ProxforgeError ``file``."""
    place = Path(os.path.realpath(path))  # where a link leads
    if place.exists() and not place.is_file():
        raise ProxforgeError("file", f"cannot write {path}: it is no file; expected a name for one")
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ProxforgeError("file", f"cannot write {path}: {error.strerror}") from None
