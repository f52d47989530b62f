"""Which digits of a score mean anything: the reference run again with every intermediate value slightly off."""

from __future__ import annotations

from proxforge.bench.agreement.rounding import reference_run, rounding

__all__ = ["reference_run", "rounding"]
