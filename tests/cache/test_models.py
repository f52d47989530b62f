"""Networks of one's own: a hand-written module and those of transformers, with patterns, collected and scored."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from proxforge.grammar.canonical import canonical_pool
from proxforge.stats_cache import Batch, CacheError, collect_models
from proxforge.vm.compile import compile_text
from proxforge.vm.evaluate import Evaluator

SITES = {
    "qkv": ("layers.*.query", "layers.*.key", "layers.*.value"),
    "proj": "layers.*.out",
    "fc1": "layers.*.up",
    "hidden": "layers.*.gelu",
    "fc2": "layers.*.down",
}


class Layer(nn.Module):
    def __init__(self, d: int, m: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.out, self.up, self.gelu, self.down = nn.Linear(d, d), nn.Linear(d, m), nn.GELU(), nn.Linear(m, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.out(F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x)))
        return x + self.down(self.gelu(self.up(x)))


class Mine(nn.Module):
    """``[batch, 12] -> {"logits": [batch, 4]}``: three tokens of four numbers."""

    def __init__(self, d: int = 6, m: int = 10, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(4, d)
        self.layers = nn.ModuleList(Layer(d, m) for _ in range(depth))
        self.head = nn.Linear(d, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embed(x.view(len(x), 3, 4))
        for layer in self.layers:
            x = layer(x)
        return {"logits": self.head(x.mean(1))}


@pytest.fixture
def model() -> Mine:
    torch.manual_seed(0)
    return Mine().train()


IMAGES = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3, 0])


def scores(cache: Any, formula: str) -> np.ndarray:
    evaluator = Evaluator(cache, range(len(cache.networks)), backend_name="reference")
    result = evaluator.run([compile_text(formula, canonical_pool()).node])
    assert result.status[0] == 0
    return np.asarray(result.scores[0])


def test_a_hand_written_module_is_collected_with_separate_projections(model):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cache = collect_models(model, SITES, batch=(IMAGES, LABELS))
    assert cache.networks[0].size.params == sum(p.numel() for p in model.parameters())
    assert (cache.networks[0].layers, cache.networks[0].size.depth, cache.networks[0].size.width) == (2, 2, 6.0)
    assert len(cache.statistics) == 14
    for i, layer in enumerate(model.layers):
        joined = torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]).detach().numpy()
        np.testing.assert_array_equal(cache.read(0, "qkv.w", i), joined)
        assert cache.shape(0, "hidden.g", i) == (15, 10)
    F.cross_entropy(model.eval()(IMAGES)["logits"], LABELS).backward()
    for i, layer in enumerate(model.layers):
        gradient = torch.cat([layer.query.weight.grad, layer.key.weight.grad, layer.value.weight.grad])
        np.testing.assert_allclose(cache.read(0, "qkv.g", i), gradient.numpy(), rtol=1e-5, atol=1e-9)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_multiply_accumulates_are_counted(model):
    d, m, tokens = 6, 10, 3
    layer = tokens * (4 * d * d + 2 * d * m) + 2 * tokens * tokens * d
    cache = collect_models(model, SITES, batch=(IMAGES, LABELS), statistics=["qkv.w"])
    assert cache.networks[0].size.flops == tokens * 4 * d + 2 * layer + d * 4
    assert cache.statistics == {"qkv.w"}
    assert model.training


def test_several_networks_are_scored():
    def build() -> Any:
        for depth in (1, 2, 3):
            torch.manual_seed(depth)
            yield Mine(depth=depth, m=8 + 2 * depth)

    cache = collect_models(build(), SITES, batch=IMAGES, archs=[{"depth": d} for d in (1, 2, 3)])
    snip = scores(cache, "layer_sum(sum(abs(qkv.w * qkv.g)))")
    again = collect_models(build(), SITES, batch=IMAGES, label_seed=0)
    other = collect_models(build(), SITES, batch=IMAGES, label_seed=7)
    assert len(set(snip)) == 3
    np.testing.assert_array_equal(snip, scores(again, "layer_sum(sum(abs(qkv.w * qkv.g)))"))
    assert not np.array_equal(snip, scores(other, "layer_sum(sum(abs(qkv.w * qkv.g)))"))
    assert [network.arch["depth"] for network in cache.networks] == [1, 2, 3]
    np.testing.assert_array_equal(scores(cache, "depth"), [1, 2, 3])


def test_another_loss(model):
    def half(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels) / 2

    whole = collect_models(model, SITES, batch=(IMAGES, LABELS), statistics=["fc1.g"])
    halved = collect_models(model, SITES, batch=(IMAGES, LABELS), statistics=["fc1.g"], loss=half)
    np.testing.assert_allclose(2 * halved.read(0, "fc1.g", 1), whole.read(0, "fc1.g", 1), rtol=1e-6)


def test_rows_of_activations_are_the_same_for_value_and_gradient(model):
    few = collect_models(model, SITES, batch=(IMAGES, LABELS), rows=4, label_seed=3)
    whole = collect_models(model, SITES, batch=(IMAGES, LABELS))
    for layer in range(2):
        assert few.shape(0, "hidden.a", layer) == (4, 10)
        values, kept = whole.read(0, "hidden.a", layer), few.read(0, "hidden.a", layer)
        places = [int(np.flatnonzero((values == row).all(1))[0]) for row in kept]
        assert places == sorted(set(places))
        np.testing.assert_array_equal(whole.read(0, "hidden.g", layer)[places], few.read(0, "hidden.g", layer))
        np.testing.assert_array_equal(whole.read(0, "fc1.g", layer), few.read(0, "fc1.g", layer))


class ConvNet(nn.Module):
    """A convolution shared by nobody, depthwise, transposed weights nowhere; BatchNorm and ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(i, o, 3, groups=g), "norm": nn.BatchNorm2d(o)})
            for i, o, g in ((2, 4, 1), (4, 4, 4), (4, 6, 1))
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        for step in self.steps:
            x = step["norm"](step["conv"](x)).relu_()
        return self.head(x.mean((2, 3))), "features"


def test_a_convolutional_network():
    torch.manual_seed(0)
    model, images = ConvNet(), torch.randn(2, 2, 9, 9)
    sites = {"conv": "steps.*.conv", "act": "steps.*.conv"}
    cache = collect_models(model, sites, batch=images, batch_statistics=True)
    shapes = [cache.shape(0, "conv.w", i) for i in range(3)]
    assert shapes == [(4, 18), (4, 9), (6, 36)]
    assert [cache.shape(0, "act.a", i) for i in range(3)] == [(2 * 49, 4), (2 * 25, 4), (2 * 9, 6)]
    first = model.steps[0]["conv"](images).permute(0, 2, 3, 1).reshape(-1, 4)
    np.testing.assert_allclose(cache.read(0, "act.a", 0), first.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert cache.networks[0].size.width == pytest.approx((4 + 4 + 6) / 3)
    assert scores(cache, "layer_sum(sum(abs(conv.w * conv.v)))")[0] > 0


def test_what_is_wrong_is_named(model):
    for arguments, message in (
        ({"batch": (IMAGES, LABELS[:3])}, "has 5 images and 3 labels"),
        ({"statistics": ["conv.w"]}, "'conv.w' needs the site 'conv': name its pattern"),
        ({"statistics": ["fc1.q"]}, "unknown statistic 'fc1.q'; did you mean"),
        ({"statistics": []}, "no statistic is asked for"),
        (
            {"sites": {"fc1": "layers.*.up", "fc2": "layers.*.out"}},
            r"layer 0 does not line up: layers.0.up \(fc1\) has 10",
        ),
        ({"sites": {"fc1": "layers.*.gelu"}}, r"'layers.0.gelu' \(GELU\) has no weight matrix"),
        ({"sites": {"qkv": ("layers.*.up", "layers.*.down")}}, r"different widths: \[10, 6\], \[6, 10\]"),
        ({"sites": {"fc1": "layer.*.up"}}, "'layer..*.up' of site 'fc1' matches no module.*modules: embed, layers"),
    ):
        with pytest.raises(CacheError, match=message):
            collect_models(model, **{"sites": SITES, "batch": (IMAGES, LABELS)} | arguments)
    with pytest.raises(CacheError, match="no network was given"):
        collect_models([], SITES, batch=IMAGES)
    with pytest.raises(CacheError, match="returns neither a tensor nor something with logits"):
        collect_models(nn.ModuleDict({"up": Nothing()})["up"], {"fc1": "fc"}, batch=IMAGES)
    with pytest.raises(CacheError, match="'fc' returns a tuple; a site needs a tensor"):
        collect_models(Tuples(), {"hidden": "fc"}, batch=IMAGES)


class Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> None:
        self.fc(x)


class Tuples(nn.Module):
    class Inner(nn.Linear):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x), None

    def __init__(self) -> None:
        super().__init__()
        self.fc = self.Inner(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)[0]


def test_a_batch_that_was_read_can_be_given():
    images = np.random.default_rng(0).normal(size=(2, 2, 9, 9))
    batch = Batch(images, np.array([1, 2]))
    torch.manual_seed(0)
    model = ConvNet()
    one = collect_models(model, {"conv": "steps.*.conv"}, batch=batch)
    two = collect_models(model, {"conv": "steps.*.conv"}, batch=(torch.tensor(batch.images), torch.tensor([1, 2])))
    np.testing.assert_array_equal(one.read(0, "conv.g", 1), two.read(0, "conv.g", 1))


HUGGING_FACE = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 8,
    "num_labels": 5,
}
HIERARCHICAL = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 4]}
PVT = {
    "image_size": 32,
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sequence_reduction_ratios": [2, 1],
    "hidden_sizes": [16, 32],
    "patch_sizes": [4, 2],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "num_labels": 5,
}


@HUGGING_FACE
@pytest.mark.parametrize(
    ("family", "config", "side", "layers"),
    [
        ("ViT", SMALL, 16, 2),
        ("DeiT", SMALL, 16, 2),
        ("Beit", SMALL, 16, 2),
        ("Swin", HIERARCHICAL | {"window_size": 4, "num_labels": 5}, 16, 3),
        ("Pvt", PVT, 32, 2),
    ],
)
def test_networks_of_transformers_are_collected_without_naming_anything(family, config, side, layers):
    import transformers

    torch.manual_seed(0)
    chosen = getattr(transformers, f"{family}Config")(**config)
    model = getattr(transformers, f"{family}ForImageClassification")(chosen)
    images, labels = torch.randn(2, 3, side, side), torch.tensor([1, 3])
    cache = collect_models(model, batch=(images, labels))
    assert len(cache.statistics) == 14
    assert cache.networks[0].layers == layers
    F.cross_entropy(model.eval()(images).logits, labels).backward()
    names = dict(model.named_parameters())
    down = [name for name in names if name.endswith(("mlp.fc2.weight", "mlp.dense2.weight"))]
    for i, name in enumerate(down):
        np.testing.assert_allclose(cache.read(0, "fc2.g", i), names[name].grad.numpy(), rtol=1e-4, atol=1e-7)
    assert len(down) == layers
    assert np.isfinite(scores(cache, "layer_sum(sum(abs(qkv.w * qkv.v)))")).all()


WRONG = {
    "labels that are no classes": (
        {"batch": (torch.zeros(2, 1, 1, 4), torch.tensor([0, 7]))},
        "go from 0 to 7; the netw",
    ),
    "labels that are no numbers of classes": (
        {"batch": (torch.zeros(2, 1, 1, 4), torch.zeros(2))},
        "labels are torch.f",
    ),
    "no batch": ({"batch": None}, "the batch is a NoneType; expected a tensor of images"),
    "a batch of numpy": ({"batch": np.zeros((2, 1, 1, 4))}, "the batch is a ndarray"),
    "an empty batch": ({"batch": torch.zeros(0, 1, 1, 4)}, "the batch has no images"),
    "a loss for each image": ({"loss": lambda out, labels: out.sum(1)}, r"the loss is a tensor \[2\]; expected"),
    "a loss that is a number": ({"loss": lambda out, labels: 1.0}, "the loss is a float"),
    "a loss that is cut off": ({"loss": lambda out, labels: out.detach().sum()}, "there is no gradient: the loss"),
    "a pattern that is none": ({"sites": {"fc1": 3}}, "the site 'fc1' is 3; expected a pattern"),
    "no pattern for a site": ({"sites": {"fc1": ()}}, r"the site 'fc1' is \(\); expected a pattern"),
    "an empty pattern": ({"sites": {"fc1": ""}}, "the site 'fc1' is ''; expected a pattern"),
    "no row": ({"rows": 0}, "rows is 0; expected at least 1"),
    "what is no network": ({"models": ["ViT"]}, "a network is a str; expected a torch.nn.Module"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_given_wrongly_is_told(what):
    changed, message = WRONG[what]
    plain = {"models": Small(), "sites": {"fc1": "fc"}, "batch": torch.zeros(2, 1, 1, 4)}
    with pytest.raises(CacheError, match=message):
        collect_models(**(plain | changed))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.fc(x.mean((1, 2)))))


class WithoutGradient(Small):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize("statistic", ["fc1.g", "fc1.v"])
def test_a_network_without_gradients_is_told(statistic):
    with pytest.raises(CacheError, match="there is no gradient"):
        collect_models(WithoutGradient(), {"fc1": "fc"}, batch=torch.zeros(2, 1, 1, 4), statistics=[statistic])
    found = collect_models(WithoutGradient(), {"fc1": "fc"}, batch=torch.zeros(2, 1, 1, 4), statistics=["fc1.w"])
    assert found.statistics == {"fc1.w"}


def test_a_network_without_weights_has_activations():
    found = collect_models(
        nn.Sequential(nn.Flatten(), nn.GELU()), {"hidden": "1"}, batch=torch.ones(2, 1, 1, 4), statistics=["hidden.a"]
    )
    assert found.shape(0, "hidden.a", 0) == (2, 4)
