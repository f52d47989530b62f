"""What a cache withstands: collections that are killed at random moments, bytes that are flipped at random places."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .checking import verify
from .collect import collect
from .manifest import MANIFEST
from .recipe import Recipe, find_space

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SPACE, BATCH = "micro", 16


@dataclass(frozen=True)
class Kill:
    """One collection that was sent SIGKILL ``after`` so many seconds, and continued.

    ``files``: networks' files that were in place. ``listed``: whether there was a manifest. ``half``: temporary files
    that were left. ``equal``: whether the continued cache is, byte for byte, the one that was never interrupted.
    """

    after: float
    files: int
    listed: bool
    half: int
    equal: bool


@dataclass(frozen=True)
class Flip:
    """One byte that was changed: in which file, where; ``found``: whether `verify` names this file and no other."""

    file: str
    place: int
    found: bool


@dataclass(frozen=True)
class Stress:
    """``networks`` of the space, ``bytes`` of their cache, ``seconds`` that an undisturbed collection takes."""

    networks: int
    bytes: int
    seconds: float
    kills: tuple[Kill, ...]
    flips: tuple[Flip, ...]

    @property
    def ok(self) -> bool:
        """Whether every cache was mended, and every byte found."""
        return all(kill.equal for kill in self.kills) and all(flip.found for flip in self.flips)


def stress(
    kills: int, flips: int, *, networks: int = 24, seed: int = 0, told: Callable[[str, float], None] | None = None
) -> Stress:
    """Kill ``kills`` collections of random networks, and flip ``flips`` bytes, in temporary folders.

    Half of the collections add their statistics in two steps. ``told``: is told what is done, and its share.
    """
    rng, arch_rng = random.Random(seed), np.random.default_rng(seed)
    family = find_space(SPACE)
    recipe = Recipe(SPACE, tuple(family.sample(arch_rng) for _ in range(networks)), family.classes, batch=BATCH)
    plans = [[family.statistics()], [("fc1.w", "hidden.g"), family.statistics()]]
    context = multiprocessing.get_context("forkserver")  # a fork of a process that has loaded torch, and done nothing
    context.set_forkserver_preload(["torch", __name__])
    with tempfile.TemporaryDirectory() as folder:
        killing = partial(_begun, context, recipe)
        _killed(killing, plans[0], Path(folder, "first"), None)  # the server starts, and imports
        seconds = [_killed(killing, plan, Path(folder, f"whole{i}"), None)[0] for i, plan in enumerate(plans)]
        whole = Path(folder, "whole0", recipe.key)
        contents, done = _contents(whole), []
        for i in range(kills):
            plan, place, killed = i % len(plans), Path(folder, f"kill{i}"), False
            while not killed:
                shutil.rmtree(place, ignore_errors=True)
                after = rng.uniform(0, seconds[plan])
                ran, killed = _killed(killing, plans[plan], place, after)
                if not killed:  # the machine has become faster
                    seconds[plan] = ran
            done.append(_continued(after, plans[plan], place, recipe, contents))
            if told is not None:
                told(f"killed {i + 1} of {kills}", (i + 1) / (kills + flips))
        flipped = []
        for i in range(flips):
            flipped.append(_flip(whole, rng))
            if told is not None:
                told(f"flipped {i + 1} of {flips}", (kills + i + 1) / (kills + flips))
    size = sum(len(data) for data in contents.values())
    return Stress(networks, size, seconds[0], tuple(done), tuple(flipped))


def _begun(
    context: multiprocessing.context.ForkServerContext, recipe: Recipe, plan: Sequence[Sequence[str]], root: Path
) -> multiprocessing.context.ForkServerProcess:
    """A process that collects, at the moment when it begins."""
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, recipe.to_json(), plan, str(root)))
    process.start()
    here.recv()
    return process


def _child(pipe: Connection, recipe: dict[str, object], plan: Sequence[Sequence[str]], root: str) -> None:
    known = Recipe.from_json(recipe)
    pipe.send("ready")
    for statistics in plan:
        collect(known, statistics, Path(root), workers=1)


def _killed(
    begin: Callable[..., multiprocessing.context.ForkServerProcess],
    plan: Sequence[Sequence[str]],
    root: Path,
    after: float | None,
) -> tuple[float, bool]:
    """Collect in a process; kill it after so many seconds, or never. The seconds that it ran, whether it was killed."""
    process = begin(plan, root)
    start = time.monotonic()
    process.join(after)
    if process.is_alive():
        process.kill()
        process.join()
    return time.monotonic() - start, process.exitcode == -signal.SIGKILL


def _continued(
    after: float, plan: Sequence[Sequence[str]], root: Path, recipe: Recipe, whole: dict[str, bytes]
) -> Kill:
    """What a killed collection left, and what becomes of it."""
    cache = root / recipe.key
    files, half = len(list(cache.glob("networks/*.safetensors"))), len(list(cache.rglob("*.tmp")))
    listed = (cache / MANIFEST).exists()
    collect(recipe, plan[-1], root, workers=1)
    return Kill(after, files, listed, half, equal=_contents(cache) == whole and not verify(cache))


def _flip(cache: Path, rng: random.Random) -> Flip:
    """Change one byte of one file, look, and change it back. Every second one lies in what is no tensor."""
    file = rng.choice([*cache.glob("networks/*.safetensors"), cache / MANIFEST])
    data = file.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little") if file.name != MANIFEST else len(data)
    place = rng.randrange(header if rng.random() < 0.5 else len(data))
    changed = bytearray(data)
    changed[place] ^= rng.randrange(1, 256)
    file.write_bytes(changed)
    named = [problem.file for problem in verify(cache)]
    file.write_bytes(data)
    return Flip(file.relative_to(cache).as_posix(), place, named == [file.relative_to(cache).as_posix()])


def _contents(cache: Path) -> dict[str, bytes]:
    return {f.relative_to(cache).as_posix(): f.read_bytes() for f in sorted(cache.rglob("*")) if f.is_file()}
