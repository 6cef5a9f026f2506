"""What a mixed cluster goes through from its first join to its last crash.

Each step is written once and works on members of any kind; the tests decide who is what.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Final

from tests.interop.cluster import (
    ALIVE_SECONDS,
    CRASH_SECONDS,
    MESSAGE_SECONDS,
    Cluster,
    all_alive,
    all_see,
    departures,
    marks,
)
from tests.interop.peer import Peer

COMPLAINT: Final = re.compile(
    r"decode|[Dd]ecrypt|checksum|not supported|truncated|packet (label|with unaccept)|too short|queue full"
)
"""Words of the Go library's log lines about packets it could not read.

Streams are left out: whoever is killed between dialling and writing leaves one that says nothing.
"""


async def gather(cluster: Cluster, kinds: Sequence[str]) -> list[Peer]:
    """Start a member of each kind, join each to the first, wait until all see all."""
    peers = [
        await cluster.start(kind, f"{kind}-{number}", state=f"state of {number}".encode().hex())
        for number, kind in enumerate(kinds, 1)
    ]
    for peer in peers[1:]:
        assert await peer.call("join", addresses=[peers[0].address]) == 1
    await all_alive(peers)
    return peers


async def messages(peers: Sequence[Peer]) -> None:
    """Everybody writes to everybody, by datagram and by stream, short and long."""
    for (sender, receiver), reliable in itertools.product(itertools.permutations(peers, 2), (False, True)):
        size = 40_000 if reliable else 900
        text = f"{sender.name} to {receiver.name}, reliable={reliable} ".encode().ljust(size, b".").hex()
        mark = receiver.mark()
        await sender.call("send", to=receiver.name, payload=text, reliable=reliable)
        await receiver.expect("user", since=mark, within=MESSAGE_SECONDS, payload=text)


async def metadata(peers: Sequence[Peer]) -> None:
    """Everybody changes what it says of itself; everybody else hears it."""
    for peer in peers:
        before = marks(peers)
        meta = f"new metadata of {peer.name}".encode().hex()
        await peer.call("meta", meta=meta)
        for other in peers:
            if other is peer:
                continue
            event = await other.expect(
                "update", about=peer.name, since=before[other.name], within=MESSAGE_SECONDS
            )
            assert event["node"]["meta"] == meta


async def periodic_push_pull(peers: Sequence[Peer]) -> None:
    """Everybody's user state reaches everybody again, now without a join."""
    before = marks(peers)
    for receiver, sender in itertools.permutations(peers, 2):
        state = f"state of {sender.name.rsplit('-', 1)[1]}".encode().hex()
        await receiver.expect(
            "state",
            since=before[receiver.name],
            # Partners are picked by chance every two seconds, so this is how long chance may take.
            within=60,
            state=state,
            join=False,
        )


async def leave_and_return(cluster: Cluster, leaver: Peer) -> None:
    """A farewell is heard by all at once; the same member then comes back."""
    others = cluster.others(leaver)
    before = marks(cluster.peers.values())
    await leaver.call("leave", timeout="5s")
    await all_see("leave", leaver, others, before, MESSAGE_SECONDS)
    leaver.kill()
    await come_back(cluster, leaver, before)


async def crash_and_return(cluster: Cluster, victim: Peer) -> None:
    """Nobody is told; all find out; the same member then comes back."""
    others = cluster.others(victim)
    before = marks(cluster.peers.values())
    victim.kill()
    await all_see("leave", victim, others, before, CRASH_SECONDS)
    await come_back(cluster, victim, before)


async def come_back(cluster: Cluster, peer: Peer, before: dict[str, int]) -> None:
    others = cluster.others(peer)
    mark = peer.mark()
    await cluster.restart(peer)
    # A member that starts again knows neither its old incarnation nor that its peers hold it for dead.
    assert await peer.call("join", addresses=[other.address for other in others]) == len(others)
    await all_see("join", peer, others, before, ALIVE_SECONDS)
    for other in others:
        await peer.expect("join", about=other.name, since=mark, within=ALIVE_SECONDS)
        assert set(departures(other, before[other.name])) == {peer.name}, "only one member was gone"


async def everything(cluster: Cluster, kinds: Sequence[str]) -> None:
    """The whole life of a cluster."""
    peers = await gather(cluster, kinds)
    await messages(peers)
    await metadata(peers)
    await periodic_push_pull(peers)
    for peer in peers:
        assert departures(peer) == [], "nobody has gone yet"
    # One of each side leaves, one of each side crashes.
    first, second, third, fourth = peers
    await leave_and_return(cluster, second)
    await leave_and_return(cluster, fourth)
    await crash_and_return(cluster, first)
    await crash_and_return(cluster, third)
    await nobody_complains(peers)


async def nobody_complains(peers: Sequence[Peer]) -> None:
    """In all that time no octet was sent that its receiver could not use."""
    for peer in peers:
        complaints = [event["line"] for event in peer.seen("log") if COMPLAINT.search(event["line"])]
        assert complaints == [], f"{peer.name}: {complaints}"
        assert (await peer.call("stats")).get("packets_dropped", 0) == 0
