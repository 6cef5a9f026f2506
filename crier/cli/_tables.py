"""Tables and marks that several verbs print."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from rich.table import Table
from rich.text import Text

from crier.inspect.moves import Move
from crier.inspect.overview import ESTABLISHED, ControllerLine, NodeLine, PoolLine, Problem, VipLine

# a word and not the colour alone says it, for those who do not see colours
STYLES: Final = {
    "ok": "green", "moving": "yellow", "unknown": "yellow", "nobody": "bold red", "several": "bold red",
    "conflict": "bold red", "amiss": "bold red", "alive": "green", "suspect": "yellow", "dead": "bold red",
    "left": "dim",
    "error": "bold red", "warning": "yellow", "info": "cyan", "fail": "bold red", "warn": "yellow",
    "skipped": "dim", "yes": "green", "no": "dim",
}  # fmt: skip
BAR: Final = 10


def mark(word: str) -> Text:
    return Text(word or "-", style=STYLES.get(word, ""))


def table(*columns: str, title: str = "") -> Table:
    made = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(Text(column, style="dim"), overflow="fold")
    return made


def listed(items: Iterable[str], nothing: str = "-") -> str:
    return ", ".join(items) or nothing


def bar(percent: float) -> Text:
    full = round(BAR * percent / 100)
    colour = "bold red" if percent >= 100 else "yellow" if percent >= 80 else "green"
    return Text("█" * full, style=colour) + Text("░" * (BAR - full), style="dim")


def nodes_table(nodes: Iterable[NodeLine]) -> Table:
    made = table("NODE", "GOSSIP", "REACHED BY", "VIPS", "SPEAKER", "VERSION", "LATE", "NOTE", title="Nodes")
    for node in nodes:
        notes = []
        if node.draining:
            notes.append("drained" if "*" in node.draining else f"draining {', '.join(node.draining)}")
        if node.excluded:
            notes.append("excluded from load balancers")
        if node.bgp:
            up = sum(session.state == ESTABLISHED for session in node.bgp)
            notes.append(f"BGP {up}/{len(node.bgp)} up")
        if node.silence:
            notes.append(node.silence)
        reached = f"{node.reachable_for}/{node.asked}" if node.asked else "-"
        late = f"{node.loop_late_ms:g} ms" if node.heard else "-"
        made.add_row(
            node.name, mark(node.state), reached, str(node.vips), node.speaker or "-", node.version or "-",
            late, "; ".join(notes),
        )  # fmt: skip
    return made


def pools_table(pools: Iterable[PoolLine]) -> Table:
    made = table("POOL", "USED", "", "ASSIGNED", "FREE", "ADDRESSES", "AUTO", title="Pools")
    for pool in pools:
        made.add_row(
            pool.name, f"{pool.used_percent:g} %", bar(pool.used_percent), str(pool.assigned),
            number(pool.available), listed(pool.addresses), "yes" if pool.auto_assign else "no",
        )  # fmt: skip
    return made


def number(count: int) -> str:
    """A /64 has more addresses than anybody reads digits of."""
    return f"{count:.1e}" if count >= 10**9 else str(count)


def vips_table(vips: Iterable[VipLine]) -> Table:
    made = table("VIP", "SERVICE", "POOL", "BY", "OWNER", "ANSWERS", "HEALTH", "NOTE", title="VIPs")
    for vip in vips:
        told = [f"bgp from {listed(vip.bgp_nodes)}"] if vip.bgp_nodes else []
        made.add_row(
            vip.address, listed(vip.services), vip.pool or "-", listed(vip.protocols), vip.owner or "-",
            listed(vip.answering), mark(vip.health), "; ".join([vip.note, *told] if vip.note else told),
        )  # fmt: skip
    return made


def controllers_table(controllers: Iterable[ControllerLine]) -> Table:
    made = table("CONTROLLER", "NODE", "READY", "LEADS", "NOTE", title="Controllers")
    for each in controllers:
        leads = "yes" if each.leading else "no"
        made.add_row(
            each.pod, each.node or "-", mark("yes" if each.ready else "no"), mark(leads), each.silence
        )
    return made


def moves_table(moves: Iterable[Move]) -> Table:
    made = table("WHEN", "SERVICE", "TO", "FROM", "BY", title="Who took over what")
    for move in moves:
        made.add_row(move.at, move.service, move.node, move.before or "-", move.protocol)
    return made


def problems_table(problems: Iterable[Problem]) -> Table:
    made = table("", "WHAT", "WHY", title="Problems")
    for problem in problems:
        made.add_row(mark(problem.severity), problem.about, problem.text)
    return made


def ago(at: str, now: float) -> str:
    """How long ago an RFC 3339 time was; the text itself when it is none."""
    try:
        then = datetime.fromisoformat(at)
    except ValueError:
        return at
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = max(0, round(now - then.timestamp()))
    if seconds < 120:
        return f"{seconds} s ago"
    if seconds < 7200:
        return f"{seconds // 60} min ago"
    return f"{seconds // 3600} h ago" if seconds < 172800 else f"{seconds // 86400} days ago"
