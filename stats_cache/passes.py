"""The statistics of any ``nn.Module`` whose sites are named: at most one pass of the loss and one of SynFlow.

Loads torch. Nothing in the network is changed: modes, flags, hooks, buffers, ``.grad``, the random state are what they
were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from .segments import array, joined, rows
from .sites import ACTIVATIONS, Layers
from .source import CacheError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs ``[batch, classes]``, labels ``[batch]``) -> one number."""


@dataclass(frozen=True)
class How:
    """How a network is measured.

    ``loss``: what kind ``g`` is the gradient of; the mean cross-entropy unless said otherwise. ``batch_statistics``:
    BatchNorms normalise by the batch for kinds ``a`` and ``g`` (and by their running averages for ``v``).
    ``idle_modules``: a module without influence on the output has gradient 0 and is no error. ``rows``: of an
    activation at most so many rows are kept, the same ones of its gradient, drawn from ``row_seed``; all if None.
    """

    loss: Loss = F.cross_entropy
    batch_statistics: bool = False
    idle_modules: bool = False
    rows: int | None = None
    row_seed: int = 0


@dataclass
class _Call:
    """One call of a module in a forward pass; ``version``: of the output then (in-place changes raise it)."""

    output: Tensor
    values: Tensor
    version: int


def measure(
    model: nn.Module,
    layers: Layers,
    statistics: Collection[str],
    images: Tensor,
    labels: Tensor,
    how: How | None = None,
) -> dict[str, list[NDArray[np.float32]]]:
    """The wanted statistics (names ``site.kind``), a list of 2-D float32 segments each, in layer order.

    A weight is ``[out, in]`` (a kernel's other axes joined into ``in``; several modules one above the other), a
    gradient alike; an activation ``[positions * batch, features]``. Only the passes that are needed are run. Kind ``w``
    may be a view of the weight. Raises CacheError naming the module that has no weight, is not called once in a forward
    pass, or has no gradient.
    """
    how = How() if how is None else how
    by_kind: dict[str, list[str]] = {kind: [] for kind in "wgav"}
    for name in sorted(statistics):
        site, _, kind = name.partition(".")
        by_kind[kind].append(site)
    out: dict[str, list[Tensor]] = {}
    with ready(model):
        for site in by_kind["w"]:
            weights = [[_weight(model, m).detach() for m in modules] for modules in layers[site]]
            out[f"{site}.w"] = [joined(parts) for parts in weights]
        if by_kind["g"] or by_kind["a"]:
            with normalising(model, how.batch_statistics):
                out |= _loss_pass(model, layers, by_kind["g"], by_kind["a"], images, labels, how)
        if by_kind["v"]:
            out |= _synflow(model, layers, by_kind["v"], torch.ones_like(images[:1], dtype=torch.float64), how)
    return {name: [array(tensor) for tensor in tensors] for name, tensors in out.items()}


def logits_of(output: Any) -> Tensor:
    """The scores of the classes in what a network returns: itself, its ``logits``, or its first entry."""
    if isinstance(output, Mapping):
        output = output.get("logits")
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise CacheError("the network returns neither a tensor nor something with logits; wrap it in one that does")
    return output


def _loss_pass(
    model: nn.Module,
    layers: Layers,
    gradients: list[str],
    activations: list[str],
    images: Tensor,
    labels: Tensor,
    how: How,
) -> dict[str, list[Tensor]]:
    """Kinds ``g`` and ``a``: a forward pass, and a backward pass of the loss if a gradient is wanted."""
    hooked = sorted({m for site in {*activations, *ACTIVATIONS.intersection(gradients)} for (m,) in layers[site]})
    with torch.set_grad_enabled(bool(gradients)):
        logits, calls = _forward(model, hooked, images, copies=False)
        changed = [module for module, call in calls.items() if call.output._version != call.version]
        if gradients and changed:
            raise CacheError(f"the output of the module {changed[0]!r} is changed in place later; its gradient is lost")
        if changed:
            logits, calls = _forward(model, hooked, images, copies=True)
        loss = how.loss(logits, labels) if gradients else None
    out: dict[str, list[Tensor]] = {}
    for site in activations:
        out[f"{site}.a"] = [rows(site, calls[m].values, how.rows, how.row_seed) for (m,) in layers[site]]
    if gradients:
        wanted: dict[str, list[list[Tensor]]] = {
            site: [
                [calls[m].output if site in ACTIVATIONS else _weight(model, m) for m in modules]
                for modules in layers[site]
            ]
            for site in gradients
        }
        for site, found in _gradients(_checked(loss), layers, wanted, how).items():
            tensors = [rows(site, g[0], how.rows, how.row_seed) if site in ACTIVATIONS else joined(g) for g in found]
            out[f"{site}.g"] = tensors
    return out


def _checked(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise CacheError(f"the loss is {what}; expected a tensor with one number")
    return loss.reshape(())


def _forward(
    model: nn.Module, modules: Sequence[str], images: Tensor, *, copies: bool
) -> tuple[Tensor, dict[str, _Call]]:
    """The logits, and the one call of every module."""
    with _recorded(model, modules, copies) as calls:
        logits = logits_of(model(images))
    for module, made in calls.items():
        if len(made) != 1:
            raise CacheError(
                f"the module {module!r} is called {len(made)} times in a forward pass; a site needs one call"
            )
    return logits, {module: call for module, (call,) in calls.items()}


def _synflow(model: nn.Module, layers: Layers, sites: list[str], ones: Tensor, how: How) -> dict[str, list[Tensor]]:
    """Kind ``v`` (SynFlow, Tanaka et al. 2020): the gradients of the sum of the outputs for an input of ones.

    In float64, with every parameter and float buffer of the state made absolute. The network is called with these
    tensors; its own are not changed.
    """
    saved = model.state_dict(keep_vars=True)
    state = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            values = tensor.detach()
            state[name] = (values.abs() if name in saved else values).to(torch.float64)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    wanted = {
        site: [[state[names[id(_weight(model, m))]].requires_grad_() for m in modules] for modules in layers[site]]
        for site in sites
    }
    total = logits_of(torch.func.functional_call(model, state, (ones,))).sum()
    found = _gradients(total, layers, wanted, how)
    return {f"{site}.v": [joined(parts) for parts in found[site]] for site in sites}


def _gradients(
    root: Tensor, layers: Layers, wanted: Mapping[str, list[list[Tensor]]], how: How
) -> dict[str, list[list[Tensor]]]:
    """The gradients of ``root`` by the wanted tensors, per site; no ``.grad`` is touched."""
    if not (root.requires_grad or how.idle_modules):
        raise CacheError("there is no gradient: the loss, or the network, detaches tensors or computes under no_grad")
    flat = [tensor for per_layer in wanted.values() for parts in per_layer for tensor in parts]
    none = (None,) * len(flat)  # a cell that leads nowhere leaves no module with an influence
    found = iter(torch.autograd.grad(root, flat, allow_unused=True) if root.requires_grad else none)
    out: dict[str, list[list[Tensor]]] = {}
    for site, per_layer in wanted.items():
        out[site] = []
        for modules, parts in zip(layers[site], per_layer, strict=True):
            out[site].append([])
            for module, tensor in zip(modules, parts, strict=True):
                gradient = next(found)
                if gradient is None and not how.idle_modules:
                    raise CacheError(
                        f"the output of the network does not depend on the module {module!r} of site {site!r}"
                    )
                out[site][-1].append(torch.zeros_like(tensor) if gradient is None else gradient)
    return out


@contextmanager
def _recorded(model: nn.Module, modules: Sequence[str], copies: bool) -> Iterator[dict[str, list[_Call]]]:
    """Inside, every call of the modules is recorded, as a copy where a later layer works on the output in place."""
    calls: dict[str, list[_Call]] = {module: [] for module in modules}
    handles: list[RemovableHandle] = []

    def recorder(module: str) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def record(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> None:
            if not isinstance(output, Tensor):
                raise CacheError(f"the module {module!r} returns a {type(output).__name__}; a site needs a tensor")
            values = output.detach().clone() if copies else output.detach()
            calls[module].append(_Call(output, values, output._version))

        return record

    try:
        handles.extend(model.get_submodule(module).register_forward_hook(recorder(module)) for module in modules)
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def ready(model: nn.Module) -> Iterator[None]:
    """Inside, the network is in eval mode and its float parameters are in the graph; afterwards all is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(p, p.requires_grad) for p in model.parameters() if p.is_floating_point()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def normalising(model: nn.Module, by_batch: bool) -> Iterator[None]:
    """Inside, BatchNorms normalise by the batch and keep no averages, if so wanted; afterwards all is as it was."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)] if by_batch else []
    averages = [(norm, norm.running_mean, norm.running_var) for norm in norms]
    try:
        for norm in norms:
            norm.running_mean = norm.running_var = None
        yield
    finally:
        for norm, mean, variance in averages:
            norm.running_mean, norm.running_var = mean, variance


def one_thread() -> AbstractContextManager[None]:
    """Inside, torch computes on one thread, so that sums are made in one order; afterwards on as many as before."""
    return on_threads(1)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Inside, torch computes on so many threads; afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, convolutions on a GPU are those of float32 (not TF32), and made the same way each time."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
        yield


def _weight(model: nn.Module, module: str) -> nn.Parameter:
    found = model.get_submodule(module)
    weight = getattr(found, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.ndim < 2:
        raise CacheError(
            f"the module {module!r} ({type(found).__name__}) has no weight matrix; name a linear or convolutional layer"
        )
    return weight
