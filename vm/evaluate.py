"""Scores of populations over one set of networks; Scalars that were reduced once are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ..grammar.expr import Node, Pool
from ..grammar.ops import OPS, Form
from ..grammar.reference import in_range
from ..grammar.types import Kind
from ..stats_cache.source import Source
from .backends import backend
from .compile import assemble
from .layers import fact_table
from .plain import Plain, packed, unpacked
from .program import FACT_NAMES
from .result import Result, judge
from .rounding import scaled, scales

MEMORY = 1 << 28
"""Bytes of remembered Scalars."""
AT_ONCE = 1 << 27
"""Bytes of the Scalars of programs that are merged into one; what they share is computed once."""


@dataclass
class Counters:
    """What was done. ``programs`` scored, ``instructions`` run, ``reduced``: reductions of matrices computed,
    ``recalled``: reductions that had been computed before; ``totals``: what else of matrices the backend needed and
    remembered, such as Σ x for Σ (x + y)."""

    programs: int = 0
    instructions: int = 0
    reduced: int = 0
    recalled: int = 0
    totals: int = 0

    def to_dict(self) -> dict[str, int]:
        """As plain numbers by name."""
        return asdict(self)


class Evaluator:
    """Runs populations over the same networks again and again, as a search does.

    ``networks``: indices into ``source.networks``. ``executor``: what runs them in ``parts`` (PEP 3148: threads,
    processes, or a cluster's client), None: this process runs them whole. A result depends neither on what was run
    before nor on the parts, to the byte. Other processes get the cache's path and the programs, and remember nothing
    from one population to the next.
    """

    def __init__(
        self,
        source: Source,
        networks: Sequence[int],
        *,
        backend_name: str = "auto",
        device: str = "auto",
        executor: Executor | None = None,
        parts: int = 2,
    ) -> None:
        self._executor = executor
        self._tasks = [
            Task(source, tuple(map(int, part)), backend_name, device)
            for part in np.array_split(np.asarray(networks, np.intp), max(1, min(parts, len(networks))))
        ]
        self.networks = tuple(networks)
        self.counters = Counters()
        self._facts = fact_table(source, self.networks)
        self._counts = [source.networks[i].layers for i in self.networks]
        self._backend = backend(backend_name, source, self.networks, device)
        self._memory: OrderedDict[bytes, NDArray[np.float64]] = OrderedDict()
        self._bytes = 0

    def facts(self, name: str) -> NDArray[np.float64]:
        """One of the networks' own facts (``params``, ``flops``, ``depth``, ``width``), float64 ``[A]``."""
        return np.asarray(self._facts[FACT_NAMES.index(name)])

    @property
    def backend(self) -> str:
        """Name and device of the backend that runs."""
        return f"{self._backend.name} ({self._backend.device})"

    def run(self, roots: Sequence[Node]) -> Result:
        """Scores and statuses of Score expressions, ``[P, A]``."""
        return judge(*self.scored(roots))

    def scored(self, roots: Sequence[Node]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and their scales (see `vm.rounding`), both ``[P, A]``."""
        if not roots:
            return np.empty((0, len(self.networks))), np.empty((0, len(self.networks)))
        if self._executor is not None:
            self.counters.programs += len(roots)
            done = list(self._executor.map(run_task, self._tasks, [packed(roots)] * len(self._tasks)))
            return np.concatenate([d[0] for d in done], axis=1), np.concatenate([d[1] for d in done], axis=1)
        most = min(4096, max(1, AT_ONCE // (16 * sum(self._counts))))  # about two Scalars a program and layer
        parts = [self._merged(roots[i : i + most]) for i in range(0, len(roots), most)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def scalars(self, nodes: Sequence[Node]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scalars in all layers of the networks, and their scales (see `vm.rounding`), both ``[S, T]``."""
        pool = Pool()  # of its own: a canonical one could make another Scalar of them
        reduced = self._run([pool.plain(OPS["layer_mean"], (node,)) for node in nodes])[1]
        found = scaled(nodes, reduced, self._counts, self._facts)
        values = np.stack([reduced.get(node.digest, found[node.digest][0]) for node in nodes])  # as run: NaN is there
        return in_range(values), np.stack([found[node.digest][1] for node in nodes])

    def _merged(self, roots: Sequence[Node]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and scales of programs that run as one."""
        scores, reduced = self._run(roots)
        return scores, scales(roots, reduced, self._counts, self._facts)

    def _run(self, roots: Sequence[Node]) -> tuple[NDArray[np.float64], dict[bytes, NDArray[np.float64]]]:
        """Scores of the programs as one, and what was reduced over matrices, by digest."""
        program, order = assemble(roots, lambda n: n.digest in self._memory)
        names = [bytes.fromhex(name) for name in program.recalled]
        recalled = [self._memory[name] for name in names]
        for name in names:
            self._memory.move_to_end(name)
        keep = [i for i, n in enumerate(order) if _reduction(n) and n.digest not in self._memory]
        scores, kept = self._backend.run(program, recalled, keep)
        self.counters.programs += len(roots)
        self.counters.instructions += len(program)
        self.counters.reduced += len(keep)
        self.counters.recalled += len(recalled)
        self.counters.totals = self._backend.recalled
        reduced = dict(zip(names, recalled, strict=True))
        for index, values in zip(keep, kept, strict=True):
            reduced[order[index].digest] = values
            self._remember(order[index].digest, values)
        return scores, reduced

    def _remember(self, digest: bytes, values: NDArray[np.float64]) -> None:
        self._memory[digest] = values
        self._bytes += values.nbytes
        while self._bytes > MEMORY:
            self._bytes -= self._memory.popitem(last=False)[1].nbytes


@dataclass(frozen=True)
class Task:
    """A part of the networks for an executor; can be pickled where the source can."""

    source: Source
    networks: tuple[int, ...]
    backend: str
    device: str


def run_task(task: Task, programs: Plain) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and scales ``[P, A]`` of programs on the networks of a task."""
    evaluator = Evaluator(task.source, task.networks, backend_name=task.backend, device=task.device)
    return evaluator.scored(unpacked(programs))


def _reduction(node: Node) -> bool:
    return node.op.form in (Form.REDUCE, Form.DOT) and node.args[0].type.kind is Kind.MATRIX
