"""The statistics of untrained networks: collected once, kept in files, mapped into memory."""

from .checking import Problem, glance, prune, repair, verify
from .collect import Progress, cache_path, collect
from .estimate import estimate
from .inputs import Batch, read_batch
from .memory import MemoryCache
from .models import collect_models
from .recipe import Recipe
from .source import CacheError, Network, SegmentFacts, Source, StatFacts
from .store import Cache, open_cache

__all__ = [
    "Batch",
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
    "collect_models",
    "estimate",
    "glance",
    "open_cache",
    "prune",
    "read_batch",
    "repair",
    "verify",
]
