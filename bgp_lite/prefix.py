"""Address families and prefixes, kept in the form the wire wants them.

A prefix is its NLRI octets (RFC 4271 §4.3: length in bits, then only the octets it needs) beside its family.
A hundred thousand of them are sorted, compared and packed without being taken apart again.
"""

from __future__ import annotations

import socket
from enum import IntEnum
from typing import Final, NamedTuple

from bgp_lite.errors import Code, PeerError, UsageError


class Family(IntEnum):
    """AFI of the two unicast families (SAFI 1) we speak (IANA address family numbers)."""

    IPV4 = 1
    IPV6 = 2

    # Enum's own is written in Python, and every look-up of a prefix would call it.
    __hash__ = int.__hash__

    @property
    def bits(self) -> int:
        return 32 if self is Family.IPV4 else 128

    @property
    def af(self) -> int:
        return socket.AF_INET if self is Family.IPV4 else socket.AF_INET6


_HOST: Final = {family: bytes((family.bits,)) for family in Family}
UNICAST: Final = 1
"""The one SAFI we speak."""


class Prefix(NamedTuple):
    family: Family
    nlri: bytes

    @property
    def length(self) -> int:
        return self.nlri[0]

    def __str__(self) -> str:
        octets = self.nlri[1:].ljust(self.family.bits // 8, b"\0")
        return f"{socket.inet_ntop(self.family.af, octets)}/{self.nlri[0]}"


def parse_prefix(text: str) -> Prefix:
    """`192.0.2.0/24` or `2001:db8::/48`; a bare address is a host route.  Host bits are an error, because
    announcing a wider net than was meant is worse than a refusal.  Raises UsageError."""
    address, slash, length_text = text.strip().partition("/")
    family = Family.IPV6 if ":" in address else Family.IPV4
    try:
        octets = socket.inet_pton(family.af, address)
    except OSError:
        raise UsageError(f"{text!r}: {address!r} is not an IP address") from None
    if not slash:
        return Prefix(family, _HOST[family] + octets)
    if not (length_text.isascii() and length_text.isdigit()) or int(length_text) > family.bits:
        raise UsageError(f"{text!r}: prefix length must be 0 to {family.bits}")
    length = int(length_text)
    kept = (length + 7) // 8
    if int.from_bytes(octets, "big") & ((1 << (family.bits - length)) - 1):
        raise UsageError(f"{text!r}: bits are set beyond the prefix length")
    return Prefix(family, bytes((length,)) + octets[:kept])


def decode_prefixes(data: bytes, family: Family) -> list[Prefix]:
    """The NLRI of one field.  Raises PeerError 3/10 (RFC 4271 §6.3) when it is malformed."""
    prefixes: list[Prefix] = []
    at, end, most = 0, len(data), family.bits
    while at < end:
        length = data[at]
        if length > most:
            raise PeerError(Code.UPDATE, 10, f"prefix length {length} in family {family.name}")
        after = at + 1 + (length + 7) // 8
        if after > end:
            raise PeerError(Code.UPDATE, 10, "NLRI cut short")
        nlri = data[at:after]
        if spare := -length % 8:
            # RFC 4271 §4.3: the trailing bits are irrelevant; equal prefixes must still be equal octets.
            nlri = nlri[:-1] + bytes((nlri[-1] & (0xFF << spare) & 0xFF,))
        prefixes.append(Prefix(family, nlri))
        at = after
    return prefixes
