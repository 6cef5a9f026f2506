"""The picture of who announced which service when, as an SVG to stand in the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

from crier.inspect.overview import Overview

HOUR: Final = 3600.0
LEAST: Final = 60.0
"""Seconds the picture spans at least."""
MAX_SERVICES: Final = 40
WIDTH: Final = 1100
LEFT: Final = 190
ROW: Final = 30
BAR: Final = 20
TOP: Final = 6
AXIS: Final = 22
LETTER: Final = 6.6
"""Pixels of a letter, about."""
STEPS: Final = (10, 30, 60, 120, 300, 600, 900, 1200)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A node announces a service from one moment to another; seconds of Unix time."""

    node: str
    begin: float
    end: float


def draw(found: Overview, colours: Mapping[str, int]) -> str:
    """ "" when nothing moved."""
    now = moment(found.at)
    rows = stretches(found, now)
    if not rows:
        return ""
    begin = min(each[0].begin for each in rows.values())
    span = min(HOUR, max(LEAST, now - begin))
    begin = now - span
    height = TOP + ROW * len(rows) + AXIS
    scale = (WIDTH - LEFT - 8) / span

    def x(at: float) -> float:
        return round(LEFT + (max(at, begin) - begin) * scale, 1)

    parts = [_grid(begin, now, x(now), height, scale)]
    for number, (service, segments) in enumerate(rows.items()):
        y = TOP + ROW * number
        name = service if len(service) <= 27 else service[:26] + "…"
        parts.append(f'<text x="0" y="{y + 15}"><title>{escape(service)}</title>{escape(name)}</text>')
        for each in segments:
            if each.end <= begin:
                continue
            left, right = x(each.begin), x(each.end)
            width = max(2.0, round(right - left - 1, 1))
            colour = f"n{colours[each.node]}" if each.node in colours else "never"
            title = f"{each.node} from {clock(max(begin, each.begin))} to {clock(each.end)} UTC"
            parts.append(
                f'<g><title>{escape(title)}</title><rect class="{colour}" x="{left}" y="{y}" width="{width}" '
                f'height="{BAR}" rx="4"/>'
            )
            if width > len(each.node) * LETTER + 10 and each.node:
                parts.append(f'<text class="on" x="{left + 7}" y="{y + 14}">{escape(each.node)}</text>')
            parts.append("</g>")
    summary = (
        f"{len(rows)} services and the nodes that announced them from {clock(begin)} to {clock(now)} UTC"
    )
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(summary)}">'
    return f"{head}{''.join(parts)}</svg>"


def stretches(found: Overview, now: float) -> dict[str, list[Stretch]]:
    """Services in layer 2 that moved within the hour, by name, each with what is known of it."""
    rows: dict[str, list[Stretch]] = {}
    for move in reversed(found.moves):
        at = moment(move.at)
        if move.protocol != "layer2" or not now - HOUR <= at <= now:
            continue
        row = rows.setdefault(move.service, [])
        if row:
            row[-1] = Stretch(row[-1].node, row[-1].begin, at)
        row.append(Stretch(move.node, at, now))
    return dict(sorted(rows.items())[:MAX_SERVICES])


def _grid(begin: float, now: float, right: float, height: int, scale: float) -> str:
    span = now - begin
    step = next((each for each in STEPS if span / each <= 8), STEPS[-1])
    parts = []
    at = begin - begin % step + step
    while at <= now:
        x = round(LEFT + (at - begin) * scale, 1)
        parts.append(f'<line class="grid" x1="{x}" y1="0" x2="{x}" y2="{height - AXIS + 2}"/>')
        if LEFT + 20 < x < right - 20:
            text = clock(at) if step < 60 else clock(at)[:5]
            parts.append(f'<text class="axis" x="{x}" y="{height - 5}" text-anchor="middle">{text}</text>')
        at += step
    return "".join(parts)


def moment(at: str) -> float:
    """Unix time; 0 for what is no RFC 3339."""
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
