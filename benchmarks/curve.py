"""Draws curves over time as an SVG file that is small, and reads well on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 60, 150, 40, 40
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999")
MOST = 300
"""Points of one curve; of several in one place the highest is drawn."""


def plot(title: str, unit: str, curve: Sequence[Mapping[str, float]]) -> str:
    """`curve`: points in time, each with `seconds` and a value for each name."""
    end = curve[-1]["seconds"] or 1.0
    names = [name for name in curve[0] if name != "seconds"]
    highest = max(point[name] for point in curve for name in names)
    step = next(step for step in (10, 20, 50, 100, 200, 500, 1000, 5000) if highest <= 8 * step)
    top = step * (int(highest / step) + 1)

    def place(seconds: float, value: float) -> tuple[float, float]:
        across, up = seconds / end * (WIDTH - LEFT - RIGHT), value / top * (HEIGHT - TOP - BOTTOM)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    parts = [_text(LEFT, 22, title, 14), _text(10, TOP - 6, unit)]
    for value in range(0, top + 1, step):
        x, y = place(0, value)
        parts.append(f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#888" stroke-width=".4"/>')
        parts.append(_text(LEFT - 8, y + 4, str(value), anchor="end"))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 12, f"{end:.0f} s", anchor="end"))
    parts.append(_text(LEFT, HEIGHT - 12, "0 s"))
    for number, name in enumerate(names):
        colour, size = COLOURS[number % len(COLOURS)], max(1, len(curve) // MOST)
        groups = [curve[start : start + size] for start in range(0, len(curve), size)]
        points = [place(group[0]["seconds"], max(point[name] for point in group)) for group in groups]
        line = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(_text(WIDTH - RIGHT + 12, points[-1][1] + 4, name, colour=colour))
    box = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif">'
    return "\n".join([head, *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, size: int = 12, anchor: str = "start", colour: str = "#777") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
