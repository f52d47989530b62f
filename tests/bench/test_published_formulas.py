"""The published proxies against plain torch computations on networks of two spaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from proxforge.bench.measures.scoring import score_network, scorer
from proxforge.bench.measures.subject import Subject
from proxforge.bench.proxies import PUBLISHED
from proxforge.stats_cache.recipe import Recipe
from proxforge.stats_cache.spaces.base import Space

MICRO = Recipe(
    "micro",
    ({"family": "columnar", "depth": 2, "width": 8, "heads": [2, 2], "mlp_ratio": [2, 2]},),
    classes=10,
    batch=6,
)
CELL = Recipe(
    "nas-bench-201",
    ({"cell": ["nor_conv_3x3", "skip_connect", "none", "avg_pool_3x3", "nor_conv_1x1", "skip_connect"]},),
    classes=10,
    batch=3,
    resolution=8,
)


def family(recipe: Recipe) -> Space:
    return recipe.family()


def layer_tensors(recipe: Recipe) -> list[dict[str, Tensor]]:
    """site.kind -> tensor of every layer, by autograd alone."""
    subject = Subject(recipe)
    model, sites = subject.fresh().eval(), subject.family.sites
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean = norm.running_var = None
    names = {s: [modules[0] for modules in subject.layers[s]] for s in sites}
    outputs: dict[str, Tensor] = {}
    acts = [s for s in sites if s in ("hidden", "act")]
    for site in acts:
        for name in names[site]:
            model.get_submodule(name).register_forward_hook(lambda _m, _i, out, n=name: outputs.__setitem__(n, out))
    loss = F.cross_entropy(model(subject.images), subject.labels)
    out: list[dict[str, Tensor]] = []
    depth = len(next(iter(names.values())))
    for layer in range(depth):
        row: dict[str, Tensor] = {}
        for site in sites:
            if site in acts:
                tensor = outputs[names[site][layer]]
                row[f"{site}.a"] = tensor.detach()
            else:
                tensor = model.get_submodule(names[site][layer]).weight
                row[f"{site}.w"] = tensor.detach()
            (g,) = torch.autograd.grad(loss, tensor, retain_graph=True, allow_unused=True)
            row[f"{site}.g"] = torch.zeros_like(tensor) if g is None else g
        out.append(row)
    positive = subject.fresh().eval().double()
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    positive(torch.ones_like(subject.images[:1]).double()).sum().backward()
    for layer, row in enumerate(out):
        for site in sites:
            if site not in acts:
                weight = positive.get_submodule(names[site][layer]).weight
                row[f"{site}.v"] = torch.zeros_like(weight) if weight.grad is None else weight.grad
    return out


def over(layers: list[dict[str, Tensor]], each: Callable[[dict[str, Tensor], str], Tensor]) -> float:
    """The sum of ``each`` over layers and the sites with weights."""
    sites = [name[:-2] for name in layers[0] if name.endswith(".w")]
    return float(sum(each(x, s).double() for x in layers for s in sites))


def nuclear(x: Tensor) -> Tensor:
    return torch.linalg.svdvals(x.double()).sum()


def ranged(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min() + 1e-9)


def act(x: dict[str, Tensor]) -> str:
    return "hidden" if "hidden.a" in x else "act"


SUMS: dict[str, Callable[[dict[str, Tensor], str], Tensor]] = {
    "SNIP": lambda x, s: (x[f"{s}.w"] * x[f"{s}.g"]).abs().sum(),
    "Plain": lambda x, s: (x[f"{s}.w"].double() * x[f"{s}.g"].double()).sum(),
    "SynFlow": lambda x, s: (x[f"{s}.w"].double() * x[f"{s}.v"]).abs().sum(),
    "LogSynFlow": lambda x, s: (x[f"{s}.w"].double().abs() * torch.log1p(x[f"{s}.v"].abs())).sum(),
    "GradNorm": lambda x, s: x[f"{s}.g"].norm(),
    "L2Norm": lambda x, s: x[f"{s}.w"].norm(),
    "PrunerZero": lambda x, s: ((x[f"{s}.w"] ** 2).abs() * ranged(x[f"{s}.g"])).sum(),
}


def mean(layers: list[dict[str, Tensor]], each: Callable[[dict[str, Tensor]], Tensor]) -> float:
    return float(sum(each(x).double() for x in layers) / len(layers))


def dss(layers: list[dict[str, Tensor]], diversity: bool, saliency: bool) -> float:
    total = 0.0
    for x in layers:
        if diversity:
            total += float(sum(nuclear(x[f"{s}.v"]) * nuclear(x[f"{s}.w"].abs()) for s in ("qkv", "proj")))
        if saliency:
            total += float(sum((x[f"{s}.v"] * x[f"{s}.w"]).abs().sum() for s in ("fc1", "fc2")))
    return total


def emq(x: dict[str, Tensor]) -> Tensor:
    site = "fc1" if "fc1.w" in x else "conv"
    v, w = x[f"{site}.v"].double().flatten(1), x[f"{site}.w"].double()
    log = torch.where(v == 0, torch.zeros_like(v), v.abs().log())
    return log.softmax(0).mean() * w.relu().sqrt().mean()


OTHERS: dict[str, Callable[[list[dict[str, Tensor]]], float]] = {
    "AutoProxA": lambda ls: mean(ls, lambda x: x["qkv.g"].abs().mean() + x["fc1.g"].sigmoid().mean()),
    "AutoProxP": lambda ls: mean(
        ls, lambda x: x["qkv.w"].sigmoid().norm() - x["fc1.w"].abs().double().log_softmax(0).mean()
    ),
    "AutoProxConfig": lambda ls: mean(
        ls, lambda x: ranged(x["fc1.w"]).norm() + x["hidden.g"].double().sigmoid().sqrt().mean()
    ),
    "Fisher": lambda ls: float(sum(((x[f"{act(x)}.a"] * x[f"{act(x)}.g"]).double() ** 2).sum() for x in ls)),
    "DSS": lambda ls: dss(ls, True, True),
    "DSS-diversity": lambda ls: dss(ls, True, False),
    "DSS-saliency": lambda ls: dss(ls, False, True),
    "EMQ": lambda ls: mean(ls, emq),
}


@pytest.mark.parametrize("recipe", [MICRO, CELL], ids=["transformer", "convolutions"])
def test_every_published_proxy_is_what_torch_computes(recipe):
    layers = layer_tensors(recipe)
    assert SUMS.keys() | OTHERS.keys() == PUBLISHED.keys()
    wanted = [scorer(name, family(recipe)) for name in PUBLISHED]
    wanted = [s for s in wanted if s.proxy is not None]
    assert len(wanted) == (15 if recipe is MICRO else 9)
    found = score_network(recipe, wanted)
    for s in wanted:
        expected = over(layers, SUMS[s.label]) if s.label in SUMS else OTHERS[s.label](layers)
        assert found[s.key].value == pytest.approx(expected, rel=2e-5, abs=2e-6), s.label  # Plain's terms cancel


def test_every_published_proxy_says_where_it_stands():
    for name, proxy in PUBLISHED.items():
        assert proxy.name == name
        assert "20" in proxy.paper
        assert proxy.note


def test_dss_is_the_same_for_every_batch_but_not_for_every_initialisation():
    """Its input is all ones: neither the images nor their number matter."""
    wanted = scorer("DSS", family(MICRO))
    first = score_network(MICRO, [wanted])[wanted.key].value
    for other in (replace(MICRO, input_seed=5), replace(MICRO, batch=2), replace(MICRO, input="ones")):
        assert score_network(other, [wanted])[wanted.key].value == first
    assert score_network(replace(MICRO, seed=1), [wanted])[wanted.key].value != first
