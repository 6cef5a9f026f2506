"""Short ways to say what a cluster looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.endpoints import Endpoint, EndpointSlice
from crier.kube.model.node import EXCLUDE_LABEL, Node, parse_drain
from crier.kube.model.pool import PoolObject
from crier.kube.model.service import Service
from speaker.planner.view import Configuration, Since, View, by_service

SPACE = "metallb-system"


def node(
    name: str, *, unavailable: bool = False, excluded: bool = False, drain: str = "", **labels: str
) -> Node:
    found = {"kubernetes.io/hostname": name, **labels, **({EXCLUDE_LABEL: ""} if excluded else {})}
    return Node(name=name, labels=found, network_unavailable=unavailable, drained=parse_drain(drain)[0])


def nodes(*names: str) -> list[Node]:
    return [node(name) for name in names]


def service(
    name: str = "web",
    *ips: str,
    local: bool = False,
    labels: Mapping[str, str] | None = None,
    type: str = "LoadBalancer",  # noqa: A002 - the field's name
    lb_class: str | None = None,
) -> Service:
    return Service(
        namespace="default",
        name=name,
        uid=f"uid-{name}",
        type=type,
        load_balancer_class=lb_class,
        external_traffic_policy="Local" if local else "Cluster",
        labels=dict(labels or {}),
        ingress_ips=ips,
    )


def endpoint(on: str = "", *, ready: bool | None = True, serving: bool | None = None) -> Endpoint:
    """With the defaults the API gives: unknown readiness is ready, unknown serving is as ready."""
    is_ready = ready is not False
    return Endpoint(("10.1.0.1",), on, is_ready, is_ready if serving is None else serving)


def slice_of(name: str = "web", *endpoints: Endpoint, number: int = 1) -> EndpointSlice:
    return EndpointSlice(
        namespace="default", name=f"{name}-{number}", service_key=f"default/{name}", endpoints=endpoints
    )


def pool_object(name: str, *addresses: str, labels: Mapping[str, str] | None = None) -> PoolObject:
    metadata = {"name": name, "namespace": SPACE, "labels": dict(labels or {})}
    return PoolObject.decode(msgspec.json.encode({"metadata": metadata, "spec": {"addresses": addresses}}))


def ad_object(name: str = "ad", **spec: Any) -> L2AdvertisementObject:
    return L2AdvertisementObject.decode(
        msgspec.json.encode({"metadata": {"name": name, "namespace": SPACE}, "spec": spec})
    )


def on_node(*names: str) -> list[dict[str, Any]]:
    """nodeSelectors for these nodes by name."""
    return [{"matchLabels": {"kubernetes.io/hostname": name}} for name in names]


def with_labels(**labels: str) -> list[dict[str, Any]]:
    return [{"matchLabels": labels}]


def configuration(*ads: L2AdvertisementObject, pools: Iterable[PoolObject] | None = None) -> Configuration:
    """By default one pool with everything the tests use."""
    default = [pool_object("default", "10.20.30.0/24", "fc00:f853:ccd:e799::/64", "192.168.1.0/24")]
    return Configuration.parse(default if pools is None else pools, ads)


def view(
    services: Iterable[Service],
    slices: Iterable[EndpointSlice],
    found: Iterable[Node],
    configured: Configuration | None,
) -> View:
    return View(
        {each.key: each for each in services},
        by_service(slices),
        {each.name: each for each in found},
        configured,
    )


def counted(world: View, before: View | None) -> View:
    """The view with what is new in it over the one before, as Sources keeps count of it."""
    if before is None:
        return replace(world, since=Since(1, frozenset(world.services)))
    keys = world.services.keys() | before.services.keys() | world.slices.keys() | before.slices.keys()
    new = {
        key
        for key in keys
        if world.services.get(key) != before.services.get(key)
        or world.slices.get(key, ()) != before.slices.get(key, ())
    }
    assert before.number is not None
    return replace(world, since=Since(before.number + 1, new))
