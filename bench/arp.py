"""How many ARP questions one core answers in the speaker's frame handler, and how long an answer takes.

    python bench/arp.py [--vips 1000] [--seconds 2] [--asks 1000] [--live 20] [--no-live]

First the frame handler alone, sockets left out: a storm of questions from changing askers for all VIPs, and
one of questions for other addresses, which is what most broadcast traffic on a LAN is.  Processor time, so
that a busy machine matters little.

Then (root) the real reflex in a network namespace, gossip and all, with `--asks` questions a second for
`--live` seconds from another namespace over a veth pair, and in turn with them as many for an address of the
kernel, which says what the way there and back costs by itself.  From just before a question is sent until
the kernel has its answer.
"""

from __future__ import annotations

import argparse
import os
import secrets
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from crier.lab import netns
from speaker.orders import HEADER, Orders, Vip, encode, frame_length
from speaker.reflex.l2 import arp
from speaker.reflex.l2.ethernet import BROADCAST
from speaker.reflex.l2.respond import Reply, Station, respond_arp

MAC = bytes.fromhex("02c71e070011")


def question(number: int, address: bytes) -> bytes:
    mac = b"\x02\xaa" + number.to_bytes(4, "big")
    sender = IPv4Address(0x0A010000 + number).packed
    asked = arp.Arp(BROADCAST, mac, arp.ETHERNET_IPV4, arp.Operation.REQUEST, mac, sender, bytes(6), address)
    return arp.encode(asked)


def rate(frames: list[bytes], station: Station, seconds: float, *, answered: bool) -> float:
    """Frames handled per second of processor time."""
    if any(isinstance(respond_arp(frame, station), Reply) is not answered for frame in frames):
        raise AssertionError("the handler does not do what is to be measured")
    done = 0
    began = time.process_time()
    while (took := time.process_time() - began) < seconds:
        for frame in frames:
            respond_arp(frame, station)
        done += len(frames)
    return done / took


# -- live

NODE: Final = "node-1"
NODE_ADDRESS, ASKER_ADDRESS = "10.77.0.1", "10.77.0.2"
START: Final = 15.0
"""Seconds the reflex has until it answers for the last VIP."""
PATIENCE: Final = 1.0
"""Seconds after which an answer counts as lost."""
SO_TIMESTAMPNS: Final = 35
ETH_P_ARP: Final = 0x0806


def vip(number: int) -> bytes:
    return IPv4Address(0x0A400000 + number).packed


def planner(count: int) -> None:
    """What the reflex runs as its planner: orders once, then it listens."""
    sock = socket.socket(fileno=int(os.environ["CRIER_REFLEX_FD"]))
    vips = (Vip(str(IPv4Address(vip(n))), (f"bench/{n}",), (NODE,)) for n in range(count))
    sock.sendall(encode(Orders(1, tuple(vips))))
    with sock.makefile("rb") as stream:
        while header := stream.read(HEADER):
            stream.read(frame_length(header))


@contextmanager
def two_namespaces() -> Iterator[tuple[str, str]]:
    """Joined by a veth pair, `eth0` on both ends."""
    names = tuple(f"ca{secrets.token_hex(3)}-{which}" for which in ("node", "asker"))
    node, asker = names
    try:
        for name in names:
            netns.add(name)
        netns.ip(node, f"link add eth0 type veth peer name eth0 netns {asker}")
        for name, address in ((node, NODE_ADDRESS), (asker, ASKER_ADDRESS)):
            netns.ip(name, f"address add {address}/24 dev eth0")
            netns.ip(name, "link set lo up")
            netns.ip(name, "link set eth0 up")
        yield node, asker
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def speaker_in(namespace: str, count: int) -> Iterator[None]:
    environ = {
        **os.environ,
        "METALLB_NODE_NAME": NODE,
        "METALLB_POD_NAME": "speaker",
        "METALLB_NAMESPACE": "metallb-system",
        "METALLB_ML_BIND_ADDR": NODE_ADDRESS,
        "METALLB_ML_LABELS": "bench",
        "CRIER_PLANNER_COMMAND": f"{sys.executable} {Path(__file__).resolve()} --planner {count}",
        "CRIER_EXCLUDE_L2_FILE": "/nonexistent",
        "CRIER_ML_CONFIG_FILE": "/nonexistent",
    }
    command = [
        "ip",
        "netns",
        "exec",
        namespace,
        sys.executable,
        "-m",
        "speaker.reflex.app",
        "--log-level=none",
    ]
    with subprocess.Popen(command, env=environ, cwd=Path(__file__).parents[1]) as process:
        try:
            yield
        finally:
            process.kill()


class Asker:
    """Runs inside the asking namespace."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
        self._sock.bind(("eth0", ETH_P_ARP))
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._mac: bytes = self._sock.getsockname()[4]
        self._sent: dict[bytes, deque[float]] = {}
        self.took: dict[bytes, list[float]] = {}
        """Milliseconds, by the address asked for."""

    def ask(self, address: bytes) -> None:
        mine = IPv4Address(ASKER_ADDRESS).packed
        asked = arp.Arp(
            BROADCAST, self._mac, arp.ETHERNET_IPV4, arp.Operation.REQUEST, self._mac, mine, bytes(6), address
        )
        self._sent.setdefault(address, deque()).append(time.time())
        self._sock.send(arp.encode(asked))

    def listen(self, until: float) -> None:
        """Take in answers until then."""
        while select.select([self._sock], [], [], max(0.0, until - time.monotonic()))[0]:
            frame, extra, _, _ = self._sock.recvmsg(128, 64)
            if frame[:6] != self._mac or frame[20:22] != b"\0\2":
                continue
            seconds, nanoseconds = struct.unpack("@qq", extra[0][2])
            if waiting := self._sent.get(frame[28:32]):
                took = (seconds + nanoseconds / 1e9 - waiting.popleft()) * 1e3
                self.took.setdefault(frame[28:32], []).append(took)

    def await_answer(self, address: bytes) -> None:
        end = time.monotonic() + START
        while address not in self.took:
            if time.monotonic() > end:
                raise SystemExit(f"{IPv4Address(address)} is not answered after {START:g} s")
            self.ask(address)
            self.listen(time.monotonic() + 0.1)

    def storm(self, count: int, asks: int, seconds: float) -> None:
        """VIPs and the kernel's address in turn, each `asks` times a second."""
        self.await_answer(vip(count - 1))
        self.took.clear()
        self._sent.clear()
        kernel, began = IPv4Address(NODE_ADDRESS).packed, time.monotonic()
        for number in range(int(2 * asks * seconds)):
            self.listen(began + number / (2 * asks))
            self.ask(kernel if number % 2 else vip(number // 2 % count))
        self.listen(time.monotonic() + PATIENCE)
        say("the kernel", self.took.pop(kernel, []), int(asks * seconds))
        say("the speaker", [each for found in self.took.values() for each in found], int(asks * seconds))


def say(who: str, took: list[float], asked: int) -> None:
    if not took:
        raise SystemExit(f"{who} answered nothing")
    ordered = sorted(took)
    p99, p999 = (ordered[len(ordered) * part // 1000] for part in (990, 999))
    print(
        f"{who:<12} answered {len(took)} of {asked}: median {statistics.median(took):.3f} ms, p99 {p99:.3f}, "
        f"p99.9 {p999:.3f}, worst {ordered[-1]:.3f}; load {os.getloadavg()[0]:.1f}"
    )


def live(count: int, asks: int, seconds: float) -> None:
    with two_namespaces() as (node, asker), speaker_in(node, count):
        me = [sys.executable, str(Path(__file__).resolve()), "--vips", str(count), "--asks", str(asks)]
        command = ["ip", "netns", "exec", asker, *me, "--live", str(seconds), "--asker"]
        subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vips", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--asks", type=int, default=1000)
    parser.add_argument("--live", type=float, default=20.0)
    parser.add_argument("--no-live", action="store_true")
    parser.add_argument("--asker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--planner", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.planner is not None:
        planner(options.planner)
        return
    if options.asker:
        Asker().storm(options.vips, options.asks, options.live)
        return
    vips = [vip(number) for number in range(options.vips)]
    station = Station(
        MAC,
        arp={vip: arp.reply_middle(MAC, vip) for vip in vips},
        answered=frozenset(vips),
        watched=frozenset(vips),
        own_macs=frozenset((MAC,)),
    )
    ours = [question(number, vip) for number, vip in enumerate(vips)]
    others = [question(n, IPv4Address(0x0A800000 + n).packed) for n in range(options.vips)]
    print(f"{options.vips} VIPs, one core")
    print(f"{rate(ours, station, options.seconds, answered=True):10,.0f} answered a second")
    print(
        f"{rate(others, station, options.seconds, answered=False):10,.0f} for other addresses let go",
        flush=True,
    )
    if not options.no_live:
        print(
            f"{options.asks} questions a second for {options.live:g} s, and as many for the kernel",
            flush=True,
        )
        live(options.vips, options.asks, options.live)


if __name__ == "__main__":
    main()
