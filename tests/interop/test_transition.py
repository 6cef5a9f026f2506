"""A running cluster moves to encryption step by step, and protocol versions mix."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.interop.cluster import KEY_256, PLAIN, all_alive, departures, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import gather, messages


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    reads_plain: bool = True
    writes_plain: bool = True
    keyed: bool = True

    @property
    def start(self) -> dict[str, Any]:
        verify = {"GossipVerifyIncoming": not self.reads_plain, "GossipVerifyOutgoing": not self.writes_plain}
        return {"secret_key": KEY_256, "settings": verify} if self.keyed else PLAIN.start


STEPS: Final = (
    Step("no key", keyed=False),
    Step("key there"),
    Step("key used", writes_plain=False),
    Step("key wanted", writes_plain=False, reads_plain=False),
)
"""In a rolling change a member meets members one step ahead or behind, never two."""


async def two_steps(programs: Programs, go: str, steps: Sequence[Step]) -> None:
    async with open_cluster(programs, {}) as cluster:
        peers = [
            await cluster.start(kind, f"{kind}, {step.name}", **step.start)
            for kind, step in itertools.product((go, "python"), steps)
        ]
        for peer, other in itertools.permutations(peers, 2):
            assert await peer.call("join", addresses=[other.address]) == 1
        await messages(peers)
        assert not any(departures(peer) for peer in peers)


async def protocol_versions(programs: Programs, go: str) -> None:
    """Version 1 encrypts in an older way, which all must read."""
    async with open_cluster(programs, {"secret_key": KEY_256}) as cluster:
        peers = await gather(cluster, [go, "python"])
        for kind, version in itertools.product((go, "python"), (1, 5)):
            settings = {"ProtocolVersion": version}
            peers.append(await cluster.start(kind, f"{kind}, protocol {version}", settings=settings))
            assert await peers[-1].call("join", addresses=[peers[0].address]) == 1
        await all_alive(peers)
        await messages(peers)
        assert not any(departures(peer) for peer in peers)


@dataclass(frozen=True, slots=True)
class Pair:
    before: Step
    after: Step

    @property
    def name(self) -> str:
        return f"{self.before.name}, {self.after.name}"


PAIRS: Final = [Pair(before, after) for before, after in itertools.pairwise(STEPS)]


async def neighbours(programs: Programs, go: str, pair: Pair) -> None:
    await two_steps(programs, go, (pair.before, pair.after))


@scenes(neighbours, pair=PAIRS, go=MODULE_FILES)
def test_moving_to_encryption(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)


@scenes(protocol_versions, go=MODULE_FILES)
def test_protocol_versions_mix(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
