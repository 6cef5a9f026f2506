"""The ConfigMap `bgpextras`: an operator's own lines for FRR, beside what the metallb.io objects say.  Pure.

MetalLB puts the text at the end of its frr.conf.  Here FRR gets it over its daemons' sockets after everything
of ours, and what leaves the text is taken back line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from speaker.frr.changes import FAMILY_PATHS
from speaker.frr.render import Base, Neighbor, Router

_OPENS: Final = re.compile(r"(router|route-map|interface|vrf|key chain|nexthop-group|pbr-map) \S.*|bfd")
"""Lines that begin a section."""
_OPENS_INSIDE: Final[Mapping[str, re.Pattern[str]]] = {
    "router": re.compile(r"(address-family|vni) \S.*"),
    "bfd": re.compile(r"(profile|peer) \S.*"),
    "key": re.compile(r"key \d+"),
    "pbr-map": re.compile(r"seq \d+"),
}
"""And those inside a section of which the first word is the key."""
_STAYS: Final = re.compile(r"router \S.*|address-family \S.*|bfd|interface \S.*|vrf \S.*")
"""Sections that are ours or the system's, too: they do not go because the text no longer has them."""
_CLOSES: Final = re.compile(r"exit(-[a-z-]+)?")
_ROUTE_MAP: Final = re.compile(r"route-map (\S+) (permit|deny) \d+")
_ATTACHED: Final = re.compile(r"neighbor (\S+) route-map \S+ (in|out)")


@dataclass(frozen=True, slots=True)
class Line:
    """One command, where it belongs.  Its repr does not show it: it may have a password."""

    path: tuple[str, ...]
    """The commands that lead there from the top of the configuration."""
    text: str = field(repr=False)
    opens: bool = False
    """It begins a section."""


def parse(text: str) -> tuple[Line, ...]:
    """A piece of frr.conf, indented or not."""
    lines: list[Line] = []
    path: list[str] = []
    indented = False
    """Something in this section was, so that what is not indented is outside of it."""
    for raw in text.expandtabs(1).splitlines():
        line = " ".join(raw.split())
        if not line or line[0] in "!#":
            continue
        if line == "end":
            path.clear()
        elif _CLOSES.fullmatch(line):
            path[-1:] = []
        else:
            if raw[0] == " ":
                indented = bool(path)
            elif indented or _OPENS.fullmatch(line):
                path.clear()
                indented = False
            inside = _OPENS_INSIDE.get(path[0].split()[0]) if path else None
            if inside is not None and inside.fullmatch(line):
                del path[1:]
                lines.append(Line(tuple(path), line, opens=True))
                path.append(line)
            elif not path and _OPENS.fullmatch(line):
                lines.append(Line((), line, opens=True))
                path.append(line)
            else:
                lines.append(Line(tuple(path), line))
    return tuple(lines)


def attached(lines: Iterable[Line], base: Base) -> tuple[Line, ...]:
    """What makes a route-map `ADDRESS-in` (`ADDRESS-VRF-in`) the one for what a peer of ours announces.

    In MetalLB's frr.conf every neighbour has an incoming route-map of that name, to which people add entries.
    """
    maps = {found[1] for line in lines if (found := _ROUTE_MAP.fullmatch(line.text))}
    more: list[Line] = []
    for router, neighbor in _neighbors(base):
        name = f"{neighbor.id}{f'-{router.vrf}' if router.vrf else ''}-in"
        if name in maps:
            more += [
                Line((router.command, FAMILY_PATHS[version]), f"neighbor {neighbor.id} route-map {name} in")
                for version in neighbor.families
            ]
    return tuple(more)


def removed(held: Sequence[Line], wanted: Sequence[Line], base: Base) -> tuple[Line, ...]:
    """What takes back the lines FRR has and shall not have: last ones first, whole sections where possible.

    What our own configuration says, too, stays; and another route-map of a peer of ours is replaced by ours
    (`again`) rather than taken away, because without any route-map everything would be let in.
    """
    ours = {neighbor.id for _, neighbor in _neighbors(base)}
    said = {line for router in base.routers.values() for line in router.lines}
    said |= {line for _, neighbor in _neighbors(base) for line in neighbor.lines}
    gone = _gone(held, wanted)
    sections = {(*line.path, line.text) for line in gone if line.opens and not _STAYS.fullmatch(line.text)}
    out: list[Line] = []
    for line in reversed(gone):
        if any(line.path[: len(section)] == section for section in sections):
            continue  # goes with its section
        if line.text.startswith("no ") or line.text in said or (line.opens and _STAYS.fullmatch(line.text)):
            continue
        found = _ATTACHED.fullmatch(line.text)
        if found and found[1] in ours:
            continue
        out.append(Line(line.path, f"no {line.text}"))
    return tuple(out)


def again(held: Sequence[Line], wanted: Sequence[Line], base: Base) -> tuple[Line, ...]:
    """What of ours the lines that go may have changed, or may change by going: said before and after that."""
    gone = _gone(held, wanted)
    words = {tuple(line.text.removeprefix("no ").split()[:3]) for line in gone}
    lines: list[Line] = []
    for router in base.routers.values():
        if not any(line.path[:1] == (router.command,) for line in gone):
            continue
        lines += [Line((router.command,), line) for line in router.lines]
        for neighbor in router.neighbors:
            if not any(said[:2] == ("neighbor", neighbor.id) for said in words):
                continue
            lines += [
                Line((router.command,), line) for line in neighbor.lines if tuple(line.split()[:3]) in words
            ]
            for version in neighbor.families:
                path = (router.command, FAMILY_PATHS[version])
                lines += [Line(path, line) for line in neighbor.family_lines]
    return tuple(lines)


def _gone(held: Sequence[Line], wanted: Sequence[Line]) -> list[Line]:
    kept = frozenset(wanted)
    return [line for line in held if line not in kept]


def _neighbors(base: Base) -> list[tuple[Router, Neighbor]]:
    return [(router, each) for router in base.routers.values() for each in router.neighbors]


def sections(lines: Iterable[Line]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Neighbouring lines of one place together."""
    found: list[tuple[tuple[str, ...], list[str]]] = []
    for line in lines:
        if found and found[-1][0] == line.path:
            found[-1][1].append(line.text)
        else:
            found.append((line.path, [line.text]))
    return [(path, tuple(texts)) for path, texts in found]
