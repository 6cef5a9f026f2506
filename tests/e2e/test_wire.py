"""A whole cluster, seen from the wire: what the gossip is, who announces a take-over, what a dead planner
changes.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
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
from crier.lab.cluster import Cluster, Settings
from crier.lab.lan import Host
from crier.lab.observe import Observer, Snapshot
from crier.lab.prober import Prober, Vip
from crier.lab.process import LabProcess
from crier.lab.scenarios import Director
from crier.lab.services import parse_services

pytestmark = pytest.mark.e2e

GOSSIP_PORT = 17946


@dataclass(slots=True)
class Lab:
    cluster: Cluster
    prober: Prober
    director: Director

    def capture(self, host: Host, name: str, expression: str) -> Capture:
        file = self.cluster.run.directory / f"{name}.pcap"
        # Each packet at once, to us and to the file: the last ones are those we are after.
        command = ["tcpdump", "-Z", "root", "--immediate-mode", "-U", "-n", "-i", "eth0", "-w", str(file)]
        command += expression.split()
        return Capture(self.cluster.processes.start(f"tcpdump-{name}", command, namespace=host.netns), file)


@dataclass(slots=True)
class Capture:
    process: LabProcess
    file: Path

    async def ready(self) -> None:
        await _until(lambda: "listening" in self.process.tail())

    async def stop(self) -> list[Packet]:
        self.process.expected = True
        self.process.send(signal.SIGINT)
        await self.process.wait(10)
        return list(rdpcap(str(self.file)))


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while True:
            if condition():
                return
            await trio.sleep(0.02)


@asynccontextmanager
async def open_lab(
    *, services: str, gossip_port: int | None = None, nodes: int = 3, patience: float = 100.0
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
            process.popen.wait(timeout=10)
            for pipe in (process.popen.stdin, process.popen.stdout):
                if pipe is not None:
                    pipe.close()


async def test_gossip_is_encrypted_the_way_metallb_does_it() -> None:
    async with open_lab(services="web", gossip_port=GOSSIP_PORT) as lab:
        node = lab.cluster.lan.nodes["node-1"]
        capture = lab.capture(node, "gossip", "udp")
        await capture.ready()
        await trio.sleep(1.5)
        packets = [p for p in await capture.stop() if UDP in p]
        secret = (lab.cluster.kubelet.secret_directory("node-1") / "secretkey").read_bytes()
    gossip = [bytes(p[UDP].payload) for p in packets if GOSSIP_PORT in (p[UDP].sport, p[UDP].dport)]
    assert len(gossip) > 20
    assert not [p for p in packets if 7946 in (p[UDP].sport, p[UDP].dport)], "the port is the one asked for"
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
        capture = lab.capture(lab.cluster.lan.client, "failover", "arp or icmp6")
        before = await lab.prober.state()
        await capture.ready()
        for address in before:
            owner = (await lab.prober.state())[address].owners[0]
            await _kill_and_move(lab, owner, address)
        packets = await capture.stop()
        after = await lab.prober.state()
    macs = {host.name: host.mac for host in lab.cluster.lan.nodes.values()}
    arps = [
        (p[ARP].psrc, p[ARP].hwsrc)
        for p in packets
        if ARP in p
        and p[ARP].psrc == p[ARP].pdst
        and p[Ether].dst == "ff:ff:ff:ff:ff:ff"
        and p[ARP].hwsrc == p[Ether].src
    ]
    advertisements = [
        (p[ICMPv6ND_NA].tgt, p[ICMPv6NDOptDstLLAddr].lladdr)
        for p in packets
        if ICMPv6ND_NA in p
        and p[IPv6].dst == "ff02::1"
        and p[IPv6].hlim == 255
        and p[ICMPv6ND_NA].S == 0
        and p[ICMPv6ND_NA].O == 1
        and p[ICMPv6NDOptDstLLAddr].lladdr == p[Ether].src
    ]
    for address in before:
        heard = advertisements if ":" in address else arps
        announced = {mac for claimed, mac in heard if claimed == address}
        assert macs[after[address].owners[0]] in announced, (address, heard)


async def _kill_and_move(lab: Lab, owner: str, address: str) -> None:
    """SIGKILL the owner's speaker and wait until somebody else answers."""
    lab.cluster.kill_speaker(owner)
    await lab.cluster.speaker(owner).wait(10)
    with trio.fail_after(30):
        while True:
            if (await lab.prober.state())[address].owners not in ((), (owner,)):
                return
            await trio.sleep(0.05)


async def _planners(lab: Lab) -> dict[str, int]:
    pids = {}
    for node in lab.cluster.lan.nodes:
        status = await lab.cluster.status(node)
        assert status is not None
        pids[node] = int(status["planner"]["pid"])
    return pids


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
        with trio.fail_after(30):
            while True:
                vips = await lab.prober.state()
                if all(len(v.owners) == 1 and v.owners[0] != victim and v.good_since for v in vips.values()):
                    break
                await trio.sleep(0.05)
        records, _ = await lab.prober.result(cut_at, time.monotonic())
        for address, record in records.items():
            if owners[address] != (victim,):
                assert record.probes.lost == 0, f"{address} was not touched"
                assert vips[address].owners == owners[address]
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
        records, _ = await lab.prober.result(at, time.monotonic())
        assert {a: v.owners for a, v in after.items()} == {a: v.owners for a, v in before.items()}
        assert all(pid != first[node] for node, pid in (await _planners(lab)).items())
        for record in records.values():
            assert record.asks.answerers == record.probes.answerers, "the same node all along"
            assert len(record.asks.answerers) == 1
            assert record.probes.lost == 0
