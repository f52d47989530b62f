"""Patterns of module names: what they match, ready ones, and what does not line up."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_model import ToyViT

from proxforge.stats_cache import CacheError
from proxforge.stats_cache.sites import READY, check_axes, find_layers, sites_for
from proxforge.stats_cache.spaces import SPACES, space


@pytest.fixture
def model() -> ToyViT:
    return ToyViT(8, 11, 5)


class Separate(nn.Module):
    """An attention with separate queries, keys and values, twelve times, at two depths of names."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(self.layer() for _ in range(12))
        self.deep = nn.ModuleDict({"layers": nn.ModuleList(self.layer() for _ in range(2))})

    @staticmethod
    def layer() -> nn.Module:
        parts = {"q": nn.Linear(4, 6), "k": nn.Linear(4, 6), "v": nn.Linear(4, 6), "out": nn.Linear(6, 4)}
        return nn.ModuleDict(parts)


def test_layers_are_in_natural_order(model):
    assert find_layers(model, {"fc1": "blocks.*.fc1"})["fc1"] == [(f"blocks.{i}.fc1",) for i in range(11)]


def test_several_patterns_are_joined_layer_by_layer():
    found = find_layers(Separate(), {"qkv": ["layers.*.q", "layers.*.k", "layers.*.v"], "proj": "layers.*.out"})
    assert found["qkv"] == [(f"layers.{i}.q", f"layers.{i}.k", f"layers.{i}.v") for i in range(12)]
    assert found["proj"] == [(f"layers.{i}.out",) for i in range(12)]


def test_two_stars_match_any_path_or_none():
    model = Separate()
    names = [name for (name,) in find_layers(model, {"proj": "**.layers.*.out"})["proj"]]
    assert names == [*(f"deep.layers.{i}.out" for i in range(2)), *(f"layers.{i}.out" for i in range(12))]
    assert len(find_layers(model, {"proj": "layers.*.out"})["proj"]) == 12
    with pytest.raises(CacheError, match="matches no module"):
        find_layers(model, {"proj": "**.ayers.*.out"})


def test_a_star_matches_one_dotted_part_only(model):
    with pytest.raises(CacheError, match=r"'blocks.\*.qkv' of site 'qkv' matches no module.*patch, blocks"):
        find_layers(model, {"qkv": "blocks.*.qkv"})
    with pytest.raises(CacheError, match=r"'blocks.0.fc_1' of .* did you mean 'blocks.0.fc1'"):
        find_layers(model, {"fc1": "blocks.0.fc_1"})


def test_sites_that_do_not_line_up_are_named(model):
    with pytest.raises(CacheError, match=r"fc1: 11 \(blocks.0.fc1 .. blocks.10.fc1\); qkv: 1 \(blocks.3.attn.qkv"):
        find_layers(model, {"fc1": "blocks.*.fc1", "qkv": "blocks.3.attn.qkv"})
    with pytest.raises(CacheError, match=r"site 'qkv' do not line up.* layers.\*.q: 12 \(layers.0.q .. layers.11.q\)"):
        find_layers(Separate(), {"qkv": ["layers.*.q", "deep.layers.*.k"]})
    with pytest.raises(CacheError, match="'hidden' is an output and has one pattern; 2 were given"):
        find_layers(model, {"hidden": ["blocks.*.act", "blocks.*.drop"]})


def test_axes_that_do_not_line_up_name_both_modules():
    layers = {"qkv": [("a.qkv",)], "fc1": [("a.fc1",)], "fc2": [("b.fc2",)]}
    fine = {"qkv.w": [(24, 8)], "fc1.w": [(16, 8)], "fc2.w": [(8, 16)], "fc2.g": [(8, 16)]}
    check_axes(layers, fine)
    with pytest.raises(CacheError, match=r"layer 0 .* a.fc1 \(fc1\) has 16 and b.fc2 \(fc2\) has 15 .* axis 'm'"):
        check_axes(layers, fine | {"fc2.w": [(8, 15)]})
    with pytest.raises(CacheError, match=r"a.qkv \(qkv\) has 24 and p \(proj\) has 7 where both hold the axis 'q'"):
        check_axes({**layers, "proj": [("p",)]}, fine | {"proj.w": [(8, 7)]})
    with pytest.raises(CacheError, match=r"q \+ k \(qkv\) has 25 .* axis 'q'"):
        check_axes({"qkv": [("q", "k")], "proj": [("p",)]}, {"qkv.w": [(25, 8)], "proj.w": [(8, 8)]})


def test_ready_patterns():
    rng = torch.random.get_rng_state()
    with torch.device("meta"):
        for name in SPACES:
            chosen = space(name)
            network = chosen.build(next(iter(chosen.enumerate())), seed=0)
            if "qkv" in chosen.sites:
                assert find_layers(network, READY["timm"]) == find_layers(network, chosen.sites)
                assert sites_for(network, None) is READY["timm"]
    assert torch.equal(torch.random.get_rng_state(), rng)


def test_unknown_patterns_and_sites(model):
    assert sites_for(model, "huggingface") is READY["huggingface"]
    with pytest.raises(CacheError, match="unknown patterns 'hugging_face'; did you mean 'huggingface'"):
        sites_for(model, "hugging_face")
    with pytest.raises(CacheError, match=r"unknown site 'fc'; did you mean 'fc2'.*sites: qkv, proj"):
        sites_for(model, {"fc": "blocks.*.fc1"})
    with pytest.raises(CacheError, match="no site is named"):
        sites_for(model, {})
    with pytest.raises(CacheError, match=r"no ready patterns fit this network; name its sites .modules: patch"):
        sites_for(model, None)
