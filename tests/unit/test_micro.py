"""The micro space and the transformer block that every space shares."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from proxforge.stats_cache.spaces._micro import _join
from proxforge.stats_cache.spaces._vit import Attention, Block, init_linear, seeded
from proxforge.stats_cache.spaces.base import SpaceError
from proxforge.stats_cache.spaces.micro import DEPTHS, FAMILIES, HEADS, RATIOS, WIDTHS, MicroSpace, layer_shapes

SPACE = MicroSpace()
COLUMNAR: dict[str, Any] = {
    "family": "columnar",
    "depth": 2,
    "width": 12,
    "heads": [1, 4],
    "mlp_ratio": [0.5, 4.0],
}
PYRAMID: dict[str, Any] = {
    "family": "pyramid",
    "depth": [1, 2],
    "width": 8,
    "heads": [4, 1, 2],
    "mlp_ratio": [2.0, 0.5, 1.5],
}


def arches(count: int = 6) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [SPACE.sample_family(family, rng) for family in FAMILIES for _ in range(count)]


@pytest.mark.parametrize("classes", [None, 7])
def test_parameters_by_formula_are_those_of_the_network(classes: int | None) -> None:
    for arch in [COLUMNAR, PYRAMID, *arches()]:
        network = SPACE.build(arch, seed=0, classes=classes)
        assert SPACE.size(arch, classes).params == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("arch", [COLUMNAR, PYRAMID])
def test_multiply_accumulates_by_formula_are_those_counted(arch: dict[str, Any]) -> None:
    network = SPACE.build(arch, seed=0)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        network(torch.zeros(1, 1, 8, 8))
    assert 2 * SPACE.size(arch).flops == counter.get_total_flops()


def test_depth_and_width() -> None:
    assert (SPACE.size(COLUMNAR).depth, SPACE.size(COLUMNAR).width) == (2, 12.0)
    assert (SPACE.size(PYRAMID).depth, SPACE.size(PYRAMID).width) == (3, (8 + 16 + 16) / 3)


@pytest.mark.parametrize("arch", [COLUMNAR, PYRAMID])
def test_sites_are_one_module_per_layer_of_the_shapes_stated(arch: dict[str, Any]) -> None:
    network = SPACE.build(arch, seed=0)
    names = [name for name, _ in network.named_modules()]
    found = {
        site: [n for n in names if re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]+"), n)]
        for site, pattern in SPACE.sites.items()
    }
    hidden = []
    for name in found["hidden"]:
        network.get_submodule(name).register_forward_hook(lambda _m, _i, out: hidden.append(tuple(out.shape)))
    assert network(torch.zeros(5, 1, 8, 8)).shape == (5, 10)
    for layer, (tokens, d, heads, m) in enumerate(layer_shapes(arch)):
        at = {site: network.get_submodule(modules[layer]) for site, modules in found.items()}
        assert tuple(at["qkv"].weight.shape) == (3 * d, d)
        assert tuple(at["proj"].weight.shape) == (d, d)
        assert tuple(at["fc1"].weight.shape) == (m, d)
        assert tuple(at["fc2"].weight.shape) == (d, m)
        assert hidden[layer] == (5, tokens, m)
        assert network.blocks[layer].attn.heads == heads
    assert {len(modules) for modules in found.values()} == {len(arch["heads"])}


def test_a_pyramid_has_four_tokens_of_twice_the_width() -> None:
    assert layer_shapes(PYRAMID) == [(16, 8, 4, 16), (4, 16, 1, 8), (4, 16, 2, 24)]
    assert layer_shapes(COLUMNAR) == [(16, 12, 1, 6), (16, 12, 4, 48)]


def test_joining_puts_two_by_two_neighbours_side_by_side() -> None:
    grid = torch.arange(16.0).view(1, 4, 4, 1)
    assert _join(grid).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]
    two = torch.stack([grid, grid + 100], dim=-1).view(1, 4, 4, 2)
    assert _join(two)[0, 0].tolist() == [0, 100, 1, 101, 4, 104, 5, 105]


def test_initialised_from_the_seed_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in SPACE.build(PYRAMID, seed=seed).parameters()])

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights(5), first)
    assert not torch.equal(weights(6), first)


def test_initial_biases_and_weights() -> None:
    network = SPACE.build(COLUMNAR, seed=0)
    fc1 = network.blocks[1].mlp.fc1
    bound = (6 / (12 + 48)) ** 0.5  # Xavier-uniform
    assert 0.9 * bound < fc1.weight.abs().max() <= bound
    assert not fc1.bias.any()
    assert 0.3 < network.pos.std() < 0.5
    assert torch.equal(network.norm.weight, torch.ones(12))


@pytest.mark.parametrize("arch", [COLUMNAR, PYRAMID])
def test_works_in_float64_with_positive_weights_and_ones(arch: dict[str, Any]) -> None:
    network = SPACE.build(arch, seed=0).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network(torch.ones(1, 1, 8, 8, dtype=torch.float64)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_every_gene_changes_the_network() -> None:
    base = SPACE.build(COLUMNAR, seed=0)(torch.ones(1, 1, 8, 8))
    for change in ({"heads": [4, 4]}, {"mlp_ratio": [1.5, 4.0]}, {"width": 16}):
        other = SPACE.build({**COLUMNAR, **change}, seed=0)(torch.ones(1, 1, 8, 8))
        assert not torch.allclose(base, other)


def test_sampled_architectures_are_in_normal_form_and_reach_every_value() -> None:
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng) for _ in range(200)]
    assert all(SPACE.check(arch) == arch for arch in drawn)
    assert {arch["family"] for arch in drawn} == set(FAMILIES)
    for family in FAMILIES:
        ours = [arch for arch in drawn if arch["family"] == family]
        depths = {d for arch in ours for d in (arch["depth"] if family == "pyramid" else [arch["depth"]])}
        assert depths == set(DEPTHS[family])
        assert {arch["width"] for arch in ours} == set(WIDTHS[family])
    assert {h for arch in drawn for h in arch["heads"]} == set(HEADS)
    assert {r for arch in drawn for r in arch["mlp_ratio"]} == set(RATIOS)


def test_no_two_axes_of_a_layer_coincide_and_heads_divide_the_width() -> None:
    for family, widths in WIDTHS.items():
        for d in {*widths, *(2 * w for w in widths if family == "pyramid")}:
            assert all((d * ratio).is_integer() and d * ratio not in (d, 3 * d) for ratio in RATIOS)
            assert all(d % heads == 0 for heads in HEADS)


def test_normal_form() -> None:
    given = {**COLUMNAR, "depth": 2.0, "heads": (1, 4), "mlp_ratio": (0.5, 4)}
    arch = SPACE.check(given)
    assert arch == COLUMNAR
    assert (type(arch["depth"]), type(arch["heads"]), type(arch["mlp_ratio"][1])) == (int, list, float)
    assert given["heads"] == (1, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "columna"}, "'family' is 'columna'"),
        ({"depth": 9}, "'depth' is 9; allowed.*1, 2, 3, 4, 5"),
        ({"depth": True}, "'depth' is True"),
        ({"depth": [1, 2]}, r"'depth' is \[1, 2\]"),
        ({"width": 13}, "'width' is 13"),
        ({"width": float("nan")}, "'width' is nan"),
        ({"heads": [1]}, "'heads' has 1 values.*list of 2"),
        ({"heads": "14"}, "'heads' is '14'"),
        ({"heads": [1, 3]}, r"'heads\[1\]' is 3"),
        ({"mlp_ratio": [0.5, 3.0]}, r"'mlp_ratio\[1\]' is 3.0"),
        ({"mlp_ratio": None}, "'mlp_ratio' is None"),
        ({"head": 2}, "unknown gene 'head'.*did you mean 'heads'"),
        ({"width": "x" * 100_000}, "'width' is 'xxx"),
    ],
)
def test_wrong_genes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        SPACE.check({**COLUMNAR, **change})
    assert len(caught.value.message) < 200


def test_missing_gene_and_stages_of_a_pyramid() -> None:
    with pytest.raises(SpaceError, match="lacks the gene 'heads'"):
        SPACE.size({gene: value for gene, value in COLUMNAR.items() if gene != "heads"})
    with pytest.raises(SpaceError, match="'depth' has 3 values; expected a list of 2, one for each stage"):
        SPACE.build({**PYRAMID, "depth": [1, 1, 1]}, seed=0)
    with pytest.raises(SpaceError, match="'family' is 'round'"):
        SPACE.sample_family("round", np.random.default_rng(0))


@pytest.mark.parametrize("q", [None, 12])
def test_attention_is_the_published_formula(q: int | None) -> None:
    torch.manual_seed(0)
    attention = Attention(8, heads=2, q=q).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    width = attention.q // 2
    query, key, value = attention.qkv(x).split(attention.q, dim=-1)
    heads = []
    for h in range(2):
        part = slice(h * width, (h + 1) * width)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / width**0.5
        heads.append(scores.softmax(-1) @ value[..., part])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, dim=-1)))


def test_heads_must_divide_the_attention_width() -> None:
    with pytest.raises(SpaceError, match="width 8 cannot have 3 heads"):
        Attention(8, heads=3)


def test_block_is_pre_norm_with_two_residuals() -> None:
    torch.manual_seed(0)
    block = Block(8, heads=2, hidden=20)
    x = torch.randn(2, 4, 8)
    middle = x + block.attn(block.norm1(x))
    expected = middle + block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(middle))))
    torch.testing.assert_close(block(x), expected)


def test_common_initialisation() -> None:
    block = Block(64, heads=2, hidden=128)
    with seeded(0):
        init_linear(block)
    assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not block.attn.qkv.bias.any()
    assert torch.equal(block.norm2.weight, torch.ones(64))


def test_seeded_restores_the_random_state_after_an_error() -> None:
    def fails() -> None:
        with seeded(3):
            torch.rand(4)
            raise KeyError

    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        fails()
    assert torch.equal(torch.get_rng_state(), before)
