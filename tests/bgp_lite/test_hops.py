"""Sessions and BFD over several hops, TTL security, and a router that has 16 bits for the number of an AS.

FRR, BIRD (10.9.0.3, .4) --- 10.9.0.10 --- 10.11.0.2 --- 10.12.0.2
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bgp_lite import sock as options
from bgp_lite.config import PeerConfig
from tests.bgp_lite.rig import Announcer, Bird, Frr, Rig, eventually, ip, rig
from tests.bgp_lite.test_routers import FRR, bird_protocol, frr_neighbor

pytestmark = [pytest.mark.netns, pytest.mark.e2e]

FAR, GUARDED, OPEN, OLD = "10.12.0.2", "10.9.0.40", "10.9.0.41", "10.9.0.42"


class Stage:
    def __init__(self, lan: Rig) -> None:
        self.lan = lan
        far = frr_neighbor(FAR, "ebgp-multihop 5", "bfd", "bfd profile fast")
        guarded = frr_neighbor(GUARDED, "ttl-security hops 1")
        self.frr = Frr(lan, 3, peers=far + guarded + frr_neighbor(OPEN))
        self.frr.do("configure terminal", "bfd", "profile fast", "minimum-ttl 250")
        old = "passive; enable as4 off;"
        self.bird = Bird(lan, 4, more=bird_protocol("n_old", f"{OLD} external", old))
        self.near, self.middle, self.far = lan.host(10), lan.host(11), lan.host(12)
        self._cable(self.near, "10.11.0.1/24", self.middle, "10.11.0.2/24", "eth1")
        self._cable(self.middle, "10.12.0.1/24", self.far, "10.12.0.2/24", "eth2")
        for host in (self.near, self.middle):
            subprocess.run(
                ["ip", "netns", "exec", host, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True
            )
        for host in (self.middle, self.far):
            ip("-n", host, "link", "del", "eth0")
        ip("-n", self.frr.host, "route", "add", "10.12.0.0/24", "via", "10.9.0.10")
        ip("-n", self.near, "route", "add", "10.12.0.0/24", "via", "10.11.0.2")
        ip("-n", self.middle, "route", "add", "10.9.0.0/24", "via", "10.11.0.1")
        ip("-n", self.far, "route", "add", "10.9.0.0/24", "via", "10.12.0.1")

    def _cable(self, one: str, here: str, other: str, there: str, device: str) -> None:
        self.lan.link(one, other, device)
        ip("-n", one, "addr", "add", here, "dev", device)
        ip("-n", other, "addr", "add", there, "dev", device)

    def bfd(self) -> list[dict[str, Any]]:
        return [each for each in self.frr.ask("show bfd peers") or [] if each["peer"] == FAR]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with rig(tmp_path_factory.mktemp("hops")) as lan:
        yield Stage(lan)


def test_a_session_and_its_bfd_over_three_hops(stage: Stage) -> None:
    """RFC 5883: packets that were forwarded more often than allowed are no packets, and BGP goes on."""
    words = ("--peer", FRR, "--source", FAR, "--hold", "9", "--multihop")
    announcer = Announcer(stage.lan, stage.far, *words, "--next-hop", "10.9.0.10")
    announcer.say("+ 203.0.113.40")
    announcer.wait_up()
    eventually(lambda: "203.0.113.40/32" in stage.frr.prefixes())
    eventually(lambda: [each["multihop"] for each in stage.bfd()] == [True])
    # the router sends 255, and two have counted it down
    assert not _bfd_comes_up(stage, "254")
    assert _bfd_comes_up(stage, "253", "--passive")
    assert announcer.states().count("ESTABLISHED") == 1
    announcer.stop()


def _bfd_comes_up(stage: Stage, minimum: str, *more: str) -> bool:
    """Until it is up at both ends, or packets were dropped for having come too far."""
    command = [sys.executable, "-m", "bgp_lite", "bfd", "--json", "--peer", FRR, "--source", FAR]
    command += ["--multihop", "--minimum-ttl", minimum, *more]
    output = Path(stage.lan.workdir / f"bfd-{minimum}.json")
    with output.open("wb") as file:
        process = stage.lan.spawn(stage.far, command, stdout=file)
    if minimum == "254":
        before = _sent(stage)
        eventually(lambda: _sent(stage) >= before + 3)
    else:
        eventually(lambda: '"new": "UP"' in output.read_text())
        eventually(lambda: [each["status"] for each in stage.bfd()] == ["up"])
    process.terminate()
    process.wait(10)
    said = output.read_text()
    assert minimum != "254" or '"dropped": 0' not in said
    return '"new": "UP"' in said


def _sent(stage: Stage) -> int:
    """BFD packets of the router."""
    counters = stage.frr.ask("show bfd peers counters")
    return sum(int(each["control-packet-output"]) for each in counters if each["peer"] == FAR)


@pytest.mark.parametrize(
    ("address", "ours", "up"),
    [(GUARDED, False, True), (GUARDED, True, True), (OPEN, False, True), (OPEN, True, False)],
    ids=["theirs", "both", "neither", "ours"],
)
def test_ttl_security(stage: Stage, address: str, ours: bool, up: bool) -> None:
    """We always send 255, and take only that when told to; FRR sends 1 to an external peer without it."""
    ip("-n", stage.near, "addr", "replace", f"{address}/24", "dev", "eth0")
    words = ["--peer", FRR, "--source", address, "--hold", "9", *(["--ttl-security"] if ours else [])]
    announcer = Announcer(stage.lan, stage.near, *words)
    if up:
        announcer.wait_up()
    else:
        eventually(lambda: _dropped(stage.near) > 3)
        assert "ESTABLISHED" not in announcer.states()
    announcer.stop()


def _dropped(host: str) -> int:
    """Segments that came from too far away."""
    command = ["ip", "netns", "exec", host, "cat", "/proc/net/netstat"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    names, values = (line.split() for line in shown if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["TCPMinTTLDrop"])


def test_a_router_that_knows_no_as_numbers_of_four_octets(stage: Stage) -> None:
    ip("-n", stage.near, "addr", "replace", f"{OLD}/24", "dev", "eth0")
    words = ("--peer", "10.9.0.4", "--source", OLD, "--hold", "9")
    announcer = Announcer(stage.lan, stage.near, *words, local_as="4200000001")
    announcer.say("+ 203.0.113.42")  # to it AS_TRANS, and AS4_PATH beside it
    eventually(lambda: stage.bird.count("n_old") == 1)
    assert "BGP.as_path: 4200000001" in stage.bird.routes("n_old")
    announcer.stop()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_path_that_died_is_given_up_when_the_hold_time_is_over(family: socket.AddressFamily) -> None:
    peer = "192.0.2.1" if family is socket.AF_INET else "2001:db8::1"
    config = PeerConfig(
        peer=peer, local_as=65001, peer_as=65000, router_id="1.1.1.1", hold_time=30, ttl_security=True
    )
    with socket.socket(family, socket.SOCK_STREAM) as found:
        options.prepare(found, config, peer)
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        if family is socket.AF_INET:
            assert found.getsockopt(socket.IPPROTO_IP, options.IP_MINTTL) == 255
        else:
            assert found.getsockopt(socket.IPPROTO_IPV6, options.IPV6_MINHOPCOUNT) == 255
