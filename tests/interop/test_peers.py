"""The yardstick itself: real members among themselves do what the mixed tests ask of a mixed cluster."""

from __future__ import annotations

from tests.interop.cluster import WIRES, Wire, open_cluster
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import everything


async def old_and_new(programs: Programs, wire: Wire) -> None:
    async with open_cluster(programs, wire.start) as cluster:
        await everything(cluster, ["0.5.1", "0.6.0", "0.6.0", "0.5.1"])


@scenes(old_and_new, wire=WIRES[-1:])
def test_go_versions_among_themselves(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
