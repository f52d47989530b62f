"""The facade: compile, score, search. Each does what the command of the same name does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .bench.tables import Entry, ScoreTable, entries, score_table
from .bench.truth.base import Benchmark, load_benchmark
from .grammar.errors import ProxforgeError, nearest
from .grammar.expr import statistics_of
from .search.constraints import constrained
from .search.loop import Callback, run_search
from .search.objectives import Choice
from .search.problem import Problem
from .search.result import SearchResult
from .search.rundir import write_result
from .search.spaces import SearchSpace, make_space
from .search.strategies import make_strategy
from .stats_cache import Batch, Cache, MemoryCache, Recipe, collect
from .stats_cache.collect import Progress as CollectProgress
from .stats_cache.recipe import INPUTS
from .vm.compile import Proxy
from .vm.evaluate import Evaluator

SPLITS = ("all", "search", "test")


def cache_root() -> Path:
    """Where caches lie unless said otherwise: ``PROXFORGE_CACHE``, else the user's cache folder."""
    given = os.environ.get("PROXFORGE_CACHE")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("proxforge", appauthor=False)) / "statistics"


def benchmark_of(benchmark: str | Benchmark, data: str | Path | None = None) -> Benchmark:
    """The benchmark itself, or the one of that name."""
    return load_benchmark(benchmark, data) if isinstance(benchmark, str) else benchmark


def statistics(
    benchmark: Benchmark,
    names: Sequence[str],
    *,
    init_seed: int = 0,
    cache: str | Path | None = None,
    workers: int | None = None,
    collect_on: str = "cpu",
    progress: Callable[[CollectProgress], None] | None = None,
    **settings: Any,
) -> Cache:
    """The cache of a benchmark's networks with at least these statistics; what is missing is collected.

    ``init_seed``: of the initialisation. ``collect_on``: the device of the passes. ``settings``: those of
    `collection_recipe`.
    """
    recipe, data = collection_recipe(benchmark, init_seed=init_seed, **settings)
    root = cache_root() if cache is None else Path(cache)
    return collect(recipe, names, root, data=data, workers=workers, device=collect_on, progress=progress)


def collection_recipe(
    benchmark: Benchmark, *, init_seed: int = 0, input: str | Path | Batch = "noise", **settings: Any
) -> tuple[Recipe, Batch | None]:
    """The recipe of a benchmark's cache, and the images where they are given.

    ``input``: ``noise``, ``ones``, a folder of images, a file of tensors, or a batch. ``settings``: ``batch`` (images
    per network), ``input_seed``, ``resolution``, ``storage``, ``rows``, see `Recipe`.
    """
    if isinstance(input, str) and input in INPUTS:
        return benchmark.recipe(seed=init_seed, input=input, **settings), None
    if isinstance(input, Batch):
        settings["batch"] = len(input)
    else:
        places = {name: settings[name] for name in ("batch", "input_seed", "resolution") if name in settings}
        input = benchmark.images(input, **places)
    return benchmark.recipe(seed=init_seed, input=input.name, **settings), input


def score(
    proxies: str | Proxy | Sequence[str | Proxy],
    benchmark: str | Benchmark | Cache | MemoryCache,
    *,
    targets: Mapping[str, Sequence[float]] | None = None,
    data: str | Path | None = None,
    split: str = "all",
    split_seed: int = 0,
    backend: str = "auto",
    device: str = "auto",
    executor: Executor | None = None,
    **collection: Any,
) -> ScoreTable:
    """Proxies (formulas, names of published ones, or compiled) on the networks of a benchmark, beside the baselines.

    ``benchmark``: or a cache, such as `collect_models` makes of networks of your own; ``targets`` are then what they
    reached, name -> one number per network. ``split``: ``all`` networks, or the ``search`` or ``test`` part of the
    seeded split. ``executor``: spreads the networks over threads, processes or machines (PEP 3148), see `Evaluator`.
    ``collection``: the options of `statistics`, and ``init_seeds``: several seeds of the initialisation,
    over which the scores are averaged and have a spread.

    Raises ProxyError for a formula that does not compile, ProxforgeError for a benchmark, data or cache at fault.
    """
    table = entries([proxies] if isinstance(proxies, str | Proxy) else proxies)
    if isinstance(benchmark, Cache | MemoryCache):
        evaluator = Evaluator(
            benchmark, range(len(benchmark.networks)), backend_name=backend, device=device, executor=executor
        )
        truths = {name: np.asarray(values, np.float64) for name, values in (targets or {}).items()}
        for name, values in truths.items():
            if values.shape != (len(benchmark.networks),):
                message = (
                    f"target '{name}' has {values.size} values; expected one for each of {len(benchmark.networks)}"
                )
                raise ProxforgeError("config", f"{message} networks")
        return score_table("networks of your own", table, evaluator, truths)
    return score_entries(
        table,
        benchmark_of(benchmark, data),
        split=split,
        split_seed=split_seed,
        backend=backend,
        device=device,
        executor=executor,
        **collection,
    )


def score_entries(
    table: Sequence[Entry],
    benchmark: Benchmark,
    *,
    split: str = "all",
    split_seed: int = 0,
    backend: str = "auto",
    device: str = "auto",
    executor: Executor | None = None,
    **collection: Any,
) -> ScoreTable:
    """`score` for proxies that are compiled."""
    if split not in SPLITS:
        message = f"the split is '{split}'{nearest(split, SPLITS)}; expected one of {', '.join(SPLITS)}"
        raise ProxforgeError("config", message)
    networks = list(range(len(benchmark)))
    if split != "all":
        networks = benchmark.split(split_seed)[split == "test"].tolist()
    seeds = collection.pop("init_seeds", None) or (collection.pop("init_seed", 0),)
    if len(set(seeds)) < len(seeds):
        raise ProxforgeError("config", f"the initialisation seeds {list(seeds)} name one twice")
    names = statistics_of([e.proxy.node for e in table])
    began = time.perf_counter()
    caches = [statistics(benchmark, names, **{**collection, "init_seed": seed}) for seed in seeds]
    collected = time.perf_counter() - began
    evaluators = [
        Evaluator(cache, networks, backend_name=backend, device=device, executor=executor) for cache in caches
    ]
    targets = {name: values[networks] for name, values in benchmark.targets.items()}
    made = score_table(benchmark.name, table, evaluators, targets, split)
    return replace(made, seconds={"collect": collected, **made.seconds})


def known_targets(truth: Benchmark, given: Sequence[str] | None) -> tuple[str, ...]:
    """The targets given, or the benchmark's default ones. ProxforgeError ``config`` for one that it does not have."""
    names = truth.default_targets if given is None else tuple(given)
    for name in names:
        if name not in truth.targets:
            known = ", ".join(truth.targets)
            message = f"{truth.name} has no target '{name[:80]}'{nearest(name, truth.targets)}; it has {known}"
            raise ProxforgeError("config", message)
    return names


def search(
    benchmark: str | Benchmark,
    strategy: str = "elitism_preserve",
    *,
    data: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    space: str | SearchSpace = "tree",
    space_options: Mapping[str, Any] | None = None,
    forbid: Sequence[str] = (),
    gradient_free: bool = False,
    objective: str | Choice = "jcm",
    networks: int | None = None,
    start: Sequence[str] = (),
    seed: int = 0,
    split_seed: int = 0,
    targets: Sequence[str] | None = None,
    budget: int | None = None,
    patience: int | None = None,
    seconds: float | None = None,
    out: str | Path | None = None,
    backend: str = "auto",
    device: str = "auto",
    progress: Callback | None = None,
    collecting: Callable[[CollectProgress], None] | None = None,
    **collection: Any,
) -> SearchResult:
    """Searches a space for the formula with the highest objective, by default the JCM, on the search part.

    ``options``: of the strategy, by name. ``space``: ``tree`` (of Auto-Prox), ``expression`` or ``memory`` with the
    ``space_options``, without the ops of ``forbid`` and, if ``gradient_free``, without statistics that need a backward
    pass; or a space. ``objective``: a name of `search.objectives.OBJECTIVES`, ``module:function``, or a `Choice` with
    its settings. ``networks``: so many judge an evaluation, drawn anew for each program (with ``seed``). ``start``:
    formulas of the first population. ``targets``: what the objective looks at; the benchmark's default targets if None.
    ``budget``, ``patience``, ``seconds``: see `search.loop.Limits`. ``progress``: is told after every ask; True ends
    the search. ``out``: the run directory; the same settings continue what is there. ``result.best.rows``: the table of
    the best formula and the baselines, on both parts.
    """
    truth = benchmark_of(benchmark, data)
    if isinstance(space, str):
        limited = constrained(space, space_options or {}, forbid, gradient_free=gradient_free)
        drawn_from = make_space(space, limited)
    else:
        drawn_from = space
    chosen = make_strategy(strategy, drawn_from, options)
    choice = Choice(objective) if isinstance(objective, str) else objective
    names = known_targets(truth, targets)
    split = truth.split(split_seed)
    began = time.perf_counter()
    cache = statistics(truth, drawn_from.inputs, progress=collecting, **collection)
    collected = time.perf_counter() - began
    about = {"proxforge": __version__, "benchmark": truth.name, "cache": cache.key, "split_seed": split_seed}
    problem = Problem.of(
        cache,
        {name: truth.targets[name] for name in names},
        (split[0].tolist(), split[1].tolist()),
        objective=choice.factory(),
        sample=networks,
        sample_seed=seed,
        backend=backend,
        device=device,
        about={**about, "choice": choice.to_dict()},
    )
    result = run_search(
        problem,
        chosen,
        seed=seed,
        budget=budget,
        patience=patience,
        seconds=seconds,
        start=start,
        out=out,
        progress=progress,
    )
    result = replace(
        result, seconds={"collect": collected, **result.seconds, "total": collected + result.seconds["total"]}
    )
    if result.best is None:
        return result
    rows: list[dict[str, Any]] = []
    for part, indices in zip(("search", "test"), split, strict=True):
        evaluator = Evaluator(cache, indices.tolist(), backend_name=backend, device=device)
        table = score_table(
            truth.name, entries([result.best.proxy]), evaluator, {n: truth.targets[n][indices] for n in names}, part
        )
        rows += [{"split": part, **row} for row in table.to_dict()["rows"]]
    result = replace(result, best=replace(result.best, rows=tuple(rows)))
    if out is not None:
        write_result(Path(out), result)
    return result
