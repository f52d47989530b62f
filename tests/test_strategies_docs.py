"""docs/strategies.md: the strategy that it shows runs as it stands, in fewer than 60 lines."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from proxforge.search.strategies import STRATEGIES

PAGE = (Path(__file__).parents[1] / "docs" / "strategies.md").read_text(encoding="utf-8")
CODE = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture
def climber(monkeypatch, tmp_path):
    monkeypatch.setenv("PROXFORGE_CACHE", str(tmp_path))
    before = dict(STRATEGIES)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(before)


def test_the_strategy_of_the_page_runs(climber, capsys, monkeypatch):
    assert len(CODE.splitlines()) < 60
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    exec(compile(CODE, "docs/strategies.md", "exec"), page.__dict__)
    result = page.result
    assert (result.evaluations, result.stopped) == (100, "budget")
    assert result.best.jcm_search == max(e.jcm for e in result.history if e.jcm is not None)
    assert capsys.readouterr().out.split()[-2:] == ["100", "budget"]


def test_every_strategy_is_in_the_table():
    named = re.findall(r"^\| `(\w+)` \|", PAGE.partition("\n## ")[0], re.MULTILINE)
    assert named == [n for n in named if n in STRATEGIES]
    assert set(named) == set(STRATEGIES)
