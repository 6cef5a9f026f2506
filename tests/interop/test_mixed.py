"""Two members of hashicorp/memberlist and two of ours share one life, whatever the wire looks like."""

from __future__ import annotations

from tests.interop.cluster import WIRES, Wire, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import everything


async def mixed(programs: Programs, go: str, wire: Wire) -> None:
    # Beside MetalLB's version as our speakers run, beside the newest as upstream does.
    async with open_cluster(programs, {**wire.start, "watch": go == "0.5.1"}) as cluster:
        await everything(cluster, [go, go, "python", "python"])


@scenes(mixed, wire=WIRES, go=MODULE_FILES)
def test_mixed_cluster(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
