"""Errors survive a process boundary."""

from __future__ import annotations

import copy

import pytest

from proxforge.grammar.errors import ProxforgeError, ProxyError, nearest
from proxforge.grammar.parse import parse
from proxforge.stats_cache import CacheError
from proxforge.stats_cache.spaces.base import SpaceError


@pytest.mark.parametrize("error", [ProxforgeError("kind", "message", 3, 4), CacheError("cache"), SpaceError("space")])
def test_an_error_arrives_whole_from_another_process(error):
    again = copy.copy(error)  # by way of __reduce__, as a process boundary
    assert type(again) is type(error)
    assert again.to_dict() == error.to_dict()
    assert str(again) == str(error)


def test_a_proxy_error_keeps_its_caret():
    with pytest.raises(ProxyError) as caught:
        parse("abs(qkv.w + fc1.w)")
    assert str(copy.copy(caught.value)) == str(caught.value)


def test_nearest():
    assert nearest("frobenus", ["frobenius", "mean"]) == "; did you mean 'frobenius'?"
    assert nearest("xyz", ["frobenius", "mean"]) == ""
