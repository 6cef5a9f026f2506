"""What routers see when a planner, a speaker or a node ends: with BFD, with graceful restart, without."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import Any

import pytest

from crier.lab.router import FibLog, Router
from tests.routed.stage import Stage, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.netns]

WEB = "198.51.100.1"
NODE = "node-1"
PATIENT = (350, 3)
"""BFD for tests that are to see no flap: on a busy machine nobody may run for longer than 150 ms."""
ATTEMPTS = 5


def furnish(stage: Stage, *, bfd: tuple[int, int] = (50, 3), **more: Any) -> None:
    interval, multiplier = bfd
    stage.make(
        "BFDProfile", "fast", receiveInterval=interval, transmitInterval=interval, detectMultiplier=multiplier
    )
    stage.peers(bfdProfile="fast", **more)
    stage.make("BGPAdvertisement", "ad")
    stage.service("web", WEB, local=True)
    for router in stage.routers:
        stage.hops(router, WEB, stage.addresses)


def bfd_up(stage: Stage) -> None:
    for node in stage.lan.nodes:
        eventually(partial(said, stage, node, "bfd"), lambda found: found == ["Up", "Up"])


def said(stage: Stage, node: str, what: str) -> list[Any]:
    return [stage.session(node, peer).get(what) for peer in ("frr", "bird")]


def restarted(stage: Stage, before: int) -> None:
    """Until another planner has its sessions."""
    eventually(
        lambda: (stage.document(NODE).get("planner") or {}).get("pid", before), lambda pid: pid != before
    )
    eventually(partial(said, stage, NODE, "state"), lambda found: found == ["Established"] * 2)


def bfd_downs(stage: Stage) -> float:
    """How often BFD sessions went down, as the reflexes counted it; they live on when a planner does not."""
    return sum(
        eventually(
            partial(stage.metric, node, "metallb_bfd_session_down_events", str(router.host.ipv4)),
            lambda found: found is not None,
        )
        or 0
        for node in stage.lan.nodes
        for router in stage.routers
    )


def watched(stage: Stage, name: str) -> dict[Router, FibLog]:
    return {router: router.watch_fib(f"{name}-{router.host.name}") for router in stage.routers}


def test_a_planner_that_is_killed_changes_no_route(stage: Stage) -> None:
    """Graceful restart, and BFD of 50 ms x 3 in the reflex: the kernel's routes are not even touched.

    An attempt during which BFD missed somebody, because nobody ran for 150 ms, shows nothing: it is repeated.
    """
    furnish(stage, enableGracefulRestart=True)
    for attempt in range(1, ATTEMPTS + 1):
        bfd_up(stage)
        for router in stage.routers:
            stage.hops(router, WEB, stage.addresses)
        downs = bfd_downs(stage)
        logs = watched(stage, f"graceful{attempt}")
        before = stage.planner(NODE)
        stage.kill_planner(NODE)
        restarted(stage, before)
        time.sleep(1.0)  # nothing may follow
        for log in logs.values():
            log.stop()
        if bfd_downs(stage) == downs:
            break
    else:
        pytest.fail(f"BFD went down in each of {ATTEMPTS} attempts")
    for router, log in logs.items():
        assert log.events(WEB) == [], router.host.name
        assert router.fib()[WEB] == stage.addresses
    assert stage.session(NODE, "frr")["bfd"] == "Up"
    assert stage.document(NODE)["reflex"]["planner_starts"] >= 2


def test_without_graceful_restart_its_routes_go_and_come_back(stage: Stage) -> None:
    furnish(stage, bfd=PATIENT)
    log = stage.frr.watch_fib("plain")
    before = stage.planner(NODE)
    stage.kill_planner(NODE)
    restarted(stage, before)
    stage.hops(stage.frr, WEB, stage.addresses)
    assert log.events(WEB) != []
    log.stop()


def test_a_node_without_power_is_gone_by_bfd(stage: Stage) -> None:
    furnish(stage, enableGracefulRestart=True)
    bfd_up(stage)
    others = stage.at("node-1", "node-2")
    victim = "node-3"
    try:
        for name, process in stage.processes.all.items():
            process.expected = process.expected or name.endswith(victim)
        stage.lan.power_off(victim)
        for router in stage.routers:
            stage.hops(router, WEB, others)  # long before the hold time of 90 s is over: it was BFD
        assert "" not in stage.served_by(WEB, 12)
    finally:
        stage.lan.power_on(victim)
        stage.start_node(victim)
    for router in stage.routers:
        stage.hops(router, WEB, stage.addresses)


def test_a_link_that_flaps_costs_its_own_node_only(stage: Stage) -> None:
    # BFD of a second, as routers take it: what flaps here is the link.  A session may come back between two
    # flaps before its BFD is up; then it ends by the hold time.
    furnish(stage, bfd=(100, 10), holdTime="6s", keepaliveTime="2s")
    bfd_up(stage)
    flapping, others = "node-3", ("node-1", "node-2")
    told = f'peer="{stage.frr.address}:179"'
    since = {(node, peer): stage.session(node, peer)["since"] for node in others for peer in ("frr", "bird")}
    opens = stage.metric(flapping, "metallb_bgp_opens_sent", told) or 0
    for _ in range(3):
        stage.lan.cut(flapping)
        try:
            stage.hops(stage.frr, WEB, stage.at(*others))
        finally:
            stage.lan.heal(flapping)
        time.sleep(0.5)  # long enough to try, at times too short to succeed
    for router in stage.routers:
        stage.hops(router, WEB, stage.addresses)
    assert since == {key: stage.session(*key)["since"] for key in since}
    assert (stage.metric(flapping, "metallb_bgp_opens_sent", told) or 0) - opens <= 30, "it retries in bounds"


def test_a_path_that_is_silent_ends_the_session_and_heals(stage: Stage) -> None:
    furnish(stage, bfd=PATIENT)
    bfd_up(stage)
    stage.lan.cut("frr", silent=True)
    try:
        eventually(lambda: stage.session(NODE, "frr"), lambda found: found.get("bfd") == "Down")
        eventually(lambda: stage.session(NODE, "frr"), lambda found: found["state"] != "Established")
        assert stage.session(NODE, "bird")["state"] == "Established"
        assert stage.metric(NODE, "metallb_bfd_session_up", "172.30.0.120") == 0
    finally:
        stage.lan.heal("frr")
    stage.hops(stage.frr, WEB, stage.addresses)
    eventually(lambda: stage.session(NODE, "frr"), lambda found: found.get("bfd") == "Up")
    assert stage.metric(NODE, "metallb_bfd_session_up", "172.30.0.120") == 1
    assert (stage.metric(NODE, "metallb_bfd_session_down_events", "172.30.0.120") or 0) >= 1
    received = "metallb_bfd_control_packet_input"
    eventually(lambda: (stage.metric(NODE, received, "172.30.0.120") or 0) > 10)


def test_a_router_that_ends_bfd_on_purpose_keeps_its_session(stage: Stage) -> None:
    furnish(stage, bfd=PATIENT)
    bfd_up(stage)
    address = str(stage.lan.nodes[NODE].ipv4)
    since = stage.session(NODE, "frr")["since"]
    stage.frr.do("bfd", f"peer {address} local-address {stage.frr.address} interface eth0", "shutdown")
    try:
        eventually(lambda: stage.session(NODE, "frr"), lambda found: found.get("bfd") == "Down")
        time.sleep(0.5)
        assert stage.session(NODE, "frr")["state"] == "Established"
        assert stage.session(NODE, "frr")["since"] == since
    finally:
        stage.frr.do("bfd", f"peer {address} local-address {stage.frr.address} interface eth0", "no shutdown")
    eventually(lambda: stage.session(NODE, "frr"), lambda found: found.get("bfd") == "Up")


def test_the_profile_reaches_the_router_and_echo_is_warned_of(stage: Stage) -> None:
    stage.delete("IPAddressPool", "pool")
    stage.make("IPAddressPool", "pool", addresses=["198.51.100.0/24"])
    try:
        stage.make(
            "BFDProfile", "full", receiveInterval=80, transmitInterval=90, detectMultiplier=7, echoMode=True
        )
        stage.make("BGPPeer", "frr", **stage.towards(stage.frr, bfdProfile="full"))
        eventually(lambda: stage.session(NODE, "frr"), lambda found: found.get("bfd") == "Up")
        address = str(stage.lan.nodes[NODE].ipv4)

        def seen() -> dict[str, Any]:
            return next(each for each in stage.frr.ask("show bfd peers") if each["peer"] == address)

        found = eventually(seen, lambda peer: peer["remote-transmit-interval"] == 90)
        assert (found["remote-receive-interval"], found["remote-detect-multiplier"]) == (80, 7)
        eventually(
            lambda: stage.events("BFDProfile", "full", "metallb-system"),
            lambda events: "notSupported" in [reason for reason, _ in events],
        )
    finally:
        stage.delete("BGPPeer", "frr")
        stage.delete("IPAddressPool", "pool")
        stage.make("IPAddressPool", "pool", addresses=["198.51.100.0/24", "fd00:c71e:8::/64"])


def test_a_speaker_that_is_asked_to_end_says_goodbye_in_good_order(stage: Stage) -> None:
    """First the others are preferred, then the routes are withdrawn, then the session ends."""
    furnish(stage, bfd=PATIENT)
    capture = stage.run.directory / "goodbye.pcap"
    command = ["tcpdump", "-Z", "root", "--immediate-mode", "-U", "-n", "-i", "eth0", "-w", str(capture)]
    host = stage.lan.nodes[NODE]
    tcpdump = stage.processes.start("tcpdump-goodbye", [*command, "tcp", "port", "179"], namespace=host.netns)
    tcpdump.expected = True
    eventually(lambda: "listening" in tcpdump.tail())
    speaker = stage.processes.all[f"speaker-{NODE}"]
    speaker.expected = True
    speaker.send(signal.SIGTERM)
    speaker.popen.wait(15)
    try:
        others = stage.at("node-2", "node-3")
        for router in stage.routers:
            stage.hops(router, WEB, others)
        tcpdump.send(signal.SIGINT)
        tcpdump.popen.wait(10)
        said = updates(capture, str(host.ipv4), stage.bird.address)
        assert said == ["last resort", "withdrawn", "notification 6/2"]
    finally:
        stage.start_speaker(NODE)
    for router in stage.routers:
        stage.hops(router, WEB, stage.addresses)


def test_a_speaker_that_is_restarted_keeps_its_routes_with_graceful_restart(stage: Stage) -> None:
    """As a rolling update has it: the pod ends, the next one comes, and no route moves.

    Seen from FRR: BIRD lets go when the BFD of the pod that ended is missed, whatever BGP has promised.
    """
    furnish(stage, bfd=PATIENT, enableGracefulRestart=True)
    log = stage.frr.watch_fib("pod")
    speaker = stage.processes.all[f"speaker-{NODE}"]
    speaker.expected = True
    speaker.send(signal.SIGTERM)
    speaker.popen.wait(15)
    stage.start_speaker(NODE)
    eventually(partial(said, stage, NODE, "state"), lambda found: found == ["Established"] * 2)
    time.sleep(1.0)  # nothing may follow
    assert log.events(WEB) == []
    log.stop()
    for router in stage.routers:
        stage.hops(router, WEB, stage.addresses)


def updates(capture: Any, source: str, to: str) -> list[str]:
    """What one end of a session said, in order, keepalives left out."""
    from scapy.layers.inet import IP, TCP
    from scapy.utils import rdpcap

    octets: dict[int, bytes] = {}
    for packet in rdpcap(str(capture)):
        if packet.haslayer(TCP) and (packet[IP].src, packet[IP].dst) == (source, to):
            octets[packet[TCP].seq] = bytes(packet[TCP].payload)
    data = b"".join(octets[seq] for seq in sorted(octets))
    said: list[str] = []
    at = data.find(b"\xff" * 16)
    while 0 <= at < len(data) - 18:
        length, kind = int.from_bytes(data[at + 16 : at + 18], "big"), data[at + 18]
        body = data[at + 19 : at + length]
        at += length
        if kind == 2 and body[:2] != b"\0\0":
            said.append("withdrawn")
        elif kind == 2:
            said.append("last resort" if b"\xff\xff\0\0" in body else "announced")
        elif kind == 3:
            said.append(f"notification {body[0]}/{body[1]}")
    return said
