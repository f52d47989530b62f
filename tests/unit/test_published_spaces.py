"""The spaces of the papers: published counts, their networks against formulas written out, enumeration, mutation."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from proxforge.stats_cache.spaces import SPACES, space
from proxforge.stats_cache.spaces._autoformer import RelativeAttention, relative_places
from proxforge.stats_cache.spaces._vit import init_linear
from proxforge.stats_cache.spaces.base import SpaceError
from proxforge.stats_cache.spaces.budget import Budget, Range
from proxforge.stats_cache.spaces.nas_bench_201 import EDGES, OPERATIONS, cell_text

FIRST_CELL = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"


def columnar(width: int, ratio: float, depth: int, heads: int) -> dict[str, Any]:
    return {"hidden_dim": width, "mlp_ratio": [ratio] * depth, "depth": depth, "num_heads": [heads] * depth}


def test_published_autoformer() -> None:
    """The parameters that the published code counts for this network (d = 192, 12 layers of 3 heads, ratio 4)."""
    assert space("autoformer-t").size(columnar(192, 4, 12, 3)).params == 5_809_576


@pytest.mark.parametrize(
    ("name", "low", "high", "least", "most"),
    [
        ("autoformer-t", columnar(192, 3.5, 12, 3), columnar(240, 4, 14, 4), 5.37, 10.52),
        ("autoformer-s", columnar(320, 3, 12, 5), columnar(448, 4, 14, 7), 13.06, 34.79),
        ("autoformer-b", columnar(528, 3, 14, 9), columnar(624, 4, 16, 10), 41.69, 76.88),
    ],
)
def test_published_ranges_of_autoformer(name: str, low: Any, high: Any, least: float, most: float) -> None:
    assert [round(space(name).size(arch).params / 1e6, 2) for arch in (low, high)] == [least, most]


@pytest.mark.parametrize(
    ("name", "base", "heads", "params"),
    [
        ("pit-t", 32, [2, 4, 8], 4_847_272),
        ("pit-xs", 48, [2, 4, 8], 10_618_888),
        ("pit-s", 48, [3, 6, 12], 23_461_912),
    ],
)
def test_published_pits_lie_in_the_spaces_of_tf_tas(name: str, base: int, heads: list[int], params: int) -> None:
    genes = space(name).genes()
    assert base in genes["base_dim"]["values"]
    assert heads in genes["num_heads"]["values"]
    assert [2, 6, 4] in genes["depth"]["values"]
    arch = {"base_dim": base, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": heads}
    assert space(name).size(arch).params == params


def test_published_cells() -> None:
    """NAS-Bench-201 publishes 0.129306 M for the first cell of the data file, 1.531546 M and 220.12 M for conv 3x3."""
    full = {"cell": ["nor_conv_3x3"] * 6}
    assert space("nas-bench-201").size({"cell": FIRST_CELL}, classes=10).params == 129_306
    assert space("nas-bench-201").size(full, classes=10).params == 1_531_546
    assert round(space("nas-bench-201").size(full, classes=10).flops / 1e6, 2) == 220.12


def test_every_cell_of_the_data_file_is_of_the_space(data_dir: Path) -> None:
    with gzip.open(data_dir / "nas_bench_201" / "nas_bench_201.csv.gz", "rt") as file:
        cells = [row["arch"] for row in csv.DictReader(file)]
    assert cells[0] == FIRST_CELL
    chosen = space("nas-bench-201")
    assert {cell_text(arch["cell"]) for arch in chosen.enumerate()} == set(cells)
    assert len(cells) == chosen.count() == 15_625


def test_resnet20_is_a_cifar_resnet() -> None:
    """278,324 parameters for 100 classes, 0.27 M for 10 (He et al. 2016, Table 6)."""
    resnet20 = {"blocks": [3, 3, 3]}
    assert space("cifar-resnet").size(resnet20).params == 278_324
    assert round(space("cifar-resnet").size(resnet20, classes=10).params / 1e6, 2) == 0.27
    assert space("cifar-resnet").count() == 64


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("autoformer-t", 3 * sum((2 * 2) ** depth for depth in (12, 13, 14))),
        ("autoformer-sub", 3 * sum((2 * 2) ** depth for depth in (12, 13, 14))),
        ("autoformer-s", 3 * sum((3 * 3) ** depth for depth in (12, 13, 14))),
        ("autoformer-b", 3 * sum((3 * 2) ** depth for depth in (14, 15, 16))),
        ("pit", 1600),
        ("pit-t", 4 * 4 * 27 * 10),
        ("pit-xs", 4 * 4 * 27 * 10),
        ("pit-s", 4 * 4 * 27 * 10),
        ("nas-bench-201", 5**6),
        ("cifar-resnet", 4**3),
        ("micro", 4 * sum(12**n for n in range(1, 6)) + 4 * sum(12 ** (a + b) for a in (1, 2, 3) for b in (1, 2, 3))),
    ],
)
def test_counts(name: str, count: int) -> None:
    assert space(name).count() == count


def test_every_space_is_counted() -> None:
    (counted,) = [mark for mark in test_counts.pytestmark if mark.name == "parametrize"]
    assert {name for name, _ in counted.args[1]} == set(SPACES)


@pytest.mark.parametrize("name", SPACES)
def test_enumeration_gives_every_network_once(name: str) -> None:
    chosen = space(name)
    first = list(itertools.islice(chosen.enumerate(), 5000))
    assert len(first) == min(chosen.count(), 5000) == len({json.dumps(arch) for arch in first})
    assert all(chosen.check(arch) == arch for arch in first[::97])
    first[0][next(iter(first[0]))] = None
    assert next(iter(chosen.enumerate())) != first[0], "what is enumerated is nobody else's"


@pytest.mark.parametrize("name", SPACES)
def test_a_mutation_changes_one_gene_to_a_published_value(name: str) -> None:
    chosen, rng = space(name), np.random.default_rng(4)
    arch, changed = chosen.sample(rng), set()
    for _ in range(300):
        mutant = chosen.mutate(arch, rng)
        assert chosen.check(mutant) == mutant != arch
        genes = chosen.genes()[mutant["family"]] if name == "micro" else chosen.genes()
        names = {gene for gene in arch if arch[gene] != mutant[gene]}
        if "family" not in names:
            lists = {gene for gene in names if genes[gene].get("per") == "layer"}
            if "depth" in names:  # the layers that both have are the same
                assert names == {"depth"} | lists
                assert all(a == b for g in lists for a, b in zip(arch[g], mutant[g], strict=False))
            else:
                (gene,) = names
                if isinstance(arch[gene], list) and not isinstance(genes[gene]["values"][0], list):
                    assert sum(a != b for a, b in zip(arch[gene], mutant[gene], strict=True)) == 1
            changed |= names
        for gene in names:
            values = genes[gene]["values"]
            listed = isinstance(mutant[gene], list) and not isinstance(values[0], list)
            assert all(value in values for value in (mutant[gene] if listed else [mutant[gene]])), gene
        arch = mutant
    assert changed == set(arch) - {"family"}


def test_a_deeper_network_keeps_the_layers_it_had() -> None:
    chosen, arch = space("autoformer-t"), columnar(192, 4, 12, 3)
    arch["num_heads"] = [3, 4] * 6
    for seed in range(60):
        mutant = chosen.mutate(arch, np.random.default_rng(seed))
        if mutant["depth"] != 12:
            assert mutant["num_heads"][:12] == arch["num_heads"]
            assert mutant["mlp_ratio"][:12] == arch["mlp_ratio"]
            assert len(mutant["num_heads"]) == len(mutant["mlp_ratio"]) == mutant["depth"]
            return
    raise AssertionError("no mutation changed the depth")


def test_a_mutation_that_cannot_be_is_told() -> None:
    sub = {"hidden_dim": 16, "mlp_ratio": [4.0], "depth": 1, "num_heads": [2]}
    mutants = [space("autoformer-sub").mutate(sub, np.random.default_rng(seed)) for seed in range(40)]
    assert all(m["hidden_dim"] % head == 0 for m in mutants for head in m["num_heads"])


def test_samples_within_a_budget() -> None:
    chosen, rng = space("autoformer-t"), np.random.default_rng(0)
    budget = Budget(Range.parse("5.5M..6M"), Range.parse("..1.6G"))
    sizes = [chosen.size(chosen.sample_within(rng, budget)) for _ in range(5)]
    assert all(5.5e6 <= size.params <= 6e6 and size.flops <= 1.6e9 for size in sizes)
    with pytest.raises(SpaceError, match=r"none of 20000 random networks of cifar-resnet has 5M\.\. param"):
        space("cifar-resnet").sample_within(rng, Budget(Range.parse("5M..")))


def test_mutations_within_a_budget() -> None:
    chosen, rng, budget = space("cifar-resnet"), np.random.default_rng(0), Budget(Range.parse("..0.2M"))
    found = {tuple(chosen.mutate_within({"blocks": [1, 1, 1]}, rng, budget)["blocks"]) for _ in range(60)}
    assert found == {(n, 1, 1) for n in (3, 5, 7)} | {(1, n, 1) for n in (3, 5, 7)}
    assert all(chosen.size({"blocks": list(blocks)}).params <= 0.2e6 for blocks in found)
    with pytest.raises(SpaceError, match=r"none of 20000 mutations of a network of cifar-resnet has 5M\.\."):
        chosen.mutate_within({"blocks": [1, 1, 1]}, rng, Budget(Range.parse("5M..")))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("4M..6M", 4e6, 6e6),
        ("..600k", 0, 6e5),
        ("1.5G..", 1.5e9, float("inf")),
        ("5.5e6..6E6", 5.5e6, 6e6),
        (" 10..20 ", 10, 20),
    ],
)
def test_ranges(text: str, low: float, high: float) -> None:
    assert (Range.parse(text).low, Range.parse(text).high) == (low, high)
    assert low in Range.parse(text)
    assert Range.parse(str(Range.parse(text))) == Range.parse(text)


@pytest.mark.parametrize("text", ["", "..", "4M", "6M..4M", "a..b", "4M..6T", "-1..2", "1..2..3"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(SpaceError, match=r"range|number"):
        Range.parse(text)


def test_relative_attention_is_the_published_formula() -> None:
    """Shaw et al. 2018, eq. 3 and 4, with the two-dimensional embeddings of AutoFormer, element by element."""
    torch.manual_seed(0)
    side, heads = 17, 2  # wider than the farthest distance: 14
    attention = RelativeAttention(24, heads).double()
    init_linear(attention, std=0.5)
    for table in (attention.key_positions, attention.value_positions):
        nn.init.normal_(table)
    places = relative_places(side)
    tokens = 1 + side * side
    x = torch.randn(2, tokens, 24, dtype=torch.float64)

    def embedding(table: torch.Tensor, i: int, j: int) -> torch.Tensor:
        if i == 0 or j == 0:
            return table[0] + table[30]
        (row_i, col_i), (row_j, col_j) = divmod(i - 1, side), divmod(j - 1, side)
        down, right = (max(-14, min(14, d)) for d in (row_j - row_i, col_j - col_i))
        return table[15 + down] + table[45 + right]

    query, key, value = attention.qkv(x).split(64 * heads, dim=-1)
    found = attention(x, places)
    for i in (0, 1, 150, 289):
        near = torch.stack([embedding(attention.key_positions, i, j) for j in range(tokens)])
        carried = torch.stack([embedding(attention.value_positions, i, j) for j in range(tokens)])
        outputs = []
        for h in range(heads):
            part = slice(64 * h, 64 * h + 64)
            q, k, v = query[:, i, part], key[..., part], value[..., part]
            scores = ((k + near) @ q[:, :, None])[..., 0] / 8
            outputs.append(((v + carried) * scores.softmax(-1)[..., None]).sum(1))
        torch.testing.assert_close(found[:, i], attention.proj(torch.cat(outputs, -1)))


def test_initialisation_of_autoformer() -> None:
    network = space("autoformer-t").build(columnar(192, 4, 2, 3), seed=0)
    for path, weight in network.named_parameters():
        if path.endswith("bias"):
            assert path == "patch.bias" or not weight.any(), path
        elif "norm" in path:
            assert bool((weight == 1).all()), path
        elif path != "patch.weight":
            assert weight.std().item() == pytest.approx(0.02, rel=0.1), path


def test_initialisation_of_pit_in_tf_tas() -> None:
    arch = {"base_dim": 24, "mlp_ratio": 2, "depth": [1, 1, 1], "num_heads": [2, 4, 4]}
    network = space("pit-t").build(arch, seed=0)
    assert network.get_parameter("blocks.0.mlp.fc1.weight").std().item() == pytest.approx(0.02, rel=0.1)
    assert not network.get_parameter("pools.0.fc.bias").any()
    assert network.get_parameter("patch.weight").std().item() == pytest.approx(1, rel=0.1)


def test_a_cell_network_is_the_published_graph() -> None:
    """Written out separately; every operation occurs, and an edge that leads nowhere."""
    cell = ["nor_conv_3x3", "none", "avg_pool_3x3", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"]
    network = space("nas-bench-201").build({"cell": cell}, seed=0).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    units = iter(network.units)

    def convolve(x: torch.Tensor, stride: int = 1, relu: bool = True) -> torch.Tensor:
        unit = next(units)
        x = F.conv2d(F.relu(x) if relu else x, unit.conv.weight, stride=stride, padding=unit.conv.weight.shape[-1] // 2)
        return x if isinstance(unit.norm, nn.Identity) else unit.norm(x)

    x = convolve(images, relu=False)
    for width in (16, 32, 64):
        if width > 16:
            inner = convolve(convolve(x, 2))
            x = inner + convolve(F.avg_pool2d(x, 2), relu=False)
        assert x.shape[1] == width
        for _ in range(5):
            one = convolve(x)
            two = F.avg_pool2d(one, 3, 1, 1, count_include_pad=False)
            first = convolve(one)
            x = x + first + convolve(two)
    logits = network.head(F.relu(network.norm(x)).mean((2, 3)))
    torch.testing.assert_close(network(images), logits)
    assert next(units, None) is None


def test_cells_survive_their_text() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        arch = space("nas-bench-201").sample(rng)
        assert space("nas-bench-201").check({"cell": cell_text(arch["cell"])}) == arch
    assert cell_text(space("nas-bench-201").check({"cell": FIRST_CELL})["cell"]) == FIRST_CELL
    assert len(EDGES) == 6
    assert len(OPERATIONS) == 5


def test_a_cell_without_a_path_gives_the_bias_alone() -> None:
    network = space("nas-bench-201").build({"cell": ["none"] * 6}, seed=0).eval()
    torch.testing.assert_close(network(torch.randn(1, 3, 32, 32))[0], network.head.bias)


def test_a_resnet_is_the_published_network() -> None:
    network = space("cifar-resnet").build({"blocks": [1, 2, 1]}, seed=0).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    u = list(network.units)
    assert len(u) == 1 + 2 + (3 + 2) + 3
    x = F.relu(u[0](images))
    x = F.relu(x + u[2](F.relu(u[1](x))))
    x = F.relu(u[5](x) + u[4](F.relu(u[3](x))))
    x = F.relu(x + u[7](F.relu(u[6](x))))
    x = F.relu(u[10](x) + u[9](F.relu(u[8](x))))
    assert x.shape == (2, 64, 8, 8)
    torch.testing.assert_close(network(images), network.head(x.mean((2, 3))))
    assert u[4].conv.weight.std().item() == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", ["nas-bench-201", "cifar-resnet"])
def test_convolutions_run_in_the_order_of_their_names(name: str) -> None:
    chosen = space(name)
    for arch in (chosen.sample(np.random.default_rng(seed)) for seed in range(3)):
        network, ran = chosen.build(arch, seed=0), []
        for path, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda _m, _i, _o, path=path, ran=ran: ran.append(path))
        network(torch.zeros(2, 3, 32, 32))
        assert ran == [f"units.{i}.conv" for i in range(chosen.size(arch).depth)]


@pytest.mark.parametrize(
    ("name", "side", "wrong"),
    [("autoformer-t", 64, 60), ("autoformer-sub", 32, 8), ("pit", 48, 40.5), ("nas-bench-201", 16, 30)],
)
def test_another_resolution(name: str, side: int, wrong: int) -> None:
    other, rng = space(name).at(side), np.random.default_rng(0)
    arch = other.sample(rng)
    assert (other.resolution, space(name).resolution) == (side, 32 if name == "nas-bench-201" else 224)
    network = other.build(arch, seed=0).eval()
    assert network(torch.zeros(1, 3, side, side)).shape == (1, other.classes)
    assert sum(p.numel() for p in network.parameters()) == other.size(arch).params
    assert other.size(arch).flops < space(name).size(arch).flops
    with pytest.raises(SpaceError, match=f"given: {wrong}"):
        space(name).at(wrong)


def test_the_micro_space_has_one_resolution() -> None:
    assert space("micro").at(8).resolution == 8
    with pytest.raises(SpaceError, match="is for images of 8 pixels; given: 16"):
        space("micro").at(16)
