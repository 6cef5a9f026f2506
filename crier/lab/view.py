"""What the user of the demo sees: a live picture of the LAN on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from crier.lab.observe import Observer, Snapshot
from crier.lab.probes import Segment
from crier.lab.report import Report

REFRESH: Final = 0.25
CELLS: Final = 48
CELL: Final = 0.5
"""Seconds one cell of the little time line stands for."""
LINES: Final = 9
STYLES: Final = (
    "bright_blue", "yellow", "green", "magenta", "cyan", "bright_yellow", "bright_magenta", "bright_green",
    "bright_cyan", "white",
)  # fmt: skip


class View(Protocol):
    def say(self, text: str) -> None: ...

    async def watch(self, observer: Observer) -> None: ...


class PlainView:
    """A line for everything that happens."""

    def __init__(self, console: Console, started_at: float) -> None:
        self._console = console
        self._started_at = started_at

    def say(self, text: str) -> None:
        stamp = f"{time.monotonic() - self._started_at:6.1f} s  "
        self._console.print(stamp + text, markup=False, highlight=False, soft_wrap=True)

    async def watch(self, observer: Observer) -> None:
        """Nothing to show between the lines."""
        del observer
        await trio.sleep_forever()


class LiveView:
    """Nodes, VIPs and what is happening, redrawn in place."""

    def __init__(self, live: Live, started_at: float) -> None:
        self._live = live
        self._started_at = started_at
        self._lines: deque[str] = deque(maxlen=LINES)
        self._observer: Observer | None = None

    def say(self, text: str) -> None:
        self._lines.append(f"{time.monotonic() - self._started_at:6.1f} s  {text}")
        self._draw()

    async def watch(self, observer: Observer) -> None:
        self._observer = observer
        while True:
            self._draw()
            await trio.sleep(REFRESH)

    def _draw(self) -> None:
        parts: list[RenderableType] = []
        observer = self._observer
        if observer is not None and observer.latest is not None:
            styles = node_styles(list(observer.latest.speakers))
            parts += [node_table(observer.latest, styles), vip_table(observer, observer.latest, styles)]
        parts.append(Panel(Text("\n".join(self._lines)), title="what is happening", title_align="left"))
        self._live.update(Group(*parts), refresh=True)


@contextmanager
def open_view(console: Console, started_at: float, *, live: bool) -> Iterator[View]:
    if not live:
        yield PlainView(console, started_at)
        return
    with Live(console=console, auto_refresh=False, transient=True) as screen:
        yield LiveView(screen, started_at)


def node_styles(nodes: Sequence[str]) -> dict[str, str]:
    return {node: STYLES[index % len(STYLES)] for index, node in enumerate(nodes)}


def node_table(snapshot: Snapshot, styles: dict[str, str]) -> Table:
    table = Table(title="nodes", title_justify="left", expand=True)
    last = "router" if snapshot.routed else "answers for"
    for heading in ("node", "speaker", "reaches", "does not reach", last):
        table.add_column(heading)
    for node, status in snapshot.speakers.items():
        name = Text(f"■ {node}", styles[node])
        if status is None:
            table.add_row(name, Text("silent", "red"), "", "", "")
            continue
        speaker = Text("joined", "green") if status.joined and status.synced else Text("starting", "yellow")
        lost = ", ".join(f"{m.name} ({m.state})" for m in status.members if not m.reachable)
        answers = ", ".join(sorted(vip.address for vip in status.vips.values() if vip.answering))
        if snapshot.routed:
            answers = f"BFD {', '.join(status.bfd) or 'none'}"
        table.add_row(name, speaker, str(len(status.reachable)), Text(lost, "red"), answers)
    return table


def vip_table(observer: Observer, snapshot: Snapshot, styles: dict[str, str]) -> Table:
    table = Table(title="VIPs, as the client sees them", title_justify="left", expand=True)
    who = "routed to" if snapshot.routed else "answers"
    for heading in ("service", "address", who, "served by", f"the last {CELLS * CELL:.0f} s"):
        table.add_column(heading)
    for vip in observer.vips:
        state = snapshot.vips.get(vip.address)
        segments = snapshot.segments.get(vip.address)
        if state is None or segments is None:
            continue
        wrong = not state.owners if snapshot.routed else len(state.owners) != 1
        owners = Text(", ".join(state.owners) or "nobody", "red" if wrong else "")
        table.add_row(
            vip.service.key,
            vip.address,
            owners,
            Text(state.served_by, styles.get(state.served_by, ""))
            if state.served_by
            else Text("nobody", "red"),
            strip(segments.served, snapshot.begun_at, styles),
        )
    return table


def strip(segments: Sequence[Segment], now: float, styles: dict[str, str]) -> Text:
    """The last seconds as coloured cells; one in which any probe was lost is red."""
    text = Text()
    for index in range(CELLS):
        start = now - (CELLS - index) * CELL
        inside = [s for s in segments if s.end > start and s.start < start + CELL]
        if not inside:
            text.append(" ")
        elif any(not s.answerers for s in inside):
            text.append("▒", "bold red")
        else:
            text.append("█", styles.get(inside[-1].answerers[0], ""))
    return text


def summary_table(report: Report) -> Table:
    """Every scenario and VIP, at the end."""
    table = Table(title="what the client saw", title_justify="left")
    table.add_column("event", max_width=30)
    for heading in ("service", "VIP", "from", "to"):
        table.add_column(heading, no_wrap=True)
    routed = bool(report.settings.get("router"))
    wire = () if routed else ("ARP gap\nms", "2 owners\nms")
    for heading in ("outage\nms", "probes\nlost", "requests\nlost", *wire):
        table.add_column(heading, justify="right", no_wrap=True)
    for scenario in report.scenarios:
        for phase in scenario.phases():
            for position, vip in enumerate(phase.vips):
                name = f"{scenario.name}: " if phase is scenario.phase else ""
                table.add_row(
                    name + phase.event if position == 0 else "",
                    vip.service.partition("/")[2],
                    vip.address,
                    ", ".join(vip.before) or "-",
                    Text(", ".join(vip.after) or "nobody", "" if vip.healthy else "bold red"),
                    f"{vip.outage_ms:.0f}",
                    f"{vip.probes_lost}/{vip.probes_sent}",
                    f"{vip.requests_lost}/{vip.requests_sent}" if vip.requests_sent else "-",
                    *(f"{gap:.0f}" for gap in (vip.arp_gap_ms, vip.two_owners_ms) if gap is not None),
                    end_section=position == len(phase.vips) - 1,
                )
    return table
