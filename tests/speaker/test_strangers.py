"""A host that is no speaker takes an address of ours, on a LAN of namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.l2 import ARP, Ether

from tests.speaker.lan import Station, lan
from tests.speaker.running import Reflex, reflex, until
from tests.speaker.test_reflex import ALL, V4, V6, vips, who_has

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
            assert who_has(client) == set()
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
        until(lambda: running.vip(V6).get("gratuitous_sent", 0) > 5, "more than after a take-over")
