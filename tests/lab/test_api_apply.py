"""The contract of server-side apply, as far as a load balancer uses it: conditions of several managers."""

from __future__ import annotations

from typing import Any

from tests.lab.conftest import Answer, ApiServer

APPLY = "application/apply-patch+yaml"
TIME = "2024-01-01T00:00:00Z"


def states(namespace: str) -> str:
    return f"/apis/metallb.io/v1beta1/namespaces/{namespace}/configurationstates"


def condition(kind: str, status: str = "True") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "Reconciled", "message": "", "lastTransitionTime": TIME}


def apply(
    api_server: ApiServer,
    path: str,
    manager: str,
    *,
    force: bool = True,
    name: str = "controller",
    **fields: Any,
) -> Answer:
    body = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "ConfigurationState",
        "metadata": {"name": name},
        **fields,
    }
    query = f"?fieldManager={manager}" + ("&force=true" if force else "")
    return api_server.call("PATCH", path + query, body, content_type=APPLY)


def conditions_of(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer.text
    return {one["type"]: one["status"] for one in answer.json["status"]["conditions"]}


def test_two_managers_keep_a_condition_each(api_server: ApiServer, namespace: str) -> None:
    path = states(namespace) + "/controller"
    body = {
        "metadata": {"name": "controller"},
        "apiVersion": "metallb.io/v1beta1",
        "kind": "ConfigurationState",
    }
    api_server.call("POST", states(namespace), body)
    first = apply(api_server, path + "/status", "pools", status={"conditions": [condition("poolValid")]})
    assert conditions_of(first) == {"poolValid": "True"}
    both = apply(
        api_server, path + "/status", "config", status={"conditions": [condition("configValid", "False")]}
    )
    assert conditions_of(both) == {"poolValid": "True", "configValid": "False"}
    changed = apply(
        api_server, path + "/status", "pools", status={"conditions": [condition("poolValid", "False")]}
    )
    assert conditions_of(changed) == {"poolValid": "False", "configValid": "False"}
    managers = {entry["manager"]: entry for entry in changed.json["metadata"]["managedFields"]}
    assert managers["pools"]["subresource"] == "status"
    assert managers["pools"]["operation"] == "Apply"
    assert 'k:{"type":"poolValid"}' in managers["pools"]["fieldsV1"]["f:status"]["f:conditions"]


def test_what_a_manager_leaves_out_is_gone(api_server: ApiServer, namespace: str) -> None:
    path = states(namespace) + "/controller"
    body = {
        "metadata": {"name": "controller"},
        "apiVersion": "metallb.io/v1beta1",
        "kind": "ConfigurationState",
    }
    api_server.call("POST", states(namespace), body)
    apply(api_server, path + "/status", "a", status={"conditions": [condition("one"), condition("two")]})
    apply(api_server, path + "/status", "b", status={"conditions": [condition("three")]})
    less = apply(api_server, path + "/status", "a", status={"conditions": [condition("two")]})
    assert conditions_of(less) == {"two": "True", "three": "True"}


def test_the_same_again_changes_nothing(api_server: ApiServer, namespace: str) -> None:
    path = states(namespace) + "/controller"
    body = {
        "metadata": {"name": "controller"},
        "apiVersion": "metallb.io/v1beta1",
        "kind": "ConfigurationState",
    }
    api_server.call("POST", states(namespace), body)
    fields: dict[str, Any] = {"status": {"conditions": [condition("one")]}}
    first = apply(api_server, path + "/status", "a", **fields)
    assert apply(api_server, path + "/status", "a", **fields).json == first.json


def test_apply_creates(api_server: ApiServer, namespace: str) -> None:
    path = states(namespace) + "/controller"
    made = apply(api_server, path, "a", metadata={"name": "controller", "labels": {"x": "y"}})
    assert made.status == 201, made.text
    assert made.json["metadata"]["labels"] == {"x": "y"}
    again = apply(api_server, path, "a", metadata={"name": "controller"})
    assert again.status == 200
    assert not again.json["metadata"].get("labels")


def test_somebody_elses_field_is_a_conflict_unless_forced(api_server: ApiServer, namespace: str) -> None:
    path = states(namespace) + "/controller"
    apply(api_server, path, "a", metadata={"name": "controller", "labels": {"x": "mine"}})
    wanted = {"name": "controller", "labels": {"x": "yours"}}
    refused = apply(api_server, path, "b", force=False, metadata=wanted)
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    (cause,) = refused.json["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".metadata.labels.x")
    taken = apply(api_server, path, "b", metadata=wanted)
    assert taken.json["metadata"]["labels"] == {"x": "yours"}
    same = apply(api_server, path, "c", force=False, metadata=wanted)
    assert same.status == 200, "the same value is owned together"


def test_apply_needs_a_manager_and_an_object_for_its_status(api_server: ApiServer, namespace: str) -> None:
    path = states(namespace) + "/controller"
    body = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "ConfigurationState",
        "metadata": {"name": "controller"},
    }
    assert api_server.call("PATCH", path, body, content_type=APPLY).status in (400, 422)
    assert apply(api_server, path + "/status", "a", status={"conditions": []}).status == 404


def test_apply_to_a_builtin_kind(api_server: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services/s?fieldManager=a&force=true"
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: %s, port: 80}]}\n"
    made = api_server.call("PATCH", path, (text % "old").encode(), content_type=APPLY)
    assert made.status == 201, made.text
    renamed = api_server.call("PATCH", path, (text % "new").encode(), content_type=APPLY)
    assert [(port["name"], port["port"]) for port in renamed.json["spec"]["ports"]] == [("new", 80)]
    assert renamed.json["spec"]["clusterIP"] == made.json["spec"]["clusterIP"]


def test_one_port_of_two_protocols_is_two_ports(api_server: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services/dns?fieldManager=a&force=true"
    ports = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns"}, "spec": {"ports": ports}}
    assert api_server.call("PATCH", path, body, content_type=APPLY).status == 201
    ports[1]["name"] = "v"
    changed = api_server.call("PATCH", path, body, content_type=APPLY).json["spec"]["ports"]
    assert [(port["name"], port["protocol"]) for port in changed] == [("t", "TCP"), ("v", "UDP")]
