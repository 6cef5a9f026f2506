"""The sockets of one interface: ARP and neighbour messages in, frames out, groups joined."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import trio

from speaker.reflex.l2 import arp, bpf
from speaker.reflex.l2.ethernet import ETH_P_ARP, ETH_P_IPV6
from speaker.reflex.l2.groups import Groups
from speaker.reflex.l2.links import Link

_SIOCGIFADDR: Final = 0x8915  # netdevice(7)
_SIOCGIFNETMASK: Final = 0x891B
_ADDRESS: Final = slice(20, 24)
"""Of a `struct ifreq`: behind the name, the family and the port."""
_TRY_AGAIN: Final = (errno.EAGAIN, errno.ENOBUFS)


@dataclass(frozen=True, slots=True)
class Heed:
    """The addresses that may concern us, roughly; of all others the kernel does not even tell."""

    ipv4: bpf.Ranges = ()
    ipv6: bpf.Ranges = ()

    @classmethod
    def of(cls, blocks: Mapping[int, AbstractSet[int]]) -> Heed:
        """`bpf.block`s by the length of their addresses in octets."""
        return cls(bpf.ranges(blocks.get(4, ())), bpf.ranges(blocks.get(16, ())))


class Full(Exception):
    """The interface takes no more at the moment; nothing was sent."""


class Wire:
    """Two packet sockets, one a protocol: so the IPv4 traffic of a busy node passes no filter of ours, as it
    would with one socket for everything.
    """

    def __init__(self, link: Link, addresses: Heed) -> None:
        """Raises OSError; then nothing is left open."""
        self.link = link
        self.arp: socket.socket | None = None
        self.ndp: socket.socket | None = None
        self._groups: Groups | None = None
        try:
            if link.arp:
                self.arp = _packet_socket(link, ETH_P_ARP, bpf.arp(link.index, addresses.ipv4))
            if link.ndp:
                self.ndp = _packet_socket(
                    link, ETH_P_IPV6, bpf.neighbour_discovery(link.index, addresses.ipv6)
                )
                self._groups = Groups(link.index, self.ndp)
        except OSError:
            self.close()
            raise

    def heed(self, addresses: Heed) -> None:
        """From now on what concerns these is heard, and nothing else.  Raises OSError."""
        if self.arp is not None:
            bpf.attach(self.arp, bpf.arp(self.link.index, addresses.ipv4))
        if self.ndp is not None:
            bpf.attach(self.ndp, bpf.neighbour_discovery(self.link.index, addresses.ipv6))

    def send(self, frame: bytes) -> None:
        """One whole frame.  Raises Full, or OSError when the interface is down or gone."""
        sock = self.arp or self.ndp
        assert sock is not None
        try:
            sock.send(frame)
        except OSError as problem:
            if problem.errno in _TRY_AGAIN:
                raise Full from None
            raise

    def ask(self, target: bytes, mac: bytes) -> None:
        """An ARP question to the host `target` at `mac`, if it is in this interface's network, with our own
        address in it as our kernel would put it: both kernels then know each other again.  Raises Full, or
        OSError when the interface is down, gone, or has no IPv4 address.
        """
        if self.arp is None:
            return
        request = struct.pack("16s24x", self.link.name.encode())
        source, mask = (
            fcntl.ioctl(self.arp, what, request)[_ADDRESS] for what in (_SIOCGIFADDR, _SIOCGIFNETMASK)
        )
        if all((a ^ b) & m == 0 for a, b, m in zip(source, target, mask, strict=True)):
            self.send(arp.question(self.link.mac, source, target, mac))

    def join(self, group: bytes) -> None:
        """Raises OSError."""
        if self._groups is not None:
            self._groups.join(group)

    def leave(self, group: bytes) -> None:
        if self._groups is not None:
            self._groups.leave(group)

    def close(self) -> None:
        """Whoever waits for a frame gets trio.ClosedResourceError."""
        for sock in (self.arp, self.ndp):
            if sock is not None:
                trio.lowlevel.notify_closing(sock)
                sock.close()
        if self._groups is not None:
            self._groups.close()


def _packet_socket(link: Link, protocol: int, program: bytes) -> socket.socket:
    # protocol 0 receives nothing until bound, so no frame gets in before the filter is there
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        bpf.attach(sock, program)
        # Python binds by name, and after a rename that would be another interface; the filter, which knows
        # the index, then keeps us deaf, and netlink is about to tell the new name
        sock.bind((link.name, protocol))
    except OSError:
        sock.close()
        raise
    return sock
