"""The state of the whole lab at a moment, from the wire and from the speakers' own accounts, and what is
amiss.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from crier.lab.cluster import Cluster
from crier.lab.errors import LabError
from crier.lab.prober import Prober, Vip, VipSegments, VipState

INTERVAL: Final = 0.25
GREEN: Final = 1.0
"""Seconds without a lost probe that make a client content."""


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    state: str
    reachable: bool


@dataclass(frozen=True, slots=True)
class SpeakerVip:
    address: str
    owner: str | None
    answering: bool


@dataclass(frozen=True, slots=True)
class SpeakerStatus:
    """What a speaker says of itself; the part of `/status` the lab uses."""

    node: str
    joined: bool
    synced: bool
    members: tuple[Member, ...]
    vips: Mapping[str, SpeakerVip]
    bfd: tuple[str, ...] = ()
    """State of the BFD of each BGP session."""

    @property
    def reachable(self) -> frozenset[str]:
        return frozenset(member.name for member in self.members if member.reachable)


def decode_status(document: Mapping[str, Any]) -> SpeakerStatus:
    """Raises LabError naming what is missing."""
    try:
        return SpeakerStatus(
            node=str(document["node"]),
            joined=bool(document["joined"]),
            synced=bool((document.get("planner") or {}).get("synced", False)),
            members=tuple(
                Member(str(m["name"]), str(m["state"]), bool(m["reachable"]))
                for m in document["members"] or ()
            ),
            vips={
                str(vip["address"]): SpeakerVip(str(vip["address"]), vip["owner"], bool(vip["answering"]))
                for vip in document["vips"] or ()
            },
            bfd=tuple(str(session["bfd"]) for session in document.get("bgp", ())),
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise LabError(f"a speaker's /status is not as documented: {problem!r}") from None


@dataclass(frozen=True, slots=True)
class Snapshot:
    begun_at: float
    """Everything in here was asked after this moment."""
    speakers: Mapping[str, SpeakerStatus | None]
    """By node; None for one that gives no account."""
    vips: Mapping[str, VipState]
    """By address, as the client sees them."""
    segments: Mapping[str, VipSegments] = field(default_factory=dict)
    routed: bool = False
    """Owners are the nodes that a router sends packets to: all of them, when all is well."""


def wire_trouble(snapshot: Snapshot, live: frozenset[str]) -> str | None:
    """The first thing that keeps the client from being content, in words; None when there is none."""
    for address, vip in snapshot.vips.items():
        if snapshot.routed:
            if missing := live - set(vip.owners):
                return f"the router does not send packets for {address} to {', '.join(sorted(missing))}"
            if ghosts := set(vip.owners) - live:
                return f"the router still sends packets for {address} to {', '.join(sorted(ghosts))}"
        elif not vip.owners:
            return f"nobody answers for {address}"
        elif len(vip.owners) > 1:
            return f"{' and '.join(vip.owners)} answer for {address}"
        elif vip.owners[0] not in live:
            return f"{vip.owners[0]} still answers for {address}"
        if vip.good_since is None or snapshot.begun_at - vip.good_since < GREEN:
            return f"probes to {address} get lost"
    return None


def trouble(snapshot: Snapshot, live: frozenset[str]) -> str | None:
    """The first thing that keeps the lab from being steady, in words; None when it is steady.

    Steady: every living speaker reaches exactly the living ones, exactly one node answers for each VIP, all
    speakers agree which, and the client has lost nothing for a while.  Routed: the router sends packets to
    exactly the living ones, and BFD watches all of them.
    """
    for node in sorted(live):
        status = snapshot.speakers.get(node)
        if status is None:
            return f"the speaker of {node} gives no status yet"
        if not status.joined or not status.synced:
            return f"the speaker of {node} is still joining"
        if missing := live - status.reachable:
            return f"{node} does not reach {', '.join(sorted(missing))}"
        if ghosts := status.reachable - live:
            return f"{node} still believes in {', '.join(sorted(ghosts))}"
    if wrong := wire_trouble(snapshot, live):
        return wrong
    for node in sorted(live):
        status = snapshot.speakers[node]
        assert status is not None
        if snapshot.routed:
            if set(status.bfd) != {"Up"}:
                return f"{node} and the router do not watch each other yet"
            continue
        for address, vip in snapshot.vips.items():
            said = status.vips.get(address)
            if said is None:
                return f"{node} knows nothing of {address} yet"
            if (said.owner,) != vip.owners:
                return f"{node} thinks that {address} is at {said.owner}, but {vip.owners[0]} answers"
            if said.answering != (node == vip.owners[0]):
                return f"{node} {'still' if said.answering else 'does not'} answer for {address}"
    return None


class Observer:
    """Looks at the lab again and again; everybody else looks at its last snapshot."""

    def __init__(self, cluster: Cluster, prober: Prober, vips: Iterable[Vip], started_at: float) -> None:
        self._cluster = cluster
        self._prober = prober
        self._started_at = started_at
        self.vips = tuple(vips)
        self.latest: Snapshot | None = None
        self._fresh = trio.Event()

    async def run(self) -> None:
        while True:
            await self._look()
            await trio.sleep(INTERVAL if len(self._cluster.lan.nodes) <= 5 else INTERVAL * 2)

    async def _look(self) -> None:
        begun_at = time.monotonic()
        speakers: dict[str, SpeakerStatus | None] = dict.fromkeys(self._cluster.lan.nodes)

        async def ask(node: str) -> None:
            document = await self._cluster.status(node)
            speakers[node] = None if document is None else decode_status(document)

        async with trio.open_nursery() as nursery:
            for node in self._cluster.lan.nodes:
                nursery.start_soon(ask, node)
        states = await self._prober.state()
        segments = await self._prober.segments(max(self._started_at, begun_at - 60))
        routed = self._cluster.router is not None
        self.latest = Snapshot(begun_at, speakers, states, segments, routed)
        self._fresh.set()
        self._fresh = trio.Event()

    async def after(self, moment: float) -> Snapshot:
        """The first snapshot begun after `moment`."""
        while self.latest is None or self.latest.begun_at <= moment:
            await self._fresh.wait()
        return self.latest
