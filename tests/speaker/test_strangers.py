"""A host that is no speaker takes an address of ours, on a LAN of namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.l2 import ARP, Ether

from speaker.reflex.l2.gratuitous import ROUNDS
from tests.speaker.lan import Station, lan
from tests.speaker.running import Reflex, reflex, until
from tests.speaker.test_reflex import ALL, V4, V6, arrived, ask, vips, who_has

pytestmark = [pytest.mark.netns, pytest.mark.e2e]


@contextmanager
def owner(tmp_path: Path, policy: str) -> Iterator[tuple[Station, Station, Reflex]]:
    with (
        lan(["client", "a"]) as (client, a),
        reflex(a, tmp_path / "a", environ={"CRIER_CONFLICT_POLICY": policy}) as running,
    ):
        running.order(*vips("a"))
        running.until_answering(V4, V6)
        yield client, a, running


def usurp(client: Station) -> None:
    mac = client.mac()
    with client.packet_socket() as sock:
        sock.send(bytes(Ether(dst=ALL, src=mac) / ARP(op=1, hwsrc=mac, psrc=V4, pdst=V4)))


@pytest.mark.parametrize("policy", ["defend", "report", "yield"])
def test_a_stranger_is_told_by_its_hardware_address(tmp_path: Path, policy: str) -> None:
    with owner(tmp_path, policy) as (client, a, running):
        usurp(client)
        conflict = until(lambda: running.happened("conflict"), "told")[0]
        assert (conflict["subject"], conflict["mac"]) == (V4, client.mac())
        until(lambda: running.vip(V4).get("claimed_by") == client.mac(), "in the snapshot")
        if policy == "yield":
            until(lambda: not running.vip(V4)["answering"], "left to it")
            assert ask(client) == set()
        else:
            assert who_has(client) == {a.mac()}
        assert running.vip(V6)["answering"]


def test_the_kernel_of_another_host_finds_the_vip_taken(tmp_path: Path) -> None:
    """Its own duplicate address detection, of an address it was told to use."""
    with owner(tmp_path, "defend") as (client, _, __):
        client.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1", "net.ipv6.conf.all.accept_dad=1")
        client.ip("address", "add", f"{V6}/64", "dev", "eth0")
        until(lambda: "dadfailed" in client.ip("address", "show", "dev", "eth0"), "found a duplicate")


def test_what_did_not_move_is_announced_again_when_asked_for(tmp_path: Path) -> None:
    with (
        lan(["a"]) as (a,),
        reflex(a, tmp_path / "a", environ={"CRIER_GRATUITOUS_INTERVAL": "2"}) as running,
    ):
        running.order(*vips("a"))
        until(lambda: running.vip(V6).get("gratuitous_sent", 0) > ROUNDS, "more than after a take-over")


@pytest.mark.parametrize("policy", ["defend", "yield"])
def test_what_a_stranger_has_is_found_before_it_is_answered(tmp_path: Path, policy: str) -> None:
    """Its kernel answers the probe; another new address, that nobody has, is answered after the questions."""
    environ = {"CRIER_CONFLICT_POLICY": policy, "CRIER_PROBE_TIME": "300"}
    with lan(["client", "a"]) as (client, a), reflex(a, tmp_path / "a", environ=environ) as running:
        for address in (f"{V4}/24", f"{V6}/64"):
            client.ip("address", "add", address, "dev", "eth0", "nodad")
        running.order({"address": "10.77.0.99", "candidates": ("a",)})
        running.until_answering("10.77.0.99")
        free = {"address": "10.77.0.98", "candidates": ("a",)}
        with client.packet_socket() as sock:
            running.order({"address": "10.77.0.99", "candidates": ("a",)}, free, *vips("a"))
            running.until_answering("10.77.0.98")
            until(lambda: len(running.happened("conflict")) >= 2, "both families told")
            mac, about = a.mac(), list[tuple[str, int]]()

            def announced() -> bool:
                about.extend(
                    (frame[ARP].psrc, frame[ARP].op)
                    for frame in arrived(sock)
                    if ARP in frame and frame.src == mac and frame[ARP].pdst == "10.77.0.98"
                )
                return len(about) >= 4

            until(announced, "the announcement on the wire")
        assert {told["subject"]: told["mac"] for told in running.happened("conflict")} == {
            V4: client.mac(),
            V6: client.mac(),
        }
        for address in (V4, V6):
            until(lambda: "claimed_by" in running.vip(address), "reported")  # noqa: B023
            assert running.vip(address)["answering"] is (policy == "defend")
        assert about[:4] == [("0.0.0.0", 1)] * 3 + [("10.77.0.98", 1)], "three probes, then the announcement"


def test_two_answers_on_the_wire_are_found_by_the_others_and_their_end_is_told(tmp_path: Path) -> None:
    environ = {"CRIER_SELF_CHECK_INTERVAL": "1", "CRIER_CONFLICT_POLICY": "report"}
    with (
        lan(["client", "a", "b"]) as (client, a, b),
        reflex(a, tmp_path / "a", gossip=True, environ=environ) as owner,
        reflex(b, tmp_path / "b", gossip=True, environ=environ) as other,
    ):
        for running in (owner, other):
            running.order(*vips("a", "b"), seeds=(a.ipv4, b.ipv4))
        for address in (V4, V6):
            until(lambda: other.vip(address).get("answered_by") == ["a"], "the owner alone")  # noqa: B023
        client.ip("address", "add", f"{V4}/24", "dev", "eth0")
        found = until(lambda: other.happened("answered_twice"), "the other node sees two")[0]
        assert (found["subject"], found["mac"]) == (V4, client.mac())
        until(lambda: other.vip(V4).get("amiss") == "answered_twice", "in the snapshot")
        until(lambda: set(other.vip(V4)["answered_by"]) == {client.mac(), "a"}, "by both")
        until(lambda: owner.happened("conflict"), "the owner asks, too")
        client.ip("address", "del", f"{V4}/24", "dev", "eth0")
        until(lambda: other.happened("answered_well"), "that it ended")
