"""What routers learn: next hops, traffic, attributes, selectors; FRR by eBGP and BIRD by iBGP at once."""

from __future__ import annotations

import io
import json
import signal
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest

from crier.cli._common import Exit
from crier.cli.main import main
from crier.lab.router import Router
from tests.routed.stage import METALLB, NODES_AS, Stage, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.netns]

WEB, WEB6 = "198.51.100.1", "fd00:c71e:8::1"
DB = "198.51.100.2"


def everywhere(stage: Stage, *peers: str) -> dict[str, list[str]]:
    return {node: list(peers) for node in stage.lan.nodes}


def marked(router: Router, prefix: str, *wanted: str) -> None:
    """Until every path to the prefix has exactly these communities."""
    eventually(lambda: communities(router, prefix), lambda found: found == {frozenset(wanted)})


def communities(router: Router, prefix: str) -> set[frozenset[str]]:
    return {route.communities for route in router.known(prefix)}


def test_every_node_is_a_next_hop_and_serves(stage: Stage) -> None:
    stage.peers()
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB, local=True)
    stage.up()
    for router in stage.routers:
        stage.hops(router, WEB, stage.addresses)
    served = Counter(stage.served_by(WEB, 60))
    assert set(served) == set(stage.lan.nodes)
    statuses = eventually(
        lambda: [each.get("status", {}) for each in stage.listed("ServiceBGPStatus")],
        lambda found: len(found) == 3 and all(each.get("peers") for each in found),
    )
    assert {each["node"] for each in statuses} == set(stage.lan.nodes)
    assert {tuple(each["peers"]) for each in statuses} == {("bird", "frr")}
    told = eventually(lambda: stage.events("Service", "web"), lambda found: len(found) == 3)
    expected = {f'announcing from node "{node}" with protocol "bgp"' for node in stage.lan.nodes}
    assert {message for reason, message in told if reason == "nodeAssigned"} == expected
    for peer in ("172.30.0.120:179", "172.30.0.121:179"):
        assert stage.metric("node-1", "metallb_bgp_session_up", f'peer="{peer}"') == 1
        assert stage.metric("node-1", "metallb_bgp_announced_prefixes_total", f'peer="{peer}"') == 1
        assert stage.metric("node-1", "metallb_bgp_pending_prefixes_total", f'peer="{peer}"') == 1
        assert (stage.metric("node-1", "metallb_bgp_updates_total", f'peer="{peer}"') or 0) >= 1
        assert stage.metric("node-1", "metallb_bgp_notifications_sent", f'peer="{peer}"') is not None
    assert stage.metric("node-1", "metallb_speaker_announced", 'protocol="bgp"', f'ip="{WEB}"') == 1
    session = stage.session("node-1", "frr")
    assert (session["state"], session["wanted"], session["sent"]) == ("Established", 1, 1)
    # and when the service goes, all of it goes
    stage.rest.delete("/api/v1/namespaces/default/services/web")
    for router in stage.routers:
        stage.hops(router, WEB, frozenset())
    eventually(lambda: stage.listed("ServiceBGPStatus"), lambda found: not found)
    assert stage.metric("node-1", "metallb_speaker_announced", 'protocol="bgp"') is None


def test_local_policy_is_announced_where_its_endpoints_are(stage: Stage) -> None:
    stage.peers()
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB, local=True, nodes=["node-2"])
    for router in stage.routers:
        stage.hops(router, WEB, stage.at("node-2"))
    assert set(stage.served_by(WEB, 6)) == {"node-2"}
    stage.endpoints("web", ["node-1", "node-3"])
    for router in stage.routers:
        stage.hops(router, WEB, stage.at("node-1", "node-3"))
    stage.endpoints("web", [])
    for router in stage.routers:
        stage.hops(router, WEB, frozenset())
    assert "no endpoint" in stage.document("node-1", "/why")["services"]["default/web"]["bgp"]["objection"]


def test_network_unavailable_and_the_exclude_label_take_a_node_away(stage: Stage) -> None:
    stage.peers()
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB)
    stage.hops(stage.frr, WEB, stage.addresses)
    status = "/api/v1/nodes/node-1/status"
    ready = {"type": "Ready", "status": "True"}
    stage.rest.merge(
        status, {"status": {"conditions": [ready, {"type": "NetworkUnavailable", "status": "True"}]}}
    )
    stage.hops(stage.frr, WEB, stage.at("node-2", "node-3"))
    stage.rest.merge(status, {"status": {"conditions": [ready]}})
    stage.hops(stage.frr, WEB, stage.addresses)
    label = "node.kubernetes.io/exclude-from-external-load-balancers"
    stage.rest.merge("/api/v1/nodes/node-1", {"metadata": {"labels": {label: ""}}})
    stage.hops(stage.frr, WEB, stage.at("node-2", "node-3"))
    stage.rest.merge("/api/v1/nodes/node-1", {"metadata": {"labels": {label: None}}})
    stage.hops(stage.frr, WEB, stage.addresses)


def test_attributes_reach_the_right_prefixes_and_change_while_they_run(stage: Stage) -> None:
    stage.peers()
    stage.make("Community", "names", communities=[{"name": "far", "value": "64500:7"}])
    stage.make("IPAddressPool", "other", labels={"kind": "other"}, addresses=["203.0.113.0/24"])
    try:
        stage.make(
            "BGPAdvertisement",
            "marked",
            ipAddressPools=["pool"],
            communities=["far", "1:2", "large:64500:1:2"],
            localPref=300,
        )
        stage.make("BGPAdvertisement", "plain", ipAddressPoolSelectors=[{"matchLabels": {"kind": "other"}}])
        stage.service("web", WEB)
        stage.service("db", "203.0.113.9")
        for router in stage.routers:
            stage.hops(router, WEB, stage.addresses)
            marked(router, f"{WEB}/32", "64500:7", "1:2", "64500:1:2")
            stage.hops(router, "203.0.113.9", stage.addresses)
            assert communities(router, "203.0.113.9/32") == {frozenset()}
        assert {route.local_pref for route in stage.bird.known(f"{WEB}/32")} == {300}
        assert {route.local_pref for route in stage.bird.known("203.0.113.9/32")} == {100}
        # the same objects, changed
        stage.change("BGPAdvertisement", "marked", localPref=50, communities=["1:2"], aggregationLength=26)
        for router in stage.routers:
            stage.hops(router, "198.51.100.0/26", stage.addresses)
            stage.hops(router, WEB, frozenset())
            marked(router, "198.51.100.0/26", "1:2")
        assert {route.local_pref for route in stage.bird.known("198.51.100.0/26")} == {50}
    finally:
        stage.rest.delete("/api/v1/namespaces/default/services/db")
        stage.delete("IPAddressPool", "other")


def test_overlapping_advertisements_unite_their_communities(stage: Stage) -> None:
    stage.peers()
    stage.make("BGPAdvertisement", "one", communities=["1:1"])
    stage.make("BGPAdvertisement", "two", communities=["1:2"])
    stage.service("web", WEB)
    for router in stage.routers:
        stage.hops(router, WEB, stage.addresses)
        marked(router, f"{WEB}/32", "1:1", "1:2")


def test_peer_node_and_service_selectors(stage: Stage) -> None:
    stage.peers()
    hostname = "kubernetes.io/hostname"
    stage.make(
        "BGPAdvertisement", "to-frr", peers=["frr"], serviceSelectors=[{"matchLabels": {"app": "web"}}]
    )
    stage.make(
        "BGPAdvertisement", "to-bird", peers=["bird"], nodeSelectors=[{"matchLabels": {hostname: "node-2"}}]
    )
    stage.service("web", WEB, labels={"app": "web"})
    stage.service("db", DB)
    stage.hops(stage.frr, WEB, stage.addresses)
    stage.hops(stage.bird, WEB, stage.at("node-2"))
    stage.hops(stage.bird, DB, stage.at("node-2"))
    assert DB not in stage.frr.fib()
    # live: the label of a service, the selector of an advertisement, the union of advertisements
    stage.rest.merge("/api/v1/namespaces/default/services/db", {"metadata": {"labels": {"app": "web"}}})
    stage.hops(stage.frr, DB, stage.addresses)
    stage.change("BGPAdvertisement", "to-bird", nodeSelectors=[{"matchLabels": {"rack": "1"}}])
    stage.hops(stage.bird, WEB, frozenset())
    stage.label("node-3", rack="1")
    stage.hops(stage.bird, WEB, stage.at("node-3"))
    stage.make(
        "BGPAdvertisement", "also", peers=["bird"], nodeSelectors=[{"matchLabels": {hostname: "node-1"}}]
    )
    stage.hops(stage.bird, WEB, stage.at("node-1", "node-3"))
    stage.label("node-3", rack=None)
    stage.hops(stage.bird, WEB, stage.at("node-1"))


def test_a_peers_node_selector_and_another_as_per_node(stage: Stage) -> None:
    hostname = "kubernetes.io/hostname"
    first, *others = stage.neighbours()
    stage.frr.configure([*others, type(first)(address=first.address, asn=64999, bfd=(50, 3))])
    stage.make(
        "BGPPeer",
        "first",
        **stage.towards(stage.frr, myASN=64999, nodeSelectors=[{"matchLabels": {hostname: "node-1"}}]),
    )
    stage.make(
        "BGPPeer",
        "second",
        **stage.towards(stage.frr, nodeSelectors=[{"matchLabels": {hostname: "node-2"}}]),
    )
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB)
    stage.hops(stage.frr, WEB, stage.at("node-1", "node-2"))
    assert stage.session("node-3", "second") == {}
    stage.change("BGPPeer", "second", nodeSelectors=[{"matchLabels": {hostname: "node-3"}}])
    stage.hops(stage.frr, WEB, stage.at("node-1", "node-3"))


def test_both_families_over_one_session(stage: Stage) -> None:
    stage.make("BGPPeer", "frr", **stage.towards(stage.frr, dualStackAddressFamily=True))
    stage.make("BGPPeer", "bird", **stage.towards(stage.bird))
    stage.make("BGPAdvertisement", "ad", communities=["1:2"])
    stage.service("web", WEB, WEB6)
    stage.hops(stage.frr, WEB, stage.addresses)
    wide = frozenset(str(host.ipv6) for host in stage.lan.nodes.values())
    eventually(
        lambda: {route.next_hop for route in stage.frr.known(f"{WEB6}/128")}, lambda found: found == wide
    )
    stage.hops(stage.bird, WEB, stage.addresses)
    assert WEB6 not in stage.bird.fib()  # a session over IPv4 tells of IPv6 only when asked to
    assert communities(stage.frr, f"{WEB6}/128") == {frozenset({"1:2"})}
    assert set(stage.served_by(WEB6, 12)) <= set(stage.lan.nodes)


def test_a_session_over_ipv6_with_one_family_and_with_both(stage: Stage) -> None:
    here = stage.lan.nodes["node-1"]
    bgp, at = f"router bgp {stage.frr.asn}", f"neighbor {here.ipv6}"
    stage.frr.do(bgp, f"{at} remote-as {NODES_AS}", f"{at} passive", f"{at} bfd 3 350 350")
    for family in ("ipv4", "ipv6"):
        stage.frr.do(bgp, f"address-family {family} unicast", f"{at} activate")
    try:
        only = [{"matchLabels": {"kubernetes.io/hostname": "node-1"}}]
        address = str(stage.frr.host.ipv6)
        stage.make("BFDProfile", "calm", receiveInterval=350, transmitInterval=350)
        stage.make(
            "BGPPeer",
            "six",
            **stage.towards(stage.frr, peerAddress=address, nodeSelectors=only, bfdProfile="calm"),
        )
        stage.make("BGPAdvertisement", "ad", communities=["1:2"])
        stage.service("web", WEB, WEB6)
        eventually(
            lambda: {route.next_hop for route in stage.frr.known(f"{WEB6}/128")},
            lambda found: found == {str(here.ipv6)},
        )
        eventually(lambda: stage.session("node-1", "six").get("bfd"), lambda found: found == "Up")
        assert WEB not in stage.frr.fib()
        stage.change("BGPPeer", "six", dualStackAddressFamily=True)
        stage.hops(stage.frr, WEB, stage.at("node-1"))
        for prefix in (f"{WEB}/32", f"{WEB6}/128"):
            marked(stage.frr, prefix, "1:2")
    finally:
        stage.frr.do(bgp, f"no {at}")


def test_two_services_share_an_address(stage: Stage) -> None:
    """As long as one of them has it, and each by its own port."""
    stage.make("BGPPeer", "frr", **stage.towards(stage.frr))
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB)
    stage.service("other", WEB, port=81)
    stage.hops(stage.frr, WEB, stage.addresses)
    for port in (80, 81):
        eventually(
            lambda port=port: stage.served_by(WEB, 6, port),  # type: ignore[misc]
            lambda found: set(found) <= set(stage.lan.nodes),
        )
    stage.rest.delete("/api/v1/namespaces/default/services/other")
    eventually(lambda: stage.served_by(WEB, 1, 81), lambda found: found == [""])
    assert stage.frr.fib()[WEB] == stage.addresses
    assert "" not in stage.served_by(WEB, 6)


def test_a_change_of_one_object_leaves_the_sessions_alone(stage: Stage) -> None:
    stage.make("BGPPeer", "frr", **stage.towards(stage.frr))
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB)
    stage.hops(stage.frr, WEB, stage.addresses)
    since = {node: stage.session(node, "frr")["since"] for node in stage.lan.nodes}
    stage.make("BGPPeer", "bird", **stage.towards(stage.bird))
    stage.make("BGPAdvertisement", "more", aggregationLength=24)
    stage.hops(stage.bird, "198.51.100.0/24", stage.addresses)
    stage.assign("web", DB)
    stage.hops(stage.frr, DB, stage.addresses)
    stage.hops(stage.frr, WEB, frozenset())
    stage.delete("BGPPeer", "bird")
    eventually(stage.bird.established, lambda found: not found)
    eventually(
        lambda: [each["status"]["peers"] for each in stage.listed("ServiceBGPStatus") if "status" in each],
        lambda found: found == [["frr"]] * 3,
    )
    assert since == {node: stage.session(node, "frr")["since"] for node in stage.lan.nodes}


def test_layer_2_and_bgp_together_and_each_alone(stage: Stage) -> None:
    stage.make("BGPPeer", "frr", **stage.towards(stage.frr))
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB)
    stage.hops(stage.frr, WEB, stage.addresses)
    assert all(not stage.document(node)["vips"] for node in stage.lan.nodes)  # nobody answers ARP
    stage.make("L2Advertisement", "lan")
    eventually(
        lambda: [vip["answering"] for node in stage.lan.nodes for vip in stage.document(node)["vips"]],
        lambda found: sorted(found) == [False, False, True],
    )
    eventually(
        lambda: [each.get("status", {}).get("node") for each in stage.listed("ServiceL2Status")],
        lambda found: len(found) == 1 and found[0] in stage.lan.nodes,
    )
    stage.hops(stage.frr, WEB, stage.addresses)
    stage.delete("L2Advertisement", "lan")
    eventually(
        lambda: [vip for node in stage.lan.nodes for vip in stage.document(node)["vips"]],
        lambda found: not found,
    )
    stage.hops(stage.frr, WEB, stage.addresses)


def test_a_drained_node_is_the_last_resort_and_then_none(stage: Stage) -> None:
    stage.peers()
    stage.make("BGPAdvertisement", "ad", localPref=200)
    stage.service("web", WEB)
    stage.service("db", DB)
    stage.hops(stage.bird, WEB, stage.addresses)
    node = "/api/v1/nodes/node-1"
    stage.rest.merge(node, {"metadata": {"annotations": {"crier.dev/drain": WEB}}})
    # BIRD prefers the others by LOCAL_PREF alone; the community is for those that act upon it
    stage.hops(stage.bird, WEB, stage.at("node-2", "node-3"))
    first = str(stage.lan.nodes["node-1"].ipv4)
    leaving = {route.next_hop: route for route in stage.bird.known(f"{WEB}/32")}[first]
    assert (leaving.local_pref, set(leaving.communities)) == (0, {"65535:0"})
    stage.hops(stage.bird, DB, stage.addresses)
    label = "node.kubernetes.io/exclude-from-external-load-balancers"
    stage.rest.merge(node, {"metadata": {"labels": {label: ""}}})
    eventually(
        lambda: {route.next_hop for route in stage.bird.known(f"{WEB}/32")}, lambda got: first not in got
    )
    stage.rest.merge(node, {"metadata": {"labels": {label: None}, "annotations": {"crier.dev/drain": None}}})
    stage.hops(stage.bird, WEB, stage.addresses)


def drain(stage: Stage, verb: str, node: str, status: int, *more: str) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    words = [verb, node, "--json", "--kubeconfig", str(stage.outside), "--move-timeout", "4", *more]
    with redirect_stdout(out), redirect_stderr(err):
        ended = main(words)
    assert ended == status, out.getvalue() + err.getvalue()
    document: dict[str, Any] = json.loads(out.getvalue() or "{}")
    return document | {"said": err.getvalue()}


def announced_by_all(stage: Stage) -> None:
    """A service that every node announces, and has said so."""
    stage.peers()
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB)
    stage.hops(stage.bird, WEB, stage.addresses)
    eventually(lambda: stage.listed("ServiceBGPStatus"), lambda found: len(found) == 3)
    eventually(lambda: all(each.get("status", {}).get("peers") for each in stage.listed("ServiceBGPStatus")))


def test_a_drain_sees_the_routers_prefer_others_and_the_routes_go(stage: Stage) -> None:
    announced_by_all(stage)
    found = drain(stage, "drain", "node-1", 0)
    (moved,) = found["moved"]
    assert (moved["addresses"], moved["after"], moved["unverified"]) == ([WEB], "node-2, node-3", "")
    assert "node-1 has withdrawn its routes" in found["said"]
    assert stage.document("node-1", "/routes") == {"node": "node-1", "visible": True, "routes": []}
    first = str(stage.lan.nodes["node-1"].ipv4)
    eventually(
        lambda: {route.next_hop for route in stage.bird.known(f"{WEB}/32")}, lambda got: first not in got
    )
    found = drain(stage, "undrain", "node-1", 0)
    (moved,) = found["moved"]
    assert (moved["before"], moved["after"]) == ("node-2, node-3", "node-1, node-2, node-3")
    assert (moved["addresses"], moved["unverified"]) == ([WEB], "")
    carried = {"prefix": f"{WEB}/32", "told": ["bird", "frr"], "leaving": []}
    assert stage.document("node-1", "/routes")["routes"] == [carried], "it was waited for"
    stage.hops(stage.bird, WEB, stage.addresses)


def test_a_node_whose_speaker_is_dead_is_not_undrained(stage: Stage) -> None:
    announced_by_all(stage)
    drain(stage, "drain", "node-1", 0)
    speaker = stage.processes.all["speaker-node-1"]
    speaker.expected = True
    speaker.send(signal.SIGKILL)
    speaker.popen.wait(15)
    try:
        said = drain(stage, "undrain", "node-1", Exit.PARTIAL)["said"]
        assert "nothing was changed: the speaker on node-1 does not answer" in said
        node = (stage.rest.get("/api/v1/nodes/node-1") or {})["metadata"]
        assert node["annotations"]["crier.dev/drain"] == "*"
    finally:
        stage.start_speaker("node-1")
        drain(stage, "undrain", "node-1", 0, "--force")
    stage.hops(stage.bird, WEB, stage.addresses)


def test_a_drain_keeps_what_no_other_nodes_sessions_carry(stage: Stage) -> None:
    announced_by_all(stage)
    # the others are to tell the routers as before, but no router listens to them
    for router in stage.routers:
        router.configure([each for each in stage.neighbours() if each.address in stage.at("node-1")])
    stage.up(nodes=["node-1"])
    eventually(lambda: stage.document("node-2", "/routes"), lambda found: not found["routes"])
    eventually(lambda: stage.document("node-3", "/routes"), lambda found: not found["routes"])
    found = drain(stage, "drain", "node-1", 1)
    (stuck,) = found["stuck"]
    assert "no other node's sessions carry" in stuck["why"]
    annotations = (stage.rest.get("/api/v1/nodes/node-1") or {})["metadata"].get("annotations", {})
    assert "crier.dev/drain" not in annotations
    stage.hops(stage.bird, WEB, stage.at("node-1"))


def test_the_status_of_a_service_follows_its_peers(stage: Stage) -> None:
    stage.peers()
    stage.make("BGPAdvertisement", "ad", peers=["frr", "nobody"])
    stage.service("web", WEB)

    def said() -> dict[str, list[str]]:
        found = [each.get("status", {}) for each in stage.listed("ServiceBGPStatus")]
        return {each["node"]: each["peers"] for each in found if each.get("node")}

    eventually(said, lambda found: found == everywhere(stage, "frr"))
    stage.change("BGPAdvertisement", "ad", peers=None)
    eventually(said, lambda found: found == everywhere(stage, "bird", "frr"))
    # somebody else's hand
    (one, *_) = stage.listed("ServiceBGPStatus")
    stage.rest.delete(f"{METALLB}/servicebgpstatuses/{one['metadata']['name']}")
    eventually(said, lambda found: found == everywhere(stage, "bird", "frr"))
    stage.change(
        "BGPAdvertisement", "ad", nodeSelectors=[{"matchLabels": {"kubernetes.io/hostname": "node-1"}}]
    )
    eventually(said, lambda found: found == {"node-1": ["bird", "frr"]})
    stage.delete("BGPPeer", "bird")
    eventually(said, lambda found: found == {"node-1": ["frr"]})
    stage.delete("BGPPeer", "frr")
    eventually(said, lambda found: found == {})
