"""Measures with a pass of their own against independent computations on tiny networks."""

from __future__ import annotations

import math
from itertools import pairwise
from time import sleep

import numpy as np
import pytest
import torch
from torch.func import functional_call, hessian
from torch.nn import functional as F

from proxforge.bench.measures import MEASURES, PARTS, regions
from proxforge.bench.measures.az_nas import expressivity, trainability
from proxforge.bench.measures.features import block_features, cell_features, residual_features
from proxforge.bench.measures.gradients import grad_sign, grasp, jacobian_covariance, ntk_condition, synflow, zico
from proxforge.bench.measures.regions import POINTS, linear_regions, nwot, zen
from proxforge.bench.measures.scoring import score_network, scorer
from proxforge.bench.measures.subject import Subject, Undefined
from proxforge.bench.proxies import PUBLISHED
from proxforge.stats_cache.inputs import Batch
from proxforge.stats_cache.recipe import Recipe

from .test_published_formulas import CELL, MICRO

TINY = Recipe(
    "micro",
    ({"family": "columnar", "depth": 1, "width": 8, "heads": [1], "mlp_ratio": [0.5]},),
    classes=10,
    batch=4,
)
DISCONNECTED = Recipe("nas-bench-201", ({"cell": ["none"] * 6},), classes=10, batch=3, resolution=8)
RESNET = Recipe("cifar-resnet", ({"blocks": [1, 2, 1]},), classes=10, batch=2, resolution=8)


def subject_of(recipe: Recipe) -> Subject:
    return Subject(recipe)


def per_image(subject: Subject, root) -> torch.Tensor:
    """The gradients of ``root(logits)[i]`` by the weights of linear maps and convolutions, ``[images, weights]``."""
    with subject.running() as model:
        names = {id(p): n for n, p in model.named_parameters()}
        chosen = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
        assert all(id(p) in names for p in chosen)
        rows = []
        for i in range(len(subject.images)):
            values = root(model(subject.images))
            grads = torch.autograd.grad(values[i], chosen, allow_unused=True)
            rows.append(
                torch.cat(
                    [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(chosen, grads, strict=True)]
                )
            )
    return torch.stack(rows)


def test_grasp_is_the_product_with_the_whole_hessian():
    subject = subject_of(TINY)
    assert len(subject.images) == len(subject.labels) == 4
    with subject.running() as model:
        weights = {n: p.detach() for n, p in model.named_parameters() if p.ndim == 2}
        flat = torch.cat([w.flatten() for w in weights.values()])

        def loss(vector):
            parts, at = {}, 0
            for name, w in weights.items():
                parts[name] = vector[at : at + w.numel()].view_as(w)
                at += w.numel()
            return F.cross_entropy(functional_call(model, parts, (subject.images,)), subject.labels)

        whole = hessian(loss)(flat)
        gradient = torch.func.grad(loss)(flat)
    assert grasp(subject) == pytest.approx(float((-flat @ (whole @ gradient)).detach()), rel=1e-3)


@pytest.mark.parametrize("recipe", [MICRO, CELL], ids=["transformer", "convolutions"])
def test_grad_sign(recipe):
    subject = subject_of(recipe)
    rows = per_image(subject, lambda logits: F.cross_entropy(logits, subject.labels, reduction="none"))
    expected = float(rows.sign().sum(0).abs().sum())
    assert grad_sign(subject) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("recipe", [MICRO, CELL], ids=["transformer", "convolutions"])
def test_ntk_condition_number(recipe):
    subject = subject_of(recipe)
    rows = per_image(subject, lambda logits: logits.sum(1)).double().numpy()
    assert ntk_condition(subject) == pytest.approx(-(np.linalg.cond(rows) ** 2), rel=1e-3)


def test_zico():
    subject = subject_of(MICRO)
    each = []
    with subject.running() as model:
        chosen = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
        for part in (slice(0, 3), slice(3, 6)):
            loss = F.cross_entropy(model(subject.images[part]), subject.labels[part])
            each.append([g.double().numpy() for g in torch.autograd.grad(loss, chosen)])
    expected = 0.0
    for a, b in zip(*each, strict=True):
        spread = np.abs(a - b) / 2
        mean = (np.abs(a) + np.abs(b)) / 2
        expected += math.log((mean[spread > 0] / spread[spread > 0]).sum())
    assert zico(subject) == pytest.approx(expected, rel=1e-6)


def test_zico_leaves_out_what_does_not_vary():
    family = MICRO.family()
    image = np.random.default_rng(0).standard_normal((1, family.channels, family.resolution, family.resolution))
    batch = Batch(np.repeat(image.astype(np.float32), 4, axis=0), np.zeros(4, np.int64))
    assert zico(Subject(MICRO, batch)) == 0.0


@pytest.mark.parametrize("recipe", [MICRO, CELL], ids=["transformer", "convolutions"])
def test_synflow_is_that_of_the_whole_network(recipe):
    subject = subject_of(recipe)
    model = subject.fresh().double().eval()
    state = {name: p.detach().abs() for name, p in model.named_parameters()}
    one = torch.ones_like(subject.images[:1]).double()
    flow = torch.func.grad(lambda parts: functional_call(model, parts, (one,)).sum())(state)
    chosen = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
    expected = [
        sum(float((state[n] * flow[n].abs()).sum()) for n in chosen),
        sum(float((state[n] * torch.log(1 + flow[n].abs())).sum()) for n in chosen),
    ]
    assert synflow(subject) == pytest.approx(expected, rel=1e-9)


def test_synflow_of_what_exceeds_float32():
    recipe = Recipe("nas-bench-201", ({"cell": ["nor_conv_3x3"] * 6},), classes=10, batch=2, resolution=8)
    wanted = [scorer(name, recipe.family()) for name in ("SynFlow", "SynFlow-float64", "LogSynFlow-float64")]
    formula, whole, logarithm = (score_network(recipe, wanted)[s.key].value for s in wanted)
    assert formula == math.inf
    assert float(np.finfo(np.float32).max) < whole < math.inf
    assert 0 < logarithm < math.inf


def test_jacobian_covariance():
    subject = subject_of(MICRO)
    with subject.running() as model:
        images = subject.images.clone().requires_grad_()
        rows = [torch.autograd.grad(model(images)[i].sum(), images)[0][i].flatten().numpy() for i in range(6)]
    values = np.linalg.eigvalsh(np.corrcoef(np.array(rows, np.float64))) + 1e-5
    assert jacobian_covariance(subject) == pytest.approx(-float((np.log(values) + 1 / values).sum()), rel=1e-4)


def signs(subject: Subject, images: torch.Tensor) -> np.ndarray:
    """Which units are on, by hooks on the modules: bool ``[images, units]``."""
    found: list[np.ndarray] = []
    model = subject.model
    handles = [
        m.register_forward_pre_hook(lambda _m, x: found.append((x[0] > 0).flatten(1).numpy()))
        for m in model.modules()
        if isinstance(m, torch.nn.GELU | torch.nn.ReLU)
    ]
    if subject.convolutional:  # the last ReLU is a function
        handles.append(model.norm.register_forward_hook(lambda _m, _x, y: found.append((y > 0).flatten(1).numpy())))
    with subject.running(), torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("recipe", [MICRO, CELL], ids=["transformer", "convolutions"])
def test_nwot_counts_the_units_that_agree(recipe):
    subject = subject_of(recipe)
    on = signs(subject, subject.images)
    kernel = np.array([[(a == b).sum() for b in on] for a in on], np.float64)
    assert nwot(subject) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)


@pytest.mark.parametrize("recipe", [MICRO, CELL], ids=["transformer", "convolutions"])
def test_linear_regions_counts_switches_on_the_line(recipe):
    subject = subject_of(recipe)
    a, b = subject.images[0].numpy(), subject.images[1].numpy()
    line = torch.from_numpy(np.stack([a + t * (b - a) for t in np.linspace(0, 1, POINTS, dtype=np.float32)]))
    on = signs(subject, line)
    assert linear_regions(subject) == pytest.approx(1 + sum((x != y).sum() for x, y in pairwise(on)), abs=2)


def test_zen_of_a_linear_network_is_known():
    """A cell without operations: the logits do not depend on the image, so the response to noise is 0."""
    assert zen(subject_of(DISCONNECTED)) == -math.inf
    first, second = zen(subject_of(CELL)), zen(subject_of(CELL))
    assert first == second
    assert math.isfinite(first)


def test_zen_of_a_transformer_is_the_response_of_the_features():
    subject = subject_of(MICRO)
    model, generator = subject.fresh().eval(), subject.generator(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(generator=generator)
                module.bias.zero_()
        x, e = (torch.randn(subject.images.shape, generator=generator) for _ in range(2))
        model.head = torch.nn.Identity()
        change = (model(x) - model(x + 0.01 * e)).double().abs().sum(1).mean()
    assert zen(subject) == pytest.approx(float(change.log()), rel=1e-4)


@pytest.mark.parametrize(("recipe", "count"), [(CELL, 18), (RESNET, 5)], ids=["cells", "residual blocks"])
def test_features_are_those_of_the_networks_own_pass(recipe, count):
    subject = subject_of(recipe)
    compute = cell_features if recipe is CELL else residual_features
    with subject.running() as model, torch.no_grad():
        found = compute(model, subject.images)
        last = found[-1] if recipe is RESNET else F.relu(model.norm(found[-1]))
        assert torch.allclose(model.head(last.mean((2, 3))), model(subject.images), atol=1e-6)
    assert len(found) == count


def test_features_of_a_transformer():
    subject = subject_of(MICRO)
    with subject.running() as model:
        features, pairs = block_features(model, subject.images)
        assert (len(features), len(pairs)) == (4, 3)
        assert pairs[0][0] is features[0]
        assert torch.allclose(model.head(model.norm(features[-1].mean(1))), model(subject.images), atol=1e-6)


def test_expressivity_is_the_entropy_of_the_spectrum():
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    values = np.linalg.eigvalsh(np.cov(rows.numpy().T.astype(np.float64)))
    share = values / values.sum()
    assert expressivity(rows) == pytest.approx(-(share * np.log(share)).sum(), abs=1e-6)


def test_trainability_of_a_linear_map_is_that_of_its_spectral_norm():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 6, generator=generator) / 3
    given = torch.randn(1, 40_000, 6, generator=generator, requires_grad=True)
    s = float(np.linalg.norm(weight.numpy(), 2))
    assert trainability(given, given @ weight, generator, False) == pytest.approx(2 - s - 1 / s, abs=0.05)
    same = given * 1
    assert trainability(given, same, generator, True) == -math.inf
    assert trainability(given, same, generator, False) is None


def test_az_nas_parts_come_from_one_measure():
    parts = [scorer(name, subject_of(CELL).family) for name in ("Expressivity", "Progressivity", "Trainability")]
    found = score_network(CELL, parts)
    assert len({found[s.key].ms for s in parts}) == 1
    assert all(math.isfinite(found[s.key].value) for s in parts)
    assert found[parts[2].key].value <= 0


def test_the_time_of_a_score_is_that_of_the_processor(monkeypatch):
    def sleeping(_subject):
        sleep(0.5)
        return 1.0

    monkeypatch.setattr(regions, "nwot", sleeping)
    wanted = [scorer("NWOT", subject_of(TINY).family)]
    score_network(TINY, wanted)  # what is only slow at first
    (found,) = score_network(TINY, wanted).values()
    assert found.value == 1.0
    assert 0 < found.ms < 450


def test_a_disconnected_cell_is_ranked_last_and_is_no_failure():
    subject = subject_of(DISCONNECTED)
    for name in ("JacobCov", "NTK", "Zen", "AZ"):
        assert MEASURES[name].worst
        assert -math.inf in MEASURES[name](subject), name
    for name in ("GraSP", "ZiCo", "GradSign"):
        assert all(math.isfinite(v) for v in MEASURES[name](subject)), name
    wanted = [scorer(name, subject.family) for name in (*PUBLISHED, *PARTS)]
    assert not any(
        math.isnan(score.value) for score in score_network(DISCONNECTED, wanted).values() if not score.reason
    )


def test_what_a_measure_needs_is_said():
    subject = subject_of(Recipe("micro", TINY.archs, classes=10, batch=1))
    for name in ("NTK", "ZiCo", "JacobCov", "LinearRegions"):
        with pytest.raises(Undefined, match=r"two images|needs two"):
            MEASURES[name](subject)
    (ntk,) = score_network(subject.recipe, [scorer("NTK", subject.family)]).values()
    assert math.isnan(ntk.value)
    assert "two images" in ntk.reason


def test_measures_change_nothing_in_the_network():
    subject = subject_of(CELL)
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    first = {name: measure(subject) for name, measure in MEASURES.items()}
    for name, tensor in subject.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert {name: MEASURES[name](subject) for name in reversed(list(MEASURES))} == first
    assert all(p.grad is None for p in subject.model.parameters())


def test_every_part_has_one_measure():
    assert sum(len(m.parts) for m in MEASURES.values()) == len(PARTS) == 13
    for measure in MEASURES.values():
        assert "20" in measure.paper
        assert measure.note
