"""Unnumbered peers: who is the router at the other end of an interface (RFC 4861)?

We solicit and listen for its advertisements, whose source is its link-local address.  FRR in turn accepts a
session only from a neighbour it has heard an advertisement from, so we advertise ourselves: with a router
lifetime of 0, which makes no host use us as its default router (RFC 4861 §6.2.5).

`Discovery` is the core, octets and time in, octets out; its sockets are in `neighbour`.
"""

from __future__ import annotations

import ipaddress
import math
import random
import struct
from dataclasses import dataclass
from typing import Final

ALL_NODES: Final = "ff02::1"
ALL_ROUTERS: Final = "ff02::2"
SOLICITATION: Final = 133
ADVERTISEMENT: Final = 134
HOP_LIMIT: Final = 255
"""What nobody has forwarded still has (RFC 4861 §6.1)."""
FIRST_PAUSE: Final = 4.0
"""Seconds between the first solicitations; each pause is twice the last (RFC 7559 §2)."""
LONGEST_PAUSE: Final = 60.0
BURST: Final = 3
BURST_PAUSE: Final = 3.0
"""Seconds between our first advertisements, and at least between any two (RFC 4861 §10)."""
ADVERTISE_EVERY: Final = 10.0
"""Seconds; FRR's own interval for unnumbered peers."""
ANSWER_WITHIN: Final = 0.5
"""Seconds a solicitation waits for its answer, at most (RFC 4861 §10, MAX_RA_DELAY_TIME)."""

_ADVERTISEMENT: Final = struct.Struct("!BBHBBHII")
_SOURCE_LINK_ADDRESS: Final = 1


@dataclass(frozen=True, slots=True)
class Send:
    """One ICMPv6 message; the kernel fills in the checksum."""

    to: str
    data: bytes


def encode_solicitation(mac: bytes) -> bytes:
    return struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + _link_address(mac)


def encode_advertisement(mac: bytes) -> bytes:
    """Hop limit 64 for hosts that ask for one, no flags, lifetime 0: no default router."""
    return _ADVERTISEMENT.pack(ADVERTISEMENT, 0, 0, 64, 0, 0, 0, 0) + _link_address(mac)


def decode(data: bytes) -> int | None:
    """`SOLICITATION`, `ADVERTISEMENT`, or None for what is neither or breaks RFC 4861 §6.1."""
    if len(data) < 8 or data[1] != 0 or data[0] not in (SOLICITATION, ADVERTISEMENT):
        return None
    options = _ADVERTISEMENT.size if data[0] == ADVERTISEMENT else 8
    if len(data) < options:
        return None
    at = options
    while at < len(data):
        if at + 2 > len(data) or data[at + 1] == 0:
            return None
        at += data[at + 1] * 8
    return data[0] if at == len(data) else None


def _link_address(mac: bytes) -> bytes:
    return bytes((_SOURCE_LINK_ADDRESS, (len(mac) + 9) // 8)) + mac if mac else b""


class Discovery:
    """One interface.  `router` is the link-local address last heard, or None."""

    def __init__(self, mac: bytes, *, rng: random.Random, now: float) -> None:
        self.router: str | None = None
        self._mac, self._rng = mac, rng
        self._solicit_at = self._advertise_at = now
        self._pause = FIRST_PAUSE
        self._burst = BURST
        self._last_advertised = -math.inf

    def received(self, data: bytes, source: str, hop_limit: int, now: float) -> None:
        """A message from the interface.  What is not what it should be is dropped."""
        try:
            address = ipaddress.IPv6Address(source.partition("%")[0])
        except ValueError:
            return
        if hop_limit != HOP_LIMIT:
            return
        match decode(data):
            case 134 if address.is_link_local:
                self.router = str(address)
                self._solicit_at = math.inf
            case 133:
                soon = now + self._rng.uniform(0, ANSWER_WITHIN)
                self._advertise_at = min(self._advertise_at, max(soon, self._last_advertised + BURST_PAUSE))

    def lost(self, now: float) -> None:
        """The router did not answer at its address: ask again who is there."""
        self.router = None
        self._pause = FIRST_PAUSE
        self._solicit_at = min(self._solicit_at, now)

    def tick(self, now: float) -> list[Send]:
        """Do whatever is due."""
        out: list[Send] = []
        if self._advertise_at <= now:
            self._burst = max(self._burst - 1, 0)
            pause = BURST_PAUSE if self._burst else ADVERTISE_EVERY * self._rng.uniform(0.75, 1.0)
            self._last_advertised, self._advertise_at = now, now + pause
            out.append(Send(ALL_NODES, encode_advertisement(self._mac)))
        if self._solicit_at <= now:
            self._solicit_at = now + self._pause * self._rng.uniform(0.9, 1.1)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            out.append(Send(ALL_ROUTERS, encode_solicitation(self._mac)))
        return out

    def next_deadline(self) -> float:
        return min(self._solicit_at, self._advertise_at)
