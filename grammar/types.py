"""The three types of the language, and the statistics as the language sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a value belongs to: the elements of a segment, one layer, or one network."""

    MATRIX = 0
    SCALAR = 1
    SCORE = 2

    @property
    def letter(self) -> str:
        """The suffix of an opcode in a disassembly."""
        return "msx"[self]


@dataclass(frozen=True, slots=True)
class Type:
    """``Matrix[rows, cols]`` with named axes, ``Scalar`` (one per layer) or ``Score`` (one per network)."""

    kind: Kind
    rows: str = ""
    cols: str = ""

    def __str__(self) -> str:
        if self.kind is Kind.MATRIX:
            return f"Matrix[{self.rows}, {self.cols}]"
        return self.kind.name.capitalize()


SCALAR = Type(Kind.SCALAR)
SCORE = Type(Kind.SCORE)


def matrix(rows: str, cols: str) -> Type:
    """The type of a matrix with the named axes."""
    return Type(Kind.MATRIX, rows, cols)


AXES: Mapping[str, str] = {
    "d": "embedding",
    "q": "attention width",
    "3q": "queries, keys and values, stacked",
    "m": "hidden width of the MLP",
    "n": "tokens x batch",
}
"""The named axes of a transformer layer."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """One tensor per layer: ``name`` is ``site.kind``, ``type`` its matrix type, ``doc`` what it is."""

    name: str
    site: str
    kind: str
    type: Type
    latex: str
    doc: str


_SITES = {  # site -> (rows, cols, LaTeX subscript, module)
    "qkv": ("3q", "d", "qkv", "the joint query, key and value layer"),
    "proj": ("d", "q", "proj", "the output projection of the attention"),
    "fc1": ("m", "d", "fc_1", "the first linear layer of the MLP"),
    "fc2": ("d", "m", "fc_2", "the second linear layer of the MLP"),
}
_WEIGHT_KINDS = {
    "w": (r"W_{{\mathrm{{{0}}}}}", "weight of {0}"),
    "g": (r"\nabla W_{{\mathrm{{{0}}}}}", "gradient of the cross-entropy by the weight of {0}"),
    "v": (r"V_{{\mathrm{{{0}}}}}", "SynFlow gradient by the weight of {0}"),
}
_HIDDEN = (
    Statistic("hidden.a", "hidden", "a", matrix("n", "m"), r"A_{\mathrm{hidden}}", "hidden activation of the MLP"),
    Statistic(
        "hidden.g",
        "hidden",
        "g",
        matrix("n", "m"),
        r"\nabla A_{\mathrm{hidden}}",
        "gradient of the cross-entropy by the hidden activation of the MLP",
    ),
)

STATISTICS: Mapping[str, Statistic] = {
    s.name: s
    for s in (
        *(
            Statistic(f"{site}.{kind}", site, kind, matrix(rows, cols), latex.format(sub), doc.format(module))
            for site, (rows, cols, sub, module) in _SITES.items()
            for kind, (latex, doc) in _WEIGHT_KINDS.items()
        ),
        *_HIDDEN,
    )
}
"""Every statistic of a transformer layer, by name."""

ALIASES: Mapping[str, str] = {
    f"F{i}{suffix}": f"{site}.{gradient if suffix else value}"
    for i, (site, value, gradient) in enumerate(
        (("qkv", "w", "g"), ("fc1", "w", "g"), ("fc2", "w", "g"), ("hidden", "a", "g")), start=1
    )
    for suffix in ("", "g")
}
"""``F1 F1g .. F4 F4g``: the names of the Auto-Prox paper for its eight inputs."""

AUTOPROX_INPUTS: tuple[str, ...] = tuple(ALIASES.values())
"""The eight inputs of Auto-Prox as we read the paper."""

NETWORK_FACTS: Mapping[str, str] = {
    "params": "number of learnable parameters",
    "flops": "multiply-accumulates of one forward pass of one image",
    "depth": "number of layers",
    "width": "mean embedding width of the layers",
}
"""What a Score may read of the network itself."""
