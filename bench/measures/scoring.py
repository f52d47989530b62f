"""All scores of one network: formulas from the statistics of one pass each, measures by their own. Nothing is stored.

The scores of a network are a function of its recipe alone. Loads torch when a network is scored.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...grammar.errors import ProxforgeError, nearest
from ...grammar.expr import statistics_of
from ...grammar.types import STATISTICS
from ...stats_cache.inputs import Batch
from ...stats_cache.recipe import Recipe, find_space
from ...stats_cache.spaces.base import Space
from ...vm.compile import Proxy, compile_text
from ..proxies import PUBLISHED
from ..proxies.ensembles import Ensemble
from . import MEASURES, PARTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .subject import Subject

OK, UNDEFINED = "ok", "undefined"


@dataclass(frozen=True)
class Scorer:
    """One score that is wanted: a compiled formula, or a part of a measure (None: not for this family of networks).

    ``label``: as it was given. ``key``: equal keys are equal scores.
    """

    label: str
    key: str
    proxy: Proxy | None = None
    measure: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """``value``: the score, NaN where undefined. ``ms``: the processor time that it takes if nothing else is wanted."""

    value: float
    ms: float
    reason: str = ""


def scorer(label: str, family: Space) -> Scorer:
    """What the text stands for on networks of this family: a published proxy, a part of a measure, or a formula.

    Raises ProxyError for a formula that does not compile.
    """
    label = label.strip()
    if label in PARTS:
        return Scorer(label, f"measure {label}", measure=PARTS[label].name)
    if label in MEASURES:
        parts = ", ".join(MEASURES[label].parts)
        raise ProxforgeError("usage", f"{label} is a measure with several scores; name one of {parts}")
    formula: str | None = label
    if label in PUBLISHED:
        formula = PUBLISHED[label].form(tuple(family.sites))
        if formula is None:
            return Scorer(label, f"none {label}")
    elif label.isidentifier() and (hint := nearest(label, (*PUBLISHED, *PARTS))):
        raise ProxforgeError("name", f"no proxy is called {label[:80]!r}{hint}")
    assert formula is not None
    proxy = compile_text(formula)
    for name in proxy.statistics:
        if STATISTICS[name].site not in family.sites:
            return Scorer(label, f"none {label}")
    return Scorer(label, proxy.canonical, proxy=proxy)


def scorers(labels: Iterable[str], ensembles: Iterable[Ensemble], family: Space) -> list[Scorer]:
    """The scorers of these proxies and of the members of these ensembles, each once, in order."""
    every = [*labels, *(member for ensemble in ensembles for member in ensemble.of(tuple(family.sites)))]
    return list({label: scorer(label, family) for label in every}.values())


def score_network(recipe: Recipe, wanted: Sequence[Scorer], batch: Batch | None = None) -> dict[str, Scored]:
    """Scorer key -> score, of the one network of the recipe. ``batch``: the images that the recipe's input names."""
    from .subject import Subject

    began = time.process_time()
    subject = Subject(recipe, batch)
    found: dict[str, Scored] = {}
    formulas = {s.key: s.proxy for s in wanted if s.proxy is not None}
    measures = {s.measure for s in wanted if s.measure is not None}
    if measures or any(proxy.statistics for proxy in formulas.values()):
        _ = subject.model, subject.images
    built = _ms(began)
    found |= _formulas(subject, formulas, built)
    for name in sorted(measures):
        found |= _measured(subject, name, built)
    for s in wanted:
        if s.key not in found:
            found[s.key] = Scored(float("nan"), 0.0, f"{s.label} reads what these networks do not have")
    return found


def family_of(recipe: Recipe) -> Space:
    """The space of a recipe, at the resolution of its images."""
    return recipe.family() if recipe.resolution is not None else find_space(recipe.space)


def _measured(subject: Subject, name: str, built: float) -> dict[str, Scored]:
    from .subject import Undefined

    measure, began = MEASURES[name], time.process_time()
    try:
        values, reason = measure(subject), ""
    except Undefined as error:
        values, reason = (float("nan"),) * len(measure.parts), str(error)
    ms = built + _ms(began)
    return {f"measure {p}": Scored(v, ms, reason) for p, v in zip(measure.parts, values, strict=True)}


def _formulas(subject: Subject, formulas: Mapping[str, Proxy], built: float) -> dict[str, Scored]:
    """Each pass once; a formula is charged with the passes that it needs."""
    from ...stats_cache.memory import MemoryCache
    from ...stats_cache.passes import full_precision, measure, one_thread
    from ...vm.evaluate import Evaluator

    if not formulas:
        return {}
    size = subject.size
    facts = {name: float(getattr(size, name)) for name in ("params", "flops", "depth", "width")}
    found = {key: Scored(facts[key], 0.0) for key in formulas if key in facts}
    left = {key: proxy for key, proxy in formulas.items() if key not in facts}
    if not left:
        return found
    names = statistics_of([proxy.node for proxy in left.values()])
    # a formula of the network's own facts reads no statistic, but a cache has one
    nothing = np.zeros((1, 1), np.float32)
    segments: dict[str, list[NDArray[np.float32]]] = {} if names else {"qkv.w": [nothing] * size.depth}
    cost: dict[str, float] = {}
    for kinds in ("w", "ga", "v"):
        began = time.process_time()
        chosen = [name for name in names if name.partition(".")[2] in kinds]
        if chosen:
            with one_thread(), full_precision():
                segments |= measure(
                    subject.model, subject.layers, chosen, subject.images, subject.labels, subject.how()
                )
        cost |= dict.fromkeys(kinds, _ms(began))
    evaluator = Evaluator(MemoryCache([segments], [size], [subject.arch]), [0])
    for key, proxy in left.items():
        began = time.process_time()
        value = float(evaluator.run([proxy.node]).scores[0, 0])
        passes = {("g" if kind == "a" else kind) for kind in (n.partition(".")[2] for n in proxy.statistics)}
        spent = sum(cost[kind] for kind in passes) + (built if passes else 0.0)
        found[key] = Scored(value, spent + _ms(began))
    return found


def _ms(began: float) -> float:
    return 1000 * (time.process_time() - began)
