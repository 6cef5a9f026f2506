"""The contract of lists and watches.  For any API server."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import quote

import pytest
from kubernetes import watch

from tests.lab.conftest import ApiServer

new_watch: Any = watch.Watch  # it has no types

MERGE = "application/merge-patch+json"


def config_maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def fill(api_server: ApiServer, namespace: str, count: int) -> None:
    for number in range(count):
        labels = {"parity": "odd" if number % 2 else "even", "n": str(number)}
        body = {"metadata": {"name": f"c{number:03}", "labels": labels}}
        assert api_server.call("POST", config_maps(namespace), body).status == 201


def names(listed: Any) -> list[str]:
    return [thing["metadata"]["name"] for thing in listed["items"]]


def test_a_list_names_itself(api_server: ApiServer, namespace: str) -> None:
    listed = api_server.call("GET", config_maps(namespace)).json
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert int(listed["metadata"]["resourceVersion"]) > 0
    everywhere = api_server.call("GET", "/apis/metallb.io/v1beta1/ipaddresspools").json
    assert (everywhere["kind"], everywhere["apiVersion"]) == ("IPAddressPoolList", "metallb.io/v1beta1")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("parity=even", ["c000", "c002"]),
        ("parity==even,n!=0", ["c002"]),
        ("parity!=even", ["c001", "c003"]),
        ("n in (1, 2)", ["c001", "c002"]),
        ("n notin (1,2),parity", ["c000", "c003"]),
        ("!parity", []),
        ("missing notin (a)", ["c000", "c001", "c002", "c003"]),
        ("n>1", ["c002", "c003"]),
        ("n<1", ["c000"]),
    ],
)
def test_label_selectors(api_server: ApiServer, namespace: str, selector: str, expected: list[str]) -> None:
    fill(api_server, namespace, 4)
    path = f"{config_maps(namespace)}?labelSelector={quote(selector)}"
    listed = [name for name in names(api_server.call("GET", path).json) if name.startswith("c0")]
    assert listed == expected


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("labelSelector=a%20in%20x", 400),
        ("labelSelector=,", 400),
        ("fieldSelector=spec.none%3Dx", 400),
        ("fieldSelector=nonsense", 400),
        ("limit=some", 400),
        ("resourceVersion=abc", 400),
        ("continue=!!!", 400),
    ],
)
def test_queries_that_are_refused(api_server: ApiServer, namespace: str, query: str, status: int) -> None:
    answer = api_server.call("GET", f"{config_maps(namespace)}?{query}")
    assert answer.status == status, answer.text
    assert answer.json["kind"] == "Status"


def test_field_selectors(api_server: ApiServer, namespace: str) -> None:
    core = api_server.core
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n1")):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}
        core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})
    listed = core.list_namespaced_pod(namespace, field_selector="spec.nodeName=n1").items
    assert [pod.metadata.name for pod in listed] == ["a", "c"]
    listed = core.list_namespaced_pod(namespace, field_selector="spec.nodeName!=n1").items
    assert [pod.metadata.name for pod in listed] == ["b"]
    listed = core.list_pod_for_all_namespaces(
        field_selector=f"metadata.name=b,metadata.namespace={namespace}"
    ).items
    assert [pod.metadata.name for pod in listed] == ["b"]
    core.create_namespaced_service(namespace, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}})
    listed = core.list_namespaced_service(namespace, field_selector="spec.type=ClusterIP").items
    assert [service.metadata.name for service in listed] == ["s"]


def test_pages_are_of_one_moment(api_server: ApiServer, namespace: str) -> None:
    fill(api_server, namespace, 7)
    path = f"{config_maps(namespace)}?limit=3&labelSelector=parity"
    page = api_server.call("GET", path).json
    revision = page["metadata"]["resourceVersion"]
    collected = names(page)
    api_server.call("DELETE", config_maps(namespace) + "/c005")
    api_server.call(
        "POST", config_maps(namespace), {"metadata": {"name": "c0055", "labels": {"parity": "none"}}}
    )
    sizes = [len(collected)]
    while token := page["metadata"].get("continue"):
        page = api_server.call("GET", f"{path}&continue={quote(token)}").json
        assert page["metadata"]["resourceVersion"] == revision
        sizes.append(len(page["items"]))
        collected += names(page)
    assert sizes == [3, 3, 1]
    assert collected == [f"c{number:03}" for number in range(7)]


def test_remaining_items_are_counted_when_nothing_is_selected(api_server: ApiServer, namespace: str) -> None:
    fill(api_server, namespace, 5)
    path = f"{config_maps(namespace)}?limit=2"
    whole = len(api_server.call("GET", config_maps(namespace)).json["items"])
    assert api_server.call("GET", path).json["metadata"]["remainingItemCount"] == whole - 2
    assert "remainingItemCount" not in api_server.call("GET", path + "&labelSelector=parity").json["metadata"]


def test_a_watch_goes_on_where_the_list_ended(api_server: ApiServer, namespace: str) -> None:
    fill(api_server, namespace, 2)
    revision = api_server.call("GET", config_maps(namespace)).json["metadata"]["resourceVersion"]
    api_server.call("PATCH", config_maps(namespace) + "/c000", {"data": {"a": "1"}}, content_type=MERGE)
    api_server.call("DELETE", config_maps(namespace) + "/c001")
    api_server.call("POST", config_maps(namespace), {"metadata": {"name": "new"}})
    events = api_server.watch(config_maps(namespace), resourceVersion=revision, timeoutSeconds=2)
    seen = [(event["type"], event["object"]["metadata"]["name"]) for event in events]
    assert seen == [("MODIFIED", "c000"), ("DELETED", "c001"), ("ADDED", "new")]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert revisions == sorted(set(revisions))
    assert revisions[0] > int(revision)
    assert events[0]["object"]["kind"] == "ConfigMap"


@pytest.mark.parametrize("query", [{}, {"resourceVersion": 0}])
def test_a_watch_from_nowhere_begins_with_what_there_is(
    api_server: ApiServer, namespace: str, query: dict[str, int]
) -> None:
    fill(api_server, namespace, 3)
    events = api_server.watch(config_maps(namespace), labelSelector="parity", timeoutSeconds=2, **query)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "c000"), ("ADDED", "c001"), ("ADDED", "c002"),
    ]  # fmt: skip


def test_coming_to_match_is_added_and_ceasing_to_is_deleted(api_server: ApiServer, namespace: str) -> None:
    fill(api_server, namespace, 1)
    revision = api_server.call("GET", config_maps(namespace)).json["metadata"]["resourceVersion"]
    path = config_maps(namespace) + "/c000"
    for parity in ("odd", "even", "other"):
        body = {"metadata": {"labels": {"parity": parity}}}
        assert api_server.call("PATCH", path, body, content_type=MERGE).status == 200
    query = {"resourceVersion": revision, "labelSelector": quote("parity in (even)"), "timeoutSeconds": 2}
    events = api_server.watch(config_maps(namespace), **query)
    labels = [(event["type"], event["object"]["metadata"]["labels"]["parity"]) for event in events]
    assert labels == [("DELETED", "even"), ("ADDED", "even"), ("DELETED", "even")], (
        "DELETED shows the last match"
    )
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert revisions == sorted(set(revisions))


def test_one_object_is_watched_by_name(api_server: ApiServer, namespace: str) -> None:
    fill(api_server, namespace, 3)
    events = api_server.watch(config_maps(namespace), fieldSelector="metadata.name%3Dc001", timeoutSeconds=2)
    assert [event["object"]["metadata"]["name"] for event in events] == ["c001"]


def test_bookmarks_come_before_the_end(api_server: ApiServer, namespace: str) -> None:
    fill(api_server, namespace, 1)
    listed = api_server.call("GET", config_maps(namespace)).json
    # what the watch does not select passes it by; how far things have got meanwhile, a bookmark tells
    other = {"metadata": {"name": "other", "labels": {"seen": "no"}}}
    passed = api_server.call("POST", config_maps(namespace), other).json["metadata"]["resourceVersion"]
    query = {"resourceVersion": listed["metadata"]["resourceVersion"], "allowWatchBookmarks": "true"}
    events = api_server.watch(config_maps(namespace), timeoutSeconds=4, labelSelector="seen=yes", **query)
    assert events or not api_server.embedded, "the real server promises none"
    for event in events:
        assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
        assert int(event["object"]["metadata"]["resourceVersion"]) >= int(passed)


def test_the_official_client_sees_a_write(api_server: ApiServer, namespace: str) -> None:
    core = api_server.core
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "first"}})
    seen: list[tuple[str, str]] = []
    ready = threading.Event()

    def follow() -> None:
        stream: Any = new_watch()
        for event in stream.stream(core.list_namespaced_config_map, namespace, timeout_seconds=20):
            if event["object"].metadata.name in ("first", "second"):
                seen.append((event["type"], event["object"].metadata.name))
                ready.set()
            if ("DELETED", "second") in seen:
                stream.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    assert ready.wait(60)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "second"}})
    core.patch_namespaced_config_map("second", namespace, {"data": {"a": "b"}})
    core.delete_namespaced_config_map("second", namespace)
    thread.join(20)
    assert not thread.is_alive()
    assert seen == [("ADDED", "first"), ("ADDED", "second"), ("MODIFIED", "second"), ("DELETED", "second")]


def test_a_table_is_what_kubectl_prints(api_server: ApiServer, namespace: str) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    path = f"/apis/metallb.io/v1beta1/namespaces/{namespace}/ipaddresspools"
    spec = {"addresses": ["10.0.0.0/24", "fc00::/120"], "autoAssign": False}
    head = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "a"}}
    api_server.call("POST", path, {**head, "spec": spec})
    table = api_server.call("GET", path, accept=accept).json
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    heads = [column["name"] for column in table["columnDefinitions"]]
    assert heads == ["Name", "Auto Assign", "Avoid Buggy IPs", "Addresses"]
    (row,) = table["rows"]
    assert row["cells"][:2] == ["a", False]
    assert row["cells"][3] == '["10.0.0.0/24","fc00::/120"]'
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert "spec" not in row["object"]


def test_a_watch_may_be_of_tables(api_server: ApiServer, namespace: str) -> None:
    fill(api_server, namespace, 2)
    path = f"{config_maps(namespace)}?watch=1&timeoutSeconds=2&labelSelector=parity"
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    answer = api_server.call("GET", path, accept=accept)
    first, second = map(json.loads, answer.text.splitlines())
    assert first["object"]["kind"] == second["object"]["kind"] == "Table"
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert not second["object"]["columnDefinitions"], "the heads are sent once"
    name, count, _ = second["object"]["rows"][0]["cells"]
    assert (name, str(count)) == ("c001", "0"), "a number, in a column that says it has text"
