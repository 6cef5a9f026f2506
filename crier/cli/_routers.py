"""Who tells routers of an address: what a drain of routed addresses, and its end, wait for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import trio

from crier.cli._common import Session
from crier.cli._handover import LOOK, SILENT_LOOKS, Group, ask_all, does_not_answer
from crier.inspect.gather import Speaker
from crier.inspect.words import RoutedWords, RoutesWords, RouteWords, SpeakerWords, WhyWords
from speaker.planner.routes import Objection

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


@dataclass(frozen=True, slots=True)
class Return:
    """What became of the routes for a group that a node is to announce again."""

    peers: tuple[str, ...] = ()
    """Those its plan has it tell; none when that is nobody's business here."""
    seconds: float = 0.0
    why: str = ""
    """Why it was not seen that they are told; UNSEEN when nobody can see it."""


async def wait_until_back(
    session: Session,
    speakers: tuple[Speaker, ...],
    group: Group,
    node: str,
    drained: Iterable[str],
    *,
    patience: float,
) -> Return:
    """Until the node's established sessions carry the group as any other of its routes.

    `drained`: the addresses that are not back yet; an aggregate that has one of them goes on asking routers
    to prefer others.  A speaker that says nothing ends the wait.
    """
    mine = [speaker for speaker in speakers if speaker.node == node]
    others = tuple(drained)
    began = trio.current_time()
    silent = 0
    while True:
        plans, unanswered = await ask_all(session, mine, "/why", WhyWords)
        states, unasked = await ask_all(session, mine, "/status", SpeakerWords)
        routes, unseen = await ask_all(session, mine, "/routes", RoutesWords)
        peers: set[str] = set()
        if silence := unanswered or unasked or unseen:
            why = does_not_answer(node, silence[node])
            silent += 1
        elif not plans or not states or not routes:
            return Return(why=f"there is no speaker on {node}")
        else:
            silent = 0
            said = [plans[0].services[key].bgp for key in group.services if key in plans[0].services]
            peers = {peer for each in said for peer in each.peers}
            why = _missing(group, node, said, states[0], routes[0], others)
        seconds = trio.current_time() - began
        if not why or why == UNSEEN or silent >= SILENT_LOOKS or seconds >= patience:
            return Return(tuple(sorted(peers)), seconds, why)
        await trio.sleep(LOOK)


def _missing(
    group: Group,
    node: str,
    said: Iterable[RoutedWords],
    state: SpeakerWords,
    routes: RoutesWords,
    drained: tuple[str, ...],
) -> str:
    """What is not yet as it should be when the node has the group's routes back; "" when all is."""
    peers = {peer for each in said for peer in each.peers}
    if any(each.objection == Objection.EXCLUDED.text for each in said):
        return f"{node} has not yet heard that it may announce it"
    if not peers:
        return ""
    if not routes.visible:
        return UNSEEN
    up = peers & {each.peer for each in state.bgp if each.state == "Established"}
    if not up:
        return f"{node} has no session with {_names(peers)}"
    known = {route.prefix: route for route in routes.routes}
    missed = set(up)
    for address in group.addresses:
        told = _of(address, known, drained)
        if told.leaving:
            return f"{_names(told.leaving)} is still asked to prefer other nodes for {address}"
        missed -= told.told
    return f"{_names(missed)} was not yet told of {', '.join(group.addresses)}" if missed else ""


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


def _of(address: str, known: Mapping[str, RouteWords], excuses: Iterable[str] = ()) -> Told:
    """`excuses`: addresses for whose sake a route may be one that leaves."""
    told: set[str] = set()
    leaving: set[str] = set()
    for prefix in _around(address):
        if (route := known.get(prefix)) is not None:
            told.update(route.told)
            if not any(ip_address(each) in ip_network(prefix) for each in excuses):
                leaving.update(route.leaving)
    return Told(frozenset(told), frozenset(leaving))


def _around(address: str) -> Iterator[str]:
    """Every prefix the address is in, as a speaker spells it: routes may be aggregates."""
    ip = ip_address(address)
    for length in range(ip.max_prefixlen, -1, -1):
        yield str(ip_network((ip, length), strict=False))


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
