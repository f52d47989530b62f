"""``bench proxies``: the published proxies on a benchmark, re-measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..grammar.errors import ProxforgeError
from ..output import emit, number, progress, table
from .options import PATH, json_option, truth_options

if TYPE_CHECKING:
    from ..bench.proxy_tables import ProxyTable


@click.command()
@truth_options
@click.option("--proxies", "given", multiple=True, help="Names or formulas, with commas between them.  [default: all]")
@click.option("--ensemble", "ensembles", multiple=True, help="A name, or [log:|linear:] member, member, ..")
@click.option("--networks", type=click.IntRange(2), help="So many of the benchmark's networks.  [default: all]")
@click.option("--sample-seed", default=0, show_default=True, help="Of the networks that --networks draws.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Initialisation seeds 0 .. N-1.")
@click.option("--target", "targets", multiple=True, help="A target; may be repeated.  [default: all]")
@click.option("--batch", type=click.IntRange(1), help="Images per network.  [default: the benchmark's]")
@click.option("--input", "images", default="noise", show_default=True, help="noise, ones, a folder or file of images.")
@click.option("--input-seed", default=0, show_default=True, help="Seed of the noise images, the labels, the draw.")
@click.option("--resolution", type=click.IntRange(1), help="Side of the images in pixels.  [default: the space's]")
@click.option("--out", type=PATH, help="A folder: the table in five formats, and the journal that a run continues.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes, one thread each.")
@json_option
def proxies(
    benchmark: str,
    data: Path | None,
    given: tuple[str, ...],
    ensembles: tuple[str, ...],
    networks: int | None,
    sample_seed: int,
    seeds: int,
    targets: tuple[str, ...],
    batch: int | None,
    images: str,
    input_seed: int,
    resolution: int | None,
    out: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """The table of the published proxies on a benchmark, beside the baselines and the papers' figures.

    Formulas, measures with a pass of their own (GraSP, NWOT, ZiCo, AZ-NAS, ..) and ensembles of them. No statistic is
    kept; a run with --out that was killed continues where it stopped.
    """
    from .. import api
    from ..bench.proxies.ensembles import ENSEMBLES, members_of, parse_ensemble
    from ..bench.proxy_tables import EVERY, proxy_table
    from ..bench.proxy_tables_files import FORMS
    from ..exports import write

    truth = api.benchmark_of(benchmark, data)
    truth = truth if networks is None else truth.sample(networks, sample_seed)
    recipe, pictures = api.collection_recipe(
        truth, input=images, batch=batch, input_seed=input_seed, resolution=resolution
    )
    names = [name for text in given for name in members_of(text)]
    chosen = [parse_ensemble(text) for text in ensembles]
    plain = [name for name in names if name not in ENSEMBLES]
    chosen += [ENSEMBLES[name] for name in names if name in ENSEMBLES]
    if not given and not chosen:
        plain, chosen = list(EVERY), list(ENSEMBLES.values())
    if out is not None:
        _folder(out)
    with progress("scoring", as_json) as bar:
        found = proxy_table(
            truth,
            plain,
            chosen,
            seeds=seeds,
            targets=targets or None,
            recipe=recipe,
            batch=pictures,
            out=out,
            workers=workers,
            progress=None if bar is None else lambda done, of: bar(f"scoring: {done} of {of} networks", done / of),
        )
    if out is not None:
        for name, make in FORMS.items():
            write(make(found), out / name)
    if as_json:
        emit(found.to_dict())
        return
    _show(found)
    if out is not None:
        click.echo(f"the table is in {out}: {', '.join(FORMS)}")


def _folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProxforgeError("file", f"cannot write to {out}: {error.strerror}; choose another folder") from error


def _show(found: ProxyTable) -> None:
    for target in found.targets:
        chosen = [r for r in found.rows if r.target == target]
        chosen.sort(key=lambda r: -2.0 if r.kendall is None else r.kendall, reverse=True)
        rows = [
            (
                r.proxy + {"baseline": "  (baseline)"}.get(r.kind, "  (shape only)" if r.shape_only else ""),
                (number(r.kendall) if r.status == "ok" else f"none: {r.status}")
                + ("" if r.seed_std is None else f" ± {r.seed_std:.3f}"),
                "" if r.kendall_ci is None else f"{r.kendall_ci[0]:.2f}..{r.kendall_ci[1]:.2f}",
                number(r.spearman),
                number(r.pearson),
                number(r.partial_kendall),
                number(r.paper),
                f"{r.ms_per_network:.0f}",
            )
            for r in chosen
        ]
        columns = ("proxy", "Kendall", "95 %", "Spearman", "Pearson", "given\n#params", "paper", "ms")
        table(f"{found.benchmark}, {target}, n={chosen[0].n}, {chosen[0].seeds} seeds", columns, rows)
