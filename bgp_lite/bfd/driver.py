"""The sockets and the clock of all BFD sessions of a process.  It decides nothing.

One socket receives per family and port; each session sends from a socket of its own (RFC 5881 §4: its source
port stays the same for the life of the session).  Before a deadline is believed everything that has arrived
is read, and each packet counts from when the kernel received it, so that a process that was kept waiting
does not take its own lateness for the peer's.
"""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from bgp_lite.bfd.core import Changed, Effect, Profile, Send, Session
from bgp_lite.bfd.packet import BadPacket, ControlPacket

SINGLE_HOP: Final = 3784
MULTIHOP: Final = 4784
SOURCE_PORTS: Final = range(49152, 65536)
"""RFC 5881 §4."""
MAX_DATAGRAM: Final = 256
MAX_READ: Final = 1024
"""Packets read in one go: a flood must not keep deadlines from being looked at."""

# Linux numbers that Python's socket module does not name (linux/in.h, asm-generic/socket.h).
IP_RECVTTL: Final = 12
SO_TIMESTAMPNS: Final = 35
_HOP_COUNTS: Final = ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT))
_TIMESPEC: Final = struct.Struct("@qq")
_INT: Final = struct.Struct("@i")


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a session is with."""

    address: str
    local: str | None = None
    """Our address; None leaves it to the kernel."""
    device: str | None = None
    multihop: bool = False


@dataclass(slots=True, eq=False)
class Running:
    """One session and its socket."""

    peer: Peer
    session: Session
    sock: socket.socket
    changed: Callable[[Changed], None]
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where packets come in.  A device has a socket of its own: one that is bound to no device hears nothing
    of a VRF (net.ipv4.udp_l3mdev_accept)."""

    family: socket.AddressFamily
    multihop: bool
    device: str | None


_Key = tuple[str, int, bool, str | None]
"""Address, index of its interface where it is link-local, multihop, device."""


class Driver:
    """Runs any number of sessions until cancelled."""

    def __init__(self, *, rng: random.Random) -> None:
        self._rng = rng
        self._by_discriminator: dict[int, Running] = {}
        self._by_address: dict[_Key, Running] = {}
        self._listening: dict[_Place, socket.socket] = {}
        self._rearm = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.dropped = 0
        """Packets that belonged to no session, came from too far away, or were none."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            try:
                for place, sock in self._listening.items():
                    self._nursery.start_soon(self._receive, sock, place)
                task_status.started()
                await self._keep_time()
            finally:
                for running in list(self._by_discriminator.values()):
                    running.sock.close()
                for sock in self._listening.values():
                    sock.close()

    def add(self, peer: Peer, profile: Profile, changed: Callable[[Changed], None]) -> Running:
        """A session that starts at once.  Raises OSError when its sockets cannot be had, ValueError when
        there is a session with this peer already."""
        ip = ipaddress.ip_address(peer.address.partition("%")[0])
        scope = 0
        if isinstance(ip, ipaddress.IPv6Address) and ip.is_link_local:
            # Routers may have the same link-local address at each of their interfaces.
            scope = socket.if_nametoindex(peer.address.partition("%")[2] or peer.device or "")
        key = (str(ip), scope, peer.multihop, peer.device)
        if key in self._by_address:
            raise ValueError(f"there is a session with {peer.address} already")
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        self._listen(_Place(family, peer.multihop, peer.device))
        discriminator = self._rng.randrange(1, 2**32)
        while discriminator in self._by_discriminator:
            discriminator = self._rng.randrange(1, 2**32)
        session = Session(profile, discriminator, rng=self._rng, now=trio.current_time())
        running = Running(peer, session, self._sender(family, peer, scope), changed)
        self._by_discriminator[discriminator] = self._by_address[key] = running
        self._rearm.set()
        return running

    def remove(self, running: Running) -> None:
        """Forget a session; the peer notices after its detection time."""
        self._by_discriminator.pop(running.session.local_discr, None)
        for key, other in list(self._by_address.items()):
            if other is running:
                del self._by_address[key]
        running.sock.close()

    def say_goodbye(self, running: Running) -> None:
        """Tell the peer that we end on purpose; for a planned restart just stop instead (see `Session`)."""
        self._perform(running, running.session.set_admin_down(trio.current_time()))

    # -- sockets ------------------------------------------------------------------------------------

    def _listen(self, place: _Place) -> None:
        if place in self._listening:
            return
        sock = socket.socket(place.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            if place.device is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, place.device.encode() + b"\0")
            if place.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            sock.bind(("", MULTIHOP if place.multihop else SINGLE_HOP))
        except BaseException:
            sock.close()
            raise
        self._listening[place] = sock
        if self._nursery is not None:
            self._nursery.start_soon(self._receive, sock, place)

    def _sender(self, family: socket.AddressFamily, peer: Peer, scope: int) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xC0)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xC0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 6)
            if peer.device is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, peer.device.encode() + b"\0")
            self._bind(sock, peer.local or "", scope)
            port = MULTIHOP if peer.multihop else SINGLE_HOP
            if scope:
                sock.connect((peer.address.partition("%")[0], port, 0, scope))
            else:
                sock.connect((peer.address.partition("%")[0], port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _bind(self, sock: socket.socket, local: str, scope: int) -> None:
        for _ in range(64):
            port = self._rng.choice(SOURCE_PORTS)
            try:
                return sock.bind((local.partition("%")[0], port, 0, scope) if scope else (local, port))
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no free source port in 49152..65535")

    # -- tasks --------------------------------------------------------------------------------------

    async def _receive(self, sock: socket.socket, place: _Place) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            self._drain(sock, place)

    async def _keep_time(self) -> None:
        while True:
            self._rearm = trio.Event()
            deadlines = [one.session.next_deadline() for one in self._by_discriminator.values()]
            with trio.move_on_at(min(deadlines, default=float("inf"))):
                await self._rearm.wait()
                continue
            for place, sock in list(self._listening.items()):
                self._drain(sock, place)
            now = trio.current_time()
            for running in list(self._by_discriminator.values()):
                if running.session.next_deadline() <= now:
                    self._perform(running, running.session.tick(now))

    def _drain(self, sock: socket.socket, place: _Place) -> None:
        """Everything that has arrived."""
        for _ in range(MAX_READ):
            try:
                data, ancillary, flags, source = sock.recvmsg(MAX_DATAGRAM, 128)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of some sender; what matters is whether packets come
            if flags & socket.MSG_TRUNC:
                self.dropped += 1
                continue
            ttl, age = _ancillary(ancillary)
            scope = source[3] if len(source) == 4 else 0
            key = (source[0].partition("%")[0], scope, place.multihop, place.device)
            self._packet(data, key, ttl, trio.current_time() - age)

    def _packet(self, data: bytes, key: _Key, ttl: int, now: float) -> None:
        try:
            packet = ControlPacket.decode(data)
        except BadPacket:
            self.dropped += 1
            return
        running = self._by_address.get(key)
        if packet.your_discriminator:
            found = self._by_discriminator.get(packet.your_discriminator)
            # The source is checked too: two routers that know our discriminator are not one session.
            running = found if found is running else None
        if running is None:
            self.dropped += 1
            return
        # RFC 5881 §5: one hop away means that nobody has counted the TTL down.
        least = running.session.profile.minimum_ttl if running.peer.multihop else 255
        if ttl < least:
            self.dropped += 1
            return
        running.received += 1
        self._perform(running, running.session.handle(packet, now))
        self._rearm.set()

    def _perform(self, running: Running, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(packet):
                    try:
                        running.sock.send(packet.encode())
                        running.sent += 1
                    except OSError:
                        pass  # unreachable now; the peer's packets, or their absence, say so soon enough
                case Changed():
                    running.changed(effect)


def _ancillary(messages: list[tuple[int, int, bytes]]) -> tuple[int, float]:
    """TTL or hop limit of a packet, and for how many seconds it has been waiting for us."""
    ttl, age = 0, 0.0
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            # The wall clock may be set meanwhile: no packet comes from the future, or waits for long.
            age = min(max(time.time() - seconds - nanoseconds / 1e9, 0.0), 1.0)
        elif (level, kind) in _HOP_COUNTS:
            (ttl,) = _INT.unpack_from(data)
    return ttl, age
