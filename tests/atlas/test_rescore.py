"""Programs of an atlas run again: in parts, in processes, after a stop; always the same to the byte."""

from __future__ import annotations

import json

import numpy as np
import pytest

from proxforge import api
from proxforge.bench.atlas import rescore
from proxforge.bench.atlas import verify as verification
from proxforge.bench.atlas.rescore import held, place_of, rescored, roots_of
from proxforge.bench.atlas.store import Atlas
from proxforge.bench.atlas.verify import verify
from proxforge.bench.truth.base import load_benchmark
from proxforge.cli import run
from proxforge.grammar.canonical import canonical_pool
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.ops import OPS as OPS_BY_NAME
from proxforge.vm.compile import compile_nodes, compile_text
from proxforge.vm.evaluate import Evaluator

NETWORKS = 12
OPS = "abs,log,softmax,mean,neg,std,+,*,@"
needs_longer_numbers = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="this machine has no longer numbers than float64"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("rescore")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROXFORGE_CACHE", str(made / "cache"))
        arguments = ("-b", f"digits:{NETWORKS}", "--inputs", "fc1.w,fc2.g", "--ops", OPS, "--out", str(made / "atlas"))
        assert run(["atlas", "build", *arguments, "--json"]) == 0
    return made


@pytest.fixture
def atlas(folder):
    return Atlas(folder / "atlas")


@pytest.fixture
def source(folder):
    return api.statistics(load_benchmark(f"digits:{NETWORKS}"), ("fc1.w", "fc2.g"), cache=folder / "cache")


@pytest.fixture
def drawn(atlas):
    rng = np.random.default_rng(5)
    return rng.choice(len(atlas.joins), 300, replace=False), rng.integers(0, 2, 300)


def scores_of(atlas, source, drawn, folder, workers=1, told=lambda done, share: None):
    folder.mkdir()
    return np.stack(rescored(atlas, source, *drawn, folder, workers, told)).tobytes()


def test_the_scores_are_those_of_the_reference_however_they_are_computed(atlas, source, drawn, tmp_path, monkeypatch):
    """All at once; in processes; in parts that hold few matrices."""
    reference = Evaluator(source, range(NETWORKS), backend_name="reference").scored(roots_of(atlas, *drawn))
    expected = np.stack(reference).tobytes()
    assert scores_of(atlas, source, drawn, tmp_path / "one") == expected
    assert scores_of(atlas, source, drawn, tmp_path / "three", workers=3) == expected
    ran = []
    monkeypatch.setattr(
        rescore.Evaluator,
        "scored",
        lambda self, roots, run=Evaluator.scored: ran.append(len(roots)) or run(self, roots),
    )
    monkeypatch.setattr(rescore, "ROOM", 1 << 16)
    assert scores_of(atlas, source, drawn, tmp_path / "parts") == expected
    assert len(ran) > 2 * NETWORKS


def test_processes_run_networks_where_they_can(atlas, source, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(rescore, "scored", None)  # of this process
    scores_of(atlas, source, drawn, tmp_path / "two", workers=2)


def test_matrices_are_held_until_their_register_is_used_again():
    sizes = {"fc1.out": np.array([3.0, 5.0]), "fc1.in": np.array([2.0, 2.0])}
    axes = compile_text("fc1.w").program.axes[0]
    sizes = dict(zip(axes, sizes.values(), strict=True))
    one = 8 * 5 * 2
    assert held(compile_text("fc1.w").program, sizes) == one
    assert held(compile_text("exp(fc1.w)").program, sizes) == 2 * one
    assert held(compile_text("exp(abs(sqrt(fc1.w)))").program, sizes) == 2 * one
    both = compile_nodes([compile_text(text).node for text in ("mean(exp(fc1.w))", "mean(abs(fc1.w))")])
    assert held(both, sizes) == 2 * one


def test_what_was_run_is_not_run_again(atlas, source, tmp_path, monkeypatch):
    truth, out, real = load_benchmark(f"digits:{NETWORKS}").targets, tmp_path / "out", rescore.scored
    whole = verify(atlas, source, truth, 200, 1)
    assert whole.programs == 200
    assert whole.wrong == 0
    ran, told = [], []

    def until(most):
        def counted(source, network, roots):
            if len(ran) == most:
                raise KeyboardInterrupt
            ran.append(network)
            return real(source, network, roots)

        monkeypatch.setattr(rescore, "scored", counted)

    until(5)
    with pytest.raises(KeyboardInterrupt):
        verify(atlas, source, truth, 200, 1, out=out)
    assert sorted(out.glob("*.npy")) == sorted(place_of(out, network) for network in ran)
    until(None)
    assert verify(atlas, source, truth, 200, 1, out=out, told=lambda *done: told.append(done)) == whole
    assert sorted(ran) == list(range(NETWORKS))
    assert [done for done, _ in told] == list(range(5, NETWORKS + 1))
    assert 0 < told[0][1] < told[-1][1] == 1.0


@needs_longer_numbers
def test_where_the_reference_itself_is_rounding_longer_numbers_decide(atlas, source, tmp_path, monkeypatch):
    truth, longer = load_benchmark(f"digits:{NETWORKS}").targets, verification._in_longer_numbers
    assert verify(atlas, source, truth, 15, 1, out=tmp_path).wrong == 0
    for network in range(0, NETWORKS, 2):
        values = np.load(place_of(tmp_path, network))
        values[0] *= 1.0 + 1e-4
        np.save(place_of(tmp_path, network), values)
    monkeypatch.setattr(verification, "_rounding", lambda mine, *others: np.zeros(len(mine), np.bool_))
    found = verify(atlas, source, truth, 15, 1, out=tmp_path)
    assert found.wrong == 0
    assert found.undecided > 5
    for other in (lambda *program: None, lambda *program: longer(*program) * np.linspace(1.0, 1.001, NETWORKS)):
        monkeypatch.setattr(verification, "_in_longer_numbers", other)
        assert verify(atlas, source, truth, 15, 1, out=tmp_path).wrong == found.undecided


@needs_longer_numbers
def test_longer_numbers_are_those_of_the_reference_with_more_digits(atlas, source, drawn):
    roots = roots_of(atlas, drawn[0][:20], drawn[1][:20])
    rounded = Evaluator(source, range(NETWORKS), backend_name="reference").scored(roots)[0]
    exact = np.concatenate([verification._in_longer_numbers(source, root) for root in roots])
    np.testing.assert_allclose(exact, rounded, rtol=1e-9)
    assert (exact != rounded).any()
    pool = canonical_pool()
    decomposed = pool.score(pool.apply(OPS_BY_NAME["nuclear_norm"], pool.statistic("fc1.w")))
    assert verification._in_longer_numbers(source, decomposed) is None


def test_a_folder_of_something_else_is_refused(atlas, source, tmp_path, monkeypatch):
    truth = load_benchmark(f"digits:{NETWORKS}").targets
    verify(atlas, source, truth, 50, 1, out=tmp_path / "out")
    with pytest.raises(ProxforgeError, match="another atlas, of other samples, or by"):
        verify(atlas, source, truth, 50, 2, out=tmp_path / "out")
    verify(atlas, source, truth, 50, 1, out=tmp_path / "out")
    monkeypatch.setattr(np, "__version__", "0.1")
    with pytest.raises(ProxforgeError, match="by another version"):
        verify(atlas, source, truth, 50, 1, out=tmp_path / "out")
    (tmp_path / "out" / "settings.json").write_text("{")
    with pytest.raises(ProxforgeError, match=r"cannot read .*settings\.json"):
        verify(atlas, source, truth, 50, 1, out=tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    with pytest.raises(ProxforgeError, match="holds something else"):
        verify(atlas, source, truth, 50, 1, out=tmp_path / "other")


@pytest.mark.parametrize(("more", "how"), [((), "lost: with --out DIR"), (("--out",), "networks were run; the same")])
def test_ctrl_c_says_how_to_go_on(folder, tmp_path, capsys, monkeypatch, more, how):
    real, left = rescore.scored, [1, 1, 1]

    def stopped(source, network, roots):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return real(source, network, roots)

    monkeypatch.setenv("PROXFORGE_CACHE", str(folder / "cache"))
    monkeypatch.setattr(rescore, "scored", stopped)
    command = ["atlas", "verify", str(folder / "atlas"), "--samples", "50", "--workers", "1", "--json"]
    command += [*more, str(tmp_path / "out")] if more else []
    assert run(command) == 130
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "interrupted"
    assert f"3 of {NETWORKS} networks were run" in error["message"]
    assert how in error["message"]
    if more:
        monkeypatch.setattr(rescore, "scored", real)
        assert run(command) == 0
        assert json.loads(capsys.readouterr().out)["programs"] == 50


def test_there_are_no_more_processes_than_the_memory_has_room_for(monkeypatch):
    monkeypatch.setattr(rescore, "available", lambda: 64)
    for memory, expected in ((1e9, 1), (25e9, 11), (np.inf, 64)):
        monkeypatch.setattr(rescore, "installed", lambda memory=memory: memory)
        assert rescore.processes() == expected
