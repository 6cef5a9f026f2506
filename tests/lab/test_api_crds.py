"""The contract of CustomResourceDefinitions.  For any API server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.conftest import ApiServer, eventually

MERGE = "application/merge-patch+json"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
COLLECTION = "/apis/lab.example.com/v1/widgets"

OPEN_SCHEMA = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
WIDGETS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.lab.example.com"},
    "spec": {
        "group": "lab.example.com",
        "scope": "Cluster",
        "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
        "versions": [
            {"name": "v1alpha1", "served": True, "storage": False, "schema": OPEN_SCHEMA},
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": OPEN_SCHEMA,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {
                        "name": "Ready",
                        "type": "string",
                        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
                    },
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
            },
            {"name": "v0", "served": False, "storage": False, "schema": OPEN_SCHEMA},
        ],
    },
}


def create_widgets(api_server: ApiServer) -> None:
    answer = api_server.call("POST", CRDS, WIDGETS)
    assert answer.status == 201, answer.text
    crd = CRDS + "/widgets.lab.example.com"

    def established() -> bool:
        conditions = api_server.call("GET", crd).json.get("status", {}).get("conditions") or ()
        return ("Established", "True") in [(one["type"], one["status"]) for one in conditions]

    eventually(established)
    eventually(lambda: api_server.call("GET", COLLECTION).status == 200)


def delete_widgets(api_server: ApiServer) -> None:
    crd = CRDS + "/widgets.lab.example.com"
    assert api_server.call("DELETE", crd).status == 200
    eventually(lambda: api_server.call("GET", crd).status == 404)
    eventually(lambda: api_server.call("GET", "/apis/lab.example.com/v1").status == 404)


@pytest.fixture
def widgets(api_server: ApiServer) -> Iterator[str]:
    """The collection of a kind that exists for one test."""
    create_widgets(api_server)
    yield COLLECTION
    delete_widgets(api_server)


def test_a_crd_opens_its_routes(api_server: ApiServer, widgets: str) -> None:
    body = {
        "apiVersion": "lab.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": 3},
    }
    made = api_server.call("POST", widgets, {**body, "status": {"lost": True}})
    assert made.status == 201, made.text
    assert "status" not in made.json
    old = api_server.call("GET", widgets.replace("v1", "v1alpha1") + "/w").json
    assert old["apiVersion"] == "lab.example.com/v1alpha1"
    assert api_server.call("GET", widgets.replace("v1", "v0")).status == 404
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert api_server.call("PATCH", widgets + "/w/status", status, content_type=MERGE).status == 200
    table = api_server.call("GET", widgets, accept="application/json;as=Table;v=v1;g=meta.k8s.io").json
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size", "Ready", "Age"]
    assert table["rows"][0]["cells"][:3] == ["w", 3, "True"]


def test_a_crd_is_discovered(api_server: ApiServer, widgets: str) -> None:
    assert widgets
    groups = {group["name"]: group for group in api_server.call("GET", "/apis").json["groups"]}
    assert groups["lab.example.com"]["preferredVersion"]["version"] == "v1"
    resources = api_server.call("GET", "/apis/lab.example.com/v1").json["resources"]
    found = {resource["name"]: resource for resource in resources}
    assert found["widgets"]["kind"] == "Widget"
    assert found["widgets"]["singularName"] == "widget"
    assert found["widgets"]["shortNames"] == ["wd"]
    assert found["widgets"]["namespaced"] is False
    assert {"get", "list", "watch", "create", "update", "patch", "delete"} <= set(found["widgets"]["verbs"])
    assert "widgets/status" in found


def test_a_crd_takes_its_objects_along(api_server: ApiServer, widgets: str) -> None:
    api_server.call(
        "POST", widgets, {"metadata": {"name": "w"}, "apiVersion": "lab.example.com/v1", "kind": "Widget"}
    )
    delete_widgets(api_server)
    eventually(lambda: api_server.call("GET", widgets).status == 404)

    def groups() -> set[str]:
        return {group["name"] for group in api_server.call("GET", "/apis").json["groups"]}

    eventually(groups, lambda found: "lab.example.com" not in found)
    create_widgets(api_server)
    assert api_server.call("GET", widgets).json["items"] == []


def change(path: str, value: Any) -> dict[str, Any]:
    crd = copy.deepcopy(WIDGETS)
    at = crd
    *steps, last = path.split(".")
    for step in steps:
        at = at[step]
    at[last] = value
    return crd


@pytest.mark.parametrize(
    "crd",
    [
        change("metadata.name", "gadgets.lab.example.com"),
        change("spec.scope", "Galaxy"),
        change("spec.versions", []),
        change("spec.group", ""),
        change("spec.names", {"plural": "widgets"}),
        change("spec.versions", [{**WIDGETS["spec"]["versions"][0]}]),
    ],
)
def test_a_crd_that_is_wrong_is_refused(api_server: ApiServer, crd: dict[str, Any]) -> None:
    answer = api_server.call("POST", CRDS, crd)
    assert answer.status in (400, 422), answer.text
    assert api_server.call("GET", "/apis/lab.example.com/v1").status == 404


def test_metallbs_kinds_are_there(api_server: ApiServer) -> None:
    resources = api_server.call("GET", "/apis/metallb.io/v1beta1").json["resources"]
    kinds = {resource["kind"] for resource in resources}
    assert kinds == {
        *("IPAddressPool", "L2Advertisement", "BGPAdvertisement", "BGPPeer", "BFDProfile", "Community"),
        *("ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"),
    }
    assert all(resource["namespaced"] for resource in resources)
    assert sum(resource["name"].endswith("/status") for resource in resources) == 9
    two = api_server.call("GET", "/apis/metallb.io/v1beta2").json["resources"]
    assert {resource["kind"] for resource in two} == {"BGPPeer"}
