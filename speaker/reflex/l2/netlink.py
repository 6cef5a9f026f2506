"""The little of rtnetlink(7) we need: which links exist and which have an IPv6 link-local address.

pyroute2 would do, but it brings asyncio and over 20 MiB into a process that should be small; the tests use
it to check this.  What comes in is the kernel's, yet decoded like anything else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

RTMGRP_LINK: Final = 0x1
RTMGRP_IPV6_IFADDR: Final = 0x100

_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_REQUEST_DUMP: Final = 0x1 | 0x300
_DUMP_INTERRUPTED: Final = 0x10

_AF_UNSPEC, _AF_INET6 = 0, 10
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_EXT_MASK = 1, 3, 10, 29
_SKIP_STATS: Final = 1 << 3
_IFA_ADDRESS, _IFA_FLAGS = 1, 8

# native byte order, which is the kernel's: length, type, flags, sequence, port
_HEADER: Final = struct.Struct("=IHHII")
# family, hardware type, index, flags, change
_LINK: Final = struct.Struct("=BxHiII")
# family, prefix length, flags, scope, index
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_U32: Final = struct.Struct("=I")


class BadNetlink(Exception):
    """The only thing `decode` raises."""


@dataclass(frozen=True, slots=True)
class LinkSeen:
    index: int
    name: str
    hardware: int
    """ARPHRD_..."""
    flags: int
    """IFF_..."""
    mac: bytes
    master: int
    """Index of the bridge, bond or VRF it belongs to; 0 is none."""


@dataclass(frozen=True, slots=True)
class LinkGone:
    index: int


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """An IPv6 address."""

    index: int
    address: bytes
    flags: int
    """IFA_F_..."""


@dataclass(frozen=True, slots=True)
class AddressGone:
    index: int
    address: bytes


@dataclass(frozen=True, slots=True)
class DumpDone:
    """Answer to a request is complete."""

    sequence: int
    intact: bool
    """False when something changed under way: ask again."""


News: TypeAlias = LinkSeen | LinkGone | AddressSeen | AddressGone | DumpDone


def ask_links(sequence: int) -> bytes:
    mask = _ATTRIBUTE.pack(_ATTRIBUTE.size + _U32.size, _IFLA_EXT_MASK) + _U32.pack(_SKIP_STATS)
    return _request(_GETLINK, sequence, _LINK.pack(_AF_UNSPEC, 0, 0, 0, 0) + mask)


def ask_addresses(sequence: int) -> bytes:
    return _request(_GETADDR, sequence, _ADDRESS.pack(_AF_INET6, 0, 0, 0, 0))


def _request(kind: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_DUMP, sequence, 0) + body


def decode(datagram: bytes) -> list[News]:
    """The messages in one datagram; kinds we did not ask for are left out.  Raises BadNetlink."""
    try:
        return [news for message in _messages(datagram) if (news := message) is not None]
    except (struct.error, IndexError) as problem:
        raise BadNetlink(str(problem)) from None


def _messages(datagram: bytes) -> Iterator[News | None]:
    at = 0
    while at < len(datagram):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= len(datagram) - at:
            raise BadNetlink(f"message of {length} octets at {at} of {len(datagram)}")
        body = datagram[at + _HEADER.size : at + length]
        if kind in (_DONE, _ERROR):
            # an error ends a dump as well; its body starts with a negative errno, or 0 for an acknowledgement
            yield DumpDone(sequence, kind == _DONE and not flags & _DUMP_INTERRUPTED)
        elif kind in (_NEWLINK, _DELLINK):
            yield _link(kind, body)
        elif kind in (_NEWADDR, _DELADDR):
            yield _address(kind, body)
        at += _aligned(length)


def _link(kind: int, body: bytes) -> News | None:
    family, hardware, index, flags, _change = _LINK.unpack_from(body)
    if family != _AF_UNSPEC:
        return None  # a bridge speaking of its ports: same types, another meaning
    if kind == _DELLINK:
        return LinkGone(index)
    found = dict(_attributes(body, _LINK.size))
    master = found.get(_IFLA_MASTER, b"")
    return LinkSeen(
        index=index,
        name=found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        hardware=hardware,
        flags=flags,
        mac=found.get(_IFLA_ADDRESS, b""),
        master=_U32.unpack(master)[0] if master else 0,
    )


def _address(kind: int, body: bytes) -> News | None:
    family, _prefix, flags, _scope, index = _ADDRESS.unpack_from(body)
    if family != _AF_INET6:
        return None
    found = dict(_attributes(body, _ADDRESS.size))
    address = found.get(_IFA_ADDRESS, b"")
    if len(address) != 16:
        raise BadNetlink(f"IPv6 address of {len(address)} octets")
    if kind == _DELADDR:
        return AddressGone(index, address)
    wide = found.get(_IFA_FLAGS)
    return AddressSeen(index, address, _U32.unpack(wide)[0] if wide else flags)


def _attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            raise BadNetlink(f"attribute of {length} octets")
        yield kind, body[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
