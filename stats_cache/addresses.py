"""How much memory a process may still ask for, where that is limited."""

from __future__ import annotations

import math
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
