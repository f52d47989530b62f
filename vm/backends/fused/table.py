"""The instructions of the fused kernel as data, and its source: what an op does to an element, as C++."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from ....grammar.reference import EPS, FLOAT32_MAX, FLOAT32_TINY, LEAK

LANES, TILE, CHUNK, STRIP = 32, 128, 4096, 64
"""Threads of a block, elements of a tile, elements (whole tiles) and rows that one block takes of a segment. The order
of every sum follows from these and the segment's shape alone."""
SHARED = 48 << 10
"""Bytes of shared memory for a block: every CUDA device has them."""
POINTERS = 64
"""Matrices that one sweep reads, or keeps, at most."""
SCALAR_A, SCALAR_B = 256, 512
"""Added to an instruction: its first or second operand is a row of the table of Scalars, and no register."""

ELEMENTS = {
    "identity": "x",
    "abs": "fabs(x)",
    "neg": "0.0 - x",
    "relu": "x < 0.0 ? 0.0 : x",
    "leaky_relu": "in_range(x < 0.0 ? LEAK * x : x)",
    "sign": "x != x ? x : double(x > 0.0) - double(x < 0.0)",
    "heaviside": "x != x ? x : double(x > 0.0)",
    "square": "in_range(x * x)",
    "pow4": "in_range((x * x) * (x * x))",
    "sqrt": "sqrt(x < 0.0 ? 0.0 : x)",
    "inv": "in_range(1.0 / (x + EPS))",
    "exp": "in_range(exp(x))",
    "log": "log((x < 0.0 ? NOTHING : x) + EPS)",
    "abslog": "x == 0.0 ? 0.0 : log(fabs(x))",
    "sigmoid": "in_range((x < 0.0 ? exp(-fabs(x)) : 1.0) / (1.0 + exp(-fabs(x))))",
    "tanh": "in_range(tanh(x))",
    "mish": "in_range(x * tanh((x < 0.0 ? 0.0 : x) + log1p(exp(-fabs(x)))))",
    "add": "in_range(x + y)",
    "sub": "in_range(x - y)",
    "mul": "in_range(x * y)",
    "div": "in_range(x / y)",
    "one": "1.0 + (x - x)",
    "log_square": "in_range(log(x * x * (1.0 + EPS)))",
}
"""Elementwise: of x, and of y."""

SCALARS = {
    **{name: (name, (0, 1)) for name in ELEMENTS},
    **dict.fromkeys(("sum", "mean", "normalized_sum", "min", "max"), ("identity", (0, 0))),
    **dict.fromkeys(("frobenius", "l1_norm", "nuclear_norm"), ("abs", (0, 0))),
    **dict.fromkeys(("log_softmax", "normalize", "min_max"), ("sub", (0, 0))),
    **dict.fromkeys(("matmul", "dot"), ("mul", (0, 1))),
    "softmax": ("one", (0, 0)),
    "gram": ("square", (0, 0)),
    "slogdet": ("log_square", (0, 0)),
}
"""The ops on Scalars: what is done, with which operands."""

TOTALS = ("SUM", "ABSOLUTES", "SQUARES", "PRODUCTS", "MIN", "MAX", "MOMENTS")
"""What is kept of all elements; `MOMENTS` takes two places."""
OTHERS = ("LOAD", "STORE", "SCALE", "SOFTMAX", "LOG_SOFTMAX", "COLUMN", "CONSTANT")

FINISHES = {
    "sum": (("SUM",), "in_range(a.x)"),
    "mean": (("SUM",), "in_range(a.x / n)"),
    "normalized_sum": (("SUM",), "in_range(a.x / (n + EPS))"),
    "l1_norm": (("ABSOLUTES",), "in_range(a.x / (n + EPS))"),
    "frobenius": (("SQUARES",), "in_range(sqrt(a.x))"),
    "std": (("MOMENTS",), "n < 2.0 ? NOTHING : in_range(sqrt(a.y / (n - 1.0)))"),
    "min": (("MIN",), "a.x"),
    "max": (("MAX",), "a.x"),
    "dot": (("PRODUCTS",), "in_range(a.x)"),
    "centre": (("MOMENTS",), "a.x"),
    "spread": (("MOMENTS", "MIN", "MAX"), "n < 2.0 || b.x == c.x ? INFINITE : sqrt(a.y / (n - 1.0))"),
    "low": (("MIN",), "a.x"),
    "reach": (("MIN", "MAX"), "b.x - a.x + EPS"),
}
"""What follows from totals a, b, c of n elements: which totals, and how."""

AFFINE = {"normalize": ("centre", "spread"), "min_max": ("low", "reach")}
"""The ops (x - s)/t, and what s and t are."""
COLUMNWISE = {"softmax": "SOFTMAX", "log_softmax": "LOG_SOFTMAX"}

OPERATIONS = {name: code for code, name in enumerate((*ELEMENTS, *TOTALS, *OTHERS))}
FINISHING = {name: code for code, name in enumerate(FINISHES)}


@cache
def source() -> str:
    """The kernel's C++ source, for CUDA; without CUDA's macros it is plain C++ that runs one block at a time."""
    numbers = {
        **{"LANES": LANES, "TILE": TILE, "CHUNK": CHUNK, "STRIP": STRIP, "POINTERS": POINTERS, "SHARED_BYTES": SHARED},
        **{"SCALAR_A": SCALAR_A, "SCALAR_B": SCALAR_B},
        **{"EPS": EPS.hex(), "LEAK": LEAK.hex(), "LARGEST": FLOAT32_MAX.hex(), "SMALLEST": FLOAT32_TINY.hex()},
        **{name if name.isupper() else f"E_{name}": code for name, code in OPERATIONS.items()},
        **{f"F_{name}": code for name, code in FINISHING.items()},
        "ELEMENTS(CASE)": _cases("E", ELEMENTS.items()),
        "FINISHES(CASE)": _cases("F", ((name, value) for name, (_, value) in FINISHES.items())),
    }
    lines = [f"#define {name} {value}" for name, value in numbers.items()]
    return "\n".join([*lines, (files(__package__) / "kernel.cu").read_text(encoding="utf-8")])


def _cases(prefix: str, expressions: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"CASE({prefix}_{name}, ({value}))" for name, value in expressions)
