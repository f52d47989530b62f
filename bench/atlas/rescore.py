"""Programs of an atlas by the reference backend: network by network, here or in processes, a file for each.

A network's programs are run together, so that what they share is computed once, as far as the matrices that are held
at a time fit into `ROOM`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...grammar.expr import Node
from ...grammar.types import STATISTICS, Kind
from ...stats_cache.addresses import installed
from ...stats_cache.processes import Process, serve, spread
from ...stats_cache.source import Source
from ...stats_cache.store import Cache, open_cache
from ...vm.backends.cpu.threads import available
from ...vm.blas import one_blas_thread
from ...vm.compile import compile_nodes
from ...vm.evaluate import Evaluator
from ...vm.program import Program
from .files import load, save
from .patterns import LAYERS, join_of, layered
from .store import Atlas
from .worker import can_work

Array = NDArray[np.float64]

ROOM = 1 << 30
"""Bytes of matrices that the reference holds at a time, unless one program needs more."""


def processes() -> int:
    """As many as there are processors, and as half of the memory has room for."""
    return max(1, int(min(available(), installed() / (2 * ROOM))))


def roots_of(atlas: Atlas, rows: NDArray[Any], layers: NDArray[Any]) -> list[Node]:
    """The programs of some rows of the atlas's joins, each with one of `LAYERS`."""
    pool, branches = atlas.branches.pool, atlas.branches
    joins = (join_of(branches, join) for join in atlas.joins[rows].tolist())
    return [layered(pool, join, LAYERS[layer]) for join, layer in zip(joins, layers, strict=True)]


def rescored(
    atlas: Atlas, source: Source, rows: NDArray[Any], layers: NDArray[Any], folder: Path, workers: int,
    told: Callable[[int, float], None],
) -> tuple[Array, Array]:  # fmt: skip
    """Scores and scales ``[P, A]`` of programs, see `roots_of`. ``folder``: gets the file `place_of` a network; those
    that are there are not run again. ``told``: how many are done, and their share of the elements.

    The result is the same to the byte with any number of ``workers``.
    """
    count = len(source.networks)
    size = [sum(_elements(source, network)) for network in range(count)]
    left = sorted((n for n in range(count) if not place_of(folder, n).exists()), key=lambda n: -size[n])
    done = count - len(left), sum(size) - sum(size[n] for n in left)
    told(done[0], done[1] / sum(size))
    for network in _run(atlas, source, rows, layers, folder, left, min(workers, len(left))):
        done = done[0] + 1, done[1] + size[network]
        told(done[0], done[1] / sum(size))
    scores, scales = np.stack([load(place_of(folder, network)) for network in range(count)], axis=-1)
    return scores, scales


def place_of(folder: Path, network: int) -> Path:
    """The file of a network: scores and scales, float64 ``[2, P]``."""
    return folder / f"network_{network:06}.npy"


def _run(
    atlas: Atlas, source: Source, rows: NDArray[Any], layers: NDArray[Any], folder: Path, networks: Sequence[int],
    workers: int,
) -> Iterator[int]:  # fmt: skip
    """Writes the files of the networks; these as they are done."""
    if workers > 1 and can_work(source, atlas.space):
        assert isinstance(source, Cache)
        told = {
            "cache": str(source.path), "atlas": str(atlas.folder), "out": str(folder),
            "rows": rows.tolist(), "layers": layers.tolist(),
        }  # fmt: skip

        def start() -> Process:
            process = Process(__name__)
            process.send(told)
            return process

        with spread(networks, workers, start, _ask) as found:
            yield from found
        return
    roots = roots_of(atlas, rows, layers)
    for network in networks:
        save(place_of(folder, network), scored(source, network, roots))
        yield network


def scored(source: Source, network: int, roots: Sequence[Node]) -> Array:
    """Scores and scales of one network, ``[2, P]``."""
    evaluator = Evaluator(source, [network], backend_name="reference")
    sizes = _axes(source, network)
    with one_blas_thread():
        parts = [evaluator.scored(part) for part in _fitting(roots, sizes)]
    return np.concatenate(parts, axis=1)[:, :, 0]


def _fitting(roots: Sequence[Node], sizes: dict[str, Array]) -> Iterator[Sequence[Node]]:
    """The programs in parts that fit into `ROOM`."""
    if len(roots) == 1 or held(compile_nodes(roots), sizes) <= ROOM:
        yield roots
        return
    half = len(roots) // 2
    yield from _fitting(roots[:half], sizes)
    yield from _fitting(roots[half:], sizes)


def held(program: Program, sizes: dict[str, Array]) -> float:
    """Bytes of the matrices in registers, at most. ``sizes``: of the axes, in every layer."""
    registers: dict[int, Array] = {}
    now = most = np.zeros(1)
    for axes, (opcode, target, _) in zip(program.axes, program.instructions(0, program.split), strict=False):
        if opcode.result is Kind.MATRIX:
            size = 8 * sizes[axes[0]] * sizes[axes[1]]
            now = now + size - registers.get(target, 0.0)
            registers[target] = size
            most = np.maximum(most, now)
    return float(most.max())


def _axes(source: Source, network: int) -> dict[str, Array]:
    """The sizes of the axes of a network's statistics, in every layer."""
    found: dict[str, Array] = {}
    for name in source.statistics:
        type_ = STATISTICS[name].type
        shapes = [source.shape(network, name, layer) for layer in range(source.networks[network].layers)]
        found[type_.rows], found[type_.cols] = np.array(shapes, np.float64).T
    return found


def _elements(source: Source, network: int) -> Iterator[int]:
    """Of each segment."""
    for name in source.statistics:
        for layer in range(source.networks[network].layers):
            rows, cols = source.shape(network, name, layer)
            yield rows * cols


def _ask(process: Process, network: int) -> int:
    ended = (
        f"a worker process ended at network {network} (exit status {{}}). If it was killed for memory, use fewer "
        "workers; with --out, the same command continues"
    )
    return int(process.ask(network, ended))


class _Answers:
    def __init__(self) -> None:
        self._told: dict[str, Any] = {}
        self._source: Source | None = None
        self._roots: list[Node] = []

    def __call__(self, value: Any) -> int | None:
        if not self._told:
            self._told = value
            return None
        if self._source is None:
            self._source = open_cache(Path(self._told["cache"]))
            self._roots = roots_of(
                Atlas(Path(self._told["atlas"])), np.array(self._told["rows"]), np.array(self._told["layers"])
            )
        save(place_of(Path(self._told["out"]), value), scored(self._source, value, self._roots))
        return int(value)


def main() -> None:
    """The worker's end."""
    serve(_Answers())
