"""The statistics of untrained networks: collected once, kept in files, mapped into memory."""

from .collect import Progress, cache_path, collect
from .manifest import Recipe
from .memory import MemoryCache
from .source import CacheError, Network, SegmentFacts, Source, StatFacts
from .store import Cache, Problem, open_cache, verify

__all__ = [
    "Cache",
    "CacheError",
    "MemoryCache",
    "Network",
    "Problem",
    "Progress",
    "Recipe",
    "SegmentFacts",
    "Source",
    "StatFacts",
    "cache_path",
    "collect",
    "open_cache",
    "verify",
]
