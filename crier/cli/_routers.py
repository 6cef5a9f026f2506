"""Who tells routers of an address: what a drain of routed addresses waits for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import trio

from crier.cli._common import Session
from crier.cli._handover import LOOK, Group, ask_all
from crier.inspect.gather import Speaker
from crier.inspect.words import RoutesWords, RouteWords

UNSEEN = "its sessions are FRR's, and Crier does not see what they carry"


@dataclass(frozen=True, slots=True)
class Told:
    """What one node's established sessions carry of one address, by the names of their peers."""

    told: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()
    """Those of `told` that were asked to prefer anybody else (RFC 8326)."""

    @property
    def staying(self) -> frozenset[str]:
        return self.told - self.leaving


@dataclass(frozen=True, slots=True)
class Routes:
    """Of some addresses, at one moment."""

    nodes: Mapping[str, Mapping[str, Told]]
    """By address, and by node; nodes that tell nobody are left out."""
    unseen: Mapping[str, str]
    """Nodes of which it cannot be told, and why."""

    def others(self, group: Group, node: str) -> tuple[str, ...]:
        """The nodes but this one that routers may prefer for all of the group."""
        names = {name for told in self.nodes.values() for name in told if name != node}
        return tuple(
            sorted(
                name for name in names if all(self.at(address, name).staying for address in group.addresses)
            )
        )

    def at(self, address: str, node: str) -> Told:
        return self.nodes.get(address, {}).get(node, Told())


async def see(session: Session, speakers: Iterable[Speaker], addresses: Iterable[str]) -> Routes:
    nodes: dict[str, dict[str, Told]] = {address: {} for address in addresses}
    answers, unseen = await ask_all(session, speakers, "/routes", RoutesWords)
    for says in answers:
        if not says.visible:
            unseen[says.node] = UNSEEN
            continue
        known = {route.prefix: route for route in says.routes}
        for address, told in nodes.items():
            found = _of(address, known)
            if found.told:
                told[says.node] = found
    return Routes(nodes, unseen)


async def wait_until_last(
    session: Session, speakers: tuple[Speaker, ...], group: Group, node: str, *, patience: float
) -> tuple[Routes, float, str]:
    """Until every router that the node tells of the group was asked to prefer others, and hears of others.

    Returns what was seen last, the seconds it took, and "" or why it did not come to that.
    """
    began = trio.current_time()
    while True:
        found = await see(session, speakers, group.addresses)
        why = _hindrance(found, group, node)
        if not why or found.unseen.get(node) == UNSEEN or trio.current_time() - began >= patience:
            return found, trio.current_time() - began, why
        await trio.sleep(LOOK)


async def wait_until_gone(
    session: Session, speakers: tuple[Speaker, ...], groups: Iterable[Group], node: str, *, patience: float
) -> str:
    """Until no router hears of the groups from the node.  Returns "" or why it did not come to that."""
    addresses = [address for group in groups for address in group.addresses]
    mine = [speaker for speaker in speakers if speaker.node == node]
    began = trio.current_time()
    while True:
        found = await see(session, mine, addresses)
        if node in found.unseen:
            why = found.unseen[node]
        else:
            still = [
                f"{address} to {_names(found.at(address, node).told)}"
                for address in found.nodes
                if found.at(address, node).told
            ]
            why = f"{node} still announces {'; '.join(still[:3])}" if still else ""
        if not why or why == UNSEEN or trio.current_time() - began >= patience:
            return why
        await trio.sleep(LOOK)


def _hindrance(found: Routes, group: Group, node: str) -> str:
    if node in found.unseen:
        return f"{node}: {found.unseen[node]}"
    for address in group.addresses:
        if staying := found.at(address, node).staying:
            return f"{_names(staying)} was not yet asked to prefer other nodes for {address}"
    if not found.others(group, node):
        missed = f"; not asked: {_names(found.unseen)}" if found.unseen else ""
        return f"no other node's sessions carry {', '.join(group.addresses)}{missed}"
    return ""


def _of(address: str, known: Mapping[str, RouteWords]) -> Told:
    told: set[str] = set()
    leaving: set[str] = set()
    for prefix in _around(address):
        if (route := known.get(prefix)) is not None:
            told.update(route.told)
            leaving.update(route.leaving)
    return Told(frozenset(told), frozenset(leaving))


def _around(address: str) -> Iterator[str]:
    """Every prefix the address is in, as a speaker spells it: routes may be aggregates."""
    ip = ip_address(address)
    for length in range(ip.max_prefixlen, -1, -1):
        yield str(ip_network((ip, length), strict=False))


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
