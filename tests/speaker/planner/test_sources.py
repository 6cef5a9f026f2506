from __future__ import annotations

from collections.abc import Mapping

import trio
from hypothesis import given
from hypothesis import strategies as st

from crier.kube import resources
from crier.kube.client import Api
from crier.kube.errors import Forbidden
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.pod import Pod
from crier.kube.transport import Stream, Transport, plain_configuration
from crier.kube.watch import Mirror, watch
from speaker.planner.view import SliceIndex, by_service
from tests.speaker.planner.builders import endpoint
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


@given(
    steps=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["x", "y", "z"]), st.sampled_from(["web", "db", "", None]), st.booleans()
            ),
            max_size=3,
        ),
        max_size=8,
    )
)
def test_slices_are_grouped_one_by_one_as_all_at_once(
    steps: list[list[tuple[str, str | None, bool]]],
) -> None:
    index, objects = SliceIndex(), dict[str, EndpointSlice]()
    for step in steps:
        changed = set()
        for name, owner, ready in step:
            key = f"default/{name}"
            changed.add(key)
            if owner is None:
                objects.pop(key, None)
            else:
                service = f"default/{owner}" if owner else ""
                ends = (endpoint("a", ready=ready),)
                objects[key] = EndpointSlice(
                    namespace="default", name=name, service_key=service, endpoints=ends
                )
        index.update(changed, objects)
        assert index.groups == by_service(objects.values())
