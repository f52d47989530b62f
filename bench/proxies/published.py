"""What is kept of a published proxy that the language can say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ...grammar.types import CONVOLUTION_SITES


@dataclass(frozen=True, slots=True)
class Published:
    """A proxy of a paper.

    ``formula``: over the statistics of transformer layers. ``convolution``: the same over those of convolutions, None
    where the proxy reads something that a convolution does not have. ``paper``: where it stands. ``note``: what our
    form settles, and where the paper and its code differ.
    """

    name: str
    formula: str
    paper: str
    note: str
    convolution: str | None = None

    def form(self, sites: Collection[str]) -> str | None:
        """The formula for networks with these sites: of convolutions where they have them and nothing else."""
        return self.convolution if set(sites) == set(CONVOLUTION_SITES) else self.formula
