"""Watchers beside Go members: a crash is known before SWIM is sure of it, and nobody else is upset."""

from __future__ import annotations

from tests.interop.cluster import CRASH_SECONDS, Cluster, departures, marks, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.peer import Peer
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import come_back, gather


async def watched(programs: Programs, go: str) -> None:
    async with open_cluster(programs, {"watch": True, "logs": True}) as cluster:
        theirs, *ours = await gather(cluster, [go, "python", "python", "python"])
        for victim in (ours[0], theirs):
            await crash(cluster, victim, [peer for peer in ours if peer is not victim])
        for peer in cluster.peers.values():
            assert set(departures(peer)) <= {ours[0].name, theirs.name}


async def crash(cluster: Cluster, victim: Peer, watchers: list[Peer]) -> None:
    before = marks(cluster.peers.values())
    victim.kill()
    for peer in cluster.others(victim):
        dead = await peer.expect("leave", about=victim.name, since=before[peer.name], within=CRASH_SECONDS)
        if peer in watchers:
            lost = peer.seen("unreachable", before[peer.name], about=victim.name)
            assert lost
            assert lost[0]["at"] < dead["at"]
    await come_back(cluster, victim, before)


@scenes(watched, go=MODULE_FILES)
def test_watchers_beside_go_members(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
