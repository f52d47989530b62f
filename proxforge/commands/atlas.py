"""``atlas``: every program of a tree space with its rank correlations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..grammar.errors import ProxforgeError
from ..output import WRONG, emit, number, progress, table
from .options import PATH, collecting_into, collection_options, json_option, truth_options

if TYPE_CHECKING:
    from ..bench.atlas.estimate import Estimate
    from ..bench.atlas.store import Atlas
    from ..search.spaces import TreeSpace

_folder = click.argument("folder", metavar="DIR", type=PATH)
ENDS = {"mean": ("mean",), "sum": ("sum",), "both": ("mean", "sum")}


@click.group()
def atlas() -> None:
    """Every program of a tree space with its rank correlations: build it, query it, look at the whole space."""


@atlas.command()
@truth_options
@click.option("--space", type=click.Choice(["tree"]), default="tree", show_default=True, help="The search space.")
@click.option("--inputs", help="Statistics to draw from, with commas between them.  [default: the eight of Auto-Prox]")
@click.option("--ops", help="An op set, or ops with commas between them.  [default: autoprox]")
@click.option("--unaries", type=click.IntRange(1, 3), default=2, show_default=True, help="Unary ops on a branch.")
@click.option("--branches", type=click.IntRange(2, 3), default=2, show_default=True, help="Three: (x op y) op z.")
@click.option("--layers", type=click.Choice(list(ENDS)), default="both", show_default=True, help="Layer reductions.")
@click.option("--target", "targets", multiple=True, help="May be repeated.  [default: the benchmark's]")
@click.option("--split-seed", default=0, show_default=True, help="Seed of the 60/40 split into search and test part.")
@click.option("--out", type=PATH, required=True, help="Folder of the atlas; a build that was stopped is continued.")
@click.option("--threads", type=click.IntRange(1), help="[default: as many as processors]")
@click.option("--backend", default="auto", show_default=True, help="What runs what is no algebra.")
@click.option(
    "--products/--no-products", default=True, help="Whether two matrices are joined by * and @: the most work."
)
@click.option("--limit-gb", type=float, default=20.0, show_default=True, help="Refuse what takes more of the disk.")
@click.option("--limit-minutes", type=float, default=120.0, show_default=True, help="Refuse what takes longer.")
@click.option("--dry-run", is_flag=True, help="Say what it will cost, and stop.")
@collection_options
@json_option
def build(
    benchmark: str,
    data: Path | None,
    space: str,
    inputs: str | None,
    ops: str | None,
    unaries: int,
    branches: int,
    layers: str,
    targets: tuple[str, ...],
    split_seed: int,
    out: Path,
    threads: int | None,
    backend: str,
    products: bool,
    limit_gb: float,
    limit_minutes: float,
    dry_run: bool,
    as_json: bool,
    **collection: Any,
) -> None:
    """Compute an atlas: every canonically different program, ranked on the search and the test part."""
    from .. import api
    from ..bench.atlas.estimate import estimate, left_out, refusal
    from ..bench.atlas.listing import check_space
    from ..bench.atlas.task import Task
    from ..bench.atlas.triples import building
    from ..vm.backends.cpu.threads import available

    chosen = _space(inputs, ops, unaries, branches)
    check_space(chosen)
    if branches == 3 and not products:
        raise ProxforgeError("usage", "of three branches every program is run: leave --no-products out")
    truth = api.benchmark_of(benchmark, data)
    names = targets or truth.default_targets
    for name in names:
        if name not in truth.targets:
            raise ProxforgeError("config", f"{truth.name} has no target '{name}'; it has {', '.join(truth.targets)}")
    count = available() if threads is None else threads
    with progress("collecting statistics", as_json) as bar:
        source = api.statistics(truth, chosen.inputs, progress=collecting_into(bar), **collection)
        cost = estimate(source, chosen, len(names), count, products)
        refused = refusal(cost, out, limit_gb, limit_minutes)
        if not as_json:
            _tell(cost, count)
            for line in left_out(chosen, products):
                click.echo(line, err=True)
        if dry_run:
            if as_json:
                emit({**cost.to_dict(), "left_out": left_out(chosen, products), "refused": refused})
            elif refused is not None:
                click.echo(f"would be refused: {refused}", err=True)
            return
        if refused is not None:
            raise ProxforgeError("size", refused)
        about = {"benchmark": truth.name, "split_seed": split_seed}
        search, test = (part.tolist() for part in truth.split(split_seed))
        task = Task(source, {n: truth.targets[n] for n in names}, (search, test), chosen, about, ENDS[layers], products)
        found = building(task, out, count, backend, (lambda *_: None) if bar is None else bar).run()
    if as_json:
        emit(found)
        return
    each = (f"layer_{n} {found[n]['valid']:,} valid, {found[n]['distinct']:,} different" for n in ENDS[layers])
    click.echo(f"{found['raw']:,} genotypes; {'; '.join(each)}; {found['bytes'] / 1e9:.2f} GB in {out}")


@atlas.command()
@_folder
@click.option("--k", "-k", "count", type=click.IntRange(1), default=10, show_default=True, help="So many programs.")
@click.option("--on", type=click.Choice(["search", "test", "all"]), default="search", show_default=True,
              help="The part that ranks.")  # fmt: skip
@click.option("--not-shape-only", is_flag=True, help="Without functions of the shapes alone.")
@json_option
def top(folder: Path, count: int, on: str, not_shape_only: bool, as_json: bool) -> None:
    """The best programs, with their values on the other part."""
    from ..bench.atlas.analysis import shape_only
    from ..bench.atlas.task import PARTS

    found = _atlas(folder)
    chosen = dict.fromkeys(found.layers, ~shape_only(found)) if not_shape_only else {}
    rows = [found.row(f) for f in found.best(count, PARTS.index(on), found.layers, chosen)]
    if as_json:
        emit({"rows": rows})
        return
    shown = [
        (r["proxy"], *(number(r[f"jcm_{part}"]) for part in PARTS), "yes" if r["shape_only"] else "") for r in rows
    ]
    table(f"best on the {on} part of {found.manifest['benchmark']}", ("proxy", *PARTS, "shape only"), shown)


@atlas.command()
@_folder
@click.argument("expr")
@json_option
def query(folder: Path, expr: str, as_json: bool) -> None:
    """The place of a formula, or of a published proxy by name, among all programs of the space."""
    from ..bench.atlas.analysis import query as place_of

    found = place_of(_atlas(folder), expr)
    if found is None:
        raise ProxforgeError("atlas", f"'{expr[:200]}' is no program of this atlas: no join of two of its branches")
    if as_json:
        emit(found)
        return
    click.echo(f"{found['proxy']}: JCM search {number(found['jcm_search'])}, test {number(found['jcm_test'])}")
    if found["rank"] is not None:
        click.echo(f"rank {found['rank']:,} on the search part; {found['quantile']:.4%} of all programs are not better")


@atlas.command()
@_folder
@click.option("--svg", type=PATH, help="Write a picture of it, too.")
@json_option
def stats(folder: Path, svg: Path | None, as_json: bool) -> None:
    """What the whole space looks like: distribution, baselines, marginals, agreement of search and test part."""
    from ..bench.atlas.analysis import survey
    from ..bench.atlas.picture import picture

    found = survey(_atlas(folder))
    if svg is not None:
        svg.write_text(picture(found), encoding="utf-8")
    if as_json:
        emit(found)
    else:
        _show(found)


@atlas.command()
@_folder
@click.option("--data", type=PATH, help="Folder of the benchmark's official files.")
@click.option("--samples", type=click.IntRange(1), default=10_000, show_default=True, help="Programs to run.")
@click.option("--seed", default=0, show_default=True, help="Of the choice of programs.")
@click.option("--out", type=PATH, help="Folder that keeps what was run; a verification that was stopped is continued.")
@collection_options
@json_option
def verify(
    folder: Path,
    data: Path | None,
    samples: int,
    seed: int,
    out: Path | None,
    workers: int | None,
    as_json: bool,
    **collection: Any,
) -> int:
    """Run programs of the atlas with the reference backend: the same statuses, scores and taus, or exit code 1.

    --workers are also the processes that run them, without it one a processor if there is memory for them; the result
    does not depend on them.
    """
    from .. import api
    from ..bench.atlas.rescore import processes
    from ..bench.atlas.verify import verify as run

    found = _atlas(folder)
    found.check()
    truth = api.benchmark_of(found.manifest["benchmark"], data)
    with progress("verifying", as_json) as bar:
        source = api.statistics(truth, found.space.inputs, workers=workers, progress=collecting_into(bar), **collection)
        if source.key != found.manifest["source"]:
            raise ProxforgeError(
                "atlas", "the atlas was built from other statistics; give the same options of collection"
            )
        networks, done = len(source.networks), 0

        def told(number: int, share: float) -> None:
            nonlocal done
            done = number
            if bar is not None:
                bar(f"verifying, {number} of {networks} networks", share)

        try:
            made = run(found, source, truth.targets, samples, seed, out=out, workers=workers or processes(), told=told)
        except KeyboardInterrupt:
            kept = "the same command continues" if out is not None else "they are lost: with --out DIR they are kept"
            message = f"interrupted: {done} of {networks} networks were run; {kept}"
            raise ProxforgeError("interrupted", message) from None
    if as_json:
        emit(made.to_dict())
    else:
        kinds = ", ".join(f"{count:,} of {kind}" for kind, count in made.kinds.items())
        click.echo(
            f"{made.programs:,} programs ({kinds}): {made.wrong} wrong, {made.undecided} ranked by rounding alone"
        )
        click.echo(f"largest differences: tau {made.tau:.1e}, scores {made.score:.1e} relative")
        for line in made.examples:
            click.echo(f"  wrong: {line}")
    return WRONG if made.wrong else 0


def _tell(cost: Estimate, threads: int) -> None:
    """What a build will cost."""
    steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in cost.seconds.items())
    minutes = sum(cost.seconds.values()) / 60
    size, working, memory = (number / 1e9 for number in (cost.bytes, cost.working, cost.memory))
    click.echo(
        f"about {minutes:.0f} minutes, {threads} threads ({steps}); {size:.1f} GB, {working:.1f} GB while it is built; "
        f"up to {memory:.1f} GB of memory",
        err=True,
    )
    if cost.run:
        click.echo(
            f"{cost.seconds['run']:.0f} s of this to run about {cost.run:,} joins that are no algebra of their "
            f"branches, or {cost.most_seconds:.0f} s and {cost.most_run:,} where they are many: by the shares of "
            "earlier builds, as which joins these are follows from the values of the branches",
            err=True,
        )


def _space(inputs: str | None, ops: str | None, unaries: int, branches: int) -> TreeSpace:
    from ..grammar.ops import OPS
    from ..grammar.types import AUTOPROX_INPUTS
    from ..search.spaces import TreeSpace

    names = AUTOPROX_INPUTS if inputs is None else [name.strip() for name in inputs.split(",") if name.strip()]
    chosen = [name.strip() for name in ops.split(",") if name.strip()] if ops else ["autoprox"]
    return TreeSpace(names, chosen if len(chosen) > 1 or chosen[0] in OPS else chosen[0], unaries, branches)


def _atlas(folder: Path) -> Atlas:
    from ..bench.atlas.store import Atlas

    return Atlas(folder)


def _show(found: dict[str, Any]) -> None:
    parts = ("search", "test")
    spread = found["distribution"]
    rows = [
        (f"quantile {q}", *(number(spread[p]["quantiles"][q]) for p in parts)) for q in spread["search"]["quantiles"]
    ]
    rows.append(("largest", *(number(spread[p]["largest"]) for p in parts)))
    rows += [(name, *(number(values[p]) for p in parts)) for name, values in found["baselines"].items()]
    published = found["published"]
    rows += [(name, *(number(row[f"jcm_{p}"]) for p in parts)) for name, row in published.items()]
    rows += [(f"best: {row['proxy']}", *(number(row[f"jcm_{p}"]) for p in parts)) for row in found["best"]]
    table(f"JCM of {spread['search']['programs']:,} programs on {found['benchmark']}", ("", *parts), rows)
    for name, row in [*published.items(), ("params", found["params"])]:
        if row["rank"] is not None:
            click.echo(f"{name}: rank {row['rank']:,}, {row['quantile']:.4%} of all programs are not better")
    for name, share in found["better"].items():
        shown = ", ".join(f"{part} {share[part]:.3%}" for part in ("search", "test", "both"))
        click.echo(f"better {name}, of {share['programs']:,}: {shown}")
    agree = found["agreement"]
    means = " and ".join(number(agree[f"top_{part}_mean"]) for part in parts)
    click.echo(f"search and test part: Spearman {number(agree['spearman'])}")
    click.echo(f"mean JCM of the best {agree['top']:,} on the search part: {means} on the search and the test part")
    for name, curve in found["random"].items():
        columns = ("evaluations", "search", "test", "regret", "runs in the best 0.01 %")
        steps = [(f"{r['evaluations']:,}", *(number(r[c]) for c in ("search", "test", "regret", "top"))) for r in curve]
        table(f"the best of so many genotypes drawn at random, layer_{name}: means over all runs", columns, steps)
    marginals = sorted(found["marginals"], key=lambda m: (m["kind"], -m["lift"]))
    lines = [
        (m["name"], m["kind"], f"{m['programs']:,}", number(m["mean_abs_jcm"]), number(m["lift"], 2)) for m in marginals
    ]
    table("ops and inputs", ("name", "kind", "programs", "mean |JCM|", "lift at the top"), lines)
