"""Register programs, counted by what the registers hold with exact integers, and numbered: drawn exactly.

How many programs can follow depends on how many registers hold each type, not on which: registers are alike. So the
counts are worked out per state, a number of registers for each type, and only for those that can be reached.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import comb, prod

import numpy as np

from ...grammar.types import Type
from .base import below, config

Instruction = tuple[str, ...]
"""Destination, op, sources."""
Held = list[int]
"""For every register the number of the type that it holds."""
State = tuple[int, ...]
"""How many registers hold each type."""

MAX_STATES = 100_000
"""States of one space times its instructions."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """``op`` of operands of these types is a value of the type ``result``; types by number."""

    op: str
    operands: tuple[int, ...]
    result: int
    weight: int


@dataclass(frozen=True, slots=True)
class _Uses:
    """Rules that apply in a state, and the cumulative weights of their operands."""

    rules: list[_Rule]
    ends: list[int]


@dataclass(frozen=True, slots=True)
class _Steps:
    """The next instruction of the programs that remain in a state.

    ``steps``: (type made, type overwritten, state after, weight of the programs that can follow); ``ends``: cumulative
    weights of programs.
    """

    steps: list[tuple[int, int, State, int]]
    ends: list[int]


class Programs:
    """The programs of 1 to ``length`` instructions that type-check, each with a whole weight.

    ``results``: (op, types of the operands) -> type of the value. ``constants``: what can only be read -> its type;
    ``registers``: what can be written too -> the type that it holds at first. ``ops``: number of ops.

    ``uniform``: every program weighs 1. Else in proportion to the probability that it is drawn without types: the
    length uniformly from 1 to ``length``; for every instruction a destination and an op, uniformly; for every operand
    a register in three of four cases, else a constant, and of those one uniformly.
    """

    def __init__(
        self,
        results: Mapping[tuple[str, tuple[Type, ...]], Type],
        constants: Mapping[str, Type],
        registers: Mapping[str, Type],
        length: int,
        ops: int,
        *,
        uniform: bool,
    ) -> None:
        types = tuple(dict.fromkeys((*constants.values(), *results.values())))
        states = comb(len(types) + len(registers) - 1, len(registers)) * length
        if states > MAX_STATES:
            raise config(
                f"{len(registers)} registers of {len(types)} types have {states:,} states in {length} instructions, "
                f"more than {MAX_STATES:,}; choose fewer registers, instructions, inputs or ops"
            )
        number = {type_: i for i, type_ in enumerate(types)}
        self._weights = (1, 1) if uniform else (len(registers), 3 * len(constants))  # of one constant, of one register
        scale = 1 if uniform else 4 * len(registers) * len(constants)  # of all sources
        most = max(len(operands) for _, operands in results)
        self._registers = {name: i for i, name in enumerate(registers)}
        self._names = tuple(registers)
        self._constants = {name: number[type_] for name, type_ in constants.items()}
        self._fixed = [[n for n, t in self._constants.items() if t == i] for i in range(len(types))]
        self._loaded = [number[type_] for type_ in registers.values()]
        self._rules = [
            _Rule(op, tuple(number[t] for t in operands), number[result], scale ** (most - len(operands)))
            for (op, operands), result in results.items()
        ]
        self._results = {(rule.op, rule.operands): rule.result for rule in self._rules}
        self._uses_of: dict[State, dict[int, _Uses]] = {}
        self._steps_of: dict[tuple[int, State], _Steps] = {}
        one = 1 if uniform else len(registers) * ops * scale**most
        self._lengths = [int(one ** (length - n)) for n in range(1, length + 1)]
        start = self._state(self._loaded)
        self._ends = list(accumulate(w * self._steps(n, start).ends[-1] for n, w in enumerate(self._lengths, start=1)))

    @property
    def count(self) -> int:
        """The weight of all programs."""
        return self._ends[-1]

    def numbered(self, index: int) -> list[Instruction]:
        """The program of that number, from 0 to ``count - 1``; short ones first, each as many times as it weighs."""
        place = bisect_right(self._ends, index)
        index = (index - (self._ends[place - 1] if place else 0)) // self._lengths[place]
        held = self.loaded()
        state = self._state(held)
        code: list[Instruction] = []
        for left in range(place + 1, 0, -1):
            steps = self._steps(left, state)
            place = bisect_right(steps.ends, index)
            index -= steps.ends[place - 1] if place else 0
            result, overwritten, after, following = steps.steps[place]
            way, index = divmod(index, following)
            way, which = divmod(way, state[overwritten])
            op, *sources = self._operands(self._uses(state)[result], way, held)
            target = [i for i, t in enumerate(held) if t == overwritten][which]
            code.append((self._names[target], op, *sources))
            held[target] = result
            state = after
        return code

    def loaded(self) -> Held:
        """What the registers hold at first."""
        return list(self._loaded)

    def run(self, instruction: Instruction, held: Held) -> None:
        """Brings ``held`` to what the registers hold afterwards. ProxforgeError for what does not type-check."""
        result = self._result(instruction, held)
        if result is None:
            shown = " ".join(instruction)
            raise config(f"the instruction '{shown}' does not type-check: only programs that do can be varied")
        held[self._registers[instruction[0]]] = result

    def instruction(self, held: Held, rng: np.random.Generator) -> Instruction:
        """One of the instructions that type-check here, by their weights."""
        rules = [rule for uses in self._uses(self._state(held)).values() for rule in uses.rules]
        target = self._names[int(rng.integers(len(self._names)))]
        return (target, *self._drawn(rules, held, rng))

    def fitted(self, instruction: Instruction, held: Held, rng: np.random.Generator) -> Instruction | None:
        """The instruction if it type-checks here, else with other operands, by their weights; None where none fit."""
        if self._result(instruction, held) is not None:
            return instruction
        target, op, *_ = instruction
        rules = [rule for uses in self._uses(self._state(held)).values() for rule in uses.rules if rule.op == op]
        return (target, *self._drawn(rules, held, rng)) if rules else None

    def _result(self, instruction: Instruction, held: Held) -> int | None:
        """The type of its value; None where it does not type-check."""
        _, op, *sources = instruction
        types = (held[self._registers[s]] if s in self._registers else self._constants[s] for s in sources)
        return self._results.get((op, tuple(types)))

    def _drawn(self, rules: list[_Rule], held: Held, rng: np.random.Generator) -> list[str]:
        state = self._state(held)
        uses = _Uses(rules, list(accumulate(self._ways(rule, state) for rule in rules)))
        return self._operands(uses, below(rng, uses.ends[-1]), held)

    def _state(self, held: Held) -> State:
        return tuple(held.count(t) for t in range(len(self._fixed)))

    def _ways(self, rule: _Rule, state: State) -> int:
        constant, register = self._weights
        return rule.weight * prod(constant * len(self._fixed[t]) + register * state[t] for t in rule.operands)

    def _operands(self, uses: _Uses, way: int, held: Held) -> list[str]:
        """The op and the sources of that number."""
        place = bisect_right(uses.ends, way)
        rule = uses.rules[place]
        way -= uses.ends[place - 1] if place else 0  # what is left of it after the operands is the rule's weight
        constant, register = self._weights
        sources = []
        for t in reversed(rule.operands):
            names = [self._names[i] for i, other in enumerate(held) if other == t]
            first = constant * len(self._fixed[t])
            way, i = divmod(way, first + register * len(names))
            sources.append(self._fixed[t][i // constant] if i < first else names[(i - first) // register])
        return [rule.op, *reversed(sources)]

    def _uses(self, state: State) -> dict[int, _Uses]:
        """Type -> the ways to make it."""
        found = self._uses_of.get(state)
        if found is None:
            found = {}
            for rule in self._rules:
                ways = self._ways(rule, state)
                if ways:
                    uses = found.setdefault(rule.result, _Uses([], []))
                    uses.rules.append(rule)
                    uses.ends.append(ways + (uses.ends[-1] if uses.ends else 0))
            self._uses_of[state] = found
        return found

    def _steps(self, left: int, state: State) -> _Steps:
        """The next instruction of the programs of ``left`` more instructions; there always is one, as an op that takes
        constants can always be applied."""
        found = self._steps_of.get((left, state))
        if found is None:
            found = _Steps([], [])
            end = 0
            for result, uses in self._uses(state).items():
                for overwritten in [t for t, many in enumerate(state) if many]:
                    changed = list(state)
                    changed[overwritten] -= 1
                    changed[result] += 1
                    after = tuple(changed)
                    following = self._steps(left - 1, after).ends[-1] if left > 1 else 1
                    end += uses.ends[-1] * state[overwritten] * following
                    found.steps.append((result, overwritten, after, following))
                    found.ends.append(end)
            self._steps_of[left, state] = found
        return found
