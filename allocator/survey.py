"""Watches the configuration that the controller judges without acting upon it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import trio

from allocator.review import Finding, Objects, review
from crier.kube import resources
from crier.kube.client import Api
from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.bfdprofile import BfdProfileObject
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject
from crier.kube.model.bgppeer import BgpPeerObject
from crier.kube.model.community import CommunityObject
from crier.kube.model.node import Node
from crier.kube.model.pool import PoolIndex
from crier.kube.resources import Resource
from crier.kube.watch import Mirror, watch


class Survey:
    """Nothing else waits for it: what may not be watched, or does not exist, leaves it unsynced for ever."""

    def __init__(self, api: Api, changed: Callable[[], None], *, namespace: str) -> None:
        self.l2_advertisements = Mirror(L2AdvertisementObject.decode)
        self.bgp_advertisements = Mirror(BgpAdvertisementObject.decode)
        self.peers = Mirror(BgpPeerObject.decode)
        self.profiles = Mirror(BfdProfileObject.decode)
        self.communities = Mirror(CommunityObject.decode)
        self.nodes = Mirror(Node.decode)
        self._api = api
        self._changed = changed
        self._namespace = namespace
        self._dirty = True
        self._seen: object = None
        self._findings: tuple[Finding, ...] = ()

    @property
    def synced(self) -> bool:
        return self.nodes.synced and all(mirror.synced for _, mirror in self._kinds())

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for resource, mirror in self._kinds():
                nursery.start_soon(self._watch, resource, mirror, self._namespace)
            nursery.start_soon(self._watch, resources.NODES, self.nodes, None)

    def findings(self, pools: PoolIndex, pool_names: frozenset[str]) -> tuple[Finding, ...]:
        """What there is to tell; looked at again only after something changed."""
        if self._dirty or self._seen != (pools, pool_names):
            self._dirty, self._seen = False, (pools, pool_names)
            self._findings = review(self._objects(), tuple(pools.pools.values()), pool_names)
        return self._findings

    def _objects(self) -> Objects:
        return Objects(
            l2_advertisements=tuple(self.l2_advertisements.objects.values()),
            bgp_advertisements=tuple(self.bgp_advertisements.objects.values()),
            peers=tuple(self.peers.objects.values()),
            profiles=tuple(self.profiles.objects.values()),
            communities=tuple(self.communities.objects.values()),
            nodes={name: node.labels for name, node in self.nodes.objects.items()},
            undecoded={resource: dict(mirror.errors) for resource, mirror in self._kinds()},
        )

    def _kinds(self) -> Iterator[tuple[Resource, Mirror[Any]]]:
        yield resources.L2_ADVERTISEMENTS, self.l2_advertisements
        yield resources.BGP_ADVERTISEMENTS, self.bgp_advertisements
        yield resources.BGP_PEERS, self.peers
        yield resources.BFD_PROFILES, self.profiles
        yield resources.COMMUNITIES, self.communities

    async def _watch(self, resource: Resource, mirror: Mirror[Any], namespace: str | None) -> None:
        await watch(self._api, resource, mirror, self._ring, namespace=namespace)

    def _ring(self) -> None:
        self._dirty = True
        self._changed()
