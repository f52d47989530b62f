"""Line and scatter charts as SVG, and as PNG where Pillow is there. No other dependency, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from itertools import pairwise

from ..grammar.errors import ProxforgeError

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 34, 46
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#000000", "#e69f00", "#44aa99")
"""Told apart by most people who do not see all colours (after Paul Tol)."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line, or one cloud of points where the chart has no lines. ``band``: (x, lower, upper) of an interval."""

    name: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """A chart: ``lines`` or points, with the labels of the axes; ``log``: a logarithmic x axis; ``steps``: each value
    holds until the next one."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    lines: bool = True
    log: bool = False
    steps: bool = False
    note: str = ""


@dataclass
class _Canvas:
    """What is drawn, in pixels: (kind, colour, points or text)."""

    lines: list[tuple[str, float, list[Point]]] = field(default_factory=list)
    bands: list[tuple[str, list[Point]]] = field(default_factory=list)
    dots: list[tuple[str, Point]] = field(default_factory=list)
    texts: list[tuple[Point, str, str, int]] = field(default_factory=list)
    """Place, text, anchor (start, middle, end), size."""


def svg(chart: Chart) -> str:
    """The chart as a stand-alone SVG document."""
    canvas = _drawn(chart)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" role="img">',
        f"<title>{escape(chart.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    parts += [f'<polygon points="{_path(p)}" fill="{c}" fill-opacity="0.15"/>' for c, p in canvas.bands]
    parts += [
        f'<polyline points="{_path(p)}" fill="none" stroke="{c}" stroke-width="{w:g}"/>' for c, w, p in canvas.lines
    ]
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{c}" fill-opacity="0.7"/>' for c, (x, y) in canvas.dots]
    parts += [
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
        for (x, y), text, anchor, size in canvas.texts
    ]
    return "\n".join([*parts, "</svg>\n"])


def png(chart: Chart, scale: int = 2) -> bytes:
    """The chart as PNG. ProxforgeError ``system`` without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        message = "a PNG needs Pillow: pip install 'proxforge[images]'; SVG and HTML need nothing"
        raise ProxforgeError("system", message) from error
    canvas = _drawn(chart)
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    draw = ImageDraw.Draw(image, "RGBA")

    def places(points: Sequence[Point]) -> list[Point]:
        return [(x * scale, y * scale) for x, y in points]

    for colour, points in canvas.bands:
        draw.polygon(places(points), fill=f"{colour}26")
    for colour, width, points in canvas.lines:
        draw.line(places(points), fill=colour, width=max(1, round(width * scale)), joint="curve")
    for colour, (x, y) in canvas.dots:
        draw.ellipse([(x - 3) * scale, (y - 3) * scale, (x + 3) * scale, (y + 3) * scale], fill=f"{colour}b2")
    for (x, y), text, anchor, size in canvas.texts:
        font = ImageFont.load_default(size * scale)
        draw.text((x * scale, y * scale), text, "black", font, {"start": "ls", "middle": "ms", "end": "rs"}[anchor])
    written = BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _drawn(chart: Chart) -> _Canvas:
    canvas = _Canvas()
    finite = [[p for p in s.points if all(map(math.isfinite, p))] for s in chart.series]
    xs = [x for points in finite for x, _ in points] or [1.0, 2.0]
    ys = [y for points in finite for _, y in points] or [0.0, 1.0]
    ys += [v for s in chart.series for _, *ends in s.band for v in ends if math.isfinite(v)]
    x_low, x_high = _spread(min(xs), max(xs), 0.0 if chart.lines else 0.03)
    y_low, y_high = _spread(min(ys), max(ys), 0.04)

    def place(x: float, y: float) -> Point:
        share = math.log(x / x_low) / math.log(x_high / x_low) if chart.log else (x - x_low) / (x_high - x_low)
        height = HEIGHT - TOP - BOTTOM
        return LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * height

    for y in _ticks(y_low, y_high):
        canvas.lines.append(("#dddddd", 0.7, [place(x_low, y), place(x_high, y)]))
        canvas.texts.append(((LEFT - 6, place(x_low, y)[1] + 4), f"{y:g}", "end", 11))
    for x in _decades(x_low, x_high) if chart.log else _ticks(x_low, x_high):
        canvas.lines.append(("#dddddd", 0.7, [place(x, y_low), place(x, y_high)]))
        canvas.texts.append(((place(x, y_low)[0], HEIGHT - BOTTOM + 16), f"{x:g}", "middle", 11))
    frame = [place(x_low, y_high), place(x_low, y_low), place(x_high, y_low)]
    canvas.lines.append(("#333333", 1.0, frame))
    for i, (s, points) in enumerate(zip(chart.series, finite, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        band = [b for b in s.band if all(map(math.isfinite, b))]
        if band:
            upper, lower = [place(x, high) for x, _, high in band], [place(x, low) for x, low, _ in band]
            canvas.bands.append((colour, [*upper, *reversed(lower)]))
        places = [place(x, y) for x, y in points]
        if chart.lines and places:
            canvas.lines.append((colour, 2.0, _stairs(places) if chart.steps else places))
        elif not chart.lines:
            canvas.dots += [(colour, p) for p in places]
        y = TOP + 12 + 17 * i
        canvas.lines.append((colour, 3.0, [(WIDTH - RIGHT + 10, y - 4), (WIDTH - RIGHT + 26, y - 4)]))
        canvas.texts.append(((WIDTH - RIGHT + 31, y), s.name, "start", 12))
    canvas.texts.append(((LEFT, 20), chart.title, "start", 14))
    canvas.texts.append((((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10), chart.x, "middle", 12))
    canvas.texts.append(((LEFT - 50, TOP - 4), chart.y, "start", 11))
    if chart.note:
        canvas.texts.append(((WIDTH - 8, HEIGHT - 10), chart.note, "end", 10))
    return canvas


def _stairs(places: Sequence[Point]) -> list[Point]:
    found = [places[0]]
    for (_, before), (x, y) in pairwise(places):
        found += [(x, before), (x, y)]
    return found


def _spread(low: float, high: float, margin: float) -> Point:
    if low == high:
        return low - 0.5, high + 0.5
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(low: float, high: float) -> list[float]:
    """Five or so round numbers."""
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
