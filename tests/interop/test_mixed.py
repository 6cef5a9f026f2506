"""Two members of hashicorp/memberlist and two of ours share one life, whatever the wire looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.cluster import WIRES, Wire, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import everything


async def mixed(programs: Programs, go: str, wire: Wire) -> None:
    # Beside MetalLB's version as our speakers run, beside the newest as upstream does.
    async with open_cluster(programs, {**wire.start, "watch": go == "0.5.1", "logs": True}) as cluster:
        await everything(cluster, [go, go, "python", "python"])


async def over_ipv6(programs: Programs, go: str) -> None:
    async with open_cluster(programs, {"logs": True}, ipv6=True) as cluster:
        await everything(cluster, [go, go, "python", "python"])


@scenes(mixed, wire=WIRES, go=MODULE_FILES)
def test_mixed_cluster(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)


@pytest.mark.skipif(
    not Path("/proc/net/if_inet6").exists() or " lo\n" not in Path("/proc/net/if_inet6").read_text(),
    reason="this machine has no IPv6 loopback: enable it with sysctl net.ipv6.conf.lo.disable_ipv6=0",
)
@scenes(over_ipv6, go=MODULE_FILES)
def test_mixed_cluster_over_ipv6(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
