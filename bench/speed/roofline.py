"""The roofline of a machine and the engines under it, as SVG: speed over operations per byte that memory gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from .workloads import ARRAYS, Tree, Workload

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 440, 64, 24, 170, 52
BYTES = 4
COLOURS = ("#0b6e4f", "#c1440e", "#1f4e8c", "#7a3e9d", "#8a6d00", "#5b5b5b", "#b3005e", "#007a87")


def intensity(workload: Workload, engine: str) -> float:
    """Operator nodes for every byte that is read or written in memory, as far as the engine's design asks for.

    proxforge reads every array once for all programs. torch and numpy, gplearn with it, read the operands of every node
    and write its result. The others read the arrays of one program, block by block, and write one.
    """
    if engine.startswith("proxforge"):
        numbers = ARRAYS
    elif engine in ("torch", "numpy", "gplearn"):
        numbers = sum(_moved(t) for t in workload.trees)
    else:
        numbers = sum(len(_leaves(t)) + 1 for t in workload.trees)
    return workload.nodes / (BYTES * numbers)


def _moved(tree: Tree) -> int:
    return 1 + len(tree.args) + sum(_moved(a) for a in tree.args) if tree.args else 0


def _leaves(tree: Tree) -> set[int]:
    return set[int]().union(*map(_leaves, tree.args)) if tree.args else {tree.index}


def roofline(
    points: Sequence[tuple[str, float, float]], memory_gbs: float, kernel_gpops: Mapping[str, float], title: str
) -> str:
    """``points``: (label, nodes a byte, GPops/s). ``memory_gbs``: what one thread reads; ``kernel_gpops``: name ->
    what the instructions reach in the first cache."""
    xs = [p[1] for p in points]
    ys = [*(p[2] for p in points), *kernel_gpops.values()]
    low_x, high_x = _decades(min(xs) / 2, max(xs) * 2)
    low_y, high_y = _decades(min(ys) / 2, max(ys) * 1.5)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(value) - low_x) / (high_x - low_x)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(value) - low_y) / (high_y - low_y)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 14, title, weight="bold"),
        *_grid(x, y, (low_x, high_x), (low_y, high_y)),
    ]
    left, right = 10.0**low_x, 10.0**high_x
    roof = max(kernel_gpops.values())
    begin, end = max(left, 10.0**low_y / memory_gbs), min(right, roof / memory_gbs)
    parts.append(_line(x(begin), y(begin * memory_gbs), x(end), y(end * memory_gbs), "#444", 1.6))
    parts.append(_text(x(begin) + 8, y(begin * memory_gbs) - 12, f"memory, {memory_gbs:.0f} GB/s", "#444"))
    for name, gpops in kernel_gpops.items():
        parts.append(_line(x(max(left, gpops / memory_gbs)), y(gpops), x(right), y(gpops), "#444", 1.6))
        parts.append(_text(x(right) + 4, y(gpops) + 4, f"{name}: {gpops:.1f}", "#444"))
    for i, (label, at, speed) in enumerate(points):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(f'<circle cx="{x(at):.1f}" cy="{y(speed):.1f}" r="4" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 14, TOP + 150 + 15 * i, f"● {label}: {speed:.2f}", colour))
    parts.append(_text(LEFT + 90, HEIGHT - 12, "operator nodes for every byte of memory traffic"))
    parts.append(
        f'<text transform="translate(14 {HEIGHT / 2 + 60}) rotate(-90)">10⁹ operator nodes × elements a second</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _decades(low: float, high: float) -> tuple[int, int]:
    return math.floor(math.log10(low)), math.ceil(math.log10(high))


def _grid(x: Any, y: Any, wide: tuple[int, int], tall: tuple[int, int]) -> Iterable[str]:
    for power in range(wide[0], wide[1] + 1):
        at = x(10.0**power)
        yield _line(at, TOP, at, HEIGHT - BOTTOM, "#ddd", 1)
        yield _text(at - 10, HEIGHT - BOTTOM + 16, f"{10.0**power:g}")
    for power in range(tall[0], tall[1] + 1):
        at = y(10.0**power)
        yield _line(LEFT, at, WIDTH - RIGHT, at, "#ddd", 1)
        yield _text(LEFT - 30, at + 4, f"{10.0**power:g}")


def _line(a: float, b: float, c: float, d: float, colour: str, width: float) -> str:
    return f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(at: float, down: float, words: str, colour: str = "#222", weight: str = "normal") -> str:
    return f'<text x="{at:.1f}" y="{down:.1f}" fill="{colour}" font-weight="{weight}">{escape(words)}</text>'
