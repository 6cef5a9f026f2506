"""`timeline.svg`: which node served each VIP over time, what happened when, and each failover magnified.

One self-contained file, readable on light and on dark pages: the text follows the reader's colour scheme and
the nodes' colours are chosen to stand out on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from crier.lab.probes import Segment

COLOURS: Final = (
    "#4c8dd6", "#e08a2e", "#4fa65b", "#a371d6", "#c9a227", "#3aa6a6", "#d66ba0", "#9a7355",
    "#7d8793", "#6f7be0",
)  # fmt: skip
DOWN: Final = "#e5484d"
WIDTH: Final = 960
LEFT: Final = 150
RIGHT: Final = 16
ROW: Final = 40
BAND: Final = 16
COLUMNS: Final = 2
ZOOM_BEFORE: Final = 0.2
MIN_ZOOM: Final = 1.0
MAX_ZOOM: Final = 10.0
MAX_BARS: Final = 4000
"""Segments drawn for one VIP; a demo that flaps more often has other worries."""


@dataclass(frozen=True, slots=True)
class Row:
    """One VIP."""

    label: str
    address: str
    served: Sequence[Segment]
    owners: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done to the LAN, and the outage it caused to each VIP (milliseconds, by address)."""

    at: float
    label: str
    outages: Mapping[str, float]


def render(
    nodes: Sequence[str],
    rows: Sequence[Row],
    marks: Sequence[Mark],
    start: float,
    end: float,
    *,
    thin: bool = True,
) -> str:
    """The picture of the time from `start` to `end`.  `thin`: rows have owners, too."""
    colours = {node: COLOURS[index % len(COLOURS)] for index, node in enumerate(nodes)}
    end = max(end, start + 1.0)
    y = 18
    both = "Who served each VIP (thick), and who answered ARP or NDP for it (thin)"
    parts = [_text(8, y, both if thin else "Who served each VIP", "h")]
    y += 22
    parts += _legend(nodes, colours, y)
    y += 38
    parts += _overview(rows, marks, colours, start, end, y)
    y += len(rows) * ROW + 40
    tall = 40 + len(rows) * (BAND + 6)
    for number, mark in enumerate(marks):
        until = marks[number + 1].at if number + 1 < len(marks) else end
        column, line = number % COLUMNS, number // COLUMNS
        parts += _zoom(rows, mark, f"{number + 1}  {mark.label}", colours, until, column, y + line * tall)
    y += -(-len(marks) // COLUMNS) * tall
    style = (
        "text{font:12px ui-sans-serif,system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#57606a}"
        ".h{font-weight:600;fill:#24292f}.s{font-size:10px}.o{font-size:10px;font-weight:600;fill:"
        + DOWN
        + "}"
        ".g{stroke:#8c959f;stroke-width:1;opacity:.35}.m{stroke:#8c959f;stroke-width:1;stroke-dasharray:3 3}"
        "@media(prefers-color-scheme:dark){text{fill:#9ea7b3}.h{fill:#e6edf3}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        'role="img" aria-label="which node served each VIP over time">\n'
        f"<style>{style}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(nodes: Sequence[str], colours: Mapping[str, str], y: float) -> list[str]:
    parts = []
    for index, node in enumerate([*nodes, "no answer"]):
        x = 8 + index * 78
        parts.append(_bar(x, y - 10, 11, 11, colours.get(node, DOWN)))
        parts.append(_text(x + 15, y, node, "s"))
    return parts


def _overview(
    rows: Sequence[Row], marks: Sequence[Mark], colours: Mapping[str, str], start: float, end: float, y: float
) -> list[str]:
    scale = (WIDTH - LEFT - RIGHT) / (end - start)
    parts = []
    bottom = y + len(rows) * ROW
    step = next(s for s in (1, 2, 5, 10, 20, 60, 300, 3600, 10**6) if (end - start) / s <= 14)
    for tick in range(0, int(end - start) + 1, step):
        x = LEFT + tick * scale
        parts.append(f'<line class="g" x1="{x:.1f}" y1="{y - 6}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 12, f"{tick} s", "s", "middle"))
    for index, row in enumerate(rows):
        top = y + index * ROW
        parts.append(_text(8, top + 10, row.label, "h"))
        parts.append(_text(8, top + 23, row.address, "s"))
        parts += _bands(row, colours, start, end, LEFT, scale, top, BAND + 4)
    for number, mark in enumerate(marks, 1):
        x = LEFT + (mark.at - start) * scale
        parts.append(f'<line class="m" x1="{x:.1f}" y1="{y - 10}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(_text(x, y - 12, str(number), "h s", "middle"))
    return parts


def zoom_span(rows: Sequence[Row], mark: Mark, until: float) -> float:
    """Seconds after a mark that show everything it changed, within bounds."""
    changes = [
        segment.start - mark.at
        for row in rows
        for segments in (row.served, row.owners)
        for segment in segments
        if mark.at < segment.start < until
    ]
    return min(MAX_ZOOM, max(MIN_ZOOM, max(changes, default=0.0) * 1.2))


def _zoom(
    rows: Sequence[Row],
    mark: Mark,
    label: str,
    colours: Mapping[str, str],
    until: float,
    column: int,
    y: float,
) -> list[str]:
    """One event in a column of its own scale: name, bands, outages at the right."""
    left = column * WIDTH / COLUMNS + 56
    width = WIDTH / COLUMNS - 56 - 56
    span = zoom_span(rows, mark, until)
    scale = width / (ZOOM_BEFORE + span)
    parts = [_text(left, y + 12, label, "h s")]
    top = y + 18
    bottom = top + len(rows) * (BAND + 6) - 4
    step = next(s for s in (0.2, 0.5, 1.0, 2.0) if span / s <= 6)
    for tick in range(int(span / step + 1e-9) + 1):
        x = left + (ZOOM_BEFORE + tick * step) * scale
        parts.append(f'<line class="g" x1="{x:.1f}" y1="{top - 2}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 10, f"{tick * step * 1000:.0f} ms", "s", "middle"))
    start = mark.at - ZOOM_BEFORE
    for index, row in enumerate(rows):
        line = top + index * (BAND + 6)
        parts.append(_text(left - 8, line + 12, row.label, "s", "end"))
        parts += _bands(row, colours, start, min(mark.at + span, until), left, scale, line, BAND)
        outage = mark.outages.get(row.address, 0.0)
        if outage > 0:
            parts.append(_text(left + width + 6, line + 12, f"{outage:.0f} ms", "o"))
    x = left + ZOOM_BEFORE * scale
    parts.append(f'<line class="m" x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{bottom}"/>')
    return parts


def _bands(
    row: Row,
    colours: Mapping[str, str],
    start: float,
    end: float,
    left: float,
    scale: float,
    top: float,
    height: float,
) -> list[str]:
    """A thick band for who served the probes, and a thin one below for who answered ARP or NDP."""
    parts = []
    thin = max(3.0, height / 4)
    for segments, y, tall in ((row.served, top, height - thin - 1), (row.owners, top + height - thin, thin)):
        for segment in list(_clip(segments, start, end))[-MAX_BARS:]:
            x, width = left + (segment.start - start) * scale, (segment.end - segment.start) * scale
            if not segment.answerers:
                parts.append(_bar(x, y, max(width, 2.0), tall, DOWN))
                continue
            share = tall / len(segment.answerers)  # two owners: one above the other
            for index, node in enumerate(segment.answerers):
                colour = colours.get(node, "#8c959f")
                parts.append(_bar(x, y + index * share, max(width, 0.5), share, colour))
    return parts


def _clip(segments: Iterable[Segment], start: float, end: float) -> Iterable[Segment]:
    for segment in segments:
        if segment.end >= start and segment.start <= end:
            yield Segment(max(segment.start, start), min(segment.end, end), segment.answerers)


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
