"""The spaces: genes, sizes by formula against the built networks, initialisation, sites."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from proxforge.stats_cache.spaces import SPACES, space
from proxforge.stats_cache.spaces._pit import Pool
from proxforge.stats_cache.spaces.base import BLOCK_SITES, SpaceError

TRANSFORMERS = [name for name in SPACES if space(name).sites is BLOCK_SITES]
SUB = {"hidden_dim": 32, "mlp_ratio": [3.5, 4.0], "depth": 2, "num_heads": [4, 2]}
PIT = {"base_dim": 8, "mlp_ratio": 2, "depth": [1, 2, 1], "num_heads": [2, 4, 4]}
TRUE = {"hidden_dim": 40, "mlp_ratio": [3.5, 4.0], "depth": 2, "num_heads": [1, 2]}
CELL = {"cell": ["nor_conv_3x3", "none", "avg_pool_3x3", "skip_connect", "nor_conv_1x1", "none"]}
SMALL = {
    "autoformer-sub": SUB,
    "autoformer-t": TRUE,
    "pit": PIT,
    "pit-t": PIT,
    "nas-bench-201": CELL,
    "cifar-resnet": {"blocks": [1, 2, 1]},
}


def arches(name: str, count: int = 4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    return [space(name).sample(rng) for _ in range(count)]


def test_unknown_space_names_the_nearest() -> None:
    with pytest.raises(SpaceError, match=r"unknown space 'pits'; did you mean 'pit-s'\?.*autoformer-sub") as caught:
        space("pits")
    assert caught.value.kind == "space"


def test_names_agree_with_the_registry() -> None:
    assert {name: space(name).name for name in SPACES} == {name: name for name in SPACES}


def test_sizing_loads_no_torch() -> None:
    code = (
        "import sys, numpy; from proxforge.stats_cache.spaces import SPACES, space\n"
        "for name in SPACES: space(name).size(space(name).sample(numpy.random.default_rng(0)))\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arch", "params"),
    [
        ({"base_dim": 32, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [2, 4, 8]}, 4_847_272),
        ({"base_dim": 48, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [2, 4, 8]}, 10_618_888),
        ({"base_dim": 48, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [3, 6, 12]}, 23_461_912),
    ],
    ids=["PiT-Ti", "PiT-XS", "PiT-S"],
)
def test_published_pits(arch: dict[str, Any], params: int) -> None:
    assert space("pit").size(arch, classes=1000).params == params


@pytest.mark.parametrize(("classes", "low", "high"), [(100, 5.10, 9.98), (1000, 5.27, 10.19)])
def test_published_range_of_autoformer_sub(classes: int, low: float, high: float) -> None:
    smallest = {"hidden_dim": 192, "mlp_ratio": [3.5] * 12, "depth": 12, "num_heads": [3] * 12}
    largest = {"hidden_dim": 240, "mlp_ratio": [4.0] * 14, "depth": 14, "num_heads": [4] * 14}
    sizes = [space("autoformer-sub").size(arch, classes).params / 1e6 for arch in (smallest, largest)]
    assert [round(size, 2) for size in sizes] == [low, high]


def test_deit_tiny_is_an_autoformer_sub() -> None:
    """Touvron et al. 2021 report 5.7 M parameters and 1.3 G multiply-accumulates."""
    deit = {"hidden_dim": 192, "mlp_ratio": [4] * 12, "depth": 12, "num_heads": [3] * 12}
    size = space("autoformer-sub").size(deit, 1000)
    assert size.params == 5_717_416
    assert round(size.flops / 1e9, 1) == 1.3


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("classes", [None, 7])
def test_formulas_agree_with_the_built_network(name: str, classes: int | None) -> None:
    """Parameters are counted on the network, multiply-accumulates by torch while it runs (on the meta device)."""
    chosen = space(name)
    for arch in arches(name) + ([SMALL[name]] if name in SMALL else []):
        size = chosen.size(arch, classes)
        with torch.device("meta"):
            network = chosen.build(arch, seed=0, classes=classes).eval()
            image = torch.empty(1, chosen.channels, chosen.resolution, chosen.resolution)
        assert sum(p.numel() for p in network.parameters()) == size.params
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            logits = network(image)
        assert counter.get_total_flops() == 2 * size.flops
        assert logits.shape == (1, chosen.classes if classes is None else classes)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_sites_name_one_module_per_layer_in_forward_order(name: str) -> None:
    chosen = space(name)
    for arch in arches(name, 2):
        with torch.device("meta"):
            network = chosen.build(arch, seed=0)
            image = torch.empty(2, chosen.channels, chosen.resolution, chosen.resolution)
        modules = dict(network.named_modules())
        paths, ran = {module: path for path, module in modules.items()}, []
        for module in modules.values():
            module.register_forward_hook(lambda module, _i, _o, paths=paths, ran=ran: ran.append(paths[module]))
        network(image)
        depth = chosen.size(arch).depth
        for site, pattern in chosen.sites.items():
            regex = re.compile(re.escape(pattern).replace(r"\*", "([^.]+)"))
            matches = [regex.fullmatch(path) for path in ran]
            assert [match[1] for match in matches if match] == [str(i) for i in range(depth)], site
            kind = torch.nn.GELU if site == "hidden" else torch.nn.Linear
            assert all(isinstance(modules[match[0]], kind) for match in matches if match)
        for i in range(depth):
            at = {site: modules[pattern.replace("*", str(i))] for site, pattern in chosen.sites.items()}
            d, q = at["proj"].weight.shape
            assert q == (64 * arch["num_heads"][i] if name in ("autoformer-t", "autoformer-s", "autoformer-b") else d)
            assert at["qkv"].weight.shape == (3 * q, d)
            assert at["fc1"].weight.shape == at["fc2"].weight.shape[::-1]
            assert at["fc1"].weight.shape[1] == d


@pytest.mark.parametrize("name", SMALL)
def test_seed_alone_decides_the_network(name: str) -> None:
    chosen, arch = space(name), SMALL[name]
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = chosen.build(arch, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(321)
    again, other = chosen.build(arch, seed=1), chosen.build(arch, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.get_parameter("head.weight"), other.get_parameter("head.weight"))


def test_initialisation_of_autoformer_sub() -> None:
    network = space("autoformer-sub").build({**SUB, "hidden_dim": 192}, seed=0)
    for path, weight in network.named_parameters():
        if path.endswith("bias"):
            assert path == "patch.bias" or not weight.any(), path
        elif "norm" in path:
            assert bool((weight == 1).all()), path
        elif path != "patch.weight":
            assert weight.std().item() == pytest.approx(0.02, rel=0.1), path


def test_initialisation_of_pit() -> None:
    """Torch's default draws weights uniformly from +-1/sqrt(fan in): their deviation is 1/sqrt(3 fan in)."""
    network = space("pit").build({**PIT, "base_dim": 24}, seed=0)
    for path, weight in network.named_parameters():
        if path in ("cls", "pos"):
            assert weight.std().item() == pytest.approx(0.02, rel=0.2), path
        elif weight.dim() > 1:
            fan_in = weight[0].numel()
            assert weight.abs().max().item() <= fan_in**-0.5, path
            assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.1), path
        elif "norm" in path:
            assert bool((weight == float(path.endswith("weight"))).all()), path
        else:
            assert weight.any(), path


def test_autoformer_sub_averages_the_patch_tokens() -> None:
    network = space("autoformer-sub").build(SUB, seed=0).eval()
    network.blocks = torch.nn.ModuleList()
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(image)
        assert not torch.equal(logits, network(image.flip(3)))
        network.get_parameter("pos")[:, 0] += 100  # the cls token is not read
        assert torch.equal(logits, network(image))


def test_pit_reads_the_cls_token() -> None:
    network = space("pit").build(PIT, seed=0).eval()
    network.blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in network.blocks)
    first, second = torch.randn(2, 1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(first)
        assert torch.equal(logits, network(second))  # without attention the image cannot reach the cls token
        network.get_parameter("cls").add_(torch.arange(16.0))
        assert not torch.allclose(logits, network(first))


def test_pool_keeps_the_grid() -> None:
    """With the middle tap alone, pooling picks every second row and column of the token grid."""
    pool = Pool(2, 4)
    torch.nn.init.zeros_(pool.conv.weight)
    torch.nn.init.zeros_(pool.conv.bias)
    with torch.no_grad():
        pool.conv.weight[:, :, 1, 1] = 1
    grid = torch.arange(2 * 27 * 27.0).view(1, 2, 27, 27)
    tokens = torch.cat([torch.zeros(1, 1, 2), grid.flatten(2).transpose(1, 2)], 1)
    pooled = pool(tokens)
    assert pooled.shape == (1, 1 + 14 * 14, 4)
    expected = grid[:, :, ::2, ::2].repeat_interleave(2, 1)
    assert torch.equal(pooled[:, 1:].transpose(1, 2).view(1, 4, 14, 14), expected)
    assert torch.equal(pooled[:, 0], pool.fc(tokens[:, 0]))


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_in_normal_form_and_spread(name: str) -> None:
    drawn = arches(name, 200)
    assert all(space(name).check(arch) == arch for arch in drawn)
    assert all(json.loads(json.dumps(arch)) == arch for arch in drawn)
    for gene in drawn[0]:
        assert len({repr(arch[gene]) for arch in drawn}) >= 2
    assert arches(name, 3) == arches(name, 3)


def test_published_pit_space() -> None:
    """Ten triples of depths, ten of heads: 1600 networks, 1004 of them within 2-25 M parameters, 620 within 4-22 M."""
    genes = space("pit").genes()
    assert (len(genes["depth"]["values"]), len(genes["num_heads"]["values"])) == (10, 10)
    sizes = [space("pit").size(arch).params / 1e6 for arch in space("pit").enumerate()]
    assert (len(sizes), round(min(sizes), 3), round(max(sizes), 2)) == (1600, 0.157, 29.47)
    assert (sum(2 <= s <= 25 for s in sizes), sum(4 <= s <= 22 for s in sizes)) == (1004, 620)


def test_normal_form_is_plain() -> None:
    given = {"hidden_dim": np.int64(32), "mlp_ratio": (4, np.float32(3.5)), "depth": 2.0, "num_heads": (4, 2)}
    checked = space("autoformer-sub").check(given)
    assert checked == {"hidden_dim": 32, "mlp_ratio": [4.0, 3.5], "depth": 2, "num_heads": [4, 2]}
    assert json.dumps(checked) == json.dumps(SUB | {"mlp_ratio": [4.0, 3.5]})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("autoformer-sub", {"hidden_dim": 2000}, r"gene 'hidden_dim' is 2000; allowed: a whole number from 16 to 1024"),
        ("autoformer-sub", {"hidden_dim": 32.5}, r"gene 'hidden_dim' is 32.5; allowed: a whole number"),
        ("autoformer-sub", {"hidden_dim": "32"}, r"gene 'hidden_dim' is '32'; allowed"),
        ("autoformer-sub", {"depth": True}, r"gene 'depth' is True; allowed"),
        ("autoformer-sub", {"depth": 3}, r"gene 'mlp_ratio' has 2 values; expected a list of 3, one for each layer"),
        ("autoformer-sub", {"num_heads": 4}, r"gene 'num_heads' is 4; expected a list of 2"),
        ("autoformer-sub", {"num_heads": [4, 3]}, r"gene 'num_heads\[1\]' is 3; allowed: divisors of hidden_dim.* 32"),
        ("autoformer-sub", {"num_heads": [4, 0]}, r"gene 'num_heads\[1\]' is 0; allowed: a whole number from 1 to 16"),
        ("autoformer-sub", {"mlp_ratio": [4, float("nan")]}, r"gene 'mlp_ratio\[1\]' is nan; allowed: .* 0.5 to 8"),
        ("autoformer-sub", {"mlp_ratio": [4, None]}, r"gene 'mlp_ratio\[1\]' is None"),
        ("autoformer-sub", {"width": 3}, r"unknown gene 'width' .*genes: hidden_dim, mlp_ratio, depth, num_heads"),
        ("autoformer-sub", {"num_head": [3, 3]}, r"unknown gene 'num_head' .*did you mean 'num_heads'\?"),
        ("pit", {"base_dim": 2}, r"gene 'base_dim' is 2; allowed: a whole number from 4 to 128"),
        ("pit", {"mlp_ratio": 2.5}, r"gene 'mlp_ratio' is 2.5; allowed: a whole number from 1 to 8"),
        ("pit", {"depth": [1, 2]}, r"gene 'depth' has 2 values; expected a list of 3, one for each stage"),
        ("pit", {"depth": [1, 2, 0]}, r"gene 'depth\[2\]' is 0; allowed"),
        ("pit", {"num_heads": [2, 4, 6]}, r"gene 'num_heads\[2\]' is 6; allowed: multiples of .* which is 4"),
        ("pit", {"num_heads": "248"}, r"gene 'num_heads' is '248'; expected a list of 3"),
        ("nas-bench-201", {"cell": ["none"] * 5}, r"gene 'cell' has 5 values; expected a list of 6, one for each edge"),
        ("nas-bench-201", {"cell": ["none"] * 5 + ["conv"]}, r"gene 'cell\[5\]' is 'conv'; allowed: none, skip"),
        ("nas-bench-201", {"cell": "|none~0|+|none~0|none~1|"}, r"'\|none~0\|\+.* is no cell; expected a text"),
        ("nas-bench-201", {"cell": "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|"}, "is no cell"),
        ("cifar-resnet", {"blocks": [1, 0, 1]}, r"gene 'blocks\[1\]' is 0; allowed: a whole number from 1 to 32"),
    ],
)
def test_errors_name_the_gene(name: str, change: dict[str, Any], message: str) -> None:
    arch = {**SMALL[name], **change}
    for refuse in (space(name).check, space(name).size, lambda a: space(name).build(a, seed=0)):
        with pytest.raises(SpaceError, match=message):
            refuse(arch)


@pytest.mark.parametrize("name", SMALL)
def test_errors_for_what_is_no_architecture(name: str) -> None:
    for nothing in ([], None, "x" * 1000):
        with pytest.raises(SpaceError, match=rf"an architecture of {name} is a mapping of the genes") as caught:
            space(name).check(nothing)  # type: ignore[arg-type]
        assert len(caught.value.message) < 250
    gene = list(SMALL[name])[-1]
    with pytest.raises(SpaceError, match=rf"lacks the gene '{gene}'"):
        space(name).check({g: value for g, value in SMALL[name].items() if g != gene})
    with pytest.raises(SpaceError, match=r"gene 'classes' is 0"):
        space(name).size(SMALL[name], classes=0)
