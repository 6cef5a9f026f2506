from __future__ import annotations

from collections.abc import Mapping

import trio

from crier.kube import resources
from crier.kube.client import Api
from crier.kube.errors import Forbidden
from crier.kube.model.pod import Pod
from crier.kube.transport import Stream, Transport, plain_configuration
from crier.kube.watch import Mirror, watch
from tests.speaker.planner.lab import NODES, SPACE, open_cluster, soon


class ListOnly(Transport):
    """What MetalLB's rules for Pods allow: get and list."""

    def stream(self, path: str, *, query: Mapping[str, str], timeout: float) -> Stream:
        raise Forbidden(403, "Forbidden", "pods is forbidden: cannot watch resource")


async def test_who_may_list_pods_but_not_watch_them_sees_new_ones_too() -> None:
    async with open_cluster() as cluster, trio.open_nursery() as nursery:
        api = Api(ListOnly(plain_configuration(cluster.server.url)))
        pods = Mirror(Pod.decode)
        await nursery.start(watch, api, resources.PODS, pods, lambda: None)
        assert len(pods.objects) == len(NODES)
        await cluster.make(
            resources.PODS, "late", SPACE, spec={"containers": [{"name": "speaker", "image": "x"}]}
        )
        await soon(lambda: len(pods.objects) == len(NODES) + 1)
        nursery.cancel_scope.cancel()
        api.close()
