"""Whatever is sent: a Status or a closed connection, and the next client is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import h11
import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from crier.lab.api import Api, open_api
from crier.lab.api.body import MAX_BODY, decode
from crier.lab.api.calls import Request
from crier.lab.api.cluster import Cluster, new_cluster
from crier.lab.api.errors import ApiError
from crier.lab.api.handler import Response, WatchResponse
from tests.lab.raw_http import call, connect

MAPS = "/api/v1/namespaces/default/configmaps"

# ------------------------------------------------------------------------------------- over sockets

OPENINGS = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST " + MAPS.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
    b"POST " + MAPS.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET " + MAPS.encode() + b"?watch=1&timeoutSeconds=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"",
)


async def send_and_read(api: Api, data: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", int(api.url.rpartition(":")[2]))
    answer = b""
    async with stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            while received := await stream.receive_some():
                answer += received
        except trio.BrokenResourceError:
            pass
    return answer


@settings(max_examples=150, deadline=None)
@given(opening=st.sampled_from(OPENINGS), tail=st.binary(max_size=300), cut=st.integers(0, 200))
def test_random_octets_never_kill_it(opening: bytes, tail: bytes, cut: int) -> None:
    async def run() -> None:
        async with open_api() as api:
            answer = await send_and_read(api, opening[: len(opening) - cut] + tail)
            if answer:
                assert answer.startswith(b"HTTP/1.1 ")
            assert (await call(api.url, "GET", "/healthz")).body == b"ok"

    trio.run(run)


async def test_garbage_is_answered_with_a_status() -> None:
    async with open_api() as api:
        head, _, body = (await send_and_read(api, b"\x16\x03\x01 TLS here?\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["kind"] == "Status"


async def test_a_head_without_end_is_cut_off() -> None:
    async with open_api() as api:
        answer = await send_and_read(api, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000)
        assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_is_too_large_is_answered() -> None:
    async with open_api() as api, connect(api.url) as connection:
        reply = await connection.call("POST", MAPS, b"x" * (MAX_BODY + 1))
        assert (reply.status, reply.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_head_has_no_body_even_of_a_watch() -> None:
    async with open_api() as api:
        answer = await send_and_read(api, f"HEAD {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")


async def test_clients_that_leave_in_the_middle_are_forgotten() -> None:
    async with open_api() as api:
        log = api.store.log("configmaps")
        for _ in range(20):
            async with connect(api.url) as watcher:
                await watcher.send("GET", f"{MAPS}?watch=1")
                assert isinstance(await watcher.event(), h11.Response)
                assert log.listeners
        with trio.fail_after(60):
            while log.listeners:
                await trio.lowlevel.checkpoint()


# --------------------------------------------------------------------------------- inside the handler

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=8)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
METADATA: dict[str, Any] = {
    "name": "a",
    "labels": {"a": "b"},
    "annotations": {"a": "b"},
    "finalizers": ["example.com/a"],
    "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}],
    "managedFields": [
        {
            "manager": "m",
            "operation": "Apply",
            "fieldsV1": {"f:spec": {"f:ports": {'k:{"port":80}': {".": {}}}}},
        }
    ],
    "deletionTimestamp": "2024-01-01T00:00:00Z",
    "creationTimestamp": "2024-01-01T00:00:00Z",
    "generation": 1,
}
CONDITIONS = [{"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]
CONTAINERS = [
    {"name": "c", "image": "x", "ports": [{"containerPort": 80}], "env": [{"name": "a", "value": "b"}]}
]
POD = {"containers": CONTAINERS, "nodeName": "n", "tolerations": [{"key": "a"}], "volumes": [{"name": "v"}]}
WORKLOAD = {
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD},
    },
    "status": {"readyReplicas": 1, "conditions": CONDITIONS},
}
CRD = {
    "metadata": {"name": "as.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "as", "kind": "A", "shortNames": ["x"], "categories": ["all"], "singular": "a"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "properties": {
                            "spec": {
                                "items": {"type": "object"},
                                "x-kubernetes-list-type": "map",
                                "x-kubernetes-list-map-keys": ["port"],
                            }
                        }
                    }
                },
                "additionalPrinterColumns": [
                    {"name": "X", "jsonPath": ".spec.x", "type": "integer", "priority": 1, "format": "int32"}
                ],
                "selectableFields": [{"jsonPath": ".spec.x"}],
            }
        ],
    },
    "status": {"conditions": CONDITIONS, "storedVersions": ["v1"]},
}
INVOLVED = {"kind": "Pod", "name": "a", "namespace": "default"}
TEMPLATES: dict[str, dict[str, Any]] = {
    "configmaps": {"data": {"a": "b"}, "binaryData": {"a": "AAAA"}},
    "services": {
        "spec": {
            "type": "LoadBalancer",
            "ports": [{"name": "a", "port": 80, "targetPort": 80, "nodePort": 30500, "protocol": "TCP"}],
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9", "fd00:10:96::9"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30501,
            "selector": {"a": "b"},
            "externalIPs": ["192.0.2.1"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}},
            "loadBalancerClass": "a/b",
            "allocateLoadBalancerNodePorts": True,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP", "ports": []}]}},
    },
    "secrets": {"data": {"a": "AAAA"}, "stringData": {"b": "c"}, "type": "Opaque", "immutable": True},
    "pods": {
        "spec": POD,
        "status": {
            "phase": "Running",
            "podIP": "192.0.2.1",
            "containerStatuses": [
                {"name": "c", "ready": True, "restartCount": 1, "state": {"waiting": {"reason": "x"}}}
            ],
            "conditions": CONDITIONS,
        },
    },
    "events": {
        "involvedObject": INVOLVED,
        "regarding": INVOLVED,
        "message": "m",
        "series": {"lastObservedTime": "2024-01-01T00:00:00.000000Z"},
        "lastTimestamp": "2024-01-01T00:00:00Z",
        "source": {"component": "c"},
    },
    "endpoints": {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]},
    "nodes": {
        "spec": {"unschedulable": True, "taints": [{"key": "a", "effect": "NoSchedule"}]},
        "status": {
            "conditions": CONDITIONS,
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "nodeInfo": {"kubeletVersion": "v"},
        },
    },
    "namespaces": {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    "customresourcedefinitions": CRD,
    "deployments": WORKLOAD,
    "ipaddresspools": {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "spec": {"addresses": ["192.0.2.0/24"]},
        "status": {"conditions": CONDITIONS},
    },
    "endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "a", "port": 80, "protocol": "TCP"}],
    },
    "clusterroles": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    "tokenreviews": {"spec": {"token": "t"}},
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from places(item, (*path, step))


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copied = value.copy()
    copied[path[0]] = replaced(value[path[0]], path[1:], new)
    return copied


@st.composite
def spoiled(draw: st.DrawFn, plural: str, *, is_new: bool) -> Any:
    """A good object of this kind, with something in it replaced, or nothing."""
    good = TEMPLATES.get(plural, {})
    if is_new and plural == "customresourcedefinitions":
        good = replaced(
            replaced(good, ("metadata", "name"), "bs.example.com"), ("spec", "names", "plural"), "bs"
        )
    # most metadata is left out, or it alone would decide the answer
    kept = draw(st.sets(st.sampled_from(sorted(METADATA)), max_size=2))
    metadata = {key: value for key, value in METADATA.items() if key in kept}
    good = {**good, "metadata": {**metadata, "name": "c" if is_new else "a", **good.get("metadata", {})}}
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(list(places(good))[1:]))
        good = replaced(good, path, draw(VALUES))
    return good


VALUES = JSON | st.sampled_from(
    ("a", "b", "None", "10.0.0.1", "fd00::1", "LoadBalancer", "UDP", 80, 30500, [], {}, "")
)
HOME = "namespaces/default"
COLLECTIONS = (
    *(
        f"/api/v1/{HOME}/{plural}"
        for plural in ("configmaps", "services", "secrets", "pods", "events", "endpoints")
    ),
    *("/api/v1/nodes", "/api/v1/namespaces", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    *(f"/apis/apps/v1/{HOME}/deployments", f"/apis/metallb.io/v1beta1/{HOME}/ipaddresspools"),
    *(f"/apis/discovery.k8s.io/v1/{HOME}/endpointslices", f"/apis/events.k8s.io/v1/{HOME}/events"),
    *("/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/authentication.k8s.io/v1/tokenreviews"),
)
TYPES = (
    *("application/json", "application/json", "application/json"),
    *("application/json", "application/yaml", "application/merge-patch+json", "application/json-patch+json"),
    *(
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
        "application/vnd.kubernetes.protobuf",
    ),
)
ACCEPTS = ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "")
METHODS = ("POST", "POST", "PUT", "PUT", "PATCH", "PATCH", "GET", "DELETE", "HEAD")


def fresh() -> Cluster:
    """A cluster with one of each, called `a`."""
    cluster = new_cluster(seed=1, now=0.0, metallb_crds=True)
    for collection in COLLECTIONS:
        body = {"metadata": {"name": "a"}, **TEMPLATES[collection.rpartition("/")[2]]}
        if collection.startswith("/apis/events"):
            body["metadata"] = {"name": "b"}  # the core group has made `a`
        made = ask(cluster, Request("POST", collection, {}, msgspec.json.encode(body)))
        assert made == 201, collection
    return cluster


def ask(cluster: Cluster, request: Request) -> int:
    answer = cluster.handler.plan(request).run(0.0)
    if isinstance(answer, WatchResponse):
        while answer.watch.take(0.0):
            pass
        return 200
    assert isinstance(answer, Response)
    if answer.content_type == "application/json":
        document = json.loads(answer.body)
        if answer.status >= 400:
            assert document["kind"] == "Status"
            assert document["code"] == answer.status
            assert document["message"]
    return answer.status


QUERIES = (
    *("", "", "", "?limit=1", "?watch=1", "?labelSelector=a,b", "?dryRun=All", "?fieldManager=m&force=true"),
    *("?fieldSelector=metadata.name%3Da", "?resourceVersion=1", "?continue=MS4x", "?%ff=%ff"),
)
NOISE = st.binary(max_size=40) | st.binary(max_size=40).map(b"k8s\0".__add__) | JSON.map(msgspec.json.encode)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    path = draw(st.sampled_from(COLLECTIONS))
    plural = path.rpartition("/")[2]
    method, kind = draw(st.sampled_from(METHODS)), draw(st.sampled_from(TYPES))
    body = draw(spoiled(plural, is_new=method == "POST").map(msgspec.json.encode))
    if method in ("PUT", "PATCH") or (method != "POST" and draw(st.booleans())):
        path += "/as.example.com" if plural == "customresourcedefinitions" else "/a"
        path += draw(st.sampled_from(("", "", "", "/status", "/status", "/scale", "/finalize")))
    path += (
        "?fieldManager=m&force=true"
        if kind == "application/apply-patch+yaml"
        else draw(st.sampled_from(QUERIES))
    )
    if draw(st.integers(0, 9)) == 0:  # and now and then something else altogether
        body = draw(NOISE)
        path = "/" + quote(draw(st.text(max_size=12)))
        method = draw(st.sampled_from(("OPTIONS", "TRACE", *METHODS)))
    return Request(method, path, {"content-type": kind, "accept": draw(st.sampled_from(ACCEPTS))}, body)


@settings(max_examples=150, deadline=None)
@given(several=st.lists(requests(), max_size=6))
def test_any_request_is_answered_and_none_is_a_bug(several: list[Request]) -> None:
    """500 is what a bug of ours is answered with; nothing that is sent may meet one."""
    cluster = fresh()
    for request in several:
        assert ask(cluster, request) != 500, request
        for collection in COLLECTIONS:  # what was stored can still be shown
            table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
            assert ask(cluster, Request("GET", collection, table)) in (200, 404, 405)


@settings(max_examples=300)
@given(data=st.binary(max_size=200), kind=st.sampled_from(TYPES))
def test_any_body_decodes_or_is_refused(data: bytes, kind: str) -> None:
    with suppress(ApiError):
        decode(data, kind)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"[" * 100_000, "application/json"),
        (b"[" * 100_000, "application/yaml"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "application/json"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "application/yaml"),
        (b"{? [a, b] : c}", "application/yaml"),
        (b"!!python/object/apply:os.system ['true']", "application/yaml"),
        (b"k8s\0" + b"\x12\xff\xff\xff\xff\x0f", "application/vnd.kubernetes.protobuf"),
        (b"k8s\0" + b"\x0a\x0a\x0a\x02v1\x12\x04Nope", "application/vnd.kubernetes.protobuf"),
    ],
)
def test_bodies_that_are_traps(data: bytes, kind: str) -> None:
    with pytest.raises(ApiError) as refused:
        decode(data, kind)
    assert refused.value.code == 400
