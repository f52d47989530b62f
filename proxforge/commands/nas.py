"""``nas``: training-free architecture search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..grammar.errors import ProxforgeError
from ..output import Step, emit, number, progress, table
from .options import PATH, json_option

if TYPE_CHECKING:
    from ..bench.proxies.ensembles import Ensemble
    from ..stats_cache.inputs import Batch
    from ..stats_cache.recipe import Recipe

PICKS = 1_000_000
"""Added to the seed of the candidates, so that random picks are other draws."""


@click.command()
@click.option("--space", "-s", help="Where networks are drawn: autoformer-t, pit, micro, .. or module:Class.")
@click.option("--benchmark", "-b", help="Instead: the networks of a benchmark, with the regret of the choice.")
@click.option("--data", type=PATH, help="Folder of the benchmark's official files.")
@click.option("--proxy", "-p", help="The score: a name or a formula.")
@click.option("--ensemble", "-e", help="Instead: AZ-NAS, TE-NAS, or [log:|linear:] member, member, ..")
@click.option("--samples", type=click.IntRange(1), default=1000, show_default=True, help="Networks that are scored.")
@click.option("--params", metavar="A..B", help="Parameters: a range such as 4M..6M, 4M.. or ..600K.")
@click.option("--flops", metavar="A..B", help="Multiply-accumulates of one image: a range.")
@click.option("--strategy", default="random", show_default=True, help="random or evolution.")
@click.option("--initial", type=click.IntRange(1), default=50, show_default=True, help="Random ones before evolution.")
@click.option("--population", type=click.IntRange(1), default=1024, show_default=True, help="Best ones that mutate.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the candidates.")
@click.option("--init-seed", type=click.IntRange(0), default=0, show_default=True, help="Of the initialisation.")
@click.option("--classes", type=click.IntRange(1), help="Of the head.  [default: the space's]")
@click.option("--batch", type=click.IntRange(1), help="Images per network.  [default: the benchmark's, or 2]")
@click.option("--input", "images", default="noise", show_default=True, help="noise, ones, a folder or file of images.")
@click.option("--input-seed", default=0, show_default=True, help="Seed of the noise images, the labels, the draw.")
@click.option("--resolution", type=click.IntRange(1), help="Side of the images in pixels.  [default: the space's]")
@click.option("--out", type=PATH, help="A folder: the journal that a run continues, the winners as JSON and Python.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes, one thread each.")
@click.option("--train", type=click.Choice(["digits"]), help="Train the winners and random picks (space micro).")
@click.option("--winners", type=click.IntRange(1), default=5, show_default=True, help="Of them, trained.")
@click.option("--picks", type=click.IntRange(1), default=20, show_default=True, help="Random picks, trained.")
@click.option("--train-seeds", type=click.IntRange(1), default=2, show_default=True, help="Trainings of each network.")
@json_option
def nas(
    space: str | None,
    benchmark: str | None,
    data: Path | None,
    proxy: str | None,
    ensemble: str | None,
    params: str | None,
    flops: str | None,
    out: Path | None,
    workers: int,
    train: str | None,
    winners: int,
    picks: int,
    train_seeds: int,
    as_json: bool,
    **others: Any,
) -> None:
    """Search for an architecture without training: score networks of a space within a budget, keep the best.

    TF-TAS: random draws, one proxy. AZ-NAS: evolution, ranks of several proxies over the whole history. With a
    benchmark the candidates are its networks, and the regret of the choice is reported.
    """
    from ..bench.nas.winners import TOP, module_text, winners_text
    from ..bench.nas.winners import winners as best_of
    from ..exports import write
    from ..stats_cache.spaces.budget import Budget, Range

    if (space is None) == (benchmark is None) and not (train and benchmark is None):
        raise ProxforgeError("usage", "name either a space (--space) or a benchmark (--benchmark)")
    if train and (benchmark is not None or space not in (None, "micro")):
        raise ProxforgeError("usage", "what is trained on digits is a network of the space micro; leave --space out")
    budget = Budget(*(Range() if text is None else Range.parse(text) for text in (params, flops)))
    score = _score(proxy, ensemble)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProxforgeError("file", f"cannot write to {out}: {error.strerror}; choose another folder") from error
    trained: list[dict[str, Any]] = []
    regret: dict[str, Any] | None = None
    with progress("searching", as_json) as bar:
        if benchmark is not None:
            from .. import api
            from ..bench.nas.known import search_benchmark

            truth = api.benchmark_of(benchmark, data)
            settings = {name: others[name] for name in ("input_seed", "resolution", "batch")}
            recipe, given = api.collection_recipe(
                truth, init_seed=others["init_seed"], input=others["images"], **settings
            )
            found, regret = search_benchmark(
                truth, recipe, score, budget, batch=given, out=out, workers=workers, progress=_told(bar)
            )
        else:
            from ..bench.nas.run import NasOptions, run_nas

            options = NasOptions(**{n: others[n] for n in ("samples", "strategy", "seed", "initial", "population")})
            recipe, given = _recipe("micro" if space is None else space, **others)
            found = run_nas(recipe, score, options, budget, batch=given, out=out, workers=workers, progress=_told(bar))
        top = best_of(recipe, found, max(TOP, winners))
        if not top:
            raise ProxforgeError("usage", f"no network of {len(found.history)} has a score; choose another proxy")
        if train:
            trained = _trained(recipe, budget, top[:winners], picks, train_seeds, others["seed"], out, bar)
    if out is not None:
        write(winners_text(recipe, top), out / "winners.json")
        write(module_text(recipe, top[0]["arch"]), out / "winner.py")
    document: dict[str, Any] = {
        "best": top[0],
        "sampled": len(found.history),
        "seconds": round(found.seconds, 3),
        "regret": regret,
    }
    if train:
        document["trained"] = trained
    if as_json:
        emit(document)
    else:
        _show(document, score.name)
        if out is not None:
            click.echo(f"the winners are in {out}: winners.json, winner.py")


def _score(proxy: str | None, ensemble: str | None) -> Ensemble:
    from ..bench.proxies.ensembles import ENSEMBLES, Ensemble, parse_ensemble

    if (proxy is None) == (ensemble is None):
        raise ProxforgeError("usage", "name one score: --proxy or --ensemble")
    if ensemble is not None:
        return parse_ensemble(ensemble)
    assert proxy is not None
    return ENSEMBLES.get(proxy, Ensemble(proxy, "log", (proxy,)))


def _recipe(
    name: str,
    *,
    classes: int | None,
    init_seed: int,
    batch: int | None,
    images: str,
    input_seed: int,
    resolution: int | None,
    **_: Any,
) -> tuple[Recipe, Batch | None]:
    """The recipe that every candidate is scored by, and the images where they are given."""
    from ..stats_cache.inputs import read_batch
    from ..stats_cache.recipe import INPUTS, Recipe, find_space

    family = find_space(name) if resolution is None else find_space(name).at(resolution)
    count = (16 if family.resolution < 64 else 2) if batch is None else batch
    classes = family.classes if classes is None else classes
    given = None
    if images not in INPUTS:
        shape = {"channels": family.channels, "side": family.resolution}
        given = read_batch(images, count=count, classes=classes, seed=input_seed, **shape)
        images = given.name
    recipe = Recipe(name, ({},), classes, init_seed, count, images, input_seed, resolution)
    return recipe, given


def _trained(
    recipe: Recipe,
    budget: Any,
    top: list[dict[str, Any]],
    picks: int,
    seeds: int,
    seed: int,
    out: Path | None,
    bar: Step | None,
) -> list[dict[str, Any]]:
    import numpy as np

    from ..bench.nas.train import compare
    from ..stats_cache.recipe import find_space

    rng = np.random.default_rng([seed, PICKS])
    drawn = [find_space(recipe.space).sample_within(rng, budget, recipe.classes) for _ in range(picks)]
    told = None if bar is None else lambda done, of: bar(f"training: {done} of {of}", done / of)
    return [c.to_dict() for c in compare([w["arch"] for w in top], drawn, seeds, out=out, progress=told)]


def _told(bar: Step | None) -> Callable[[int, int], None] | None:
    return None if bar is None else lambda done, of: bar(f"scoring: {done} of {of} networks", done / of)


def _show(document: dict[str, Any], name: str) -> None:
    best = document["best"]
    click.echo(f"best of {document['sampled']} networks by {name}, {document['seconds']:.1f} s:")
    click.echo(f"  {best['arch']}")
    click.echo(f"  {best['params']:,} parameters, {best['flops']:,} multiply-accumulates")
    if document["regret"]:
        rows = [
            (
                target,
                r["n"],
                number(r["chosen"], 2),
                number(r["best"], 2),
                number(r["regret"], 2),
                f"{r['regret_ci'][0]:.2f}..{r['regret_ci'][1]:.2f}",
                number(r["percentile"], 1),
                number(r["random"], 2),
                number(r["largest"], 2),
            )
            for target, r in document["regret"].items()
        ]
        columns = ("target", "n", "chosen", "best", "regret", "95 %", "percentile", "random", "largest")
        table("what the choice costs, accuracy in percent", columns, rows)
    if document.get("trained"):
        lines = [
            (
                r["target"],
                number(r["winners_mean"], 2),
                number(r["random_mean"], 2),
                number(r["difference"], 2),
                f"{r['difference_ci'][0]:.2f}..{r['difference_ci'][1]:.2f}",
                number(r["best"], 2),
                number(r["percentile"], 1),
            )
            for r in document["trained"]
        ]
        first = document["trained"][0]
        title = f"trained: {first['winners']} winners, {first['random']} random picks, {first['seeds']} seeds"
        table(title, ("target", "winners", "random", "difference", "95 %", "first", "percentile"), lines)
