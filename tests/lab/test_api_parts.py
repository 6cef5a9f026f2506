"""The pure parts: store, patches, selectors, tables, typed decoding, protobuf."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crier.lab.api import protobuf, shapes
from crier.lab.api.errors import ApiError
from crier.lab.api.kinds import version_rank
from crier.lab.api.patch import json_patch, merge_patch, strategic_merge_patch
from crier.lab.api.selectors import label_predicate
from crier.lab.api.store import Forgotten, Log, Store
from crier.lab.api.tables import age, human_duration, json_path

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)

# ------------------------------------------------------------------------------------------- patches


# RFC 7396, appendix A, whole
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


# RFC 6902, appendix A
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "q"}], {"baz": "q", "foo": "bar"}),
        (
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "q"}],
            {"foo": ["bar", "q", "baz"]},
        ),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        (
            {"baz": "q", "foo": "b"},
            [{"op": "replace", "path": "/baz", "value": "x"}],
            {"baz": "x", "foo": "b"},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        ({"foo": "bar"}, [{"op": "add", "path": "", "value": {"x": 1}}], {"x": 1}),
        (
            {"/": 9, "~1": 10},
            [{"op": "test", "path": "/~01", "value": 10}, {"op": "replace", "path": "/~1", "value": 8}],
            {"/": 8, "~1": 10},
        ),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
    ],
)
def test_json_patch(target: Any, patch: Any, result: Any) -> None:
    assert json_patch(target, patch) == result


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ([{"op": "add", "path": "/baz/bat", "value": "q"}], 422),
        ([{"op": "test", "path": "/baz", "value": 10}], 422),
        ([{"op": "add", "path": "/list/5", "value": 1}], 422),
        ([{"op": "remove", "path": "/list/-1"}], 422),
        ([{"op": "add", "path": "/x"}], 400),
        ([{"op": "spin", "path": "/x"}], 400),
        ([{"op": "add", "path": "x", "value": 1}], 400),
        (["add"], 400),
        ([{"op": "copy", "from": 7, "path": "/x"}], 400),
    ],
)
def test_json_patches_that_do_not_work(patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"foo": "bar", "list": [1]}, patch)
    assert refused.value.code == code


@given(target=OBJECTS, patch=OBJECTS)
def test_patches_leave_their_target_alone(target: Any, patch: Any) -> None:
    before = copy.deepcopy(target)
    merge_patch(target, patch)
    strategic_merge_patch(target, patch)
    json_patch(target, [{"op": "add", "path": "/a", "value": patch}])
    assert target == before


@given(target=OBJECTS, patch=OBJECTS)
def test_merging_twice_is_merging_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


CONTAINERS = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ({"containers": [{"name": "a", "image": "9"}]}, [("a", "9"), ("b", "2")]),
        ({"containers": [{"name": "c", "image": "3"}]}, [("a", "1"), ("b", "2"), ("c", "3")]),
        ({"containers": [{"name": "a", "$patch": "delete"}]}, [("b", "2")]),
        ({"containers": [{"$patch": "replace"}, {"name": "z", "image": "0"}]}, [("z", "0")]),
        (
            {
                "containers": [{"name": "c", "image": "3"}],
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
            },
            [("c", "3"), ("b", "2"), ("a", "1")],
        ),
    ],
)
def test_strategic_merge_of_a_keyed_list(patch: Any, result: Any) -> None:
    merged = strategic_merge_patch(CONTAINERS, patch)["containers"]
    assert [(item["name"], item["image"]) for item in merged] == result


def test_strategic_merge_directives() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}, "strategy": {"type": "x", "rolling": {}}, "args": ["1"]}
    patch = {
        "metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
        "strategy": {"$retainKeys": ["type"], "type": "y"},
        "args": ["2"],
    }
    assert strategic_merge_patch(target, patch) == {
        "metadata": {"finalizers": ["b", "c"]}, "strategy": {"type": "y"}, "args": ["2"],
    }  # fmt: skip
    assert strategic_merge_patch({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}) == {"a": {"c": 2}}
    with pytest.raises(ApiError):
        strategic_merge_patch(CONTAINERS, {"containers": [{"image": "nameless"}]})


# --------------------------------------------------------------------------------------------- store


def thing(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name}}


@given(limit=st.integers(1, 5), writes=st.integers(0, 40), start=st.integers(0, 45))
def test_the_history_is_bounded_and_has_no_holes(limit: int, writes: int, start: int) -> None:
    store = Store(history=limit)
    first = store.revision
    for number in range(writes):
        store.put("things", ("", str(number)), thing(str(number)))
    log = store.log("things")
    revision = first + start
    try:
        changes = log.since(log.position(revision))
    except Forgotten:
        assert revision < store.revision - limit, "what fits is kept"
    else:
        assert [change.revision for change in changes] == list(range(revision + 1, store.revision + 1))
        assert len(changes) <= 2 * limit


def test_positions_survive_forgetting() -> None:
    log = Log(10, 0)
    assert log.position(0) == log.end == 0
    log.forget(7)
    with pytest.raises(Forgotten):
        log.position(6)
    assert log.since(log.position(7)) == []


# ----------------------------------------------------------------------------------------- selectors


@given(
    st.text(alphabet="ab=!,() innot<>1", max_size=20),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("ab1")),
)
def test_any_text_is_a_selector_or_refused(text: str, labels: dict[str, str]) -> None:
    try:
        predicate = label_predicate(text)
    except ApiError:
        return
    if predicate is not None:
        assert predicate({"metadata": {"labels": labels}}) in (True, False)


# -------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (121, "2m1s"), (599, "9m59s"), (600, "10m"), (10_799, "179m"),
        (10_800, "3h"), (10_860, "3h1m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"),
        (176_400, "2d1h"), (691_200, "8d"), (63_072_000, "2y"), (-60, "<invalid>"),
    ],
)  # fmt: skip
def test_durations_read_as_kubectls(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_ages() -> None:
    assert age("2024-01-01T00:00:00Z", 1704067230.0) == "30s"
    assert age(None, 0.0) == age("soon", 0.0) == age(7, 0.0) == "<unknown>"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".a.none", []),
        (".list[1].n", ["y"]),
        (".list[*].n", ["x", "y"]),
        ('.list[?(@.n=="y")].v', [2]),
        (".dotted\\.name", ["d"]),
        ("['dotted.name']", ["d"]),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    document = {"a": {"b": 1}, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "dotted.name": "d"}
    assert json_path(document, path) == found


def test_versions_are_ranked() -> None:
    versions = ["v1alpha1", "v10", "other", "v1beta1", "v2", "v1beta2", "v1"]
    assert sorted(versions, key=version_rank) == [
        "v10",
        "v2",
        "v1",
        "v1beta2",
        "v1beta1",
        "v1alpha1",
        "other",
    ]


# ------------------------------------------------------------------------------------ typed decoding


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"ports": [{"port": "80"}]}, "string into field spec.ports[0].port of type int32"),
        ({"ports": [{"port": 1 << 31}]}, "number into field spec.ports[0].port of type int32"),
        ({"ports": {}}, "object into field spec.ports of type array"),
        ({"selector": {"a": 1}}, "number into field spec.selector.a of type string"),
        (
            {"allocateLoadBalancerNodePorts": "no"},
            "string into field spec.allocateLoadBalancerNodePorts of type bool",
        ),
    ],
)
def test_a_wrong_type_is_named(spec: Any, named: str) -> None:
    with pytest.raises(ApiError) as refused:
        shapes.conform("v1", "Service", {"metadata": {"name": "a"}, "spec": spec})
    assert refused.value.code == 400
    assert refused.value.message.startswith('Service in version "v1" cannot be handled as a Service: json: ')
    assert refused.value.message.endswith(named)


def test_unknown_fields_are_dropped_or_refused() -> None:
    body = {"metadata": {"name": "a"}, "spec": {"prots": [], "type": None}}
    assert shapes.conform("v1", "Service", body)["spec"] == {}
    with pytest.raises(ApiError, match=r'strict decoding error: unknown field "spec\.prots"'):
        shapes.conform("v1", "Service", body, strict=True)


# ------------------------------------------------------------------------------------------ protobuf


def field(number: int, payload: bytes | int) -> bytes:
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    octets = b""
    while value > 0x7F:
        octets += bytes([value & 0x7F | 0x80])
        value >>= 7
    return octets + bytes([value])


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    head = field(1, api_version.encode()) + field(2, kind.encode())
    return protobuf.MAGIC + field(1, head) + field(2, raw) + field(3, b"") + field(4, b"")


def test_protobuf_of_a_service() -> None:
    metadata = (
        field(1, b"web") + field(2, b"") + field(7, 0) + field(8, b"")
        + field(11, field(1, b"a") + field(2, b"b"))
    )  # fmt: skip
    port = (
        field(1, b"http") + field(2, b"TCP") + field(3, 80)
        + field(4, field(1, 1) + field(2, 0) + field(3, b"web")) + field(5, 0)
    )  # fmt: skip
    spec = field(1, port) + field(4, b"LoadBalancer") + field(20, 0)
    decoded = protobuf.decode(envelope("v1", "Service", field(1, metadata) + field(2, spec) + field(3, b"")))
    assert decoded == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web"}],
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,  # a pointer: its zero means something
        },
        "status": {},
    }


def test_protobuf_of_times_bytes_and_inlined_fields() -> None:
    spec = field(1, b"holder") + field(2, 15) + field(4, field(1, 1704067200) + field(2, 123_456_000))
    lease = protobuf.decode(envelope("coordination.k8s.io/v1", "Lease", field(2, spec)))
    assert lease["spec"]["renewTime"] == "2024-01-01T00:00:00.123456Z"
    data = field(2, field(1, b"k") + field(2, b"\xff\x00"))
    assert protobuf.decode(envelope("v1", "Secret", data))["data"] == {"k": "/wA="}
    handler = field(1, field(2, field(2, field(1, 0) + field(2, 8080))))
    container = field(1, b"c") + field(10, handler)
    pod = protobuf.decode(envelope("v1", "Pod", field(2, field(2, container))))
    assert pod["spec"]["containers"][0]["livenessProbe"] == {"httpGet": {"port": 8080}}
