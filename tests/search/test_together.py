"""Sessions in lock-step: each ends as it would alone, and a program is scored once for all of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny import hash_problem

from proxforge.grammar.errors import ProxyError
from proxforge.search import together
from proxforge.search.events import dumps
from proxforge.search.loop import run_search
from proxforge.search.probes import Probes
from proxforge.search.session import Session
from proxforge.search.spaces import ExpressionSpace, MemorySpace, TreeSpace
from proxforge.search.spaces.valid import refusals
from proxforge.search.strategies import STRATEGIES, make_strategy
from proxforge.search.together import Together

INPUTS = ("qkv.w", "fc1.w", "fc2.g")
SPACES = {
    "tree": TreeSpace(INPUTS, ("mean", "abs", "log", "log_softmax", "softmax", "sign", "identity", "-", "*")),
    "expression": ExpressionSpace(INPUTS, ("mean", "abs", "log", "softmax", "sum", "-", "*"), depth=3),
    "memory": MemorySpace(INPUTS, ("mean", "abs", "log", "softmax", "sum", "-", "*"), length=4),
}
BUDGET = 45


@pytest.mark.parametrize("space", SPACES)
def test_each_session_ends_as_it_would_alone(space, monkeypatch):
    """All strategies with two seeds together, in pools that are thrown away again and again."""
    monkeypatch.setattr(together, "ROOM", 200)
    made = []
    shared = Together(hash_problem(made=made))
    pairs = [(name, seed) for name in STRATEGIES for seed in (0, 1)]
    strategies = [make_strategy(name, SPACES[space], {"steps": 1000, "population": 10}) for name, _ in pairs]
    sessions = [
        Session(strategy, seed=seed, budget=BUDGET, pool=shared.pool, check=shared.check)
        for strategy, (_, seed) in zip(strategies, pairs, strict=True)
    ]
    shared.run(sessions)
    for strategy, session, (_, seed) in zip(strategies, sessions, pairs, strict=True):
        alone = run_search(hash_problem(), strategy, seed=seed, budget=BUDGET)
        assert tuple(session.archive.history) == alone.history
        assert (session.archive.rejected, session.archive.duplicates) == (alone.rejected, alone.duplicates)
        assert session.archive.evaluations == BUDGET
    scored = [digest for run in made[0].runs for digest in run]
    assert len(scored) == len(set(scored)) == shared.scored < BUDGET * len(pairs)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_session_resumed_from_its_json_goes_on_as_if_nothing_had_been(space, name):
    strategy = make_strategy(name, SPACES[space], {"steps": 1000, "population": 10})
    whole = run_search(hash_problem(), strategy, seed=3, budget=BUDGET)
    first = Session(strategy, seed=3, budget=BUDGET)
    shared = Together(hash_problem())
    for _ in range(9):
        if not first.over:
            first.ask()
            shared._score([first.new()])
            first.tell({digest: shared._outcomes[bytes.fromhex(digest)] for digest in first.new()})
    second = Session(strategy, seed=3, budget=BUDGET, pool=shared.pool, check=shared.check)
    second.resume(json.loads(dumps(first.frozen())), list(first.archive.history))
    assert second.state == first.state
    shared.run([second])
    assert tuple(second.archive.history) == whole.history


def test_a_brief_session_names_the_formulas_of_the_best_alone():
    strategy = make_strategy("evolution", SPACES["tree"], {"steps": 1000})
    shared = Together(hash_problem())
    whole, brief = (
        Session(strategy, seed=1, budget=BUDGET, pool=shared.pool, check=shared.check, brief=brief)
        for brief in (False, True)
    )
    shared.run([whole, brief])
    best = None
    for full, short in zip(whole.archive.history, brief.archive.history, strict=True):
        better = full.jcm is not None and (best is None or full.jcm > best)
        best = full.jcm if better else best
        assert short == (full if better else replace(full, formula=None, complexity=None))
    assert brief.archive.best == whole.archive.best
    assert brief.archive.rejected == whole.archive.rejected


def test_what_is_known_to_have_a_score_is_not_analysed(monkeypatch):
    """The results are the same; the analysis sees only what is not known."""
    problem = hash_problem()
    plain, looked = Together(problem), Together(replace(problem, valued=lambda root: refusals([root]) == [None]))
    monkeypatch.setattr(looked._analyser, "check", lambda roots: [rejected(r) for r in roots])
    histories = []
    for shared in (plain, looked):
        strategy = make_strategy("random", SPACES["tree"], {"steps": 1000})
        session = Session(strategy, seed=1, budget=BUDGET, pool=shared.pool, check=shared.check)
        shared.run([session])
        histories.append((session.archive.history, session.archive.rejected))
    assert histories[0] == histories[1]
    assert histories[0][1] > 0


def rejected(root):
    (found,) = refusals([root])
    assert found is not None, root
    return found


def test_what_sessions_want_to_know_is_asked_for_together(monkeypatch):
    asked = []
    signs = Probes.signs
    monkeypatch.setattr(
        Probes, "signs", lambda self, space, found: asked.append(len(found)) or signs(self, space, found)
    )

    def calls(seeds):
        asked.clear()
        shared = Together(hash_problem())
        strategies = [make_strategy("probe_model", SPACES["tree"], {"steps": 1000, "population": 10}) for _ in seeds]
        sessions = [
            Session(strategy, seed=seed, budget=BUDGET, pool=shared.pool, check=shared.check)
            for strategy, seed in zip(strategies, seeds, strict=True)
        ]
        shared.run(sessions)
        return len(asked), sum(asked)

    alone = [calls([seed]) for seed in range(4)]
    together = calls(range(4))
    assert together[0] <= max(count for count, _ in alone) + 6, "a session that draws again is on its own"
    assert together[1] >= sum(programs for _, programs in alone)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**70 + 3])
def test_the_numbers_of_a_step_are_those_of_seed_step_and_place(seed):
    session = Session(make_strategy("random", SPACES["tree"]), seed=seed)
    for session.asks, index in ((0, 0), (5, 19), (10**6, 3)):
        plain = np.random.default_rng([seed, session.asks, index])
        assert session._generator(index).integers(1 << 60, size=4).tolist() == plain.integers(1 << 60, size=4).tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_guess_changes_no_event(name, monkeypatch):
    """Where programs with a score can be looked up, others are first taken for rejected, here some of them wrongly."""
    told = []

    class Told(Session):
        def tell(self, outcomes):
            found = super().tell(outcomes)
            told[-1] += found
            return found

    def check(roots):
        return [None if r.digest[0] % 4 else ProxyError(f"kind {r.digest[1] % 3}", "so it is") for r in roots]

    for valued in (None, lambda root: root.digest[0] % 4 > 0 and root.digest[1] % 3 > 0):
        told.append([])
        shared = Together(replace(hash_problem(), valued=valued))
        monkeypatch.setattr(shared._analyser, "check", check)
        strategies = [make_strategy(name, SPACES["tree"], {"steps": 1000, "population": 10}) for _ in range(3)]
        shared.run(
            [
                Told(strategy, seed=seed, budget=BUDGET, pool=shared.pool, check=shared.check)
                for seed, strategy in enumerate(strategies)
            ]
        )
    assert told[0] == told[1]
    assert {event.kind for event in told[0]} == {None, "kind 0", "kind 1", "kind 2"}
