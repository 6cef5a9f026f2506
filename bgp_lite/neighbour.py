"""The raw ICMPv6 socket and the clock of `discovery`.  Needs CAP_NET_RAW."""

from __future__ import annotations

import fcntl
import random
import socket
import struct
from typing import Final

import trio

from bgp_lite.discovery import ADVERTISEMENT, ALL_ROUTERS, HOP_LIMIT, SOLICITATION, Discovery

_ICMP6_FILTER: Final = 1
_SIOCGIFHWADDR: Final = 0x8927
MAX_PACKET: Final = 1500
RETRY: Final = 2.0
"""Seconds until an interface that could not be listened at is tried again."""


class Neighbour:
    """Learns, and keeps learning, the router at the other end of an interface."""

    def __init__(self, interface: str, *, rng: random.Random) -> None:
        self._interface, self._rng = interface, rng
        self._core: Discovery | None = None
        self._heard = trio.Event()
        self._rearm = trio.Event()
        self.problem = ""
        """Why we cannot listen, or nothing."""

    @property
    def router(self) -> str | None:
        """Link-local address, without scope."""
        return self._core.router if self._core else None

    async def wait(self) -> str:
        """The router's address, as soon as it is known."""
        while self.router is None:
            await self._heard.wait()
        return self.router

    def lost(self) -> None:
        """Nobody answered at the router's address."""
        if self._core is not None:
            self._core.lost(trio.current_time())
            self._rearm.set()

    async def run(self) -> None:
        """Until cancelled; an interface that is missing or down is tried again and again."""
        while True:
            try:
                with _open(self._interface) as sock:
                    self.problem = ""
                    mac = _mac(sock, self._interface)
                    self._core = Discovery(mac, rng=self._rng, now=trio.current_time())
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._receive, sock, self._core)
                        nursery.start_soon(self._keep_time, sock, self._core)
            except* OSError as problems:
                first: BaseException = problems
                while isinstance(first, BaseExceptionGroup):
                    first = first.exceptions[0]
                assert isinstance(first, OSError)
                self.problem = f"cannot look for a router at {self._interface}: {first.strerror or first}"
            self._core = None
            await trio.sleep(RETRY)

    async def _receive(self, sock: trio.socket.SocketType, core: Discovery) -> None:
        while True:
            data, ancillary, _, source = await sock.recvmsg(MAX_PACKET, 64)
            hops = 0
            for level, kind, value in ancillary:
                if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT):
                    (hops,) = struct.unpack("@i", value)
            name = str(source[0]) if isinstance(source, tuple) else ""
            core.received(data, name, hops, trio.current_time())
            if core.router is not None:
                self._heard.set()
                self._heard = trio.Event()
            self._rearm.set()

    async def _keep_time(self, sock: trio.socket.SocketType, core: Discovery) -> None:
        scope = socket.if_nametoindex(self._interface)
        while True:
            self._rearm = trio.Event()
            for send in core.tick(trio.current_time()):
                await sock.sendto(send.data, (send.to, 0, 0, scope))
            with trio.move_on_at(core.next_deadline()):
                await self._rearm.wait()


def _open(interface: str) -> trio.socket.SocketType:
    sock = trio.socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    try:
        # A set bit blocks its type: all but the two we speak.
        passed = {SOLICITATION, ADVERTISEMENT}
        words = [sum(1 << bit for bit in range(32) if word * 32 + bit not in passed) for word in range(8)]
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        scope = socket.if_nametoindex(interface)
        six = socket.IPPROTO_IPV6
        sock.setsockopt(six, socket.IPV6_MULTICAST_IF, scope)
        sock.setsockopt(six, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        sock.setsockopt(six, socket.IPV6_MULTICAST_LOOP, 0)
        sock.setsockopt(six, socket.IPV6_RECVHOPLIMIT, 1)
        group = socket.inet_pton(socket.AF_INET6, ALL_ROUTERS) + struct.pack("@I", scope)
        sock.setsockopt(six, socket.IPV6_JOIN_GROUP, group)
    except BaseException:
        sock.close()
        raise
    return sock


def _mac(sock: trio.socket.SocketType, interface: str) -> bytes:
    """Hardware address of an Ethernet interface; nothing where there is none, as on a tunnel."""
    request = struct.pack("16sH14s", interface.encode()[:15], 0, b"")
    answer = fcntl.ioctl(sock.fileno(), _SIOCGIFHWADDR, request)
    ethernet = struct.unpack_from("H", answer, 16)[0] == 1
    return answer[18:24] if ethernet else b""
