"""Multicast groups of one interface, joined so that the network delivers solicitations to us.

The kernel's own membership makes switches that snoop MLD forward the group to our port, and opens the network
card's filter; a packet socket's membership opens that filter alone, and holds where the kernel's cannot.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Final

from speaker.reflex.l2.ethernet import multicast_mac

PER_SOCKET: Final = 200
"""Memberships of one socket: the kernel charges them to its option memory (net.core.optmem_max, 20 KiB)."""

_SOL_PACKET: Final = 263
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_MR_MULTICAST: Final = 0


class Groups:
    """Call `close` when done.  `packet_socket` stays the caller's."""

    def __init__(self, index: int, packet_socket: socket.socket) -> None:
        self._index = index
        self._packet_socket = packet_socket
        self._joined: dict[bytes, socket.socket | None] = {}
        self._room: dict[socket.socket, int] = {}

    def join(self, group: bytes) -> None:
        """A group of 16 octets; again is no error.

        Raises OSError when either way fails; the other is then used all the same.
        """
        if group in self._joined:
            return
        self._joined[group] = None
        self._packet_membership(_ADD_MEMBERSHIP, group)
        sock = self._socket_with_room()
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, self._request(group))
        self._joined[group] = sock
        self._room[sock] -= 1

    def leave(self, group: bytes) -> None:
        """Leaving what is gone already, with its interface or so, is no error."""
        if group not in self._joined:
            return
        sock = self._joined.pop(group)
        with suppress(OSError):
            self._packet_membership(_DROP_MEMBERSHIP, group)
        if sock is not None:
            self._room[sock] += 1
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, self._request(group))

    def close(self) -> None:
        for sock in self._room:
            sock.close()

    def _socket_with_room(self) -> socket.socket:
        for sock, room in self._room.items():
            if room:
                return sock
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._room[sock] = PER_SOCKET
        return sock

    def _request(self, group: bytes) -> bytes:
        # struct ipv6_mreq
        return struct.pack("@16sI", group, self._index)

    def _packet_membership(self, action: int, group: bytes) -> None:
        # struct packet_mreq
        request = struct.pack("@IHH8s", self._index, _MR_MULTICAST, 6, multicast_mac(group))
        self._packet_socket.setsockopt(_SOL_PACKET, action, request)
