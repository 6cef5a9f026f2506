"""The contract of single objects: metadata, conflicts, status, patches, deletion.  For any API server."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client

from tests.lab.conftest import ApiServer

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def pools(namespace: str) -> str:
    return f"/apis/metallb.io/v1beta1/namespaces/{namespace}/ipaddresspools"


def pool(name: str, **rest: Any) -> dict[str, Any]:
    head = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": name}}
    return {**head, "spec": {"addresses": ["10.0.0.0/24"]}, **rest}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_a_new_object_gets_its_metadata(api_server: ApiServer, namespace: str) -> None:
    made = api_server.call("POST", pools(namespace), pool("a", status={"assignedIPv4": 9})).json
    metadata = made["metadata"]
    assert metadata["namespace"] == namespace
    assert metadata["generation"] == 1
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) > 0
    assert "status" not in made, "the main resource does not write the status"
    read = api_server.call("GET", pools(namespace) + "/a")
    assert read.json == made


def test_generate_name_makes_names_that_differ(api_server: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    names = {
        api_server.call("POST", path, {"metadata": {"generateName": "l2-"}}).json["metadata"]["name"]
        for _ in range(20)
    }
    assert len(names) == 20
    assert all(name.startswith("l2-") and len(name) == 8 for name in names)


def test_what_is_there_already_is_not_made_again(api_server: ApiServer, namespace: str) -> None:
    api_server.call("POST", pools(namespace), pool("a"))
    answer = api_server.call("POST", pools(namespace), pool("a"))
    assert answer.status == 409
    assert answer.json["kind"] == "Status"
    assert answer.json["reason"] == "AlreadyExists"
    assert answer.json["message"] == 'ipaddresspools.metallb.io "a" already exists'
    assert answer.json["details"] == {"name": "a", "group": "metallb.io", "kind": "ipaddresspools"}


def test_what_is_not_there_is_not_found(api_server: ApiServer, namespace: str) -> None:
    answer = api_server.call("GET", f"/api/v1/namespaces/{namespace}/services/none")
    assert (answer.status, answer.json["reason"]) == (404, "NotFound")
    assert answer.json["message"] == 'services "none" not found'
    for path in ("/api/v1/nonsense", "/apis/none.example/v1/x", "/apis/metallb.io/v9/ipaddresspools"):
        assert api_server.call("GET", path).status == 404


def test_an_object_needs_a_namespace_that_exists(api_server: ApiServer) -> None:
    answer = api_server.call("POST", "/api/v1/namespaces/nowhere/configmaps", config_map("a"))
    assert answer.status == 404
    assert answer.json["message"] == 'namespaces "nowhere" not found'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"metadata": {}}, 422),
        ({"metadata": {"name": "Not_Valid"}}, 422),
        ({"metadata": {"name": "a", "namespace": "elsewhere"}}, 400),
        ({"metadata": {"name": "a", "labels": ["not", "a", "map"]}}, 400),
        ({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}, 400),
        (["not", "an", "object"], 400),
        (b"{not json", 400),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_a_status(
    api_server: ApiServer, namespace: str, body: Any, status: int
) -> None:
    answer = api_server.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert answer.status == status, answer.text
    assert answer.json["kind"] == "Status"
    assert answer.json["status"] == "Failure"
    assert answer.json["code"] == status
    assert answer.json["message"]


def test_what_is_new_has_no_version_yet(api_server: ApiServer, namespace: str) -> None:
    body = config_map("a")
    body["metadata"]["resourceVersion"] = "5"
    answer = api_server.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert answer.status in (400, 500), "the real server forgot to call it the client's fault"
    assert answer.json["message"] == "resourceVersion should not be set on objects to be created"


@pytest.mark.parametrize("missing", ["apiVersion", "kind"])
def test_a_custom_object_says_what_it_is(api_server: ApiServer, namespace: str, missing: str) -> None:
    body = {key: value for key, value in pool("a").items() if key != missing}
    answer = api_server.call("POST", pools(namespace), body)
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
    made = api_server.call("POST", pools(namespace), pool("a")).json
    changed = {key: value for key, value in made.items() if key != missing}
    assert api_server.call("PUT", pools(namespace) + "/a", changed).status == 400
    patch = {"metadata": {"labels": {"a": "b"}}}
    assert api_server.call("PATCH", pools(namespace) + "/a", patch, content_type=MERGE).status == 200


def test_defaults_of_metallbs_kinds(api_server: ApiServer, namespace: str) -> None:
    spec = api_server.call("POST", pools(namespace), pool("a")).json["spec"]
    assert spec == {"addresses": ["10.0.0.0/24"], "autoAssign": True, "avoidBuggyIPs": False}
    unset = [{"op": "remove", "path": "/spec/autoAssign"}]
    again = api_server.call("PATCH", pools(namespace) + "/a", unset, content_type=JSON_PATCH)
    assert again.json["spec"] == spec
    path = f"/apis/metallb.io/v1beta1/namespaces/{namespace}/bgpadvertisements"
    body = {"apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement", "metadata": {"name": "a"}}
    made = api_server.call("POST", path, {**body, "spec": {"aggregationLength": 24}}).json["spec"]
    assert made == {"aggregationLength": 24, "aggregationLengthV6": 128}


def test_a_body_may_have_three_mebibytes(api_server: ApiServer, namespace: str) -> None:
    body = config_map("big", a="x" * (3 * 1024 * 1024 + 1))
    answer = api_server.call("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


def test_a_body_may_be_yaml(api_server: ApiServer, namespace: str) -> None:
    text = b"kind: ConfigMap\napiVersion: v1\nmetadata: {name: written}\ndata: {since: '2020-01-01'}\n"
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    answer = api_server.call("POST", path, text, content_type="application/yaml")
    assert answer.status == 201, answer.text
    assert answer.json["data"] == {"since": "2020-01-01"}


def test_an_update_from_an_old_reading_conflicts(api_server: ApiServer, namespace: str) -> None:
    path = pools(namespace) + "/a"
    first = api_server.call("POST", pools(namespace), pool("a")).json
    second = api_server.call("PUT", path, {**first, "spec": {"addresses": ["10.1.0.0/24"]}}).json
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    answer = api_server.call("PUT", path, {**first, "spec": {"addresses": ["10.2.0.0/24"]}})
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    assert answer.json["message"] == (
        'Operation cannot be fulfilled on ipaddresspools.metallb.io "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert api_server.call("GET", path).json == second


def test_a_custom_object_is_not_updated_blindly_a_builtin_one_is(
    api_server: ApiServer, namespace: str
) -> None:
    api_server.call("POST", pools(namespace), pool("a"))
    answer = api_server.call("PUT", pools(namespace) + "/a", pool("a"))
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert "must be specified for an update" in answer.json["message"]
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api_server.call("POST", path, config_map("c", a="1"))
    assert api_server.call("PUT", path + "/c", config_map("c", a="2")).json["data"] == {"a": "2"}


def test_a_write_that_changes_nothing_is_no_write(api_server: ApiServer, namespace: str) -> None:
    made = api_server.call("POST", pools(namespace), pool("a")).json
    again = api_server.call("PUT", pools(namespace) + "/a", made)
    assert again.json == made


def test_generation_counts_the_spec_only(api_server: ApiServer, namespace: str) -> None:
    path = pools(namespace) + "/a"
    api_server.call("POST", pools(namespace), pool("a"))
    labelled = api_server.call("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE).json
    assert labelled["metadata"]["generation"] == 1
    status = {"assignedIPv4": 1, "assignedIPv6": 0, "availableIPv4": 255, "availableIPv6": 0}
    written = api_server.call("PATCH", path + "/status", {"status": status}, content_type=MERGE).json
    assert written["metadata"]["generation"] == 1
    assert written["status"] == status
    changed = api_server.call("PATCH", path, {"spec": {"autoAssign": False}}, content_type=MERGE).json
    assert changed["metadata"]["generation"] == 2
    assert changed["status"] == status


def test_status_and_spec_have_a_door_each(api_server: ApiServer, namespace: str) -> None:
    path = pools(namespace) + "/a"
    made = api_server.call("POST", pools(namespace), pool("a")).json
    status = {"assignedIPv4": 1, "assignedIPv6": 0, "availableIPv4": 255, "availableIPv6": 0}
    both = {**made, "spec": {"addresses": ["10.9.0.0/24"]}, "status": status}
    both["metadata"] = {**made["metadata"], "annotations": {"written": "here"}}
    by_status = api_server.call("PUT", path + "/status", both).json
    assert by_status["status"] == status
    assert by_status["spec"] == made["spec"]
    assert "annotations" not in by_status["metadata"], "a custom object's status carries no metadata"
    both["metadata"]["resourceVersion"] = by_status["metadata"]["resourceVersion"]
    both["status"] = {**status, "assignedIPv4": 77}
    by_main = api_server.call("PUT", path, both).json
    assert by_main["status"] == status
    assert by_main["spec"]["addresses"] == ["10.9.0.0/24"]
    assert by_main["metadata"]["annotations"] == {"written": "here"}


def test_annotations_travel_on_a_services_status(api_server: ApiServer, namespace: str) -> None:
    """What MetalLB relies on for `metallb.io/ip-allocated-from-pool`."""
    core = api_server.core
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    made = core.create_namespaced_service(namespace, {"metadata": {"name": "web"}, "spec": spec})
    made.metadata.annotations = {"metallb.io/ip-allocated-from-pool": "a"}
    made.spec.session_affinity = "ClientIP"
    ingress = client.V1LoadBalancerIngress(ip="10.0.0.1")
    made.status.load_balancer = client.V1LoadBalancerStatus(ingress=[ingress])
    written = core.replace_namespaced_service_status("web", namespace, made)
    assert written.metadata.annotations == {"metallb.io/ip-allocated-from-pool": "a"}
    assert written.status.load_balancer.ingress[0].ip == "10.0.0.1"
    assert written.spec.session_affinity == "None"


def test_system_metadata_cannot_be_written(api_server: ApiServer, namespace: str) -> None:
    made = api_server.call("POST", pools(namespace), pool("a")).json
    metadata = {**made["metadata"], "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 40}
    changed = api_server.call("PUT", pools(namespace) + "/a", {**made, "metadata": metadata}).json
    assert changed == made
    metadata = {**made["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}
    answer = api_server.call("PUT", pools(namespace) + "/a", {**made, "metadata": metadata})
    assert answer.status in (409, 422)


MOVE = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "move", "from": "/data/a", "path": "/data/x"}]
SWAP = [{"op": "remove", "path": "/data/a"}, {"op": "add", "path": "/data/c", "value": "3"}]


@pytest.mark.parametrize(
    ("content_type", "patch", "data"),
    [
        (MERGE, {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        (STRATEGIC, {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        (JSON_PATCH, SWAP, {"b": "2", "c": "3"}),
        (JSON_PATCH, MOVE, {"b": "2", "x": "1"}),
        (JSON_PATCH, [{"op": "copy", "from": "/data/a", "path": "/data/x"}], {"a": "1", "b": "2", "x": "1"}),
        (JSON_PATCH, [{"op": "replace", "path": "/data", "value": {"z": "9"}}], {"z": "9"}),
    ],
)
def test_patches(
    api_server: ApiServer, namespace: str, content_type: str, patch: Any, data: dict[str, str]
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api_server.call("POST", path, config_map("c", a="1", b="2"))
    answer = api_server.call("PATCH", path + "/c", patch, content_type=content_type)
    assert answer.status == 200, answer.text
    assert answer.json["data"] == data


@pytest.mark.parametrize(
    ("content_type", "patch", "status"),
    [
        (JSON_PATCH, [{"op": "test", "path": "/data/a", "value": "2"}], 422),
        (JSON_PATCH, [{"op": "remove", "path": "/data/none"}], 422),
        (JSON_PATCH, {"not": "a list"}, 400),
        (MERGE, {"metadata": {"resourceVersion": "1"}}, 409),
        ("application/x-unknown+json", {}, 415),
    ],
)
def test_patches_that_do_not_fit(
    api_server: ApiServer, namespace: str, content_type: str, patch: Any, status: int
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    made = api_server.call("POST", path, config_map("c", a="1")).json
    answer = api_server.call("PATCH", path + "/c", patch, content_type=content_type)
    assert answer.status == status, answer.text
    assert api_server.call("GET", path + "/c").json == made


def test_a_custom_object_takes_no_strategic_merge(api_server: ApiServer, namespace: str) -> None:
    api_server.call("POST", pools(namespace), pool("a"))
    answer = api_server.call("PATCH", pools(namespace) + "/a", {}, content_type=STRATEGIC)
    assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")


def test_strategic_merge_joins_lists_by_their_key(api_server: ApiServer, namespace: str) -> None:
    services = f"/api/v1/namespaces/{namespace}/services"
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 90}]
    made = api_server.call("POST", services, {"metadata": {"name": "s"}, "spec": {"ports": ports}}).json
    patch = {"spec": {"ports": [{"port": 90, "name": "c"}, {"port": 100, "name": "d"}]}}
    patched = api_server.call("PATCH", services + "/s", patch, content_type=STRATEGIC).json
    assert {(port["name"], port["port"]) for port in patched["spec"]["ports"]} == {
        ("a", 80), ("c", 90), ("d", 100),
    }  # fmt: skip
    patch = {"spec": {"ports": [{"port": 80, "$patch": "delete"}]}}
    patched = api_server.call("PATCH", services + "/s", patch, content_type=STRATEGIC).json
    assert {port["port"] for port in patched["spec"]["ports"]} == {90, 100}
    assert patched["spec"]["clusterIP"] == made["spec"]["clusterIP"]


def test_secrets_take_plain_strings(api_server: ApiServer, namespace: str) -> None:
    core = api_server.core
    body = {"metadata": {"name": "s"}, "stringData": {"key": "value"}, "data": {"other": "AAA="}}
    made = core.create_namespaced_secret(namespace, body)
    assert made.data == {"key": "dmFsdWU=", "other": "AAA="}
    assert made.type == "Opaque"
    assert not made.string_data
    with pytest.raises(client.ApiException, match=r"400|422"):
        core.create_namespaced_secret(namespace, {"metadata": {"name": "t"}, "data": {"key": "!"}})


def test_delete_says_what_it_did(api_server: ApiServer, namespace: str) -> None:
    made = api_server.call("POST", pools(namespace), pool("a")).json
    answer = api_server.call("DELETE", pools(namespace) + "/a")
    assert answer.status == 200
    assert (answer.json["kind"], answer.json["status"]) == ("Status", "Success")
    details = {"name": "a", "group": "metallb.io", "kind": "ipaddresspools", "uid": made["metadata"]["uid"]}
    assert answer.json["details"] == details
    assert api_server.call("GET", pools(namespace) + "/a").status == 404
    assert api_server.call("DELETE", pools(namespace) + "/a").status == 404


def test_delete_with_preconditions(api_server: ApiServer, namespace: str) -> None:
    made = api_server.call("POST", pools(namespace), pool("a")).json
    wrong = {"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}}
    assert api_server.call("DELETE", pools(namespace) + "/a", wrong).status == 409
    right = {"preconditions": {"uid": made["metadata"]["uid"]}}
    assert api_server.call("DELETE", pools(namespace) + "/a", right).status == 200


def test_finalizers_hold_an_object_back(api_server: ApiServer, namespace: str) -> None:
    body = pool("a")
    body["metadata"]["finalizers"] = ["example.com/wait"]
    api_server.call("POST", pools(namespace), body)
    dying = api_server.call("DELETE", pools(namespace) + "/a").json
    assert dying["metadata"]["deletionTimestamp"]
    assert api_server.call("GET", pools(namespace) + "/a").json["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/wait", "example.com/more"]}}
    assert api_server.call("PATCH", pools(namespace) + "/a", more, content_type=MERGE).status == 422
    freed = api_server.call(
        "PATCH", pools(namespace) + "/a", {"metadata": {"finalizers": None}}, content_type=MERGE
    )
    assert freed.status == 200
    assert api_server.call("GET", pools(namespace) + "/a").status == 404


def test_a_collection_is_deleted_by_label(api_server: ApiServer, namespace: str) -> None:
    for name, label in (("a", "x"), ("b", "y"), ("c", "x")):
        body = pool(name)
        body["metadata"]["labels"] = {"l": label}
        api_server.call("POST", pools(namespace), body)
    assert api_server.call("DELETE", pools(namespace) + "?labelSelector=l%3Dx").status == 200
    left = api_server.call("GET", pools(namespace)).json["items"]
    assert [thing["metadata"]["name"] for thing in left] == ["b"]


def owned(name: str, *uids: str) -> dict[str, Any]:
    body = config_map(name)
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": f"owner{n}", "uid": uid}
        for n, uid in enumerate(uids)
    ]
    return body


@pytest.mark.usefixtures("controllers")
def test_who_loses_every_owner_is_collected(api_server: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    one, two = (
        api_server.call("POST", path, config_map(name)).json["metadata"]["uid"]
        for name in ("owner0", "owner1")
    )
    child = api_server.call("POST", path, owned("child", one, two)).json
    api_server.call("POST", path, owned("grandchild", child["metadata"]["uid"]))
    api_server.call("DELETE", path + "/owner0")
    assert api_server.call("GET", path + "/child").status == 200, "it has another owner"
    revision = api_server.call("GET", path).json["metadata"]["resourceVersion"]
    api_server.call("DELETE", path + "/owner1")
    events = api_server.watch(path, resourceVersion=revision, timeoutSeconds=1)
    deleted = [event["object"]["metadata"]["name"] for event in events if event["type"] == "DELETED"]
    assert deleted == ["owner1", "child", "grandchild"]


@pytest.mark.usefixtures("controllers")
def test_orphans_live_on(api_server: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    uid = api_server.call("POST", path, config_map("owner0")).json["metadata"]["uid"]
    api_server.call("POST", path, owned("child", uid))
    api_server.call("DELETE", path + "/owner0", {"propagationPolicy": "Orphan"})
    child = api_server.call("GET", path + "/child")
    assert child.status == 200
    assert "ownerReferences" not in child.json["metadata"]


@pytest.mark.usefixtures("controllers")
def test_a_namespace_takes_its_contents_along(api_server: ApiServer, namespace: str) -> None:
    api_server.call("POST", pools(namespace), pool("a"))
    waiting = pool("b")
    waiting["metadata"]["finalizers"] = ["example.com/wait"]
    api_server.call("POST", pools(namespace), waiting)
    api_server.call("DELETE", f"/api/v1/namespaces/{namespace}")
    assert api_server.call("GET", f"/api/v1/namespaces/{namespace}").json["status"]["phase"] == "Terminating"
    assert api_server.call("POST", pools(namespace), pool("c")).status == 403
    assert [
        thing["metadata"]["name"] for thing in api_server.call("GET", pools(namespace)).json["items"]
    ] == ["b"]
    freed = {"metadata": {"finalizers": None}}
    api_server.call("PATCH", pools(namespace) + "/b", freed, content_type=MERGE)
    assert api_server.call("GET", f"/api/v1/namespaces/{namespace}").status == 404


def test_a_dry_run_leaves_no_trace(api_server: ApiServer, namespace: str) -> None:
    answer = api_server.call("POST", pools(namespace) + "?dryRun=All", pool("a"))
    assert answer.status == 201
    assert answer.json["metadata"]["uid"]
    assert api_server.call("GET", pools(namespace) + "/a").status == 404
    api_server.call("POST", pools(namespace), pool("a"))
    api_server.call("DELETE", pools(namespace) + "/a?dryRun=All")
    assert api_server.call("GET", pools(namespace) + "/a").status == 200


def test_a_lease_is_taken_by_one(api_server: ApiServer, namespace: str) -> None:
    leases: Any = client.CoordinationV1Api(api_server.client)
    body = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15}}
    lease = leases.create_namespaced_lease(namespace, body)
    lease.spec.holder_identity = "two"
    taken = leases.replace_namespaced_lease("leader", namespace, lease)
    assert taken.spec.holder_identity == "two"
    lease.spec.holder_identity = "three"
    with pytest.raises(client.ApiException) as refused:
        leases.replace_namespaced_lease("leader", namespace, lease)
    assert refused.value.status == 409


def test_events_are_one_set_under_two_groups(api_server: ApiServer, namespace: str) -> None:
    involved = {"kind": "Service", "namespace": namespace, "name": "web", "apiVersion": "v1"}
    body = {
        "metadata": {"name": "web.1"}, "involvedObject": involved, "reason": "nodeAssigned", "type": "Normal",
        "message": "announcing", "source": {"component": "speaker"}, "firstTimestamp": "2024-01-01T00:00:00Z",
        "lastTimestamp": "2024-01-01T00:00:00Z", "count": 1,
    }  # fmt: skip
    assert api_server.call("POST", f"/api/v1/namespaces/{namespace}/events", body).status == 201
    seen = api_server.call("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/web.1").json
    assert seen["apiVersion"] == "events.k8s.io/v1"
    assert seen["regarding"] == involved
    assert (seen["note"], seen["deprecatedCount"]) == ("announcing", 1)
    path = (
        f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3Dweb,reason%3DnodeAssigned"
    )
    assert len(api_server.call("GET", path).json["items"]) == 1
    path = f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3Dother"
    assert api_server.call("GET", path).json["items"] == []


def test_a_kind_in_two_versions_is_one_object(api_server: ApiServer, namespace: str) -> None:
    body = {
        "apiVersion": "metallb.io/v1beta2",
        "kind": "BGPPeer",
        "metadata": {"name": "p"},
        "spec": {"myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1"},
    }
    two = f"/apis/metallb.io/v1beta2/namespaces/{namespace}/bgppeers"
    made = api_server.call("POST", two, body).json
    assert made["apiVersion"] == "metallb.io/v1beta2"
    one = api_server.call("GET", two.replace("v1beta2", "v1beta1") + "/p").json
    assert one["apiVersion"] == "metallb.io/v1beta1"
    assert one["metadata"]["uid"] == made["metadata"]["uid"]


def test_nodes_register_with_a_status(api_server: ApiServer, namespace: str) -> None:
    core = api_server.core
    name = f"node-{namespace}"
    status = {"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]}
    made = core.create_node({"metadata": {"name": name}, "status": status})
    assert made.status.addresses[0].address == "10.0.0.9"
    condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    patched = core.patch_node_status(name, {"status": {"conditions": [condition]}})
    assert patched.status.conditions[0].type == "Ready"
    condition = {"type": "NetworkUnavailable", "status": "False", "reason": "x", "message": ""}
    patched = core.patch_node_status(name, {"status": {"conditions": [condition]}})
    assert {one.type for one in patched.status.conditions} == {"Ready", "NetworkUnavailable"}
    core.delete_node(name)
