"""The contract of Services: what the server fills in and what it refuses.  For a dual-stack API server."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tests.lab.conftest import ApiServer

MERGE = "application/merge-patch+json"
PORT = {"port": 80}


def services(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/services"


def make(api_server: ApiServer, namespace: str, name: str = "s", **spec: Any) -> dict[str, Any]:
    answer = api_server.call("POST", services(namespace), {"metadata": {"name": name}, "spec": spec})
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json
    return made


def patch(api_server: ApiServer, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    answer = api_server.call("PATCH", f"{services(namespace)}/{name}", {"spec": spec}, content_type=MERGE)
    assert answer.status == 200, answer.text
    patched: dict[str, Any] = answer.json["spec"]
    return patched


def test_defaults_of_a_cluster_ip(api_server: ApiServer, namespace: str) -> None:
    made = make(api_server, namespace, ports=[PORT], selector={"a": "b"})
    spec = made["spec"]
    address = spec.pop("clusterIP")
    assert spec == {
        "type": "ClusterIP",
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "selector": {"a": "b"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    assert made["status"] == {"loadBalancer": {}}
    assert ipaddress.ip_address(address).version == 4


def test_defaults_of_a_load_balancer(api_server: ApiServer, namespace: str) -> None:
    spec = make(api_server, namespace, type="LoadBalancer", ports=[PORT])["spec"]
    assert spec["externalTrafficPolicy"] == "Cluster"
    assert spec["allocateLoadBalancerNodePorts"] is True
    assert 30000 <= spec["ports"][0]["nodePort"] <= 32767
    assert "healthCheckNodePort" not in spec
    spec = patch(api_server, namespace, "s", {"externalTrafficPolicy": "Local"})
    assert 30000 <= spec["healthCheckNodePort"] <= 32767
    assert spec["healthCheckNodePort"] != spec["ports"][0]["nodePort"]
    spec = patch(api_server, namespace, "s", {"externalTrafficPolicy": "Cluster"})
    assert "healthCheckNodePort" not in spec


def test_a_load_balancer_without_node_ports(api_server: ApiServer, namespace: str) -> None:
    spec = make(
        api_server, namespace, type="LoadBalancer", ports=[PORT], allocateLoadBalancerNodePorts=False
    )["spec"]
    assert "nodePort" not in spec["ports"][0]


@pytest.mark.parametrize(
    ("asked", "families", "policy"),
    [
        ({}, ["IPv4"], "SingleStack"),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack"),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack"),
        ({"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"], "RequireDualStack"),
        (
            {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]},
            ["IPv6", "IPv4"],
            "PreferDualStack",
        ),
        (
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]},
            ["IPv6", "IPv4"],
            "RequireDualStack",
        ),
    ],
)
def test_families(
    api_server: ApiServer, namespace: str, asked: dict[str, Any], families: list[str], policy: str
) -> None:
    spec = make(api_server, namespace, ports=[PORT], **asked)["spec"]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (families, policy)
    versions = [f"IPv{ipaddress.ip_address(address).version}" for address in spec["clusterIPs"]]
    assert versions == families
    assert spec["clusterIP"] == spec["clusterIPs"][0]


def test_a_family_is_added_and_dropped(api_server: ApiServer, namespace: str) -> None:
    first = make(api_server, namespace, ports=[PORT])["spec"]
    both = patch(api_server, namespace, "s", {"ipFamilyPolicy": "PreferDualStack"})
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert both["clusterIPs"][0] == first["clusterIP"]
    one = patch(api_server, namespace, "s", {"ipFamilyPolicy": "SingleStack"})
    assert (one["ipFamilies"], one["clusterIPs"]) == (["IPv4"], [first["clusterIP"]])


def test_headless(api_server: ApiServer, namespace: str) -> None:
    spec = make(api_server, namespace, clusterIP="None", selector={"a": "b"})["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == ("None", ["None"], ["IPv4"])
    bare = make(api_server, namespace, "bare", clusterIP="None")["spec"]
    assert (bare["ipFamilyPolicy"], bare["ipFamilies"]) == ("RequireDualStack", ["IPv4", "IPv6"])


def test_an_external_name_has_no_address(api_server: ApiServer, namespace: str) -> None:
    spec = make(api_server, namespace, type="ExternalName", externalName="example.com")["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(spec)


def test_addresses_and_node_ports_belong_to_one(api_server: ApiServer, namespace: str) -> None:
    held = make(api_server, namespace, type="NodePort", ports=[PORT])["spec"]
    number = held["ports"][0]["nodePort"]
    body = {"metadata": {"name": "t"}, "spec": {"clusterIP": held["clusterIP"], "ports": [PORT]}}
    answer = api_server.call("POST", services(namespace), body)
    assert answer.status == 422
    assert "spec.clusterIP" in answer.json["details"]["causes"][0]["field"]
    body["spec"] = {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}
    answer = api_server.call("POST", services(namespace), body)
    assert answer.status == 422
    assert "provided port is already allocated" in answer.json["message"]
    api_server.call("DELETE", services(namespace) + "/s")
    again = api_server.call("POST", services(namespace), body)
    assert again.status == 201, "what a Service held is free when it is gone"
    assert again.json["spec"]["ports"][0]["nodePort"] == number


def test_an_update_without_them_keeps_address_and_node_ports(api_server: ApiServer, namespace: str) -> None:
    made = make(api_server, namespace, type="NodePort", ports=[PORT])
    bare = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [PORT]}}
    updated = api_server.call("PUT", services(namespace) + "/s", bare)
    assert updated.status == 200, updated.text
    assert updated.json["spec"] == made["spec"]


def test_the_type_changes_and_takes_its_fields_along(api_server: ApiServer, namespace: str) -> None:
    made = make(api_server, namespace, type="LoadBalancer", externalTrafficPolicy="Local", ports=[PORT])[
        "spec"
    ]
    spec = patch(api_server, namespace, "s", {"type": "ClusterIP"})
    gone = {"externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts"}
    assert not gone & set(spec)
    assert "nodePort" not in spec["ports"][0]
    assert spec["clusterIP"] == made["clusterIP"]
    spec = patch(api_server, namespace, "s", {"type": "LoadBalancer"})
    assert spec["externalTrafficPolicy"] == "Cluster"


def test_the_status_of_a_load_balancer(api_server: ApiServer, namespace: str) -> None:
    make(api_server, namespace, type="LoadBalancer", ports=[PORT])
    path = services(namespace) + "/s/status"

    def write(ingress: Any) -> Any:
        return api_server.call(
            "PATCH", path, {"status": {"loadBalancer": {"ingress": ingress}}}, content_type=MERGE
        )

    written = write([{"ip": "10.0.0.1"}, {"ip": "fc00::1", "ipMode": "Proxy"}]).json["status"]["loadBalancer"]
    assert written == {"ingress": [{"ip": "10.0.0.1", "ipMode": "VIP"}, {"ip": "fc00::1", "ipMode": "Proxy"}]}
    assert write([{"ip": "not an address"}]).status == 422
    assert write(None).json["status"] == {"loadBalancer": {}}
    patch(api_server, namespace, "s", {"type": "ClusterIP"})
    assert write([{"ip": "10.0.0.1"}]).status == 422, "only a load balancer has addresses"


def test_the_class_cannot_change(api_server: ApiServer, namespace: str) -> None:
    make(api_server, namespace, type="LoadBalancer", loadBalancerClass="example.com/a", ports=[PORT])
    body = {"spec": {"loadBalancerClass": "example.com/b"}}
    answer = api_server.call("PATCH", services(namespace) + "/s", body, content_type=MERGE)
    assert (answer.status, answer.json["details"]["causes"][0]["field"]) == (422, "spec.loadBalancerClass")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.ports"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 70000}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "spec.ports[0].protocol"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name"),
        ({"type": "Balancer", "ports": [PORT]}, "spec.type"),
        ({"type": "ExternalName"}, "spec.externalName"),
        ({"type": "LoadBalancer", "clusterIP": "None", "ports": [PORT]}, "spec.clusterIPs[0]"),
        ({"loadBalancerClass": "a/b", "ports": [PORT]}, "spec.loadBalancerClass"),
        ({"sessionAffinity": "Cookie", "ports": [PORT]}, "spec.sessionAffinity"),
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}, "spec.ports[0].nodePort"),
    ],
)
def test_what_is_wrong_is_named(
    api_server: ApiServer, namespace: str, spec: dict[str, Any], field: str
) -> None:
    answer = api_server.call("POST", services(namespace), {"metadata": {"name": "s"}, "spec": spec})
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert field in {cause["field"] for cause in answer.json["details"]["causes"]}
    assert answer.json["message"].startswith('Service "s" is invalid: ')


@pytest.mark.parametrize(
    "spec", [{"ports": "80"}, {"ports": [{"port": "80"}]}, {"clusterIPs": "x"}, {"type": 7, "ports": [PORT]}]
)
def test_a_wrong_type_is_a_bad_request(api_server: ApiServer, namespace: str, spec: dict[str, Any]) -> None:
    answer = api_server.call("POST", services(namespace), {"metadata": {"name": "s"}, "spec": spec})
    assert answer.status == 400, answer.text


def test_a_name_is_a_dns_label(api_server: ApiServer, namespace: str) -> None:
    for name in ("1st", "a.b", "a" * 64):
        body = {"metadata": {"name": name}, "spec": {"ports": [PORT]}}
        assert api_server.call("POST", services(namespace), body).status == 422


def test_two_protocols_of_one_port_share_a_node_port_if_they_can(
    api_server: ApiServer, namespace: str
) -> None:
    ports = [{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}]
    spec = make(api_server, namespace, type="LoadBalancer", ports=ports)["spec"]
    assert len({port["protocol"] for port in spec["ports"]}) == 2
    assert all(port["nodePort"] for port in spec["ports"])
