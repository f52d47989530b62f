"""How much memory there is, and how much a process may still ask for, where that is limited."""

from __future__ import annotations

import math
import os
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_STATM = Path("/proc/self/statm")


def room() -> float:
    """Bytes of address space that are left (ulimit -v); infinite where it is not limited, or nobody can tell."""
    if resource is None:
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not _STATM.exists():
        return math.inf
    return max(0, limit - resource.getpagesize() * int(_STATM.read_text().split()[0]))


def installed() -> float:
    """Bytes of memory of the machine; infinite where nobody can tell."""
    if not hasattr(os, "sysconf"):  # Windows
        return math.inf
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
