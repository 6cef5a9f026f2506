"""A member that was out for a moment is suspected, hears of it, and proves to be alive; nobody loses it."""

from __future__ import annotations

from functools import partial

from tests.interop.cluster import CRASH_SECONDS, departures, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.peer import Peer
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import gather

# Time enough between suspicion and death for the one that was out to answer.
PATIENT = {"settings": {"SuspicionMult": 10}, "logs": True}


async def theirs_was_out(programs: Programs, go: str) -> None:
    async with open_cluster(programs, PATIENT) as cluster:
        theirs, ours, other = await gather(cluster, [go, "python", "python"])
        theirs.freeze()
        for peer in (ours, other):
            await peer.expect("suspect", about=theirs.name, within=CRASH_SECONDS)
        theirs.thaw()
        for peer in (ours, other):
            refuted = await peer.expect("refuted", about=theirs.name, within=CRASH_SECONDS)
            assert refuted["node"]["incarnation"] > 1
            assert departures(peer) == []


async def ours_was_out(programs: Programs, go: str) -> None:
    async with open_cluster(programs, PATIENT) as cluster:
        ours, theirs, witness = await gather(cluster, ["python", go, "python"])
        ours.freeze()
        await theirs.until(
            partial(suspecting, theirs, ours), within=CRASH_SECONDS, what=f"suspecting {ours.name}"
        )
        await witness.expect("suspect", about=ours.name, within=CRASH_SECONDS)
        ours.thaw()
        refuted = await witness.expect("refuted", about=ours.name, within=CRASH_SECONDS)
        assert refuted["node"]["incarnation"] > 1
        # Another probe of each shows that the suspicion has not outlived the refutation.
        mark = theirs.mark()
        await theirs.expect("ping", about=ours.name, since=mark, count=2)
        for peer in (theirs, witness):
            assert departures(peer) == []


def suspecting(observer: Peer, subject: Peer) -> bool:
    return any(f"Suspect {subject.name} has failed" in event["line"] for event in observer.seen("log"))


@scenes(theirs_was_out, go=MODULE_FILES)
def test_go_member_refutes_our_suspicion(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)


@scenes(ours_was_out, go=MODULE_FILES)
def test_our_member_refutes_a_go_suspicion(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
