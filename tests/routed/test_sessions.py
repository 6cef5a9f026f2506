"""Sessions that cannot be, and what they cost the others: nothing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from crier.lab import netns
from crier.lab.rest import RestError
from crier.lab.router import Neighbour
from tests.routed.stage import NODES_AS, Stage, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.netns]

WEB = "198.51.100.1"
NODE = "node-1"
ONE, TWO = "pass-one-7f3", "pass-two-9c1"


def session(stage: Stage, peer: str, state: str, *, why: str = "") -> dict[str, Any]:
    """Until a session of node-1 is in this state, and its last error has this text."""
    return eventually(
        lambda: stage.session(NODE, peer),
        lambda found: found.get("state") == state and why in found["last_error"],
    )


def refused(stage: Stage, *texts: str) -> str:
    """Until node-1's ConfigurationState says so."""
    found = eventually(
        lambda: stage.state(NODE),
        lambda state: (
            state.get("result") == "Invalid" and all(text in state["errorSummary"] for text in texts)
        ),
    )
    return str(found["errorSummary"])


def valid(stage: Stage) -> None:
    eventually(lambda: stage.state(NODE), lambda state: state.get("result") == "Valid")


def furnish(stage: Stage, **frr: Any) -> None:
    """The session with BIRD is the one that must not notice anything."""
    stage.make("BGPPeer", "frr", **stage.towards(stage.frr, **frr))
    stage.make("BGPPeer", "bird", **stage.towards(stage.bird))
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB)
    stage.hops(stage.bird, WEB, stage.addresses)


def test_the_password_of_a_secret_and_its_change(stage: Stage) -> None:
    stage.frr.configure(stage.neighbours(password=ONE))
    stage.secret("tor", ONE)
    furnish(stage, passwordSecret={"name": "tor"})
    since = stage.session(NODE, "bird")["since"]
    stage.hops(stage.frr, WEB, stage.addresses)
    stage.secret("tor", TWO)
    session(stage, "frr", "Active", why="with a password, a wrong one on either side looks like this")
    stage.frr.configure(stage.neighbours(password=TWO))
    stage.hops(stage.frr, WEB, stage.addresses)
    assert stage.session(NODE, "bird")["since"] == since
    shown = stage.fetch(NODE, "/status") + stage.fetch(NODE, "/why") + stage.fetch(NODE, "/metrics")
    logs = "".join(file.read_text() for file in (stage.run.directory / "logs").glob("speaker-*.log"))
    assert not any(password in text for password in (ONE, TWO) for text in (shown, logs))


def test_a_secret_that_is_missing_or_of_the_wrong_type(stage: Stage) -> None:
    furnish(stage, passwordSecret={"name": "tor"})
    assert refused(stage, "there is no Secret 'tor'").startswith(
        "configuration error: frr: spec.passwordSecret"
    )
    stage.secret("tor", "key", kind="Opaque")
    assert refused(stage, "secret type mismatch") == (
        'configuration error: parsing peer frr secret type mismatch on "metallb-system"/"tor", '
        'type "kubernetes.io/basic-auth" is expected \nfailed to parse peer frr password secret'
    )
    assert stage.session(NODE, "frr") == {}
    assert stage.session(NODE, "bird")["state"] == "Established"
    eventually(lambda: [reason for reason, _ in stage.events("BGPPeer", "frr", "metallb-system")],
               lambda found: "configurationError" in found)  # fmt: skip
    stage.frr.configure(stage.neighbours(password="key"))
    stage.secret("tor", "key")
    stage.hops(stage.frr, WEB, stage.addresses)
    valid(stage)


def test_the_wrong_as_is_named_and_the_right_one_heals(stage: Stage) -> None:
    furnish(stage, peerASN=65123)
    session(stage, "frr", "Active", why="peer is AS 65000, expected 65123")
    assert stage.metric(NODE, "metallb_bgp_session_up", 'peer="172.30.0.120:179"') == 0
    stage.change("BGPPeer", "frr", peerASN=stage.frr.asn)
    stage.hops(stage.frr, WEB, stage.addresses)
    # what the router thinks wrong is told in its own words
    stage.change("BGPPeer", "frr", myASN=64777)
    session(stage, "frr", "Active", why="peer said: open (2/2)")
    assert stage.session(NODE, "bird")["state"] == "Established"


@pytest.mark.parametrize(("mode", "up"), [("external", True), ("internal", False)])
def test_a_dynamic_as(stage: Stage, mode: str, up: bool) -> None:
    furnish(stage, peerASN=None, dynamicASN=mode)
    if up:
        stage.hops(stage.frr, WEB, stage.addresses)
    else:
        session(stage, "frr", "Active", why="peer is AS 65000, expected internal")


def test_a_local_as_for_one_session(stage: Stage) -> None:
    others = [Neighbour(address=each.address, asn=64888, bfd=each.bfd) for each in stage.neighbours()]
    stage.frr.configure(others)
    furnish(stage, localASN=64888)
    stage.hops(stage.frr, WEB, stage.addresses)
    assert stage.frr.neighbour(str(stage.lan.nodes[NODE].ipv4))["remoteAs"] == 64888


def test_timers_router_id_and_source_reach_the_router(stage: Stage) -> None:
    here = stage.lan.nodes[NODE]
    only = [{"matchLabels": {"kubernetes.io/hostname": NODE}}]
    stage.make(
        "BGPPeer",
        "frr",
        **stage.towards(
            stage.frr,
            holdTime="30s",
            keepaliveTime="10s",
            routerID="10.10.10.10",
            sourceAddress=str(here.ipv4),
            nodeSelectors=only,
        ),
    )
    stage.up(stage.frr, nodes=[NODE])
    seen = stage.frr.neighbour(str(here.ipv4))
    assert seen["remoteRouterId"] == "10.10.10.10"
    assert seen["bgpTimerHoldTimeMsecs"] == 30000
    assert stage.session(NODE, "frr")["vrf"] == ""
    stage.change("BGPPeer", "frr", sourceAddress="192.0.2.77")
    session(stage, "frr", "Active", why="Cannot assign requested address")


def test_duplicate_router_ids_are_named(stage: Stage) -> None:
    """Internal peers must differ (RFC 6286); external ones need not."""
    furnish(stage)
    stage.change("BGPPeer", "bird", routerID=stage.bird.address)
    session(stage, "bird", "Active", why="peer has our own BGP identifier 172.30.0.121")
    stage.hops(stage.frr, WEB, stage.addresses)


GARBAGE = """
import socket, sys, threading
server = socket.create_server(("", 1790))
def talk(sock):
    sock.recv(4096)
    if sys.argv[1] == "half":
        sock.sendall(b"\\xff" * 16 + b"\\x00\\x1d\\x01\\x04")
    elif sys.argv[1] != "nothing":
        sock.sendall(bytes(range(256)) * 20)
    while sock.recv(4096):
        pass
while True:
    threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.mark.parametrize(("what", "why"), [("noise", "marker"), ("half", ""), ("nothing", "")])
def test_a_peer_that_talks_nonsense_half_messages_or_nothing(stage: Stage, what: str, why: str) -> None:
    noise = stage.processes.start(
        f"garbage-{what}",
        [sys.executable, "-c", GARBAGE, what],
        namespace=stage.lan.control_plane.netns,
    )
    noise.expected = True
    try:
        stage.make("BGPPeer", "bird", **stage.towards(stage.bird))
        stage.make("BGPAdvertisement", "ad")
        stage.service("web", WEB)
        address = str(stage.lan.control_plane.ipv4)
        stage.make("BGPPeer", "mad", myASN=NODES_AS, peerASN=1, peerAddress=address, peerPort=1790)
        stage.hops(stage.bird, WEB, stage.addresses)
        if why:
            eventually(lambda: stage.session(NODE, "mad"), lambda found: why in found.get("last_error", ""))
        else:
            session(stage, "mad", "OpenSent")
        assert stage.session(NODE, "bird")["state"] == "Established"
    finally:
        noise.popen.kill()


FIELDS: list[tuple[str, str, dict[str, Any], str]] = [
    ("BGPPeer", "frr", {"myASN": 0}, "frr: spec.myASN: missing local ASN"),
    ("BGPPeer", "frr", {"peerASN": 0}, "frr: spec.peerASN: missing peer ASN and dynamicASN"),
    ("BGPPeer", "frr", {"dynamicASN": "internal"}, "both peer ASN and dynamicASN specified"),
    ("BGPPeer", "frr", {"peerAddress": "nonsense"}, "invalid BGPPeer address 'nonsense'"),
    ("BGPPeer", "frr", {"interface": "eth9"}, "peer has both Address and Interface specified"),
    ("BGPPeer", "frr", {"sourceAddress": "x"}, "frr: spec.sourceAddress: invalid source IP 'x'"),
    ("BGPPeer", "frr", {"routerID": "x"}, "frr: spec.routerID: invalid router ID 'x'"),
    ("BGPPeer", "frr", {"holdTime": "1s"}, "frr: spec.holdTime: invalid hold time"),
    ("BGPPeer", "frr", {"holdTime": "9s", "keepaliveTime": "10s"}, "invalid keepaliveTime"),
    ("BGPPeer", "frr", {"ebgpMultiHop": True, "peerASN": NODES_AS}, "invalid ebgp-multihop parameter"),
    ("BGPPeer", "frr", {"bfdProfile": "none"}, "peer frr referencing non existing bfd profile none"),
    ("BGPPeer", "frr", {"password": "x" * 81}, "frr: spec.password: a password has 1..80 octets"),
    ("BGPPeer", "frr", {"nodeSelectors": [{"matchExpressions": [{"key": "a", "operator": "?"}]}]},
     "invalid label selector operator"),
    ("BGPAdvertisement", "ad", {"aggregationLength": 20}, "ad: spec.aggregationLength: invalid aggregation"),
    ("BGPAdvertisement", "ad", {"communities": ["1:2", "1:2"]}, "duplicate definition of community"),
    ("BGPAdvertisement", "ad", {"communities": ["1:99999"]}, "ad: spec.communities[0]: invalid community"),
    ("BGPAdvertisement", "ad", {"communities": ["later"]}, "ad: spec.communities: there is no community"),
    ("BGPAdvertisement", "ad", {"peers": ["a", "a"]}, "ad: spec.peers: duplicate definition of peers"),
    ("BFDProfile", "slow", {"minimumTtl": 999}, "slow: spec.minimumTtl: 999 is not in 1..254"),
    ("Community", "names", {"communities": [{"name": "n", "value": "?"}]},
     "names: spec.communities[0].value: invalid community"),
]  # fmt: skip


def test_each_bad_field_is_named_and_nothing_else_changes(stage: Stage) -> None:
    """Those that the API itself refuses (its CRD's rules) are as good: they never come to us."""
    stage.make("BFDProfile", "slow")
    stage.make("Community", "names", communities=[])
    furnish(stage)
    stage.hops(stage.frr, WEB, stage.addresses)
    since = {peer: stage.session(NODE, peer)["since"] for peer in ("frr", "bird")}
    asked = 0
    for kind, name, spec, text in FIELDS:
        before = {
            "spec": next(each for each in stage.listed(kind) if each["metadata"]["name"] == name)["spec"]
        }
        if not _accepted(stage, kind, name, spec):
            continue
        asked += 1
        refused(stage, text)
        restore = {key: before["spec"].get(key) for key in spec}
        stage.change(kind, name, **restore)
        valid(stage)
    assert asked >= 12
    assert since == {peer: stage.session(NODE, peer)["since"] for peer in ("frr", "bird")}
    assert stage.frr.fib()[WEB] == stage.bird.fib()[WEB] == stage.addresses
    assert stage.metric(NODE, "metallb_k8s_client_config_stale_bool") == 0


def _accepted(stage: Stage, kind: str, name: str, spec: dict[str, Any]) -> bool:
    try:
        stage.change(kind, name, **spec)
    except RestError as problem:
        if problem.status != 422:
            raise
        return False
    return True


def test_a_frozen_router_costs_its_own_session_only(stage: Stage) -> None:
    furnish(stage, holdTime="3s", keepaliveTime="1s")
    stage.hops(stage.frr, WEB, stage.addresses)
    stage.frr.freeze()
    try:
        eventually(
            lambda: stage.session(NODE, "frr"), lambda found: "hold timer expired" in found["last_error"]
        )
        assert stage.session(NODE, "bird")["state"] == "Established"
        stage.assign("web", "198.51.100.9")
        stage.hops(stage.bird, "198.51.100.9", stage.addresses)
    finally:
        stage.frr.thaw()
    stage.hops(stage.frr, "198.51.100.9", stage.addresses)


def test_a_router_that_restarts_hears_everything_again(stage: Stage) -> None:
    furnish(stage)
    since = stage.session(NODE, "frr")["since"]
    stage.bird.crash()
    eventually(lambda: stage.session(NODE, "bird")["state"], lambda state: state != "Established")
    stage.bird.start(stage.neighbours())
    stage.hops(stage.bird, WEB, stage.addresses)
    assert stage.session(NODE, "frr")["since"] == since


def test_routes_of_a_router_never_reach_a_nodes_kernel(stage: Stage) -> None:
    """What peers announce is counted and forgotten."""
    furnish(stage)
    stage.frr.do(f"router bgp {stage.frr.asn}", "no bgp network import-check",
                 "address-family ipv4 unicast", "network 203.0.113.0/24")  # fmt: skip
    try:
        told = 'peer="172.30.0.120:179"'
        eventually(lambda: (stage.metric(NODE, "metallb_bgp_updates_total_received", told) or 0) >= 1)
        eventually(lambda: stage.frr.known("203.0.113.0/24"))
        routes = netns.run("ip", "-n", stage.lan.nodes[NODE].netns, "route")
        assert "203.0.113" not in routes
        assert stage.session(NODE, "frr")["state"] == "Established"
    finally:
        stage.frr.do(
            f"router bgp {stage.frr.asn}", "address-family ipv4 unicast", "no network 203.0.113.0/24"
        )


def test_an_unnumbered_peer_with_bfd(stage: Stage) -> None:
    """A link with nothing on it but what IPv6 makes itself; IPv4 routes go over it, too (RFC 8950)."""
    here, there = stage.lan.nodes[NODE].netns, stage.frr.host.netns
    netns.ip(here, f"link add up0 type veth peer name down0 netns {there}", "link set up0 up")
    netns.ip(there, "link set down0 up")
    stage.make("BFDProfile", "fast", receiveInterval=50, transmitInterval=50, detectMultiplier=3)
    try:
        at = "neighbor down0"
        stage.frr.do(
            f"router bgp {stage.frr.asn}", f"{at} interface remote-as {NODES_AS}", f"{at} bfd 3 50 50",
            "address-family ipv4 unicast", f"{at} activate", "exit-address-family",
            "address-family ipv6 unicast", f"{at} activate", "exit-address-family",
        )  # fmt: skip
        stage.make(
            "BGPPeer",
            "link",
            myASN=NODES_AS,
            peerASN=stage.frr.asn,
            interface="up0",
            bfdProfile="fast",
            connectTime="1s",
            nodeSelectors=[{"matchLabels": {"kubernetes.io/hostname": NODE}}],
        )
        stage.make("BGPAdvertisement", "ad")
        stage.service("web", WEB, "fd00:c71e:8::1")
        eventually(stage.frr.established, lambda found: found == {"down0"})
        eventually(
            lambda: stage.session(NODE, "link"),
            lambda found: (
                [found.get(each) for each in ("address", "state", "sent", "bfd")]
                == ["up0", "Established", 2, "Up"]
            ),
        )
        fib = eventually(stage.frr.fib, lambda routes: WEB in routes and "fd00:c71e:8::1" in routes)
        assert all(hop.startswith("fe80::") for hop in fib["fd00:c71e:8::1"])
    finally:
        stage.frr.do(f"router bgp {stage.frr.asn}", "no neighbor down0 interface")
        netns.ip(here, "link delete up0")
