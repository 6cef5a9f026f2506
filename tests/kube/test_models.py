"""Records: what is read of an object, and that nothing can make reading it worse than refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crier.kube.client import decode_page
from crier.kube.errors import Unavailable
from crier.kube.model import wire
from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.endpoints import Endpoint, EndpointPort, EndpointSlice
from crier.kube.model.errors import DecodeError
from crier.kube.model.lease import Lease
from crier.kube.model.namespace import Namespace
from crier.kube.model.node import Node
from crier.kube.model.pod import Pod
from crier.kube.model.pool import PoolObject
from crier.kube.model.secret import Secret
from crier.kube.model.service import Service, ServicePort
from crier.kube.model.states import Condition, ConfigurationState, Result, ServiceL2Status, judge

Decode = Callable[[bytes], object]

DECODERS: list[Decode] = [
    Service.decode,
    Node.decode,
    EndpointSlice.decode,
    Namespace.decode,
    Pod.decode,
    Secret.decode,
    PoolObject.decode,
    L2AdvertisementObject.decode,
    Lease.decode,
    ConfigurationState.decode,
    ServiceL2Status.decode,
]

# Objects of nearly the right shape find more than noise does: names that matter, values of every kind.
FIELDS = st.sampled_from(
    [
        "metadata",
        "spec",
        "status",
        "name",
        "namespace",
        "labels",
        "annotations",
        "addresses",
        "ports",
        "endpoints",
        "conditions",
        "ingress",
        "type",
        "data",
        "loadBalancer",
        "ip",
        "clusterIPs",
        "ownerReferences",
        "matchLabels",
        "nodeSelectors",
        "serviceAllocation",
        "port",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)
OBJECTS = st.fixed_dictionaries(
    {"metadata": st.dictionaries(FIELDS, VALUES, max_size=3) | st.just({"name": "n", "namespace": "s"})},
    optional={"spec": VALUES, "status": VALUES, "endpoints": VALUES, "ports": VALUES, "data": VALUES},
)


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("decode", DECODERS, ids=lambda d: d.__self__.__name__)
@settings(max_examples=60, deadline=None)
@given(data=OBJECTS.map(encode) | VALUES.map(encode) | st.binary(max_size=64))
def test_any_octets_are_a_record_or_refused(decode: Decode, data: bytes) -> None:
    with suppress(DecodeError):
        assert decode(data) == decode(data)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda d: d.__self__.__name__)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 100_000,
        b'{"metadata":' * 50_000,
        b'{"metadata": {"name": "\xff"}}',
        b"null",
        b"{}",
        b'{"metadata": {}}',
        b'{"metadata": {"name": ""}}',
    ],
)
def test_what_is_no_object_is_refused(decode: Decode, data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


def test_an_object_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_OBJECT", 100)
    with pytest.raises(DecodeError, match="an object of 1"):
        Namespace.decode(encode({"metadata": {"name": "n" * 100}}))


def test_service() -> None:
    found = Service.decode(
        encode(
            {
                "metadata": {
                    "name": "web",
                    "namespace": "shop",
                    "uid": "u",
                    "resourceVersion": "7",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "annotations": {
                        "metallb.universe.tf/address-pool": "old",
                        "metallb.io/allow-shared-ip": "k",
                    },
                    "managedFields": [{"anything": [1, 2, {"at": "all"}]}],
                },
                "spec": {
                    "type": "LoadBalancer",
                    "loadBalancerClass": "crier",
                    "clusterIP": "10.0.0.1",
                    "clusterIPs": ["10.0.0.1", "fd00::1"],
                    "ipFamilies": ["IPv4", "IPv6"],
                    "ipFamilyPolicy": "PreferDualStack",
                    "externalTrafficPolicy": "Local",
                    "selector": {"app": "web"},
                    "ports": [
                        {"port": 53, "protocol": "UDP", "nodePort": 30053, "targetPort": "dns"},
                        {"port": 80},
                    ],
                },
                "status": {
                    "loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "x"}]}
                },
            }
        )
    )
    assert found == Service(
        namespace="shop",
        name="web",
        uid="u",
        type="LoadBalancer",
        load_balancer_class="crier",
        cluster_ips=("10.0.0.1", "fd00::1"),
        ip_families=("IPv4", "IPv6"),
        ip_family_policy="PreferDualStack",
        external_traffic_policy="Local",
        selector={"app": "web"},
        ports=(ServicePort("UDP", 53, node_port=30053), ServicePort("TCP", 80)),
        annotations={"metallb.universe.tf/address-pool": "old", "metallb.io/allow-shared-ip": "k"},
        ingress_ips=("192.0.2.1", ""),
        resource_version="7",
        created="2026-01-01T00:00:00Z",
    )
    assert (found.key, found.is_local, found.is_load_balancer) == ("shop/web", True, True)
    assert found.annotation("address-pool") == "old"
    assert found.annotation("loadBalancerIPs") == ""


def test_the_new_prefix_wins_even_when_its_value_is_empty() -> None:
    found = Service(
        namespace="n",
        name="s",
        annotations={"metallb.io/address-pool": "", "metallb.universe.tf/address-pool": "old"},
    )
    assert found.annotation("address-pool") == ""


def test_a_service_from_before_dual_stack() -> None:
    found = Service.decode(
        encode({"metadata": {"name": "s", "namespace": "n"}, "spec": {"clusterIP": "10.0.0.1"}})
    )
    assert found.cluster_ips == ("10.0.0.1",)
    assert (found.type, found.ip_family_policy, found.ingress_ips) == ("ClusterIP", "SingleStack", ())


def test_node() -> None:
    body = {
        "metadata": {"name": "n1", "labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "False"},
                {"type": "NetworkUnavailable", "status": "True"},
            ],
            "addresses": [
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "Hostname", "address": "n1"},
            ],
        },
    }
    found = Node.decode(encode(body))
    assert (found.network_unavailable, found.excluded, found.internal_ips) == (True, True, ("10.0.0.1",))
    body["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:00:00Z"  # type: ignore[index]
    assert Node.decode(encode(body)) == found, "a heartbeat is no news"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, (True, True, False)),
        ({}, (True, True, False)),
        ({"ready": True}, (True, True, False)),
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
        ({"ready": False, "serving": False, "terminating": True}, (False, False, True)),
        ({"ready": None, "serving": None}, (True, True, False)),
    ],
)
def test_endpoint_conditions(conditions: dict[str, Any] | None, expected: tuple[bool, bool, bool]) -> None:
    endpoint = {"addresses": ["10.1.0.1"], "nodeName": "n1"} | (
        {} if conditions is None else {"conditions": conditions}
    )
    found = EndpointSlice.decode(
        encode(
            {
                "metadata": {
                    "name": "web-x",
                    "namespace": "shop",
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "endpoints": [endpoint],
                "ports": [{"name": "http", "port": 8080}],
            }
        )
    )
    assert found.service_key == "shop/web"
    assert found.endpoints == (Endpoint(("10.1.0.1",), "n1", *expected),)
    assert found.ports == (EndpointPort("http", "TCP", 8080),)


def test_a_secret_does_not_show_itself() -> None:
    body = {"metadata": {"name": "m", "namespace": "n"}, "data": {"secretkey": "aHVzaCBodXNo"}}
    found = Secret.decode(encode(body))
    assert found.data["secretkey"] == b"hush hush"
    assert "hush" not in repr(found)
    assert "aHVz" not in repr(found)
    with pytest.raises(DecodeError, match=r"^data\.secretkey is not base64$"):
        Secret.decode(encode(body | {"data": {"secretkey": "not base64!"}}))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], (Result.UNKNOWN, "")),
        ([Condition("a", "True", "Reconciled")], (Result.VALID, "")),
        ([Condition("a", "False", "UnknownError", "x")], (Result.VALID, "")),
        (
            [
                Condition("a", "False", "ConfigurationError", "x"),
                Condition("b", "False", "ConfigurationError", "y"),
            ],
            (Result.INVALID, "x\ny"),
        ),
    ],
)
def test_what_conditions_mean(conditions: list[Condition], expected: tuple[Result, str]) -> None:
    assert judge(conditions) == expected


def test_pools_with_part_of_a_status() -> None:
    found = PoolObject.decode(
        encode({"metadata": {"name": "p", "namespace": "n"}, "spec": {}, "status": {"assignedIPv4": 1}})
    )
    assert found.counters is not None
    assert found.counters.available_ipv6 == -1, "what is missing equals no count, so it is written"


def test_lists_keep_items_as_they_are() -> None:
    page = decode_page(b'{"metadata": {"resourceVersion": "5", "continue": "t"}, "items": [{"a": 1}, 2]}')
    assert [msgspec.json.decode(item) for item in page.items] == [{"a": 1}, 2]
    assert (page.resource_version, page.next_page) == ("5", "t")
    for bad in (b"<html>", b"{}", b'{"metadata": 1}', b'{"metadata": {}, "items": {}}'):
        with pytest.raises(Unavailable):
            decode_page(bad)
