"""UDP datagrams out of a classic pcap file, as tcpdump writes it.

    file:   magic, version, two unused words, snap length, link type    24 octets
    packet: seconds, fraction, octets captured, octets on the wire      16 octets, then the capture

The magic tells the byte order and whether the fraction is of micro- or nanoseconds (draft-ietf-opsawg-pcap).
Fragments are not put together and what was captured only in part is not guessed at: both are reported.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

MAX_CAPTURE: Final = 262_144
"""Octets of one packet, tcpdump's own bound; more means that this is no pcap file."""

_ORDERS: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"

_ETHERNET, _RAW, _SLL, _SLL2 = 1, 101, 113, 276
_VLAN_TAGS: Final = (b"\x81\x00", b"\x88\xa8")
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_UDP: Final = 17
_IPV6_OPTIONS: Final = (0, 43, 60)
"""Hop-by-hop options, routing, destination options: next header, length, content."""
_IPV6_FRAGMENT: Final = 44


class PcapError(Exception):
    """The file is not one we read; the text says why."""


@dataclass(frozen=True, slots=True)
class Datagram:
    time: float
    """Seconds since 1970."""
    source: str
    """Address and port; the port is 0 in a fragment."""
    source_port: int
    destination: str
    destination_port: int
    payload: bytes
    problem: str = ""
    """Why the payload is not all there; empty if it is."""


def read(file: BinaryIO) -> Iterator[Datagram]:
    """Every UDP datagram, in the order of the file; other traffic is passed over.  Raises PcapError."""
    head = file.read(24)
    if head[:4] == _PCAPNG:
        raise PcapError("this is pcapng; `editcap -F pcap FILE NEW` or `tcpdump -r FILE -w NEW` converts it")
    if len(head) < 24 or head[:4] not in _ORDERS:
        raise PcapError("this is no pcap file")
    order, fractions = _ORDERS[head[:4]]
    (link,) = struct.unpack_from(order + "I", head, 20)
    link &= 0x03FF_FFFF  # the upper bits tell of a frame check sequence
    if link not in (_ETHERNET, _RAW, _SLL, _SLL2):
        raise PcapError(f"link type {link} is not read; Ethernet, raw IP and Linux cooked captures are")
    record = struct.Struct(order + "4I")
    while header := file.read(record.size):
        if len(header) < record.size:
            raise PcapError("the file ends within a packet")
        seconds, fraction, captured, _on_wire = record.unpack(header)
        if captured > MAX_CAPTURE:
            raise PcapError(f"a packet of {captured} octets; at most {MAX_CAPTURE} are read")
        frame = file.read(captured)
        if len(frame) < captured:
            raise PcapError("the file ends within a packet")
        if datagram := _datagram(seconds + fraction / fractions, frame, link):
            yield datagram


def _datagram(time: float, frame: bytes, link: int) -> Datagram | None:
    if link == _ETHERNET:
        at = 12
        while frame[at : at + 2] in _VLAN_TAGS:
            at += 4
        protocol, packet = frame[at : at + 2], frame[at + 2 :]
    elif link == _SLL:
        protocol, packet = frame[14:16], frame[16:]
    elif link == _SLL2:
        protocol, packet = frame[:2], frame[20:]
    else:
        protocol, packet = (_IPV6 if frame[:1] >= b"\x60" else _IPV4), frame
    if protocol == _IPV4:
        return _ipv4(time, packet)
    if protocol == _IPV6:
        return _ipv6(time, packet)
    return None


def _ipv4(time: float, packet: bytes) -> Datagram | None:
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != _UDP:
        return None
    header_size = 4 * (packet[0] & 15)
    total, fragment = struct.unpack_from("!2xH2xH", packet)
    ends = str(ipaddress.IPv4Address(packet[12:16])), str(ipaddress.IPv4Address(packet[16:20]))
    if fragment & 0x3FFF:  # more fragments, or an offset
        return Datagram(time, ends[0], 0, ends[1], 0, b"", "a fragment of an IP packet")
    return _udp(time, *ends, packet[header_size:total])


def _ipv6(time: float, packet: bytes) -> Datagram | None:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None
    (length,) = struct.unpack_from("!H", packet, 4)
    following, at = packet[6], 40
    ends = f"[{ipaddress.IPv6Address(packet[8:24])}]", f"[{ipaddress.IPv6Address(packet[24:40])}]"
    while following in _IPV6_OPTIONS and at + 2 <= len(packet):
        following, at = packet[at], at + 8 * (packet[at + 1] + 1)
    if following == _IPV6_FRAGMENT:
        return Datagram(time, ends[0], 0, ends[1], 0, b"", "a fragment of an IP packet")
    return _udp(time, *ends, packet[at : 40 + length]) if following == _UDP else None


def _udp(time: float, source: str, destination: str, data: bytes) -> Datagram:
    if len(data) < 8:
        return Datagram(time, source, 0, destination, 0, b"", "captured only in part")
    source_port, destination_port, length = struct.unpack_from("!3H", data)
    problem = "captured only in part" if len(data) < length else ""
    source, destination = f"{source}:{source_port}", f"{destination}:{destination_port}"
    return Datagram(time, source, source_port, destination, destination_port, data[8:length], problem)
