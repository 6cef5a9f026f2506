"""ARP for IPv4 over Ethernet on the wire (RFC 826; announcements as in RFC 5227 section 3).

Fixed layout, so one `struct` each way; this is hot code.  Addresses stay octets: 6 for Ethernet, 4 for IPv4.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from speaker.reflex.l2.ethernet import BROADCAST, MIN_FRAME, BadFrame


class Operation(IntEnum):
    """`ar$op`.  Others (RARP, InARP) exist and mean nothing here."""

    REQUEST = 1
    REPLY = 2


class Arp(NamedTuple):
    """One ARP frame.  A named tuple because it is made from `struct`'s in one step, for every frame heard."""

    ether_destination: bytes
    ether_source: bytes
    constant: bytes
    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes


# destination, source, then EtherType to protocol length, which have one value each; operation, addresses
_LAYOUT: Final = struct.Struct("!6s6s8sH6s4s6s4s")

ETHERNET_IPV4: Final = bytes.fromhex("0806 0001 0800 06 04")
"""EtherType ARP, hardware Ethernet, protocol IPv4, address lengths 6 and 4."""

_PADDING: Final = bytes(MIN_FRAME - _LAYOUT.size)


def decode(frame: bytes) -> Arp:
    """The ARP message in an Ethernet frame without VLAN tag.  Raises BadFrame, whatever the octets."""
    if len(frame) < _LAYOUT.size:
        raise BadFrame(f"{len(frame)} octets, need {_LAYOUT.size}")
    arp = Arp._make(_LAYOUT.unpack_from(frame))
    if arp.constant != ETHERNET_IPV4:
        raise BadFrame("not ARP for IPv4 over Ethernet")
    return arp


def encode(arp: Arp) -> bytes:
    """The frame, padded to Ethernet's minimum."""
    return _LAYOUT.pack(*arp) + _PADDING


def reply_middle(mac: bytes, address: bytes) -> bytes:
    """The octets of a reply that are the same for every requester; `reply` adds the others."""
    return mac + ETHERNET_IPV4 + Operation.REPLY.to_bytes(2, "big") + mac + address


def reply(middle: bytes, requester_mac: bytes, requester_ip: bytes) -> bytes:
    """A whole reply frame, unicast to the requester."""
    return requester_mac + middle + requester_mac + requester_ip + _PADDING


def probe(mac: bytes, address: bytes) -> bytes:
    """Asks who has `address` without claiming it or anything else (RFC 5227 section 2.1.1)."""
    return encode(Arp(BROADCAST, mac, ETHERNET_IPV4, Operation.REQUEST, mac, bytes(4), bytes(6), address))


def question(mac: bytes, source: bytes, target: bytes, target_mac: bytes) -> bytes:
    """Asks one host, whose hardware address is known, whether it still has `target`; says who we are."""
    return encode(Arp(target_mac, mac, ETHERNET_IPV4, Operation.REQUEST, mac, source, bytes(6), target))


def gratuitous(mac: bytes, address: bytes) -> tuple[bytes, bytes]:
    """Request and reply that tell everybody where `address` is.

    Both, because there are receivers that update on only the one or only the other; and, like MetalLB's,
    with the broadcast address as target hardware address.
    """
    request, answer = (
        encode(Arp(BROADCAST, mac, ETHERNET_IPV4, operation, mac, address, BROADCAST, address))
        for operation in (Operation.REQUEST, Operation.REPLY)
    )
    return request, answer
