"""One of ours with a Serf agent: the oldest memberlist around, and one that looks at delegate versions.

`CRIER_SERF_SECONDS=60` stays for a minute instead of the default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.interop.cluster import (
    CRASH_SECONDS,
    KEY_256,
    MESSAGE_SECONDS,
    PLAIN,
    PORT,
    Wire,
    departures,
    open_cluster,
)
from tests.interop.peer import PeerError
from tests.interop.serf import Serf, open_serf
from tests.interop.stage import Programs, Scene, Stage, scenes

STAY_SECONDS: Final = float(os.environ.get("CRIER_SERF_SECONDS", "15"))
"""How long; also about how many probes each way, at Serf's one a second."""

SERF_VERSIONS: Final = {"DelegateProtocolMin": 2, "DelegateProtocolMax": 5, "DelegateProtocolVersion": 4}
OTHER_VERSIONS: Final = dict.fromkeys(SERF_VERSIONS, 0)
LAN: Final = {"ProbeInterval": "1s", "ProbeTimeout": "500ms", "GossipInterval": "200ms", "SuspicionMult": 4}

TROUBLE: Final = ("has failed, no acks", "Failed to", "failed to", "[ERR]")
LATE: Final = ("Failed UDP ping", "UDP probes failed")
"""What it says of an answer that takes half a second, as one of a busy machine may."""


async def among_agents(programs: Programs, wire: Wire) -> None:
    program = Path(programs["serf"][0])
    settings = {**LAN, **SERF_VERSIONS}
    async with open_cluster(programs, {"secret_key": wire.secret_key, "settings": settings}) as cluster:
        ours = await cluster.start("python", "ours")
        stranger = await cluster.start("python", "speaks another language", settings=OTHER_VERSIONS)
        host = cluster.free_host()
        async with open_serf(program, "serf-agent", host, PORT, secret_key=wire.secret_key) as serf:
            with pytest.raises(PeerError, match=r"delegate|version"):
                await stranger.call("join", addresses=[serf.address])
            await serf.expect("delegate protocol version (0) is incompatible", within=MESSAGE_SECONDS)
            assert stranger.name not in await serf.members()
            refused = len(serf.log)

            assert await ours.call("join", addresses=[serf.address]) == 1
            await ours.expect("join", about=serf.name, within=MESSAGE_SECONDS)
            await serf.expect("EventMemberJoin: ours", within=MESSAGE_SECONDS)
            assert await serf.members() == {"serf-agent": "alive", "ours": "alive"}

            await serf.call("event", "deploy", "4711")
            await ours.until(
                lambda: heard(ours.seen("user"), b"4711"), within=MESSAGE_SECONDS, what="serf's event"
            )

            await ours.expect("ping", count=int(STAY_SECONDS), within=2 * STAY_SECONDS + MESSAGE_SECONDS)
            assert departures(ours) == []
            assert ours.seen("suspect") == []
            assert await serf.members() == {"serf-agent": "alive", "ours": "alive"}
            lines = [line for line in serf.log[refused:] if not any(word in line for word in LATE)]
            assert [line for line in lines if any(word in line for word in TROUBLE)] == []
            assert sum(LATE[0] in line for line in serf.log[refused:]) < STAY_SECONDS / 3

            # Serf wants its own leave message too, so a farewell of memberlist alone reads as a failure.
            await ours.call("leave", timeout="5s")
            await serf.expect("EventMemberFailed: ours", within=MESSAGE_SECONDS)
            ours.kill()
            await cluster.restart(ours)
            mark = ours.mark()
            assert await ours.call("join", addresses=[serf.address]) == 1
            await ours.expect("join", about=serf.name, since=mark - 2, within=MESSAGE_SECONDS)
            await until_listed(serf, "ours", "alive")

            mark = ours.mark()
            await serf.call("leave")
            await ours.expect("leave", about=serf.name, since=mark, within=CRASH_SECONDS)


def heard(events: list[dict[str, Any]], text: bytes) -> bool:
    return any(text in bytes.fromhex(event["payload"]) for event in events)


async def until_listed(serf: Serf, name: str, status: str) -> None:
    with trio.fail_after(MESSAGE_SECONDS):
        while (await serf.members()).get(name) != status:  # noqa: ASYNC110 (its command line tells no events)
            await trio.sleep(0.1)


@scenes(among_agents, wire=(PLAIN, Wire("aes256", secret_key=KEY_256)))
def test_among_serf_agents(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
