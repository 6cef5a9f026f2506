"""What ARP and NDP share: Ethernet addresses and frames."""

from __future__ import annotations

from typing import Final

BROADCAST: Final = b"\xff" * 6

HEADER: Final = 14
"""Octets of destination, source and type."""

MIN_FRAME: Final = 60
"""Octets of the shortest frame, without its checksum (IEEE 802.3)."""

MAX_FRAME: Final = 1514
"""Octets we read of one frame: no ARP packet and no neighbour message we accept is longer."""

ETH_P_ARP: Final = 0x0806
ETH_P_IPV6: Final = 0x86DD


class BadFrame(Exception):
    """The only thing `arp.decode` and `ndp.decode` raise."""


def is_group(mac: bytes) -> bool:
    """Whether an Ethernet address is a multicast or the broadcast address."""
    return mac[0] & 1 == 1


def render_mac(mac: bytes) -> str:
    return mac.hex(":")


def multicast_mac(group: bytes) -> bytes:
    """Ethernet address of an IPv6 multicast group of 16 octets (RFC 2464 section 7)."""
    return b"\x33\x33" + group[12:]
