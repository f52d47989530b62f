"""Published proxies as formulas of the language, and the baselines that look at no statistic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BASELINES: tuple[str, ...] = ("params", "flops", "depth", "depth*width")
"""What every table shows beside a proxy: functions of the architecture alone."""


@dataclass(frozen=True, slots=True)
class Published:
    """A proxy of a paper. ``formula``: in the language. ``paper``: where it stands. ``note``: what our form settles."""

    name: str
    formula: str
    paper: str
    note: str


def _linear_layers(kind: str) -> str:
    """The sum of |weight * kind| over all elements of the four linear layers of every block."""
    return "layer_sum(" + " + ".join(f"sum(abs({s}.w * {s}.{kind}))" for s in ("qkv", "proj", "fc1", "fc2")) + ")"


PUBLISHED: Mapping[str, Published] = {
    p.name: p
    for p in (
        Published(
            "AutoProxA",
            "abs(qkv.g) + normalized_sum(sigmoid(fc1.g))",
            "Auto-Prox (AAAI 2024), eq. 2, found for AutoFormer",
            "the paper names an MLP gradient without saying of which layer: fc1; the implied reductions are means",
        ),
        Published(
            "AutoProxP",
            "frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))",
            "Auto-Prox (AAAI 2024), eq. 3, found for PiT",
            "the paper's norm inside the logarithm is read as elementwise |W|: of a number log-softmax is 0",
        ),
        Published(
            "SNIP",
            _linear_layers("g"),
            "Lee et al. (ICLR 2019); as a proxy: Abdelfattah et al. (ICLR 2021)",
            "over the linear layers of the blocks; patch embedding and head are not collected",
        ),
        Published(
            "SynFlow",
            _linear_layers("v"),
            "Tanaka et al. (NeurIPS 2020); as a proxy: Abdelfattah et al. (ICLR 2021)",
            "over the linear layers of the blocks; patch embedding and head are not collected",
        ),
    )
}
"""Name -> proxy. A name can stand for its formula wherever formulas are scored."""
