"""Training of the benchmark ``digits``: ``proxforge bench train digits``.

One unit of work is one (network, seed), trained once per target. Finished units are appended to a JSON-lines file
beside the result, by one process, each forced to disk: a killed run has lost only the units in flight and continues
where it stopped. The result is sorted and holds no time of day: it is the same whatever the number of workers or
interruptions.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...grammar.errors import ProxforgeError
from ..journal import journal, replacing
from ..pool import pool
from .digits import noise_ceiling
from .recipe import TARGETS, DigitsRecipe, architectures, load_data, train_network, train_teacher

FORMAT = 1
COMMAND = "proxforge bench train digits"
SEEDS = 6

Units = dict[tuple[int, int], dict[str, float]]
"""(network, seed) -> target -> accuracy on the test part in percent."""


def train_digits(
    out: Path,
    *,
    networks: int | None = None,
    seeds: int = SEEDS,
    workers: int = 2,
    recipe: DigitsRecipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train the networks and write the ground truth to ``out`` (JSON); returns ``out``.

    ``networks``: only the first so many (all, when None). ``seeds``: trainings of each, with seeds 1 .. ``seeds``: seed
    0, from which statistics are collected by default, is never trained. ``workers``: processes, of one thread each.
    ``progress(done, total)`` is called with the number of finished units, at the start too.
    Continues from ``<out>l`` (JSON lines), where that was begun with the same recipe and library versions.
    Raises ProxforgeError for bad numbers, a missing scikit-learn, or a file that was begun with another recipe.
    """
    recipe = DigitsRecipe() if recipe is None else recipe
    archs = architectures(recipe)
    networks = len(archs) if networks is None else networks
    for name, value, most in (("networks", networks, len(archs)), ("seeds", seeds, None), ("workers", workers, None)):
        if value < 1 or (most is not None and value > most):
            expected = "at least 1" if most is None else f"1 to {most}"
            raise ProxforgeError("config", f"{name} is {value}; training 'digits' needs {expected}")
    if not out.name or out.is_dir():
        raise ProxforgeError("file", f"{str(out)!r} is no name for a file; expected one such as digits.json")
    split = _split(recipe)
    versions = _versions()
    header = {"recipe": _fingerprint(recipe), "versions": versions}
    path = out.with_name(out.name + "l")
    with (
        journal(path, header, _unit, "the begun training of 'digits'", kind="data") as lines,
        pool(workers) as processes,
    ):
        units: Units = dict(lines.rows)
        wanted = [(network, seed) for seed in range(1, seeds + 1) for network in range(networks)]
        missing = [unit for unit in wanted if unit not in units]
        if progress is not None:
            progress(len(wanted) - len(missing), len(wanted))
        teacher_accuracy, logits = processes.submit(train_teacher, recipe).result()
        running = {
            processes.submit(train_network, archs[network], seed, recipe, logits): (network, seed)
            for network, seed in missing
        }
        for done, future in enumerate(as_completed(running), start=len(wanted) - len(missing) + 1):
            network, seed = running[future]
            units[network, seed] = future.result()
            lines.append({"network": network, "seed": seed, **units[network, seed]})
            if progress is not None:
                progress(done, len(wanted))
    rows = [
        {"arch": archs[network], **{t: [units[network, s][t] for s in range(1, seeds + 1)] for t in TARGETS}}
        for network in range(networks)
    ]
    head = {
        "format": FORMAT,
        "benchmark": "digits",
        "space": "micro",
        "command": COMMAND,
        "recipe": asdict(recipe),
        "split": split,
        "seeds": list(range(1, seeds + 1)),
        "teacher": {"accuracy": teacher_accuracy},
        "noise_ceiling": {t: _rounded(noise_ceiling(np.array([row[t] for row in rows]))) for t in TARGETS},
        "versions": versions,
    }
    _write(out, head, rows)
    return out


def _split(recipe: DigitsRecipe) -> dict[str, Any]:
    """What the data are: sizes of the parts, and a digest of the test images by which another split is noticed."""
    data = load_data(recipe)
    digest = hashlib.sha256(data.test_images.tobytes() + data.low.tobytes()).hexdigest()[:16]
    return {"train": len(data.train_labels), "low": len(data.low), "test": len(data.test_labels), "digest": digest}


def _versions() -> dict[str, str]:
    """What the accuracies depend on beside the recipe: equal on one machine, close on another."""
    import torch

    packages = {name: version(name) for name in ("torch", "numpy", "scikit-learn")}
    processor = f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"python": platform.python_version(), **packages, "platform": processor}


def _fingerprint(recipe: DigitsRecipe) -> str:
    return hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()[:16]


def _unit(row: Any) -> tuple[tuple[int, int], dict[str, float]]:
    return (int(row["network"]), int(row["seed"])), {t: float(row[t]) for t in TARGETS}


def _write(out: Path, head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The ground truth, one entry a line: a change of one network is a change of one line."""
    with replacing(out) as file:
        file.write("{\n")
        for key, value in head.items():
            file.write(f"{json.dumps(key)}: {json.dumps(value)},\n")
        file.write('"networks": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]\n}\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
