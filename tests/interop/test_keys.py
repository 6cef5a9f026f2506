"""The key of a cluster is changed while everybody talks, and nobody notices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import pytest
import trio

from tests.interop.cluster import KEY_128, KEY_256, MESSAGE_SECONDS, departures, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.peer import Peer, PeerError
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import gather

TALK_INTERVAL: Final = 0.02
ROUND_OF_PROBES: Final = 3
"""Probes each member finishes with each key in use: time for pings, acks and gossip under it."""


async def rotation(programs: Programs, go: str) -> None:
    async with open_cluster(programs, {"secret_key": KEY_128, "logs": True}) as cluster:
        peers = await gather(cluster, [go, "python", go, "python"])
        talk = Talk(peers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.go_on)
            await some_probes(peers)
            for action, key in (("add", KEY_256), ("use", KEY_256), ("remove", KEY_128)):
                for peer in peers:
                    # One member at a time, so that for a while the cluster writes with two keys.
                    await peer.call("key", action=action, key=key)
                await some_probes(peers)
            nursery.cancel_scope.cancel()
        await talk.all_heard()
        for peer in peers:
            assert departures(peer) == []
            assert not [event for event in peer.seen("log") if "decrypt" in event["line"]]
            assert (await peer.call("stats")).get("packets_dropped", 0) == 0
        outsider = await cluster.start(go, "holds the old key only")
        for peer in peers:
            with pytest.raises(PeerError, match=r"decrypt|EOF|closed"):
                await outsider.call("join", addresses=[peer.address])


class Talk:
    """Messages all the time from everybody to everybody; streams must all arrive, datagrams nearly so."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = peers
        self.sent: list[tuple[Peer, str]] = []

    async def go_on(self) -> None:
        for number in itertools.count():
            for sender, receiver in itertools.permutations(self.peers, 2):
                text = f"{number} {sender.name} {receiver.name}".encode().hex()
                reliable = number % 2 == 1
                await sender.call("send", to=receiver.name, payload=text, reliable=reliable)
                if reliable:
                    self.sent.append((receiver, text))
                await trio.sleep(TALK_INTERVAL)

    async def all_heard(self) -> None:
        assert len(self.sent) > 0
        for receiver, text in self.sent:
            await receiver.expect("user", within=MESSAGE_SECONDS, payload=text)


async def some_probes(peers: Sequence[Peer]) -> None:
    before = {peer.name: peer.mark() for peer in peers}
    for peer in peers:
        await peer.expect("ping", since=before[peer.name], count=ROUND_OF_PROBES)


@scenes(rotation, go=MODULE_FILES)
def test_key_rotation_under_load(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
