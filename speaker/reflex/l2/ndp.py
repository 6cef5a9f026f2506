"""Neighbour Discovery on the wire: solicitations and advertisements (RFC 4861 sections 4.3, 4.4, 7.1, 7.2).

Ethernet, IPv6 without extension headers, ICMPv6.  Addresses stay octets: 6 for Ethernet, 16 for IPv6.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from speaker.reflex.l2.ethernet import BadFrame, multicast_mac

ALL_NODES: Final = bytes.fromhex("ff02 0000 0000 0000 0000 0000 0000 0001")
_SOLICITED_NODE: Final = bytes.fromhex("ff02 0000 0000 0000 0000 0001 ff")
_UNSPECIFIED: Final = bytes(16)

NEIGHBOUR_SOLICITATION: Final = 135
NEIGHBOUR_ADVERTISEMENT: Final = 136
ICMPV6: Final = 58
_HOP_LIMIT: Final = 255

ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20
"""First octet of an advertisement's flags."""

_SOURCE_LINK_LAYER: Final = 1
_TARGET_LINK_LAYER: Final = 2

# Ethernet, then IPv6: version to flow label, payload length, next header, hop limit, source, destination;
# then ICMPv6: type, code, checksum, flags (reserved in a solicitation), target.
_LAYOUT: Final = struct.Struct("!6s6sHIHBB16s16sBBHB3x16s")
_ICMP: Final = 54
_MIN_PAYLOAD: Final = _LAYOUT.size - _ICMP
_ETHERTYPE: Final = 0x86DD


class Solicitation(NamedTuple):
    ether_destination: bytes
    ether_source: bytes
    source: bytes
    destination: bytes
    target: bytes
    source_link_layer: bytes | None


class Advertisement(NamedTuple):
    ether_destination: bytes
    ether_source: bytes
    source: bytes
    destination: bytes
    target: bytes
    flags: int
    target_link_layer: bytes | None


Neighbour: TypeAlias = Solicitation | Advertisement


def decode(frame: bytes) -> Neighbour:
    """The neighbour message in an Ethernet frame without VLAN tag.  Raises BadFrame, whatever the octets."""
    if len(frame) < _LAYOUT.size:
        raise BadFrame(f"{len(frame)} octets, need {_LAYOUT.size}")
    (
        ether_destination, ether_source, ethertype, version, length, next_header, hop_limit,
        source, destination, kind, code, _checksum, flags, target,
    ) = _LAYOUT.unpack_from(frame)  # fmt: skip
    if ethertype != _ETHERTYPE or version >> 28 != 6 or next_header != ICMPV6:
        raise BadFrame("not ICMPv6 right behind an IPv6 header")
    # RFC 4861 sections 7.1.1 and 7.1.2, in their order.
    if hop_limit != _HOP_LIMIT:
        raise BadFrame(f"hop limit {hop_limit}: it came through a router")
    if not _MIN_PAYLOAD <= length <= len(frame) - _ICMP:
        raise BadFrame(f"payload length {length} in a frame of {len(frame)} octets")
    message = frame[_ICMP : _ICMP + length]
    if (_pseudo_header_sum(source, destination, length) + _sum(message)) % 0xFFFF:
        raise BadFrame("checksum")
    if code != 0:
        raise BadFrame(f"code {code}")
    if target[0] == 0xFF:
        raise BadFrame("target is multicast")
    if kind == NEIGHBOUR_SOLICITATION:
        link_layer = _option(message, _SOURCE_LINK_LAYER)
        if source == _UNSPECIFIED and (destination != solicited_node(target) or link_layer is not None):
            raise BadFrame("unspecified source in what is no address detection")
        return Solicitation(ether_destination, ether_source, source, destination, target, link_layer)
    if kind == NEIGHBOUR_ADVERTISEMENT:
        link_layer = _option(message, _TARGET_LINK_LAYER)
        if destination[0] == 0xFF and flags & SOLICITED:
            raise BadFrame("solicited, yet multicast")
        return Advertisement(ether_destination, ether_source, source, destination, target, flags, link_layer)
    raise BadFrame(f"ICMPv6 type {kind}")


def _option(message: bytes, wanted: int) -> bytes | None:
    """First link-layer address among the options, which come in any order (section 4.6).  Raises BadFrame."""
    found: bytes | None = None
    at = _MIN_PAYLOAD
    while at < len(message):
        if at + 2 > len(message):
            raise BadFrame("an option is cut off")
        kind, length = message[at], message[at + 1] * 8
        if length == 0:
            raise BadFrame("an option of length 0")
        if at + length > len(message):
            raise BadFrame("an option is cut off")
        if kind == wanted and found is None and length == 8:
            found = message[at + 2 : at + 8]
        at += length
    return found


def _sum(data: bytes) -> int:
    """Sum of the 16-bit words; modulo 0xFFFF it is the one's complement sum (RFC 1071)."""
    if len(data) & 1:
        data += b"\0"
    # an octet string is a number in base 65536, and 65536 is 1 modulo 65535
    return int.from_bytes(data, "big") % 0xFFFF


def _pseudo_header_sum(source: bytes, destination: bytes, length: int) -> int:
    """RFC 8200 section 8.1."""
    return _sum(source) + _sum(destination) + length + ICMPV6


def _checksum(total: int) -> int:
    return (0xFFFF - total % 0xFFFF) % 0xFFFF


class Template(NamedTuple):
    """An advertisement that lacks only the one who asked; `advertise` adds that."""

    before_destination: bytes
    """Ethernet source to IPv6 source."""
    after_checksum: bytes
    """Flags, target, option."""
    total: int
    """Sum of all that is known already."""


_KIND: Final = bytes((NEIGHBOUR_ADVERTISEMENT, 0))


def template(mac: bytes, target: bytes, flags: int) -> Template:
    """Advertisements of `target` at `mac`.

    They come from `target` itself, as the kernel's do: tools and filters that compare the two are content.
    """
    after = bytes((flags, 0, 0, 0)) + target + bytes((_TARGET_LINK_LAYER, 1)) + mac
    length = len(_KIND) + 2 + len(after)
    head = struct.pack("!HIHBB", _ETHERTYPE, 6 << 28, length, ICMPV6, _HOP_LIMIT)
    total = _pseudo_header_sum(target, _UNSPECIFIED, length) + _sum(_KIND) + _sum(after)
    return Template(mac + head + target, after, total)


def advertise(made: Template, mac: bytes, destination: bytes) -> bytes:
    """The whole frame, to an Ethernet and an IPv6 address."""
    checksum = _checksum(made.total + _sum(destination)).to_bytes(2, "big")
    return b"".join((mac, made.before_destination, destination, _KIND, checksum, made.after_checksum))


def unsolicited(mac: bytes, target: bytes) -> bytes:
    """Tells everybody where `target` is (section 7.2.6): to all nodes, override set."""
    return advertise(template(mac, target, OVERRIDE), multicast_mac(ALL_NODES), ALL_NODES)


def probe(mac: bytes, target: bytes) -> bytes:
    """Asks who has `target`, from nobody, as duplicate address detection does (RFC 4862 section 5.4.2).  The
    one who has it tells everybody."""
    return _solicit(mac, target, _UNSPECIFIED, b"")


def solicit(mac: bytes, source: bytes, target: bytes) -> bytes:
    """Asks who has `target`, to be told to `source` (RFC 4861 section 4.3)."""
    return _solicit(mac, target, source, bytes((_SOURCE_LINK_LAYER, 1)) + mac)


def _solicit(mac: bytes, target: bytes, source: bytes, options: bytes) -> bytes:
    group = solicited_node(target)
    after = bytes(4) + target + options
    kind = bytes((NEIGHBOUR_SOLICITATION, 0))
    length = len(kind) + 2 + len(after)
    checksum = _checksum(_pseudo_header_sum(source, group, length) + _sum(kind) + _sum(after))
    head = struct.pack("!HIHBB", _ETHERTYPE, 6 << 28, length, ICMPV6, _HOP_LIMIT)
    return b"".join(
        (multicast_mac(group), mac, head, source, group, kind, checksum.to_bytes(2, "big"), after)
    )


def solicited_node(target: bytes) -> bytes:
    """Group in which the owner of `target` listens (RFC 4291 section 2.7.1)."""
    return _SOLICITED_NODE + target[13:]
