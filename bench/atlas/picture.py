"""The figures of `analysis.survey` as one SVG: the distribution, the two parts against each other, the marginals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOX = 980, 760, 60, 40, 300
INK, BAR, MARK = "#222222", "#7d9cc0", "#b03a2e"


def picture(found: Mapping[str, Any]) -> str:
    """An SVG document of what `survey` found."""
    parts = [
        *_text(LEFT, 22, f"{found['benchmark']}: JCM of {found['distribution']['search']['programs']:,} programs", 15),
        *_distribution(found, LEFT, TOP, 860, 200),
        *_two_parts(found, LEFT, TOP + 280, BOX),
        *_marginals(found, LEFT + BOX + 160, TOP + 280, BOX),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, size: int = 11, anchor: str = "start", color: str = INK) -> Iterable[str]:
    yield (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'


def _line(x: float, y: float, to_x: float, to_y: float, color: str = INK) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{color}"/>'


def _marks(found: Mapping[str, Any]) -> dict[str, float]:
    """What is marked in the distribution, by its JCM on the search part."""
    marks: dict[str, float | None] = {name: row["jcm_search"] for name, row in found["published"].items()}
    marks |= {name: values["search"] for name, values in found["baselines"].items()}
    marks["best"] = found["best"][0]["jcm_search"] if found["best"] else None
    return {name: jcm for name, jcm in marks.items() if jcm is not None}


def _distribution(found: Mapping[str, Any], x: float, y: float, width: float, height: float) -> Iterable[str]:
    """The histogram on the search part, its counts on a logarithmic scale."""
    spread = found["distribution"]["search"]
    edges, counts = spread["edges"], spread["histogram"]
    most = math.log10(max(counts) + 1)

    def at(jcm: float) -> float:
        return x + (jcm + 1) / 2 * width

    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        size = height * math.log10(count + 1) / most
        yield _rect(at(low), y + height - size, at(high) - at(low) - 0.5, size, BAR)
    yield _line(x, y + height, x + width, y + height)
    for tick in (-1.0, -0.5, 0.0, 0.5, 1.0):
        yield from _text(at(tick), y + height + 14, f"{tick:g}", anchor="middle")
    for power in range(0, int(most) + 1, 2):
        yield from _text(x - 6, y + height - height * power / most, f"1e{power}", anchor="end")
    for row, (name, jcm) in enumerate(sorted(_marks(found).items(), key=lambda item: item[1])):
        top = y + 6 + 13 * (row % 8)
        yield _line(at(jcm), top, at(jcm), y + height, MARK)
        yield from _text(at(jcm) - 3, top + 4, f"{name} {jcm:.3f}", 10, "end", MARK)
    yield from _text(x + width / 2, y + height + 30, "JCM on the search part", anchor="middle")


def _two_parts(found: Mapping[str, Any], x: float, y: float, size: float) -> Iterable[str]:
    """Programs by their JCM on the search part (across) and on the test part (up)."""
    grid = found["agreement"]["grid"]
    cells = len(grid)
    most = math.log10(max(map(max, grid)) + 1)
    side = size / cells
    for i, row in enumerate(grid):
        for j, count in enumerate(row):
            if count:
                shade = round(235 - 200 * math.log10(count + 1) / most)
                yield _rect(x + i * side, y + size - (j + 1) * side, side, side, f"rgb({shade},{shade},240)")
    yield _line(x, y + size, x + size, y + size)
    yield _line(x, y, x, y + size)
    yield _line(x, y + size, x + size, y, MARK)
    for tick in (-1, 0, 1):
        yield from _text(x + (tick + 1) / 2 * size, y + size + 14, f"{tick}", anchor="middle")
        yield from _text(x - 6, y + size - (tick + 1) / 2 * size + 4, f"{tick}", anchor="end")
    yield from _text(x + size / 2, y + size + 30, "JCM on the search part", anchor="middle")
    yield from _text(x, y - 8, "test part against search part (shade: logarithm of the number)")


def _marginals(found: Mapping[str, Any], x: float, y: float, height: float) -> Iterable[str]:
    """How much more often than among all programs each op and input is among the best."""
    rows = sorted(found["marginals"], key=lambda row: -row["lift"])
    step = (height + 60) / max(len(rows), 1)
    most = max(row["lift"] for row in rows)
    yield from _text(x, y - 8, "how much more often at the top than anywhere (1: as often)")
    for i, row in enumerate(rows):
        top = y + i * step
        yield from _text(x + 90, top + step * 0.8, f"{row['name']}", 8, "end")
        yield _rect(x + 94, top, 250 * row["lift"] / most, step * 0.8, BAR)
        yield from _text(x + 98 + 250 * row["lift"] / most, top + step * 0.8, f"{row['lift']:.2f}", 8)
    yield _line(x + 94 + 250 / most, y, x + 94 + 250 / most, y + height + 60, MARK)
