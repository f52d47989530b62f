"""A cache in memory: the interface of one on the disk."""

from __future__ import annotations

import numpy as np
import pytest
from toy_space import ALL, recipe

from proxforge.stats_cache import CacheError, MemoryCache, Network, collect, open_cache
from proxforge.stats_cache.spaces.base import Size


def test_a_cache_in_memory_reads_alike(tmp_path):
    cache = open_cache(collect(recipe(3), ALL, tmp_path, workers=1).path)
    names, networks = ["fc1.w", "hidden.a"], cache.networks
    segments = [{s: [cache.read(n.index, s, i) for i in range(n.layers)] for s in names} for n in networks]
    memory = MemoryCache(segments, [n.size for n in networks], [n.arch for n in networks])
    assert memory.networks == cache.networks
    assert memory.statistics == set(names)
    for name in names:
        assert memory.facts(name) == cache.facts(name)
        assert memory.facts(name, 2) == cache.facts(name, 2)
        assert memory.segments(2, name) == cache.segments(2, name)
        assert memory.shape(1, name, 1) == cache.shape(1, name, 1)
        np.testing.assert_array_equal(memory.read(1, name, 1), cache.read(1, name, 1))
    assert not memory.read(0, "fc1.w", 0).flags.writeable
    assert MemoryCache(segments).networks[2] == Network(2, {}, Size(0, 0, 3, 0.0), 3)
    assert MemoryCache(segments).key == MemoryCache(segments).key != MemoryCache(segments[::-1]).key


def test_what_does_not_line_up_in_memory_is_told():
    one = [[1.0, 2.0]]
    for segments, message in (
        ([], "at least one network"),
        ([{"fc1.w": [one]}, {}], "at least one statistic"),
        ([{"fc1.w": [one]}, {"fc2.w": [one]}], r"network 1 has the layers \{'fc2.w': 1\}"),
        ([{"fc1.w": [one], "fc2.w": [one, one]}], "network 0 has the layers"),
        ([{"fc1.w": [[1.0]]}], r"shape \(1,\); expected \[rows, cols\]"),
    ):
        with pytest.raises(CacheError, match=message):
            MemoryCache(segments)
    with pytest.raises(CacheError, match="1 networks, 2 sizes, 1 archs"):
        MemoryCache([{"fc1.w": [one]}], [Size(1, 1, 1, 1.0)] * 2)
    cache = MemoryCache([{"fc1.w": [one]}])
    for arguments in ((1, "fc1.w", 0), (0, "fc2.w", 0), (0, "fc1.w", 1)):
        with pytest.raises(CacheError):
            cache.read(*arguments)
