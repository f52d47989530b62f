"""``memory``: programs of instructions over a few registers, as in AutoML-Zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...grammar.expr import Node, Pool
from ...grammar.ops import OPS
from ...grammar.types import AUTOPROX_INPUTS
from .base import DRAWS, Genotype, SearchSpace, below, config, input_names, once, op_names
from .registers import Instruction, Programs
from .signatures import leaves, number_names, signatures

Code = tuple[Instruction, ...]

MAX_REGISTERS, MAX_LENGTH = 64, 256
"""Of a memory space; the states of its registers are limited too, see `registers.MAX_STATES`."""


@dataclass(frozen=True, slots=True)
class Memory(Genotype):
    """``code``: the instructions in order, each (destination, op, sources); the last one's value is the program's."""

    code: Code


class MemorySpace(SearchSpace):
    """1 to ``length`` instructions over registers ``r1 .. rk``, after AutoML-Zero (Real et al., ICML 2020).

    ``inputs``: names of statistics. ``ops``: the name of an op set, or names of ops. ``numbers``: constants. Statistics
    and numbers can only be read. A register can hold a value of any type; at first ``ri`` holds the i-th input (again
    from the first where there are more registers). The value of the last instruction is the program's; an instruction
    that nothing reads is checked like any other.

    `blind` draws the length uniformly; for every instruction a destination and an op, uniformly; for every operand a
    register in three of four cases, else what can only be read, and of those one uniformly. `sample` has that
    distribution, given that the program type-checks, exactly.

    Raises ProxforgeError ``config`` for what does not exist, is out of range or leaves no program.
    """

    name = "memory"

    def __init__(
        self,
        inputs: Sequence[str] = AUTOPROX_INPUTS,
        ops: str | Sequence[str] = "autoprox",
        length: int = 8,
        registers: int = 3,
        numbers: Sequence[float] = (),
    ) -> None:
        self.inputs = input_names(inputs, self.name)
        self.ops = op_names(ops, self.name)
        self.numbers = once(number_names(numbers), "numbers", self.name)
        if not (self.inputs and self.ops):
            raise config("the memory space needs at least one statistic and one op")
        for what, value, most in (("length", length, MAX_LENGTH), ("number of registers", registers, MAX_REGISTERS)):
            if type(value) is not int or not 1 <= value <= most:
                raise config(f"the {what} is {value!r:.80}; expected a whole number from 1 to {most}")
        self.length = length
        self._loaded = {f"r{i + 1}": self.inputs[i % len(self.inputs)] for i in range(registers)}
        self.registers = tuple(self._loaded)
        self._sources = (*self.inputs, *self.numbers, *self.registers)
        given = leaves(self.inputs, self.numbers, Pool())
        self._results = {(s.op, s.operands): s.result for s in signatures(self.ops, given)}
        if not self._results:
            raise config("no program of this memory space type-checks; choose other ops or more statistics")
        self._constants = {name: node.type for name, node in given.items()}
        self._programs = self._counted(uniform=False)

    def size(self) -> int:
        """Number of genotypes: the sum over n = 1 .. length of (registers x sum over the ops of sources^arity)^n."""
        one = len(self.registers) * sum(len(self._sources) ** arity for arity in self._arities.values())
        return sum(one**n for n in range(1, self.length + 1))

    def typed_size(self) -> int:
        """Number of genotypes that type-check."""
        return self._uniform.count

    def unrank(self, index: int) -> Memory:
        """See `SearchSpace.unrank`."""
        return Memory(tuple(self._uniform.numbered(index)))

    def sample(self, rng: np.random.Generator) -> Memory:
        """A genotype that type-checks: distributed as those that `blind` draws and that do."""
        return Memory(tuple(self._programs.numbered(below(rng, self._programs.count))))

    def blind(self, rng: np.random.Generator) -> Memory:
        """A genotype with the distribution of the space."""
        length = int(rng.integers(1, self.length + 1))
        targets = rng.integers(len(self.registers), size=length).tolist()
        ops = [self.ops[i] for i in rng.integers(len(self.ops), size=length).tolist()]
        count = sum(self._arities[op] for op in ops)
        sources = iter(rng.integers(4 * len(self._constants) * len(self.registers), size=count).tolist())
        return Memory(
            tuple(
                (self.registers[target], op, *(self._source(next(sources)) for _ in range(self._arities[op])))
                for target, op in zip(targets, ops, strict=True)
            )
        )

    def mutate(self, genotype: Genotype, rng: np.random.Generator, rate: float = 0.5) -> Memory:
        """Another genotype that type-checks, by one of four mutations, each with the same probability.

        Those of AutoML-Zero: ``insert`` an instruction, ``remove`` one, draw the whole program anew, ``modify``: every
        destination and source is redrawn with probability ``rate``, one at least. Instructions that do not type-check
        any more get other operands, or go where none fit. What cannot be done or changes nothing is drawn again; after
        64 times a new genotype is drawn.
        """
        parent = _memory(genotype)
        kinds = (self._inserted, self._removed, self._modified)
        for _ in range(DRAWS):
            kind = int(rng.integers(4))
            code = self.sample(rng).code if kind == 3 else self._repaired(kinds[kind](parent.code, rng, rate), rng)
            if code not in ((), parent.code):
                return Memory(code)
        if self.typed_size() == 1:
            raise config("a mutation is impossible: this memory space holds a single program that type-checks")
        while (child := self.sample(rng)) == parent:  # ends with probability 1: there are others
            pass
        return child

    def crossover(self, first: Genotype, second: Genotype, rng: np.random.Generator) -> Memory:
        """Two-point exchange: instructions of the first are replaced by consecutive ones of the second.

        At least one is replaced, by at least one, within the length of the space. Instructions that do not type-check
        any more get other operands, or go where none fit; the first where none is left.
        """
        a, b = _memory(first).code, _memory(second).code
        i, j = sorted(rng.choice(len(a) + 1, 2, replace=False).tolist())
        start = int(rng.integers(len(b)))
        most = min(len(b) - start, self.length - (i + len(a) - j))
        taken = b[start : start + int(rng.integers(1, most + 1))]
        return Memory(self._repaired((*a[:i], *taken, *a[j:]), rng) or a)

    def expression(self, genotype: Genotype, pool: Pool) -> Node:
        """See `SearchSpace.expression`."""
        held: dict[str, Node] = {}
        code = _memory(genotype).code
        for target, op, *sources in code:
            held[target] = pool.apply(OPS[op], *(held.get(s) or self._first(s, pool) for s in sources))
        return pool.score(held[code[-1][0]])

    def encode(self, genotype: Genotype) -> list[list[str]]:
        """See `SearchSpace.encode`."""
        return [list(instruction) for instruction in _memory(genotype).code]

    def decode(self, value: Any) -> Memory:
        """See `SearchSpace.decode`."""
        if not isinstance(value, list) or not 1 <= len(value) <= self.length or not all(map(self._known, value)):
            raise config(
                f"{str(value)[:200]} is no genotype of this memory space: expected 1 to {self.length} instructions "
                "[destination, op, sources ..] of its names"
            )
        return Memory(tuple(tuple(instruction) for instruction in value))

    def describe(self) -> dict[str, Any]:
        """See `SearchSpace.describe`."""
        return {
            "name": self.name,
            "inputs": list(self.inputs),
            "ops": list(self.ops),
            "length": self.length,
            "registers": len(self.registers),
            "numbers": list(self.numbers),
        }

    def text(self, genotype: Genotype) -> str:
        """The program as assignments of the language, one for each instruction.

        A register that nothing was written to is shown as the statistic that it holds.
        """
        lines: list[str] = []
        written: set[str] = set()
        for target, op, *sources in _memory(genotype).code:
            names = [s if s in written else self._loaded.get(s, s) for s in sources]
            shown = [f"({name})" if name.startswith("-") else name for name in names]
            formula = f"{shown[0]} {op} {shown[1]}" if OPS[op].infix else f"{op}({', '.join(shown)})"
            lines.append(f"{target} = {formula}")
            written.add(target)
        return "; ".join((*lines, target))

    def _counted(self, *, uniform: bool) -> Programs:
        held = {register: self._constants[name] for register, name in self._loaded.items()}
        return Programs(self._results, self._constants, held, self.length, len(self.ops), uniform=uniform)

    @cached_property
    def _uniform(self) -> Programs:
        return self._counted(uniform=True)

    @cached_property
    def _arities(self) -> dict[str, int]:
        return {name: OPS[name].arity for name in self.ops}

    def _source(self, drawn: int) -> str:
        """The source of a number below 4 x constants x registers."""
        drawn, quarter = divmod(drawn, 4)
        return self.registers[drawn % len(self.registers)] if quarter else self._sources[drawn % len(self._constants)]

    def _known(self, instruction: Any) -> bool:
        """Whether this is an instruction of the space as JSON."""
        if not isinstance(instruction, list) or not all(isinstance(name, str) for name in instruction):
            return False
        if len(instruction) < 2 or instruction[0] not in self.registers or instruction[1] not in self._arities:
            return False
        sources = instruction[2:]
        return len(sources) == self._arities[instruction[1]] and all(s in self._sources for s in sources)

    def _first(self, source: str, pool: Pool) -> Node:
        """What is read from where nothing was written."""
        name = self._loaded.get(source, source)
        return pool.number(float(name)) if name in self.numbers else pool.statistic(name)

    def _repaired(self, code: Code, rng: np.random.Generator) -> Code:
        """The code with other operands where those it has do not type-check, without the instructions that none fit."""
        held = self._programs.loaded()
        kept: list[Instruction] = []
        for instruction in code:
            fitting = self._programs.fitted(instruction, held, rng)
            if fitting is not None:
                self._programs.run(fitting, held)
                kept.append(fitting)
        return tuple(kept)

    # The mutations: code that need not type-check, empty where this one cannot be done.

    def _inserted(self, code: Code, rng: np.random.Generator, rate: float) -> Code:
        if len(code) == self.length:
            return ()
        place = int(rng.integers(len(code) + 1))
        held = self._programs.loaded()
        for instruction in code[:place]:
            self._programs.run(instruction, held)
        return (*code[:place], self._programs.instruction(held, rng), *code[place:])

    def _removed(self, code: Code, rng: np.random.Generator, rate: float) -> Code:
        place = int(rng.integers(len(code)))
        return (*code[:place], *code[place + 1 :])

    def _modified(self, code: Code, rng: np.random.Generator, rate: float) -> Code:
        genes = [(i, j) for i, instruction in enumerate(code) for j in range(len(instruction)) if j != 1]
        chosen = [gene for gene in genes if rng.random() < rate] or [genes[int(rng.integers(len(genes)))]]
        new = [list(instruction) for instruction in code]
        for i, j in chosen:
            drawn = int(rng.integers(4 * len(self._constants) * len(self.registers)))
            new[i][j] = self._source(drawn) if j else self.registers[drawn % len(self.registers)]
        return tuple(tuple(instruction) for instruction in new)


def _memory(genotype: Genotype) -> Memory:
    if not isinstance(genotype, Memory):
        raise TypeError(f"the memory space handles Memory, not {type(genotype).__name__}")
    return genotype
