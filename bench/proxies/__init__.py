"""Published proxies as formulas of the language, what their papers report, and the baselines without a statistic."""

from __future__ import annotations

from collections.abc import Mapping

from .figures import FIGURES as FIGURES
from .formulas import FORMULAS
from .published import Published as Published

BASELINES: tuple[str, ...] = ("params", "flops", "depth", "depth*width")
"""What every table shows beside a proxy: functions of the architecture alone."""

PUBLISHED: Mapping[str, Published] = {proxy.name: proxy for proxy in FORMULAS}
"""Name -> proxy. A name can stand for its formula wherever formulas are scored."""
