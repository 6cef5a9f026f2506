"""The announcing interface fails on a LAN of namespaces, while gossip goes on over another."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.l2 import ARP, Ether

from tests.speaker.lan import Station, lan, run
from tests.speaker.running import PATIENCE, reflex, until

pytestmark = [pytest.mark.netns, pytest.mark.e2e]

VIP = "10.77.0.100"
MACS = {"a": "02:00:00:00:0a:01", "b": "02:00:00:00:0b:01"}


def plug(station: Station, *, carrier: bool) -> None:
    """Pull or push the other end of its eth1."""
    way = "up" if carrier else "down"
    run("ip", "-n", station.lan.bridge, "link", "set", f"{station.name}-eth1", way)


def outage(client: Station, act: Callable[[], None], mac: str) -> float:
    """Seconds from `act` to the first announcement or answer of the VIP from `mac`."""
    with client.packet_socket() as sock:
        started: list[float] = []

        def later() -> None:
            started.append(time.monotonic())
            act()

        actor = threading.Thread(target=later)
        actor.start()
        actor.join()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                frame = Ether(sock.recv(2048))
            except TimeoutError:
                continue
            if ARP in frame and frame[ARP].psrc == VIP and frame.src == mac:
                return time.monotonic() - started[0]
    raise AssertionError(f"{mac} never announced {VIP}")


def test_another_node_takes_over_when_the_interface_has_no_carrier(tmp_path: Path) -> None:
    with lan(["client", "a", "b"]) as (client, a, b):
        for station in (a, b):
            station.attach("eth1", mac=MACS[station.name])
        with (
            reflex(a, tmp_path / "a", gossip=True) as first,
            reflex(b, tmp_path / "b", gossip=True) as second,
        ):
            vip = {"address": VIP, "candidates": ("a", "b"), "interfaces": ["eth1"], "restriction": 7}
            for running in (first, second):
                running.order(vip, seeds=(a.ipv4, b.ipv4))
            first.until_answering(VIP)
            until(lambda: second.vip(VIP)["owner"] == "a", "b knows the owner")
            already = len(second.happened("took_over"))
            times = []
            for _ in range(5):
                times.append(outage(client, lambda: plug(a, carrier=False), MACS["b"]))
                until(lambda: not first.vip(VIP)["answering"], "a is silent")
                outage(client, lambda: plug(a, carrier=True), MACS["a"])
                until(lambda: not second.vip(VIP)["answering"], "b has handed over")
            # what happened is told after it is done
            until(lambda: len(second.happened("took_over")) >= already + len(times), "b tells of each")
            whys = {one["why"] for one in second.happened("took_over")[already:]}
            assert whys == {"other interfaces work at a"}
            print(f"carrier loss: median {statistics.median(times):.3f} s, worst {max(times):.3f} s")
            a.ip("link", "del", "eth1")
            until(lambda: second.vip(VIP)["answering"], "b answers when the interface is gone altogether")

            def members() -> dict[str, dict[str, Any]]:
                return {member["name"]: member for member in second.reports("members")[-1]["members"]}

            until(lambda: members()["a"]["unable"] == [7], "b tells of it")
            until(lambda: members()["a"]["reachable"], "gossip goes on")
            assert not members()["b"]["unable"]
