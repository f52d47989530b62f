"""Options that several commands share, and the progress of their long parts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..output import Step

if TYPE_CHECKING:
    from ..search.loop import Progress as SearchProgress
    from ..stats_cache.collect import Progress as CollectProgress

Command = Callable[..., Any]


class NonEmptyPath(click.Path):
    """A path; an empty one (an unset shell variable, say) is an error and not the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = NonEmptyPath()

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there.")


def together(*options: Command) -> Callable[[Command], Command]:
    """One decorator of several."""

    def decorate(command: Command) -> Command:
        return functools.reduce(lambda made, option: option(made), reversed(options), command)

    return decorate


truth_options = together(
    click.option(
        "--benchmark",
        "-b",
        required=True,
        help="digits, vit-bench-101/pit, .. or a file (.csv, .json); NAME:N draws N of its networks.",
    ),
    click.option("--data", type=PATH, help="Folder of the benchmark's official files."),
)
collection_options = together(
    click.option("--cache", type=PATH, help="Where caches lie.  [default: the user's cache folder]"),
    click.option("--init-seed", default=0, show_default=True, help="Seed of the networks' initialisation."),
    click.option("--batch", type=click.IntRange(1), help="Images per network.  [default: the benchmark's]"),
    click.option(
        "--input", default="noise", show_default=True, help="noise, ones, a folder of images, a file of tensors."
    ),
    click.option("--input-seed", default=0, show_default=True, help="Seed of the noise images, the labels, the draw."),
    click.option("--resolution", type=click.IntRange(1), help="Side of the images in pixels.  [default: the space's]"),
    click.option("--storage", default="float32", show_default=True, help="float32, float16 or bfloat16."),
    click.option("--rows", type=click.IntRange(1), help="Keep at most so many rows of an activation.  [default: all]"),
    click.option("--workers", type=click.IntRange(1), help="Processes that collect.  [default: by size]"),
    click.option(
        "--collect-on", default="cpu", show_default=True, help="Device that collects: cpu, cuda, cuda:<index>."
    ),
)


def _whole_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Whole numbers with commas between them."""
    try:
        return None if value is None else tuple(int(number) for number in value.split(",") if number.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of seeds with commas between them", ctx, param) from None


seeds_option = click.option(
    "--init-seeds",
    callback=_whole_numbers,
    metavar="0,1,2",
    help="Several initialisations: scores are averaged over them, and tau has a spread.",
)
running_options = together(
    click.option("--backend", default="auto", show_default=True, help="auto, cpu, cpu-float32, reference or torch."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:<index>."),
)


def collecting_into(bar: Step | None) -> Callable[[CollectProgress], None] | None:
    if bar is None:
        return None
    return lambda p: bar(f"collecting statistics: {p.done} of {p.total} networks", p.share)


def searching(bar: Step | None) -> Callable[[SearchProgress], None] | None:
    """The callback of a search that moves a progress bar; None without a bar."""
    if bar is None:
        return None

    def told(p: SearchProgress) -> None:
        best = "" if p.best is None or p.best.jcm is None else f", best JCM {p.best.jcm:.3f}"
        bar(f"step {p.step} of {p.steps}, {p.evaluations} evaluations{best}", p.step / max(p.steps, 1))

    return told
