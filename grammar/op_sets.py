"""The named op sets: whose they are, and what of the published sets is said in another way or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpSet:
    """``doc``: whose set it is. ``otherwise``: ops of the paper that have another name or need several ops here.
    ``missing``: ops of the paper that the language cannot say, and why."""

    doc: str
    otherwise: Mapping[str, str]
    missing: Mapping[str, str]


PUBLISHED_SETS: Mapping[str, OpSet] = {
    "autoprox": OpSet(
        "Auto-Prox (AAAI 2024): 24 unary and 4 binary ops, each for Matrix and for Scalar, 56 in all. The paper does "
        "not list them: 20 names are fixed by published code, `sign` and `sum` are from an older version of it, `min` "
        "and `max` are our choice",
        {"pow": "`square`", "invert": "`inv`", "revert": "`neg`", "no_op": "`identity`", "to_mean": "`mean`"},
        {
            "slogdet, gram_matrix": "in an older list of the code, but without a value on the matrices of a ViT; "
            "defined for every shape they are extended ops",
        },
    ),
    "autodas": OpSet(
        "Auto-DAS (ECCV 2024), Table 1: 21 unary and 5 binary ops",
        {
            "leaky": "`leaky_relu`, slope 0.01",
            "pow2": "`square`",
            "abssqrt": "`sqrt`, as the published code computes it (0 below 0); by its name `sqrt(abs(x))`",
            "ln_norm": "`normalize`: the code's z-score over all elements, without weights",
            "log": "`log`; the code's sign(x) ln(|x| + 1e-9) is `sign(x) * log(abs(x))`",
            "to_mean, to_std, no-op, revert, invert": "`mean`, `std`, `identity`, `neg`, `inv`",
        },
        {},
    ),
    "eznas": OpSet(
        "EZNAS (NeurIPS 2022), its published primitives",
        {
            "logdet": "`slogdet`, in the form that every shape has: of x xᵀ/c + ε μ I",
            "AbsLog": "`abs(log(x))`; the log of an absolute value is `abslog`",
            "z-score, 1/A, mean-abs": "`normalize`, `inv`, `l1_norm`",
            "x > 0, x < 0": "`heaviside(x)`, `heaviside(-x)`",
            "a > b, a < b": "`heaviside(a - b)`, `heaviside(b - a)`",
            "a = b": "`1 - heaviside(abs(a - b))`",
            "cosine": "`dot(a, b) / (frobenius(a) * frobenius(b))`",
            "hamming distance": "`sum(abs(heaviside(a) - heaviside(b)))`: how many signs differ",
            "KL divergence": "`sum(b * (log(b) - a))`, where `a` are logarithms; divide by a number for a batch mean",
            "numel, ones_like, zeros_like": "numbers and shapes: `sum(x * 0 + 1)`, `x * 0 + 1`, `x * 0`",
        },
        {
            "det": "of a matrix of this size it leaves float32's range at once; its logarithm is `slogdet`",
            "eigenvalue ratio": "eigenvalues of a matrix that is not symmetric are complex, and it must be square",
        },
    ),
    "automl_zero": OpSet(
        "AutoML-Zero (ICML 2020), of its 64 ops those whose types this language has",
        {
            "sum, difference, product, division": "`+ - * /`; a Scalar broadcasts, which is scalar-matrix product and "
            "scalar broadcast",
            "reciprocal": "`inv` (with ε) or `1 / x`",
            "norm": "`frobenius`",
            "inner product": "`dot`",
            "matrix-matrix product": "`@`",
            "heaviside": "0 at 0, as its vectors and matrices have it; its scalars give 1",
            "elementwise minimum and maximum": "`a - relu(a - b)`, `b + relu(a - b)`; `min` and `max` reduce here",
            "constants": "numbers",
        },
        {
            "sin, cos, tan and their inverses": "no proxy uses them; `register` adds them",
            "vectors: outer product, row and column norms, means, standard deviations and broadcasts": (
                "the language has no vectors"
            ),
            "transpose": "left out: most reductions do not see it, and `gram` is the product that needs it",
            "uniform, gaussian": "a score is a function of the network, not of chance",
        },
    ),
    "extended": OpSet("Ops outside the 56", {}, {}),
    "layer": OpSet("Reductions over the layers", {}, {}),
}
"""Name -> what is known of the set. The ops themselves say which sets they are in."""
