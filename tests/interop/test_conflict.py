"""Two members with one name: both sides report it, and the first stays."""

from __future__ import annotations

from tests.interop.cluster import MESSAGE_SECONDS, departures, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.peer import Peer
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import gather


async def conflict(programs: Programs, go: str) -> None:
    async with open_cluster(programs, {}) as cluster:
        theirs, ours = await gather(cluster, [go, "python"])
        for original, kind in ((ours, go), (theirs, "python"), (ours, "python")):
            impostor = await cluster.start(
                kind, f"impostor of {original.name}, {kind}", as_name=original.name
            )
            since = {peer.name: peer.mark() for peer in (theirs, ours)}
            await impostor.call("join", addresses=[theirs.address, ours.address])
            for witness in (theirs, ours):
                await reported(witness, original, impostor, since[witness.name])
            impostor.kill()
        for peer in (theirs, ours):
            assert departures(peer) == []
            listed = {member["name"]: member["address"] for member in await peer.call("members")}
            assert listed == {theirs.name: theirs.host, ours.name: ours.host}


async def reported(witness: Peer, original: Peer, impostor: Peer, since: int) -> None:
    wanted = (original.name, original.host, impostor.host)

    def told() -> bool:  # of the impostor before it one may still hear
        conflicts = witness.seen("conflict", since)
        return wanted in [
            (each["existing"]["name"], each["existing"]["address"], each["other"]["address"])
            for each in conflicts
        ]

    await witness.until(told, within=MESSAGE_SECONDS, what=f"a conflict of {wanted}")


@scenes(conflict, go=MODULE_FILES)
def test_name_conflict_is_reported(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
