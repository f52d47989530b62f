"""What writes docs/performance.md: comparisons, tasks, the picture, and the places in the page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from proxforge.bench.speed import correlations, document, tasks
from proxforge.bench.speed.roofline import intensity, roofline
from proxforge.bench.speed.workloads import ARRAYS, Tree, Workload
from proxforge.stats_cache.memory import MemoryCache

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
X = Tree("x")
WORKLOAD = Workload("w", (Tree("exp", (X,)), Tree("+", (X, Tree("abs", (X,))))), np.zeros((ARRAYS, 4), np.float32))


def test_intensity_counts_what_each_design_moves():
    """Three operator nodes; exp and abs move 2 numbers, + three; programs have one input each and write one array."""
    assert intensity(WORKLOAD, "proxforge") == 3 / (4 * ARRAYS)
    assert intensity(WORKLOAD, "numpy") == 3 / (4 * 7)
    assert intensity(WORKLOAD, "operon") == 3 / (4 * 4)


def test_the_picture_holds_every_point_and_roof():
    points = [("torch", 0.1, 1.5), ("proxforge <fast>", 50.0, 20.0)]
    text = roofline(points, 30.0, {"float32": 28.0, "float64": 8.0}, "title & more")
    root = ElementTree.fromstring(text)
    words = " ".join(root.itertext())
    assert sum(e.tag.endswith("circle") for e in root) == 2
    for part in ("title & more", "proxforge <fast>: 20.00", "memory, 30 GB/s", "float32: 28.0", "float64: 8.0"):
        assert part in words
    circles = [e for e in root if e.tag.endswith("circle")]
    assert float(circles[1].get("cx") or 0) > float(circles[0].get("cx") or 0)
    assert float(circles[1].get("cy") or 0) < float(circles[0].get("cy") or 0)


def test_correlations_are_compared_before_they_are_timed(monkeypatch):
    found = correlations.compare_correlations((30,))
    assert [c.measure for c in found] == ["kendall", "spearman", "pearson"]
    assert all(c.apart < 1e-12 and c.ratio > 0 for c in found)
    many, one = correlations.MEASURES["kendall"]
    monkeypatch.setitem(correlations.MEASURES, "kendall", (lambda x, y: many(x, y) + 1e-9, one))
    with pytest.raises(AssertionError, match="kendall"):
        correlations.compare_correlations((30,))


def test_the_memory_of_a_population_is_seen():
    with tasks._peak() as peak:
        block = np.ones(40_000_000)
        tasks.threading.Event().wait(0.1)
        del block
    found = peak()
    assert found is None or 300 < found < 400


def test_a_population_of_tree_programs():
    rng = np.random.default_rng(0)
    names = ("qkv.w", "qkv.g", "fc1.w", "fc1.g", "fc2.w", "fc2.g", "hidden.a", "hidden.g")
    shapes = {"qkv": (12, 4), "fc1": (8, 4), "fc2": (4, 8), "hidden": (6, 8)}
    source = MemoryCache([{n: [rng.normal(0, 1, shapes[n[:-2]])] for n in names} for _ in range(3)])
    found = tasks.population(source, 20)
    assert (found.programs, found.networks) == (20, 3)
    assert found.evaluate_s > 0


def test_the_page_has_a_place_for_every_figure(tmp_path, monkeypatch):
    places = {name for _, name, _ in document._MARK.findall(PAGE.read_text())}
    fake = {name: f"| new {name} |\n" for name in places} | {document.PICTURE: "<svg/>\n"}
    monkeypatch.setattr(document, "figures", lambda *args: fake)
    page = tmp_path / "performance.md"
    page.write_text(PAGE.read_text())
    document.write_figures(page, None, None)
    written = page.read_text()
    for name in places:
        assert f"<!-- figures: {name} -->\n| new {name} |\n<!-- end -->" in written
    assert (tmp_path / document.PICTURE).read_text() == "<svg/>\n"
    again = written
    document.write_figures(page, None, None)
    assert page.read_text() == again
    monkeypatch.setattr(document, "figures", lambda *args: fake | {"nowhere": ""})
    with pytest.raises(AssertionError, match="nowhere"):
        document.write_figures(page, None, None)
