"""Probes that take the long way: relayed by another member, or over TCP."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from memberlist.messages import Ping
from memberlist.packet import Wire as Packets
from tests.interop.cluster import departures, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.peer import Peer
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import gather

ROUNDS: Final = 4
"""Failed direct probes to sit through; each would end in a suspicion if the long way did not work."""
WITHIN: Final = 90.0

LONG_WAY: Final[dict[str, Any]] = {"ProbeInterval": "1500ms", "ProbeTimeout": "300ms"}
"""More than a second for it: whether it is as quick as usual on a busy machine is not the question."""
ONLY_RELAYS: Final[dict[str, Any]] = {
    "settings": {**LONG_WAY, "DisableTcpPings": True}, "logs": True, "capture": True
}  # fmt: skip


async def relayed_by_ours(programs: Programs, go: str) -> None:
    """Two Go members that do not hear each other live on what our members relay."""
    async with open_cluster(programs, ONLY_RELAYS) as cluster:
        first, second, third, fourth = await gather(cluster, [go, go, "python", "python"])
        await first.call("mute", udp=True, peers=[second.host])
        await lost_pings(first, second)
        await lost_pings(first, first, sender=second)
        nobody_was_lost((first, second, third, fourth))


async def relayed_by_theirs(programs: Programs, go: str) -> None:
    """One of ours and a Go member do not hear each other and live on what another Go member relays."""
    async with open_cluster(programs, ONLY_RELAYS) as cluster:
        deaf, relay, ours = await gather(cluster, [go, go, "python"])
        await deaf.call("mute", udp=True, peers=[ours.host])
        await lost_pings(deaf, ours)
        await lost_pings(deaf, deaf, sender=ours)
        nobody_was_lost((deaf, relay, ours))


async def kept_alive_by_tcp(programs: Programs, go: str) -> None:
    """A Go member without any UDP is alive to ours, and ours to it, because of the TCP ping."""
    async with open_cluster(programs, {"settings": LONG_WAY, "logs": True, "capture": True}) as cluster:
        deaf, ours, other = await gather(cluster, [go, "python", "python"])
        await deaf.call("mute", udp=True)
        for peer in (ours, other):
            await lost_pings(deaf, deaf, sender=peer)
            await deaf.until(
                partial(said, deaf, f"Was able to connect to {peer.name} over TCP"),
                within=WITHIN,
                what=f"reaching {peer.name} over TCP",
            )
        nobody_was_lost((deaf, ours, other))


async def lost_pings(muted: Peer, target: Peer, *, sender: Peer | None = None) -> None:
    """Wait until the muted member's switch has swallowed that many pings to the target."""
    host = target.host if sender is None else sender.host
    direction = "out" if sender is None else "in"
    packets = Packets()

    def enough() -> bool:
        lost = (
            bytes.fromhex(event["data"])
            for event in muted.seen("packet", direction=direction, lost=True)
            if event["address"].startswith(f"{host}:")
        )
        pings = [
            m for data in lost for m in packets.open(data) if isinstance(m, Ping) and m.node == target.name
        ]
        return len(pings) >= ROUNDS

    await muted.until(enough, within=WITHIN, what=f"{ROUNDS} lost pings to {target.name}")


def said(peer: Peer, text: str) -> int:
    """How often."""
    return sum(text in event["line"] for event in peer.seen("log"))


def nobody_was_lost(peers: Iterable[Peer]) -> None:
    """Nor suspected, but now and then: every lost ping leads to a suspicion where the long way leads nowhere,
    and on a busy machine one takes too long.
    """
    for peer in peers:
        assert departures(peer) == []
        assert len(peer.seen("suspect")) <= ROUNDS // 2
        assert said(peer, "has failed, no acks received") <= ROUNDS // 2


@scenes(relayed_by_ours, go=MODULE_FILES)
def test_our_members_relay_pings(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)


@scenes(relayed_by_theirs, go=MODULE_FILES)
def test_go_members_relay_our_pings(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)


@scenes(kept_alive_by_tcp, go=MODULE_FILES)
def test_tcp_pings_keep_a_member_without_udp_alive(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
