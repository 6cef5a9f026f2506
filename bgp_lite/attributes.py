"""What a route carries, and its path attributes on the wire (RFC 4271 §5, RFC 1997, RFC 8092, RFC 4760)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bgp_lite.errors import UsageError
from bgp_lite.messages import AS_TRANS, RawAttribute


class Attribute(IntEnum):
    """Path attribute type codes (IANA)."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    LOCAL_PREF = 5
    COMMUNITIES = 8
    MP_REACH = 14
    MP_UNREACH = 15
    AS4_PATH = 17
    LARGE_COMMUNITIES = 32


OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED_LENGTH = 0x80, 0x40, 0x20, 0x10

DEFAULT_LOCAL_PREF: Final = 100
"""Sent to iBGP peers when none is set, as routers do among themselves (RFC 4271 §9.1.1 leaves it open)."""

MAX_COMMUNITIES: Final = 255
"""Of each kind on one route; 4 octets each keep the attributes far below a message."""

GRACEFUL_SHUTDOWN: Final = 0xFFFF0000
"""65535:0 (RFC 8326): the receiver prefers every other path."""

WELL_KNOWN: Final = {
    "no-export": 0xFFFFFF01,
    "no-advertise": 0xFFFFFF02,
    "local-as": 0xFFFFFF03,
    "no-peer": 0xFFFFFF04,
    "blackhole": 0xFFFF029A,
    "graceful-shutdown": GRACEFUL_SHUTDOWN,
}

LargeCommunity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Path:
    """What is said of a prefix beside the prefix.  Routes with equal paths share UPDATE messages."""

    communities: tuple[int, ...] = ()
    """Sorted, without repetition."""
    large_communities: tuple[LargeCommunity, ...] = ()
    """Sorted, without repetition."""
    local_pref: int | None = None
    """0..4294967295, told to iBGP peers only; None means `DEFAULT_LOCAL_PREF`."""
    next_hop: bytes | None = None
    """4 octets, 16, or 32 (global and link-local, RFC 2545); None means the session's own address."""

    def with_communities(self, *more: int) -> Path:
        return Path(
            tuple(sorted({*self.communities, *more})), self.large_communities, self.local_pref, self.next_hop
        )


def parse_community(text: str) -> int | LargeCommunity:
    """`65000:100`, `large:65000:1:2` or a well-known name.  Raises UsageError."""
    if text in WELL_KNOWN:
        return WELL_KNOWN[text]
    if match := re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", text):
        high, low = map(int, match.groups())
        if high <= 0xFFFF and low <= 0xFFFF:
            return high << 16 | low
    if match := re.fullmatch(r"large:([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})", text):
        one, two, three = map(int, match.groups())
        if max(one, two, three) <= 0xFFFFFFFF:
            return one, two, three
    raise UsageError(f"{text!r} is not a community: A:B (16 bits each), large:A:B:C (32 bits each) or a name")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What of a session decides how attributes look."""

    local_as: int
    peer_as: int
    four_octet_as: bool

    @property
    def internal(self) -> bool:
        return self.local_as == self.peer_as


def encode_path(path: Path, dialect: Dialect) -> tuple[bytes, bytes]:
    """The attributes of a path, without next hop and NLRI: those before and those after NEXT_HOP.

    Attributes stand in the order of their type codes (RFC 4271 §5 asks for it).
    """
    before = _attribute(TRANSITIVE, Attribute.ORIGIN, b"\0")
    after = b""
    if dialect.internal:
        before += _attribute(TRANSITIVE, Attribute.AS_PATH, b"")
        preference = DEFAULT_LOCAL_PREF if path.local_pref is None else path.local_pref
        after += _attribute(TRANSITIVE, Attribute.LOCAL_PREF, struct.pack("!I", preference))
    elif dialect.four_octet_as:
        before += _attribute(TRANSITIVE, Attribute.AS_PATH, struct.pack("!BBI", 2, 1, dialect.local_as))
    else:
        asn = dialect.local_as if dialect.local_as <= 0xFFFF else AS_TRANS
        before += _attribute(TRANSITIVE, Attribute.AS_PATH, struct.pack("!BBH", 2, 1, asn))
    if path.communities:
        value = struct.pack(f"!{len(path.communities)}I", *path.communities)
        after += _attribute(OPTIONAL | TRANSITIVE, Attribute.COMMUNITIES, value)
    if not dialect.internal and not dialect.four_octet_as and dialect.local_as > 0xFFFF:
        # RFC 6793 §4.2.2: the 2-octet peer carries the real number along for those behind it.
        value = struct.pack("!BBI", 2, 1, dialect.local_as)
        after += _attribute(OPTIONAL | TRANSITIVE, Attribute.AS4_PATH, value)
    if path.large_communities:
        value = b"".join(struct.pack("!III", *each) for each in path.large_communities)
        after += _attribute(OPTIONAL | TRANSITIVE, Attribute.LARGE_COMMUNITIES, value)
    return before, after


def encode_next_hop(next_hop: bytes) -> bytes:
    return _attribute(TRANSITIVE, Attribute.NEXT_HOP, next_hop)


def encode_raw(attribute: RawAttribute) -> bytes:
    return _attribute(attribute.flags, attribute.type, attribute.value)


def _attribute(flags: int, kind: int, value: bytes) -> bytes:
    if len(value) > 255:
        return struct.pack("!BBH", flags | EXTENDED_LENGTH, kind, len(value)) + value
    return bytes((flags & ~EXTENDED_LENGTH, kind, len(value))) + value
