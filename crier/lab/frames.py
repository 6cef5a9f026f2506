"""ARP and NDP as the lab's client speaks them: asking who has an address, and reading who says so.

Independent of the speaker's own codecs on purpose: what the speaker gets wrong must not be wrong here too.

An answer carries no number that ties it to its question, but it is addressed to whoever asked; so each
question comes from another *asker* address out of `ASKERS`, and the answer's target tells which question it
answers.  The askers use a MAC address that is nobody's, so the client's own kernel takes neither questions
nor answers as news for its neighbour cache, which must learn of a failover as any host does: from gratuitous
frames.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

ASKER_MAC: Final = "02:c7:1e:07:ff:01"
ASKERS: Final = 64
"""Different asker addresses; with a question each 20 ms one comes round after 1.28 s."""
_ASKERS4: Final = int(IPv4Address("172.30.0.128"))
_ASKERS6: Final = int(IPv6Address("fe80::c71e:a51e:0"))


def askers6() -> tuple[IPv6Address, ...]:
    """The askers of NDP.  They answer no questions themselves, so who answers through its kernel, as MetalLB
    does, must have been told where they are; who answers with frames of its own need not."""
    return tuple(IPv6Address(_ASKERS6 + number) for number in range(ASKERS))


BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
ETH_ARP: Final = 0x0806
ETH_IPV6: Final = 0x86DD
_ETHERNET: Final = struct.Struct("!6s6sH")
# hardware type, protocol type, their lengths, operation, sender MAC and IP, target MAC and IP (RFC 826)
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
# version and flow, payload length, next header, hop limit, source, destination (RFC 8200 section 3)
_IPV6: Final = struct.Struct("!IHBB16s16s")
# type, code, checksum, flags or reserved, target (RFC 4861 sections 4.3 and 4.4)
_NDP: Final = struct.Struct("!BBHI16s")
_ICMPV6: Final = 58
_SOLICITATION: Final = 135
_ADVERTISEMENT: Final = 136
_SOURCE_LINK: Final = 1
_TARGET_LINK: Final = 2


class BadFrame(Exception):
    """The only thing `decode` raises."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that an address is at a MAC."""

    address: IPAddress
    mac: str
    asker: int | None
    """Which asker it answers; None for a gratuitous frame, or an answer to somebody else."""
    gratuitous: bool


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(raw: bytes) -> str:
    return raw.hex(":")


def question(address: IPAddress, asker: int) -> bytes:
    """The frame in which asker number `asker` asks for the MAC of an address."""
    me = mac_bytes(ASKER_MAC)
    if isinstance(address, IPv4Address):
        ours = (_ASKERS4 + asker).to_bytes(4, "big")
        body = _ARP.pack(1, 0x0800, 6, 4, 1, me, ours, bytes(6), address.packed)
        return _ETHERNET.pack(mac_bytes(BROADCAST), me, ETH_ARP) + body
    ours = (_ASKERS6 + asker).to_bytes(16, "big")
    group = IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:]  # RFC 4291 section 2.7.1
    link = struct.pack("!BB6s", _SOURCE_LINK, 1, me)
    unsummed = _NDP.pack(_SOLICITATION, 0, 0, 0, address.packed) + link
    body = unsummed[:2] + struct.pack("!H", checksum(ours, group, unsummed)) + unsummed[4:]
    header = _IPV6.pack(6 << 28, len(body), _ICMPV6, 255, ours, group)
    return _ETHERNET.pack(b"\x33\x33" + group[12:], me, ETH_IPV6) + header + body


def checksum(source: bytes, destination: bytes, body: bytes) -> int:
    """ICMPv6's checksum over the pseudo-header and the body, its own field being zero (RFC 4443 section
    2.3).
    """
    data = source + destination + struct.pack("!II", len(body), _ICMPV6) + body + bytes(len(body) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def decode(frame: bytes) -> Claim | None:
    """The claim in an Ethernet frame; None for a well-formed frame that makes none.  Raises BadFrame."""
    if len(frame) < _ETHERNET.size:
        raise BadFrame(f"{len(frame)} octets, need {_ETHERNET.size}")
    _, _, ethertype = _ETHERNET.unpack_from(frame)
    if ethertype == ETH_ARP:
        return _decode_arp(frame[_ETHERNET.size :])
    if ethertype == ETH_IPV6:
        return _decode_ndp(frame[_ETHERNET.size :])
    return None


def _decode_arp(body: bytes) -> Claim | None:
    if len(body) < _ARP.size:
        raise BadFrame(f"{len(body)} octets of ARP, need {_ARP.size}")
    hardware, protocol, hlen, plen, operation, mac, sender, _, target = _ARP.unpack_from(body)
    if (hardware, protocol, hlen, plen) != (1, 0x0800, 6, 4):
        raise BadFrame("ARP for something else than IPv4 on Ethernet")
    gratuitous = sender == target
    if sender == bytes(4) or (operation != 2 and not gratuitous):
        return None
    asker = None if gratuitous else _asker(int.from_bytes(target, "big") - _ASKERS4)
    return Claim(IPv4Address(sender), mac_text(mac), asker, gratuitous)


def _decode_ndp(packet: bytes) -> Claim | None:
    if len(packet) < _IPV6.size:
        raise BadFrame(f"{len(packet)} octets of IPv6, need {_IPV6.size}")
    _, length, header, hops, source, destination = _IPV6.unpack_from(packet)
    body = packet[_IPV6.size : _IPV6.size + length]
    if header != _ICMPV6 or not body or body[0] != _ADVERTISEMENT:
        return None
    if len(body) < max(length, _NDP.size) or hops != 255:
        raise BadFrame("a neighbour advertisement that is cut short, or came through a router")
    if checksum(source, destination, body[:2] + b"\0\0" + body[4:]) != int.from_bytes(body[2:4], "big"):
        raise BadFrame("a neighbour advertisement with a wrong checksum")
    target = body[8:24]
    options = body[_NDP.size :]
    while len(options) >= 2:
        size = options[1] * 8
        if size == 0 or size > len(options):
            raise BadFrame("an option of no length, or longer than the packet")
        if options[0] == _TARGET_LINK and size == 8:
            gratuitous = destination[0] == 0xFF
            asker = None if gratuitous else _asker(int.from_bytes(destination, "big") - _ASKERS6)
            return Claim(IPv6Address(target), mac_text(options[2:8]), asker, gratuitous)
        options = options[size:]
    return None  # without the option it moves nobody's cache


def _asker(number: int) -> int | None:
    return number if 0 <= number < ASKERS else None


# Classic BPF for a packet socket on ETH_IPV6: next header is ICMPv6 and its type is neighbour advertisement.
# (code, jump if true, jump if false, operand), from linux/filter.h.
_ADVERTISEMENTS_ONLY: Final = (
    (0x30, 0, 0, 20),  # load octet 20: next header
    (0x15, 0, 3, _ICMPV6),
    (0x30, 0, 0, 54),  # load octet 54: ICMPv6 type
    (0x15, 0, 1, _ADVERTISEMENT),
    (0x06, 0, 0, 0xFFFF),  # take it
    (0x06, 0, 0, 0),  # leave it
)
_SO_ATTACH_FILTER: Final = 26


def listen(ethertype: int, interface: str) -> socket.socket:
    """A packet socket for ARP, or for neighbour advertisements, of the current namespace."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if ethertype == ETH_IPV6:
        import ctypes

        code = b"".join(struct.pack("HBBI", *line) for line in _ADVERTISEMENTS_ONLY)
        buffer = ctypes.create_string_buffer(code)
        program = struct.pack("HL", len(_ADVERTISEMENTS_ONLY), ctypes.addressof(buffer))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    sock.bind((interface, ethertype))
    sock.setblocking(False)
    return sock
