"""A whole cluster, seen from the wire: what the gossip is, who announces a take-over, what a dead planner
changes.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from scapy.utils import rdpcap

from crier.lab import runs
from crier.lab.client import PROBE_DEADLINE
from crier.lab.cluster import Cluster, Settings
from crier.lab.kubelet import SYSTEM
from crier.lab.lan import Host
from crier.lab.observe import Observer, Snapshot
from crier.lab.prober import Lateness, Prober, Vip, VipRecord
from crier.lab.process import LabProcess
from crier.lab.scenarios import Director
from crier.lab.services import NAMESPACE, parse_services
from speaker.settings import DEFAULT_GOSSIP_PORT

pytestmark = pytest.mark.e2e

GOSSIP_PORT = 17946
CLAIMS = "arp[14:4] = arp[24:4] or (icmp6 and dst host ff02::1 and ip6[40] = 136)"
"""What tells everybody who has an address, and none of the client's hundred questions a second."""
PATIENCE = 60


@dataclass(slots=True)
class Lab:
    cluster: Cluster
    prober: Prober
    director: Director

    def capture(self, host: Host, name: str, expression: str, *, count: int = 0) -> Capture:
        """What comes and goes there, until it is stopped or there were so many packets."""
        file = self.cluster.run.directory / f"{name}.pcap"
        # Each packet at once, to us and to the file: the last ones are those we are after.
        command = ["tcpdump", "-Z", "root", "--immediate-mode", "-U", "-n", "-i", "eth0", "-w", str(file)]
        command += ["-c", str(count)] if count else []
        command += expression.split()
        return Capture(self.cluster.processes.start(f"tcpdump-{name}", command, namespace=host.netns), file)


@dataclass(slots=True)
class Capture:
    process: LabProcess
    file: Path

    async def ready(self) -> None:
        await _until(lambda: "listening" in self.process.tail())

    async def end(self) -> list[Packet]:
        """All of it, once there were as many as were asked for."""
        await self.process.wait(PATIENCE)
        return self.packets()

    def packets(self) -> list[Packet]:
        """What there is by now."""
        return list(rdpcap(str(self.file)))


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            if condition():
                return
            await trio.sleep(0.05)


@asynccontextmanager
async def open_lab(
    *, services: str, gossip_port: int | None = None, nodes: int = 3, patience: float = 300.0
) -> AsyncIterator[Lab]:
    """So many nodes, steady; all that is done with them takes at most `patience` seconds."""
    run = runs.create()
    cluster = Cluster(run, Settings(nodes, parse_services(services), gossip_port))
    said: list[str] = []
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(patience):
                await cluster.start(said.append)
                addresses = await cluster.addresses()
                vips = tuple(Vip(s, a) for s in cluster.settings.services for a in addresses[s.name])
                prober = Prober(cluster.processes, cluster.lan, vips)
                observer = Observer(cluster, prober, vips, time.monotonic())
                nursery.start_soon(observer.run)
                director = Director(
                    cluster, prober, observer, rng=random.Random(1), started_at=time.monotonic(),
                    say=said.append, nursery=nursery,
                )  # fmt: skip
                await director.steady()
                yield Lab(cluster, prober, director)
            nursery.cancel_scope.cancel()
    finally:
        run.remove()
        for process in cluster.processes.all.values():
            process.popen.wait(timeout=PATIENCE)
            for pipe in (process.popen.stdin, process.popen.stdout):
                if pipe is not None:
                    pipe.close()


async def test_gossip_is_encrypted_the_way_metallb_does_it() -> None:
    async with open_lab(services="web", gossip_port=GOSSIP_PORT) as lab:
        node = lab.cluster.lan.nodes["node-1"]
        ports = f"udp port {GOSSIP_PORT} or udp port {DEFAULT_GOSSIP_PORT}"
        packets = await lab.capture(node, "gossip", ports, count=50).end()
        secret = (lab.cluster.kubelet.secret_directory("node-1") / "secretkey").read_bytes()
    assert not [p for p in packets if DEFAULT_GOSSIP_PORT in (p[UDP].sport, p[UDP].dport)], "not asked for"
    gossip = [bytes(p[UDP].payload) for p in packets if GOSSIP_PORT in (p[UDP].sport, p[UDP].dport)]
    # The first 32 octets of the secret's text and the digest of nothing: what MetalLB's code comes to.
    ours = AESGCM((secret + hashlib.sha256(b"").digest())[:32])
    other = AESGCM(bytes(32))
    kinds = set()
    for datagram in gossip:
        assert datagram[0] in (0, 1), "memberlist's encryption version"
        kinds.add(ours.decrypt(datagram[1:13], datagram[13:], b"")[0])
        with pytest.raises(InvalidTag):
            other.decrypt(datagram[1:13], datagram[13:], b"")
    assert kinds <= set(range(14)), "memberlist's message types"
    assert kinds


async def test_the_successor_announces_itself_to_everybody() -> None:
    async with open_lab(services="web,web6") as lab:
        capture = lab.capture(lab.cluster.lan.client, "failover", CLAIMS)
        await capture.ready()
        macs = {host.name: host.mac for host in lab.cluster.lan.nodes.values()}
        for address in await lab.prober.state():
            killed = await _owner(lab, address)
            lab.cluster.kill_speaker(killed)
            await lab.cluster.speaker(killed).wait(PATIENCE)
            successor = await _owner(lab, address, other_than=killed)
            # what was sent is written to the file a moment later, and sent again if it got lost
            await _until(lambda: (address, macs[successor]) in _announced(capture.packets()))  # noqa: B023


def _announced(packets: Iterable[Packet]) -> set[tuple[str, str]]:
    """Who told everybody to have which address: (address, hardware address)."""
    arps = {
        (p[ARP].psrc, p[ARP].hwsrc)
        for p in packets
        if ARP in p
        and p[ARP].psrc == p[ARP].pdst
        and p[Ether].dst == "ff:ff:ff:ff:ff:ff"
        and p[ARP].hwsrc == p[Ether].src
    }
    advertisements = {
        (p[ICMPv6ND_NA].tgt, p[ICMPv6NDOptDstLLAddr].lladdr)
        for p in packets
        if ICMPv6ND_NA in p
        and p[IPv6].dst == "ff02::1"
        and p[IPv6].hlim == 255
        and p[ICMPv6ND_NA].S == 0
        and p[ICMPv6ND_NA].O == 1
        and p[ICMPv6NDOptDstLLAddr].lladdr == p[Ether].src
    }
    return arps | advertisements


async def _owner(lab: Lab, address: str, *, other_than: str = "") -> str:
    """The one that answers for it, once there is one."""
    with trio.fail_after(PATIENCE):
        while True:
            nodes = (await lab.prober.state())[address].owners
            if len(nodes) == 1 and other_than not in nodes:
                return nodes[0]
            await trio.sleep(0.05)


async def _planners(lab: Lab) -> dict[str, int]:
    pids = {}
    with trio.fail_after(PATIENCE):
        while missing := [node for node in lab.cluster.lan.nodes if node not in pids]:
            status = await lab.cluster.status(missing[0])
            if status is not None:
                pids[missing[0]] = int(status["planner"]["pid"])
    return pids


def lost_nothing(record: VipRecord, late: Lateness) -> bool:
    """A probe whose backend, or our client, stood still for as long as it may take is not the speakers'."""
    return record.probes.lost == 0 or max(late.client, late.backend) > PROBE_DEADLINE / 2


async def test_without_planners_nothing_moves_and_a_failover_still_happens() -> None:
    async with open_lab(services="web,voice,web6") as lab:
        snapshot: Snapshot = await lab.director.steady()
        owners = {address: vip.owners for address, vip in snapshot.vips.items()}
        at = time.monotonic()
        for pid in (first := await _planners(lab)).values():
            os.kill(pid, signal.SIGKILL)
        # Without a planner in the whole cluster, its most loaded node goes dark.
        victim = next(iter(owners.values()))[0]
        lab.cluster.lan.cut(victim, silent=True)
        cut_at = time.monotonic()
        with trio.fail_after(PATIENCE):
            while True:
                vips = await lab.prober.state()
                if all(len(v.owners) == 1 and v.owners[0] != victim and v.good_since for v in vips.values()):
                    break
                await trio.sleep(0.05)
        records, late = await lab.prober.result(cut_at, time.monotonic())
        for address, record in records.items():
            if owners[address] != (victim,):
                assert lost_nothing(record, late), f"{address} was not touched"
                assert record.asks.answerers == owners[address]
        lab.cluster.lan.heal(victim)
        await lab.director.steady()
        for node, pid in (await _planners(lab)).items():
            assert pid != first[node], "each has a new planner"
        restored, _ = await lab.prober.result(at, time.monotonic())
        assert all(record.probes.recovered for record in restored.values())


async def test_a_planner_killed_in_quiet_times_is_not_noticed_by_the_client() -> None:
    async with open_lab(services="web,web6") as lab:
        before = (await lab.director.steady()).vips
        first = await _planners(lab)
        at = time.monotonic()
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)
        after = (await lab.director.steady()).vips
        records, late = await lab.prober.result(at, time.monotonic())
        assert {a: v.owners for a, v in after.items()} == {a: v.owners for a, v in before.items()}
        assert all(pid != first[node] for node, pid in (await _planners(lab)).items())
        for record in records.values():
            assert record.asks.answerers == record.probes.answerers, "the same node all along"
            assert len(record.asks.answerers) == 1
            assert lost_nothing(record, late)


async def test_a_speaker_killed_without_a_word_is_replaced_and_everybody_can_see_by_whom() -> None:
    """No SIGTERM came, as under a termination grace period of 0, and its node lives on: that forwards for who
    knows its hardware address, who asks is answered by the next, and Kubernetes is told.
    """
    async with open_lab(services="web") as lab:
        ((address, before),) = (await lab.director.steady()).vips.items()
        victim, api = before.owners[0], lab.cluster.kubelet.api

        def told() -> tuple[list[str], list[str]]:
            """Where ServiceL2Status has it, and the nodes of the Service's events, the newest last."""
            statuses = api.request("GET", f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/servicel2statuses")[
                "items"
            ]
            events = api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
            assigned = sorted(
                (event["lastTimestamp"], event["message"])
                for event in events
                if event["reason"] == "nodeAssigned"
            )
            return (
                [thing["status"]["node"] for thing in statuses if "node" in thing.get("status", {})],
                [message.split('"')[1] for _, message in assigned],
            )

        async def until_told(node: str) -> None:
            with trio.fail_after(PATIENCE):
                while True:
                    statuses, events = await trio.to_thread.run_sync(told)
                    if statuses == [node] and node in events:
                        return
                    await trio.sleep(0.1)

        await until_told(victim)
        at = time.monotonic()
        lab.cluster.kill_speaker(victim)
        await lab.cluster.speaker(victim).wait(PATIENCE)
        successor = await _owner(lab, address, other_than=victim)
        await until_told(successor)
        records, late = await lab.prober.result(at, time.monotonic())
        assert lost_nothing(records[address], late)
        assert records[address].asks.recovered
        assert successor in {name for _, name in records[address].announcements}
        lab.cluster.start_speaker(victim)
        await _owner(lab, address, other_than=successor)
        await until_told(victim)
