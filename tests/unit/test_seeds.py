"""Several initialisations: the mean score, its spread, and the deviation of tau."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kendalltau

import proxforge
from proxforge.cli import run
from proxforge.grammar.errors import ProxforgeError
from proxforge.stats_cache import MemoryCache
from proxforge.stats_cache.spaces.base import Size

FORMULAS = ["layer_sum(sum(abs(fc1.w * fc1.g)))", "sum(sqrt(neg(abs(fc1.w)))) * 0 + log(fc1.w)"]


@pytest.fixture(scope="module")
def small() -> proxforge.Benchmark:
    return proxforge.load_benchmark("digits").sample(30, 1)


def test_scores_are_averaged_and_have_a_spread(small, tmp_path):
    seeds = (0, 1, 4)
    single = [proxforge.score(FORMULAS, small, cache=tmp_path, init_seed=seed, batch=2) for seed in seeds]
    table = proxforge.score(FORMULAS, small, cache=tmp_path, init_seeds=seeds, batch=2)
    each = np.stack([t.scores[FORMULAS[0]] for t in single])
    np.testing.assert_allclose(table.scores[FORMULAS[0]], each.mean(0), rtol=1e-12)
    np.testing.assert_allclose(table.spread[FORMULAS[0]], each.std(0, ddof=1), rtol=1e-9)
    assert single[0].spread == {}
    for row in table.rows:
        alone = [r for t in single for r in t.rows if (r.proxy, r.target) == (row.proxy, row.target)]
        assert row.seeds == 3
        assert all((r.seeds, r.kendall_std) == (1, None) for r in alone)
        if row.proxy == FORMULAS[0]:
            tau = kendalltau(each.mean(0), small.targets[row.target]).statistic
            assert row.kendall == pytest.approx(tau, abs=1e-12)
            assert row.kendall_std == pytest.approx(np.std([r.kendall for r in alone], ddof=1), abs=1e-12)
            assert row.kendall_std > 0
        elif row.baseline:
            assert row.kendall_std == pytest.approx(0, abs=1e-12)
        else:
            assert (row.status, row.kendall, row.kendall_std) == ("nan", None, None)


def test_seeds_on_the_command_line(small, tmp_path, capsys):
    common = ["score", "SNIP", "-b", "digits:30:1", "--batch", "2", "--cache", str(tmp_path)]
    assert run([*common, "--init-seeds", "0,1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["seeds"] for row in rows} == {2}
    assert all(row["kendall_std"] is not None for row in rows)
    assert run([*common, "--init-seeds", "0,1"]) == 0
    assert "±" in capsys.readouterr().out
    assert run([*common, "--init-seeds", "0,x", "--json"]) == 2
    assert run([*common, "--init-seeds", "0,0", "--json"]) == 2
    with pytest.raises(ProxforgeError, match="name one twice"):
        proxforge.score("SNIP", small, cache=tmp_path, init_seeds=[3, 3])


def test_networks_of_ones_own_are_scored_against_what_they_reached():
    rng = np.random.default_rng(0)
    networks = [{"fc1.w": [rng.normal(size=(4, 3)) * (i + 1) for _ in range(2)]} for i in range(6)]
    sizes = [Size(10 * i, 1, 2, 3.0) for i in range(6)]
    reached = [1.0, 2.0, 3.0, 5.0, 4.0, 6.0]
    table = proxforge.score("frobenius(fc1.w)", MemoryCache(networks, sizes), targets={"top1": reached})
    (row,) = [row for row in table.rows if row.proxy == "frobenius(fc1.w)"]
    assert row.kendall == pytest.approx(kendalltau(table.scores["frobenius(fc1.w)"], reached).statistic)
    assert (row.n, row.target) == (6, "top1")
    assert proxforge.score("frobenius(fc1.w)", MemoryCache(networks, sizes)).rows == ()
    with pytest.raises(ProxforgeError, match="'top1' has 2 values; expected one for each of 6"):
        proxforge.score("frobenius(fc1.w)", MemoryCache(networks, sizes), targets={"top1": [1, 2]})
