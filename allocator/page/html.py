"""The status page's HTML: a pure function of an `Overview`.

Everything is in the one document, so it works offline; what may run in it is named by its digest, so that
nothing else does.  Whatever comes from the cluster is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib import resources
from typing import Final

from allocator.page.timeline import draw
from crier.inspect.overview import (
    ESTABLISHED,
    EXPLANATIONS,
    ControllerLine,
    NodeLine,
    Overview,
    PoolLine,
    Problem,
    VipLine,
)

MAX_ROWS: Final = 1000
"""Of VIPs; the JSON document has them all."""
MAX_SHOWN_MOVES: Final = 50
TONES: Final[Mapping[str, str]] = {
    "ok": "good", "alive": "good", "moving": "warn", "suspect": "warn", "unknown": "warn", "warning": "warn",
    "nobody": "bad", "several": "bad", "conflict": "bad", "amiss": "bad", "dead": "bad", "error": "bad",
    "info": "info",
}  # fmt: skip
PALETTE: Final = 8


@cache
def asset(name: str) -> str:
    return (resources.files("allocator.page") / name).read_text(encoding="utf-8")


@cache
def headers() -> tuple[tuple[str, str], ...]:
    """What the browser may do with the page: show it, with this style and this script."""
    policy = [
        "default-src 'none'",
        f"style-src '{_digest(asset('page.css'))}'",
        f"script-src '{_digest(asset('page.js'))}'",
        "connect-src 'self'",
        "img-src data:",  # the icon, which is none: without one a browser asks for /favicon.ico
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return (
        ("content-security-policy", "; ".join(policy)),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(found: Overview, version: str) -> str:
    colours = {line.name: number % PALETTE for number, line in enumerate(found.nodes)}
    parts = [
        _problems(found.problems),
        _vips(found.vips, colours),
        _section("Who took over what", "the last hour, as Events tell it", _timeline(found, colours)),
        '<div class="two">',
        _section("Nodes", f"{len(found.nodes)}", _nodes(found.nodes, colours)),
        _section("Pools", f"{len(found.pools)}", _pools(found.pools)),
        "</div>",
        _section("Controllers", "", _controllers(found.controllers)),
    ]
    return _FRAME.format(
        css=asset("page.css"),
        js=asset("page.js"),
        head=_head(found),
        body="\n".join(parts),
        version=escape(version),
    )


def _head(found: Overview) -> str:
    errors = sum(problem.severity == "error" for problem in found.problems)
    warnings = sum(problem.severity == "warning" for problem in found.problems)
    if errors:
        tone, text = "bad", f"{errors} problem{'s' * (errors > 1)}"
    elif warnings:
        tone, text = "warn", f"{warnings} warning{'s' * (warnings > 1)}"
    else:
        tone, text = "good", "all is well"
    return (
        f'<h1>Crier</h1><span class="tag {tone}" role="status">{text}</span>'
        f"<p>{len(found.vips)} VIPs on {len(found.nodes)} nodes, namespace {escape(found.namespace)}</p>"
        f'<p class="when">as of <time datetime="{found.at}">{found.at.replace("T", " ")}</time></p>'
    )


def _problems(problems: Iterable[Problem]) -> str:
    lines = [
        f"<li>{_tag(each.severity)}"
        f"<span><strong>{escape(each.about)}</strong> {escape(each.text)}</span></li>"
        for each in problems
    ]
    if not lines:
        return ""
    return _section("Problems", f"{len(lines)}", f"<ul>{''.join(lines)}</ul>")


def _vips(vips: tuple[VipLine, ...], colours: Mapping[str, int]) -> str:
    rows = []
    for vip in vips[:MAX_ROWS]:
        health = _tag(vip.health, EXPLANATIONS[vip.health])
        note = f" <small>{escape(vip.note)}</small>" if vip.note else ""
        bgp = f" <small>from {escape(', '.join(vip.bgp_nodes))}</small>" if vip.bgp_nodes else ""
        rows.append(
            _row(
                f'<td class="address">{escape(vip.address)}</td>',
                f"<td>{health}{note}</td>",
                f'<td class="owner">{_node(vip.owner, colours)}</td>',
                f"<td>{escape(', '.join(vip.services))}</td>",
                f"<td>{escape(', '.join(vip.protocols) or '–')}{bgp}</td>",
                f"<td>{escape(vip.pool or '–')}</td>",
            )
        )
    cut = f"the first {MAX_ROWS} of {len(vips)}" if len(vips) > MAX_ROWS else f"{len(vips)}"
    # what matters at night comes first, because a telephone shows three columns
    heads = ("Address", "Health", "Owner", "Service", "By", "Pool")
    body = _table("Virtual addresses and who answers for them", heads, rows, "No Service has an address yet.")
    return _section("VIPs", cut, body)


def _nodes(nodes: Iterable[NodeLine], colours: Mapping[str, int]) -> str:
    rows = []
    for node in nodes:
        notes = [node.silence] if node.silence else []
        if node.bgp:
            up = sum(session.state == ESTABLISHED for session in node.bgp)
            notes.append(f"BGP: {up} of {len(node.bgp)} sessions up")
        if node.draining:
            notes.append("drained" if "*" in node.draining else "draining")
        if node.excluded:
            notes.append("excluded from load balancers")
        reached = f"{node.reachable_for} of {node.asked}" if node.asked else "–"
        note = f"<br><small>{escape('; '.join(notes))}</small>" if notes else ""
        rows.append(
            _row(
                f"<td>{_node(node.name, colours)}{note}</td>",
                f"<td>{_tag(node.state) if node.state else '–'}</td>",
                f'<td class="number">{reached}</td>',
                f'<td class="number">{node.vips}</td>',
            )
        )
    heads = ("Node", "Gossip", "#Reached by", "#VIPs")
    return _table("Nodes and how the others see them", heads, rows, "No node is known.")


def _pools(pools: Iterable[PoolLine]) -> str:
    rows = []
    for pool in pools:
        label = (
            f"{pool.assigned} of {_number(pool.assigned + pool.available)} addresses of {pool.name} in use"
        )
        ranges = "".join(f'<small class="range">{escape(each)}</small>' for each in pool.addresses)
        meter = (
            f'<meter min="0" max="100" low="80" high="95" optimum="0" value="{pool.used_percent}" '
            f'aria-label="{escape(label)}" title="{escape(label)}">{pool.used_percent:g} %</meter>'
        )
        rows.append(
            _row(
                f"<td>{escape(pool.name)}{ranges}</td>",
                f"<td>{meter}</td>",
                f'<td class="number">{pool.assigned}</td>',
                f'<td class="number">{_number(pool.available)}</td>',
            )
        )
    return _table("Address pools", ("Pool", "Used", "#Given", "#Free"), rows, "There is no IPAddressPool.")


def _controllers(controllers: Iterable[ControllerLine]) -> str:
    rows = [
        _row(
            f"<td>{escape(each.pod)}</td>",
            f"<td>{escape(each.node or '–')}</td>",
            f"<td>{_LEADS if each.leading else 'stands by'}</td>",
            f"<td>{escape(each.silence)}</td>",
        )
        for each in controllers
    ]
    heads = ("Pod", "Node", "Role", "Note")
    return _table("Controllers", heads, rows, "No controller's pod is known.")


def _timeline(found: Overview, colours: Mapping[str, int]) -> str:
    picture = draw(found, colours)
    if not picture:
        return '<p class="none">Nothing moved.</p>'
    rows = [
        _row(
            f'<td class="address">{escape(move.at.replace("T", " ").replace("Z", ""))}</td>',
            f"<td>{escape(move.service)}</td>",
            f"<td>{_node(move.before, colours)}</td>",
            f"<td>{_node(move.node, colours)}</td>",
            f"<td>{escape(move.protocol)}</td>",
        )
        for move in found.moves[:MAX_SHOWN_MOVES]
    ]
    heads = ("When (UTC)", "Service", "From", "To", "By")
    table = _table("Take-overs, the newest first", heads, rows, "")
    return f'{picture}<details id="moves"><summary>As a table</summary>{table}</details>'


def _node(name: str, colours: Mapping[str, int]) -> str:
    if not name:
        return "–"
    number = colours.get(name)
    dot = f'<span class="dot n{number}" aria-hidden="true"></span>' if number is not None else ""
    return f"{dot}{escape(name)}"


def _number(count: int) -> str:
    """A /64 has more addresses than anybody reads digits of."""
    return f"{count:.1e}" if count >= 10**9 else f"{count}"


def _tag(word: str, title: str = "") -> str:
    explained = f' title="{escape(title)}"' if title else ""
    return f'<span><span class="tag {TONES.get(word, "plain")}"{explained}>{escape(word)}</span></span>'


def _section(title: str, count: str, body: str) -> str:
    small = f" <small>{escape(count)}</small>" if count else ""
    return f"<section><h2>{escape(title)}{small}</h2>{body}</section>"


def _table(caption: str, heads: Iterable[str], rows: list[str], nothing: str) -> str:
    if not rows:
        return f'<p class="none">{escape(nothing)}</p>'
    cells = "".join(
        f'<th scope="col" class="number">{escape(head[1:])}</th>'
        if head.startswith("#")
        else f'<th scope="col">{escape(head)}</th>'
        for head in heads
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{cells}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(cells)}</tr>"


_LEADS: Final = '<span class="tag good">leads</span>'
_FRAME: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crier</title>
<link rel="icon" href="data:,">
<style>{css}</style>
</head>
<body>
<header id="head">{head}</header>
<main>
<section id="stale" hidden>
<p class="none" role="alert">The controller does not answer; what is shown is old.</p>
</section>
<div id="body">{body}</div>
</main>
<footer><p>Crier {version}. Read-only. The same as JSON: <a href="page.json">page.json</a>.</p></footer>
<script>{js}</script>
</body>
</html>
"""
