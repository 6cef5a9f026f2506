"""The CRDs of manifests/crds on a real API server: they apply cleanly, and refuse what MetalLB's would."""

from __future__ import annotations

from typing import Any

import pytest

from crier.lab.errors import LabError
from crier.lab.kube import Kube
from crier.lab.kube.install import SYSTEM, install_crds
from tests.lab.conftest import ApiServer

PEER = {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"}
POOL = {"addresses": ["192.0.2.0/24"]}
SELECTOR = {"matchLabels": {"a": "b"}}
EXCLUSIVE = (
    "serviceSelectors and aggregationLength are mutually exclusive, can only be used together with default "
    "aggregationLength (32) and aggregationLengthV6 (128)"
)


def without(spec: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in fields}


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("ipaddresspools", POOL),
    ("ipaddresspools", {"addresses": ["192.0.2.1-192.0.2.9", " 192.0.2.20 - 192.0.2.29 ", "2001:db8::/120"]}),
    ("ipaddresspools", {**POOL, "autoAssign": False, "avoidBuggyIPs": True}),
    ("ipaddresspools", {"addresses": ["255.255.255.255/032", "::ffff:192.0.2.0/120", "::/0", "0.0.0.0/1"]}),
    ("ipaddresspools", {"addresses": ["2001:db8::1 - 2001:db8::9", "10.0.0.9-10.0.0.10"]}),
    ("ipaddresspools", {**POOL, "serviceAllocation": {"priority": 5}}),
    ("ipaddresspools", {**POOL, "serviceAllocation": {"priority": -1}}),
    (
        "ipaddresspools",
        {
            **POOL,
            "serviceAllocation": {
                "namespaces": ["a", "b"],
                "namespaceSelectors": [SELECTOR],
                "serviceSelectors": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}],
            },
        },
    ),
    ("l2advertisements", {}),
    (
        "l2advertisements",
        {
            "ipAddressPools": ["a"],
            "ipAddressPoolSelectors": [SELECTOR],
            "nodeSelectors": [SELECTOR, {"matchLabels": {"c": "d"}}],
            "serviceSelectors": [SELECTOR],
            "interfaces": ["eth0", "eth1"],
        },
    ),
    ("bgpadvertisements", {}),
    ("bgpadvertisements", {"aggregationLength": 24, "aggregationLengthV6": 64, "localPref": 100}),
    ("bgpadvertisements", {"communities": ["65535:65282", "large:4294967295:1:2", "an-alias"]}),
    ("bgpadvertisements", {"serviceSelectors": [SELECTOR], "aggregationLength": 32}),
    ("bgppeers", PEER),
    ("bgppeers", {"myASN": 1, "peerASN": 4294967295, "peerAddress": "2001:db8::1", "peerPort": 16384}),
    ("bgppeers", {"myASN": 64512, "dynamicASN": "external", "interface": "eth0"}),
    ("bgppeers", {**PEER, "holdTime": "0s"}),
    ("bgppeers", {**PEER, "holdTime": "3s", "keepaliveTime": "1s"}),
    ("bgppeers", {**PEER, "connectTime": "10s", "ebgpMultiHop": True}),
    ("bgppeers", {**PEER, "passwordSecret": {"name": "s", "namespace": SYSTEM}}),
    ("bgppeers", {**PEER, "password": "word", "bfdProfile": "fast", "vrf": "red"}),
    ("bfdprofiles", {}),
    (
        "bfdprofiles",
        {"receiveInterval": 10, "transmitInterval": 60000, "detectMultiplier": 2, "echoInterval": 50,
         "echoMode": True, "passiveMode": True, "minimumTtl": 254},
    ),
    ("communities", {"communities": [{"name": "a", "value": "1:2"}, {"name": "b", "value": "large:1:2:3"}]}),
]  # fmt: skip

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("ipaddresspools", {}, "spec.addresses: Required value"),
    ("ipaddresspools", {"addresses": []}, "should have at least 1 items"),
    *(
        ("ipaddresspools", {"addresses": [text]}, f"such as 192.0.2.10-192.0.2.20; not {text}")
        for text in (
            "192.0.2.1",
            "nonsense",
            "192.0.2.0/33",
            "300.0.2.0/24",
            "192.0.2/24",
            "192.0.2.0/255.255.255.0",
            "2001:db8::/129",
            "192.0.2.1-2001:db8::1",
            "192.0.2.1-192.0.2.2-192.0.2.3",
        )
    ),
    ("ipaddresspools", {**POOL, "autoAssign": "yes"}, "spec.autoAssign"),
    ("ipaddresspools", {**POOL, "serviceAllocation": {"namespaces": ["a", "a"]}}, "Duplicate value"),
    (
        "ipaddresspools",
        {
            **POOL,
            "serviceAllocation": {
                "serviceSelectors": [{"matchExpressions": [{"key": "a", "operator": "Near"}]}]
            },
        },
        "Unsupported value",
    ),
    ("l2advertisements", {"ipAddressPools": ["a", "a"]}, "Duplicate value"),
    ("l2advertisements", {"interfaces": "eth0"}, "spec.interfaces"),
    ("bgpadvertisements", {"aggregationLength": 0}, "spec.aggregationLength"),
    ("bgpadvertisements", {"aggregationLength": 33}, "spec.aggregationLength"),
    ("bgpadvertisements", {"aggregationLengthV6": 129}, "spec.aggregationLengthV6"),
    ("bgpadvertisements", {"communities": ["1:2", "1:2"]}, "Duplicate value"),
    ("bgpadvertisements", {"peers": ["a", "a"]}, "Duplicate value"),
    ("bgpadvertisements", {"localPref": -1}, "spec.localPref"),
    ("bgpadvertisements", {"serviceSelectors": [SELECTOR], "aggregationLength": 24}, EXCLUSIVE),
    ("bgpadvertisements", {"serviceSelectors": [SELECTOR], "aggregationLengthV6": 64}, EXCLUSIVE),
    ("bgppeers", without(PEER, "myASN"), "spec.myASN: Required value"),
    ("bgppeers", {**PEER, "myASN": 0}, "missing local ASN"),
    ("bgppeers", {**PEER, "myASN": 4294967296}, "spec.myASN"),
    ("bgppeers", without(PEER, "peerASN"), "missing peer ASN and dynamicASN"),
    ("bgppeers", {**PEER, "dynamicASN": "external"}, "both peer ASN and dynamicASN specified"),
    ("bgppeers", {**without(PEER, "peerASN"), "dynamicASN": "both"}, "Unsupported value"),
    ("bgppeers", without(PEER, "peerAddress"), "peer has no Address or Interface specified"),
    ("bgppeers", {**PEER, "interface": "eth0"}, "peer has both Address and Interface specified"),
    ("bgppeers", {**PEER, "localASN": 0}, "spec.localASN"),
    ("bgppeers", {**PEER, "peerPort": 0}, "spec.peerPort"),
    ("bgppeers", {**PEER, "peerPort": 16385}, "spec.peerPort"),
    ("bgppeers", {**PEER, "holdTime": "2s"}, "must be 0 or >=3s"),
    ("bgppeers", {**PEER, "holdTime": "9s", "keepaliveTime": "10s"}, "keepaliveTime must be lower"),
    ("bgppeers", {**PEER, "connectTime": "0s"}, "connect time should be between 1 seconds to 65535"),
    ("bgppeers", {**PEER, "connectTime": "1500ms"}, "connect time should contain a whole number of seconds"),
    (
        "bgppeers",
        {**PEER, "password": "a", "passwordSecret": {"name": "s"}},
        "can not have both password and secret ref set",
    ),
    ("bgppeers", {**PEER, "peerASN": 64512, "ebgpMultiHop": True}, "ebgp-multihop parameter set for an ibgp"),
    ("bfdprofiles", {"receiveInterval": 9}, "spec.receiveInterval"),
    ("bfdprofiles", {"transmitInterval": 60001}, "spec.transmitInterval"),
    ("bfdprofiles", {"echoInterval": 5}, "spec.echoInterval"),
    ("bfdprofiles", {"detectMultiplier": 1}, "spec.detectMultiplier"),
    ("bfdprofiles", {"detectMultiplier": 256}, "spec.detectMultiplier"),
    ("bfdprofiles", {"minimumTtl": 0}, "spec.minimumTtl"),
    ("bfdprofiles", {"minimumTtl": 255}, "spec.minimumTtl"),
    ("communities", {"communities": [{"name": "a", "value": "nonsense"}]}, "spec.communities[0].value"),
    ("communities", {"communities": [{"name": "a", "value": "1:2"}] * 2}, "Duplicate value"),
]  # fmt: skip


def collection(plural: str, version: str = "v1beta1") -> str:
    # not the namespace that the programs look at: what stays here is no configuration of theirs
    return f"/apis/metallb.io/{version}/namespaces/default/{plural}"


KINDS = {
    "ipaddresspools": "IPAddressPool",
    "l2advertisements": "L2Advertisement",
    "bgpadvertisements": "BGPAdvertisement",
    "bgppeers": "BGPPeer",
    "bfdprofiles": "BFDProfile",
    "communities": "Community",
    "servicel2statuses": "ServiceL2Status",
    "servicebgpstatuses": "ServiceBGPStatus",
}


def newest(plural: str) -> str:
    return "v1beta2" if plural == "bgppeers" else "v1beta1"


def thing(plural: str, name: str, spec: Any, version: str = "") -> dict[str, Any]:
    head = {"apiVersion": f"metallb.io/{version or newest(plural)}", "kind": KINDS[plural]}
    return {**head, "metadata": {"name": name}, "spec": spec}


def create(server: ApiServer, plural: str, spec: Any) -> tuple[int, str]:
    """A dry run: the server does everything but remember it."""
    answer = server.call("POST", collection(plural, newest(plural)) + "?dryRun=All", thing(plural, "a", spec))
    return answer.status, answer.text if answer.status == 201 else answer.json["message"]


@pytest.mark.parametrize(("plural", "spec"), ACCEPTED)
def test_what_metallb_takes_is_taken(system: ApiServer, plural: str, spec: dict[str, Any]) -> None:
    status, said = create(system, plural, spec)
    assert status == 201, said


@pytest.mark.parametrize(("plural", "spec", "reason"), REFUSED)
def test_what_metallb_refuses_is_refused(
    system: ApiServer, plural: str, spec: dict[str, Any], reason: str
) -> None:
    status, said = create(system, plural, spec)
    assert (status, reason in said) == (422, True), said


@pytest.mark.parametrize(
    ("plural", "spec", "expected"),
    [
        ("ipaddresspools", POOL, {"autoAssign": True, "avoidBuggyIPs": False}),
        ("bgpadvertisements", {}, {"aggregationLength": 32, "aggregationLengthV6": 128}),
        ("bgppeers", PEER, {"peerPort": 179, "disableMP": False, "dualStackAddressFamily": False}),
    ],
)
def test_defaults(system: ApiServer, plural: str, spec: dict[str, Any], expected: dict[str, Any]) -> None:
    path = collection(plural, newest(plural))
    made = system.call("POST", path + "?dryRun=All", thing(plural, "a", spec)).json["spec"]
    assert made == {**spec, **expected}


def test_graceful_restart_cannot_be_changed(system: ApiServer) -> None:
    path = collection("bgppeers", "v1beta2")
    body = thing("bgppeers", "steady", {**PEER, "enableGracefulRestart": True})
    assert system.call("POST", path, body).status == 201
    change = {"spec": {"enableGracefulRestart": False}}
    answer = system.call("PATCH", path + "/steady", change, content_type="application/merge-patch+json")
    assert answer.status == 422
    assert "EnableGracefulRestart cannot be changed after creation" in answer.json["message"]


@pytest.mark.parametrize("plural", ["servicel2statuses", "servicebgpstatuses"])
def test_whose_status_it_is_cannot_be_changed(system: ApiServer, plural: str) -> None:
    path = collection(plural)
    assert system.call("POST", path, thing(plural, "s", {})).status == 201
    status = {"node": "n", "serviceName": "s", "serviceNamespace": "d"}
    merge = "application/merge-patch+json"
    written = system.call("PATCH", f"{path}/s/status", {"status": status}, content_type=merge)
    assert (written.status, written.json["status"]) == (200, status)
    for field in status:
        answer = system.call("PATCH", f"{path}/s/status", {"status": {field: "other"}}, content_type=merge)
        assert (answer.status, "Value is immutable" in answer.text) == (422, True), answer.text


def test_a_pools_counters_come_together(system: ApiServer) -> None:
    path = collection("ipaddresspools")
    system.call("POST", path, thing("ipaddresspools", "counted", POOL))
    counters = {"assignedIPv4": 1, "assignedIPv6": 0, "availableIPv4": 255, "availableIPv6": 0}
    merge = "application/merge-patch+json"
    half = system.call("PATCH", path + "/counted/status", {"status": {"assignedIPv4": 1}}, content_type=merge)
    assert half.status == 422
    whole = system.call("PATCH", path + "/counted/status", {"status": counters}, content_type=merge)
    assert whole.json["status"] == counters


def test_the_old_version_of_a_peer_warns(system: ApiServer) -> None:
    path = collection("bgppeers")
    body = thing("bgppeers", "old", PEER, "v1beta1")
    answer = system.call("POST", path + "?dryRun=All", body)
    assert answer.status == 201, answer.text
    assert "v1beta1 is deprecated, please use v1beta2" in answer.headers["Warning"]


@pytest.mark.parametrize(
    ("plural", "heads"),
    [
        ("ipaddresspools", ["Auto Assign", "Avoid Buggy IPs", "Addresses"]),
        ("l2advertisements", ["IPAddressPools", "IPAddressPool Selectors", "Interfaces", "Node Selectors"]),
        ("bgpadvertisements", ["IPAddressPools", "IPAddressPool Selectors", "Peers", "Node Selectors"]),
        ("bgppeers", ["Address", "ASN", "BFD Profile", "Multi Hops"]),
        ("bfdprofiles", ["Passive Mode", "Transmit Interval", "Receive Interval", "Multiplier"]),
        ("servicel2statuses", ["Allocated Node", "Service Name", "Service Namespace"]),
        ("servicebgpstatuses", ["Node", "Service Name", "Service Namespace"]),
        ("configurationstates", ["Result", "ErrorSummary", "Age"]),
    ],
)
def test_kubectl_shows_metallbs_columns(system: ApiServer, plural: str, heads: list[str]) -> None:
    answer = system.call("GET", collection(plural), accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert [column["name"] for column in answer.json["columnDefinitions"]] == ["Name", *heads]


def test_no_kind_has_a_short_name(system: ApiServer) -> None:
    for version in ("v1beta1", "v1beta2"):
        for resource in system.call("GET", f"/apis/metallb.io/{version}").json["resources"]:
            assert not resource.get("shortNames"), resource["name"]


def test_applying_again_changes_nothing(kube: Kube) -> None:
    """What the API adds to a CRD by itself, defaults and all, is no difference."""
    shown = (
        "get",
        "crds",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion} {end}",
    )
    before = kube.kubectl(*shown)
    assert before.count("metallb.io") == 9
    install_crds(kube)
    assert kube.kubectl(*shown) == before


def test_kubectl_says_why_in_words(kube: Kube) -> None:
    body = (
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n"
        f"metadata: {{name: bad, namespace: {SYSTEM}}}\nspec: {{addresses: [], autoAsign: true}}\n"
    )
    with pytest.raises(LabError, match=r'unknown field "spec\.autoAsign"'):
        kube.kubectl("create", "-f", "-", stdin=body)
