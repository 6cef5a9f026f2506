"""Who took over which service when, read off the speakers' Events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from crier.inspect.records import Event

_ASSIGNED: Final = re.compile(r'announcing from node "([^"]{1,253})" with protocol "([a-z0-9]{1,16})"')


@dataclass(frozen=True, slots=True)
class Move:
    """A node began to announce a service."""

    at: str
    """RFC 3339."""
    service: str
    node: str
    protocol: str
    before: str
    """The node that announced it until then, as far as Events tell; "" when they do not."""


def moves(events: Iterable[Event], owners: Mapping[str, str] = MappingProxyType({})) -> tuple[Move, ...]:
    """The newest first.  The API keeps Events for an hour, and of equal ones the first time and the last.

    Args:
        owners: who has each service now.  Events know seconds only: of a service's last second, the owner's
            is last; of others, the one that was written last.
    """
    seen: list[tuple[str, int, str, str, str]] = []
    newest: dict[str, str] = {}
    for event in events:
        match = _ASSIGNED.search(event.message) if event.reason == "nodeAssigned" else None
        if match is None:
            continue
        newest[event.about] = max(newest.get(event.about, ""), event.first, event.last)
        for at in {event.first, event.last} - {""}:
            written = event.revision if at == event.last else 0
            seen.append((at, written, event.about, match[1], match[2]))

    def order(each: tuple[str, int, str, str, str]) -> tuple[object, ...]:
        at, _, service, node, _ = each
        return at, at == newest[service] and owners.get(service) == node, each

    found: list[Move] = []
    holder: dict[tuple[str, str], str] = {}
    for at, _, service, node, protocol in sorted(seen, key=order):
        before = holder.get((service, protocol), "") if protocol == "layer2" else ""
        holder[service, protocol] = node
        if before != node:  # the same again: it came back to life, or was counted up
            found.append(Move(at, service, node, protocol, before))
    found.reverse()
    return tuple(found)
