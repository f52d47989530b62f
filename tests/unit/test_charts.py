"""Charts: well-formed, inside their frame, the same bytes every time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from proxforge.bench.charts import HEIGHT, WIDTH, Chart, Series, png, svg

LINES = Chart(
    "a <title> & more",
    "x",
    "y",
    [
        Series("one", [(1.0, 0.5), (10.0, 0.7), (100.0, 0.9)], [(1.0, 0.4, 0.6), (100.0, 0.8, 1.0)]),
        Series("two", [(1.0, float("nan")), (50.0, 0.2)]),
        Series("none", []),
    ],
    log=True,
    steps=True,
)
DOTS = Chart("dots", "x", "y", [Series("one", [(-1.0, 2.0), (3.0, -4.0)])], lines=False)


@pytest.mark.parametrize("chart", [LINES, DOTS, Chart("empty", "x", "y", [])], ids=lambda c: c.title)
def test_a_chart_is_well_formed_and_inside_its_frame(chart):
    text = svg(chart)
    root = ElementTree.fromstring(text)
    assert root.attrib["viewBox"] == f"0 0 {WIDTH} {HEIGHT}"
    assert next(root.iter("{http://www.w3.org/2000/svg}title")).text == chart.title
    assert "nan" not in text
    for points in re.findall(r'points="([^"]+)"', text):
        for point in points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    assert svg(chart) == text


def test_every_series_is_named_and_drawn():
    text = svg(LINES)
    assert all(f">{s.name}</text>" in text for s in LINES.series)
    assert text.count("<polygon") == 1
    assert svg(DOTS).count("<circle") == 2


def test_png():
    pytest.importorskip("PIL", reason="a PNG needs Pillow")
    found = png(LINES)
    assert found.startswith(b"\x89PNG")
    assert png(LINES) == found
