"""The three types of the language, and the statistics as the language sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache


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


@lru_cache
def matrix(rows: str, cols: str) -> Type:
    """The type of a matrix with the named axes."""
    return Type(Kind.MATRIX, rows, cols)


AXES: Mapping[str, str] = {
    "d": "embedding",
    "q": "attention width",
    "3q": "queries, keys and values, stacked",
    "m": "hidden width of the MLP",
    "n": "tokens x batch",
    "o": "output channels of a convolution",
    "i": "its input channels (of one group) x kernel positions",
    "p": "positions of its output x batch",
}
"""The named axes of a transformer layer, then those of a convolution."""


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
    "conv": ("o", "i", "conv", "the convolution"),
}
_WEIGHT_KINDS = {
    "w": (r"W_{{\mathrm{{{0}}}}}", "weight of {0}"),
    "g": (r"\nabla W_{{\mathrm{{{0}}}}}", "gradient of the cross-entropy by the weight of {0}"),
    "v": (r"V_{{\mathrm{{{0}}}}}", "SynFlow gradient by the weight of {0}"),
}
_ACTIVATIONS = {  # site -> (rows, cols, LaTeX subscript, what)
    "hidden": ("n", "m", "hidden", "hidden activation of the MLP"),
    "act": ("p", "o", "act", "output of the convolution"),
}
_ACTIVATION_KINDS = {
    "a": (r"A_{{\mathrm{{{0}}}}}", "{0}"),
    "g": (r"\nabla A_{{\mathrm{{{0}}}}}", "gradient of the cross-entropy by the {0}"),
}


def _statistics(site: str) -> tuple[Statistic, ...]:
    table, kinds = (_SITES, _WEIGHT_KINDS) if site in _SITES else (_ACTIVATIONS, _ACTIVATION_KINDS)
    rows, cols, sub, what = table[site]
    return tuple(
        Statistic(f"{site}.{kind}", site, kind, matrix(rows, cols), latex.format(sub), doc.format(what))
        for kind, (latex, doc) in kinds.items()
    )


TRANSFORMER_SITES = ("qkv", "proj", "fc1", "fc2", "hidden")
CONVOLUTION_SITES = ("conv", "act")
SITES = (*TRANSFORMER_SITES, *CONVOLUTION_SITES)
"""Where statistics are collected in a layer of a transformer, and in a convolution."""

STATISTICS: Mapping[str, Statistic] = {s.name: s for site in SITES for s in _statistics(site)}
"""Every statistic, by name: those of a transformer layer, then those of a convolution."""

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
    "depth": "number of layers (transformer layers, or convolutions)",
    "width": "mean embedding width of the layers; of convolutions, mean number of output channels",
}
"""What a Score may read of the network itself."""
