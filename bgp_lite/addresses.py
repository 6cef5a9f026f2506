"""This machine's addresses by interface, as the kernel tells them (rtnetlink(7)).

A session over one family carries routes of the other as well; their next hop is an address of the interface
that owns the session's own one (RFC 4760 §3, RFC 2545 §3).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from bgp_lite.prefix import Family

Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_RTM_NEWADDR, _RTM_GETADDR, _NLMSG_ERROR, _NLMSG_DONE = 20, 22, 2, 3
_REQUEST_DUMP: Final = 0x301
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE, _PERMANENT = 0x01, 0x08, 0x20, 0x40, 0x80
_UNUSABLE: Final = _TEMPORARY | _DAD_FAILED | _DEPRECATED | _TENTATIVE
"""As a next hop: routes outlive privacy addresses (RFC 8981), and nobody answers for unchecked ones.  Of IPv4
the first flag says "secondary", which is as good as any when there is no other."""
_HEADER: Final = struct.Struct("=IHHII")
_IFADDRMSG: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_GLOBAL_SCOPE: Final = 0


@dataclass(frozen=True, slots=True)
class Address:
    index: int
    """Of the interface."""
    ip: Ip
    prefix_length: int
    universal: bool
    """Valid beyond the link and the host."""
    preferred: bool
    """Neither temporary nor deprecated, and known to be nobody else's."""
    permanent: bool = True
    """Somebody gave it; the others live as long as some router advertises their prefix."""


def addresses() -> list[Address]:
    """Every address of this network namespace, in the kernel's order.  Raises OSError."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as sock:
        sock.settimeout(1.0)
        body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        sock.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, _REQUEST_DUMP, 1, 0) + body)
        found: list[Address] = []
        while True:
            for kind, payload in _messages(sock.recv(65536)):
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    raise OSError(
                        -struct.unpack_from("=i", payload)[0], "the kernel does not tell our addresses"
                    )
                if kind == _RTM_NEWADDR and (address := _address(payload)):
                    found.append(address)


def next_hops(local: Ip, known: list[Address]) -> dict[Family, bytes]:
    """The address itself, and for the other family the first good one of the interface that owns it."""
    version = local.version
    hops = {_family(local): local.packed}
    owners = {each.index for each in known if each.ip == local}
    others = [
        each for each in known if each.index in owners and each.ip.version != version and each.universal
    ]
    others.sort(key=lambda each: (not each.preferred, not each.permanent))
    # An IPv6 address that is still being checked, or soon to go, is worse than none: its routes blackhole.
    if others and (others[0].preferred or others[0].ip.version == 4):
        hops[_family(others[0].ip)] = others[0].ip.packed
    return hops


def _family(ip: Ip) -> Family:
    return Family.IPV4 if ip.version == 4 else Family.IPV6


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _address(payload: bytes) -> Address | None:
    _, length, flags, scope, index = _IFADDRMSG.unpack_from(payload)
    values: dict[int, bytes] = {}
    at = _IFADDRMSG.size
    while at + _ATTRIBUTE.size <= len(payload):
        size, kind = _ATTRIBUTE.unpack_from(payload, at)
        if size < _ATTRIBUTE.size:
            break
        values[kind] = payload[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    if _IFA_FLAGS in values:
        (flags,) = struct.unpack("=I", values[_IFA_FLAGS])
    # IFA_ADDRESS is the far end of a point-to-point link; IFA_LOCAL, where there is one, is ours.
    octets = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    if octets is None:
        return None
    return Address(
        index,
        ipaddress.ip_address(octets),
        length,
        universal=scope == _GLOBAL_SCOPE,
        preferred=not flags & _UNUSABLE,
        permanent=bool(flags & _PERMANENT),
    )
