"""A handful of members on loopback addresses of their own, and what every scenario asks of them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from tests.interop.peer import Peer
from tests.interop.stage import Programs
from tests.places import free_port, loopback_network

PORT: Final = 17946

FAST: Final[Mapping[str, Any]] = {
    "ProbeInterval": "500ms",
    "ProbeTimeout": "250ms",
    "GossipInterval": "100ms",
    "PushPullInterval": "2s",
    "TCPTimeout": "20s",
    "SuspicionMult": 3,
    "SuspicionMaxTimeoutMult": 2,
    "GossipToTheDeadTime": "15s",
}
"""The LAN profile, hurried: a scenario takes seconds, and timeouts still leave room for a busy machine."""

ALIVE_SECONDS: Final = 60.0
MESSAGE_SECONDS: Final = 30.0
CRASH_SECONDS: Final = 60.0
"""How long each may take at most on a machine that does much else; the usual time is a fraction."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How the packets of a cluster are wrapped."""

    name: str
    secret_key: str | None = None
    label: str = ""

    @property
    def start(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"settings": {"Label": self.label} if self.label else {}}
        if self.secret_key:
            fields["secret_key"] = self.secret_key
        return fields


KEY_128: Final = bytes(range(16)).hex()
KEY_256: Final = bytes(range(100, 132)).hex()

PLAIN: Final = Wire("plain")
WIRES: Final = (
    PLAIN,
    Wire("aes128", secret_key=KEY_128),
    Wire("aes256", secret_key=KEY_256),
    Wire("label", label="blue"),
    Wire("label+aes256", secret_key=KEY_256, label="blue"),
)

_numbers = itertools.count(1)


@dataclass
class Cluster:
    """Members of one scenario; each gets the next address of the cluster's own loopback subnet."""

    programs: Programs
    nursery: trio.Nursery
    start_fields: Mapping[str, Any]
    peers: dict[str, Peer] = field(default_factory=dict)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    number: int = field(default_factory=lambda: next(_numbers))
    ipv6: bool = False
    """Members share ::1, the only such loopback address, and differ in their ports."""

    def free_host(self) -> str:
        """An address of the cluster's subnet that no member has."""
        return f"{loopback_network()}.{self.number}.{len(self.peers) + 1}"

    async def start(self, kind: str, name: str, *, as_name: str | None = None, **fields: Any) -> Peer:
        """Start a member of a kind ("python", "0.5.1", "0.6.0"); `as_name` is its name in the cluster."""
        host, port = ("::1", free_port()) if self.ipv6 else (self.free_host(), PORT)
        peer = Peer(name, host, port, self.programs[kind])
        await peer.open(self.nursery)
        self.peers[name] = peer
        self.fields[name] = {**self.start_fields, **fields}
        self.fields[name]["settings"] = {
            **FAST,
            **self.start_fields.get("settings", {}),
            **fields.get("settings", {}),
            "Name": as_name or name,
            "BindAddr": host,
            "BindPort": port,
        }
        await peer.call("start", **self.fields[name])
        return peer

    async def restart(self, peer: Peer) -> None:
        """Start a member that has ended again, under its name and address."""
        await peer.wait_gone()
        await peer.open(self.nursery)
        await peer.call("start", **self.fields[peer.name])

    def others(self, peer: Peer) -> list[Peer]:
        return [other for other in self.peers.values() if other is not peer]


@asynccontextmanager
async def open_cluster(
    programs: Programs, start_fields: Mapping[str, Any], *, ipv6: bool = False
) -> AsyncIterator[Cluster]:
    """A cluster whose processes end with the block, however it is left."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(programs, nursery, start_fields, ipv6=ipv6)
        try:
            yield cluster
        finally:
            for peer in cluster.peers.values():
                peer.kill()
            with trio.CancelScope(shield=True):
                for peer in cluster.peers.values():
                    await peer.wait_gone()
            nursery.cancel_scope.cancel()


async def all_alive(peers: Iterable[Peer], *, since: Mapping[str, int] | None = None) -> None:
    """Wait until each has seen each other come in (since its mark)."""
    peers = list(peers)
    for observer, subject in itertools.permutations(peers, 2):
        mark = since[observer.name] if since else 0
        await observer.expect("join", about=subject.name, since=mark, within=ALIVE_SECONDS)


async def all_see(
    kind: str, subject: Peer, observers: Iterable[Peer], marks: Mapping[str, int], within: float
) -> None:
    """Wait until every observer has an event of that kind about the subject since its mark."""
    for observer in observers:
        await observer.expect(kind, about=subject.name, since=marks[observer.name], within=within)


def marks(peers: Iterable[Peer]) -> dict[str, int]:
    return {peer.name: peer.mark() for peer in peers}


def departures(peer: Peer, since: int = 0) -> list[str]:
    """Whom it has seen leave or die since the mark."""
    return [event["node"]["name"] for event in peer.seen("leave", since)]
