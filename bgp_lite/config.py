"""Everything that can be said about one peer, checked before anything is sent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from bgp_lite.errors import UsageError
from bgp_lite.prefix import Family

PeerAs: TypeAlias = int | Literal["internal", "external"]

MAX_AS: Final = 0xFFFFFFFF
MAX_DEVICE: Final = 15
"""Octets of an interface's name (IFNAMSIZ, and a zero)."""
MAX_MD5_KEY: Final = 80
"""Octets; the kernel refuses longer ones (TCP_MD5SIG_MAXKEYLEN)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """One BGP session.  Raises UsageError, naming the field, on construction."""

    peer: str = ""
    """IPv4 or IPv6 address; a link-local one needs `device`.  Empty when `interface` is given."""
    interface: str | None = None
    """Unnumbered peer: whichever router is heard at this interface (RFC 4861), by its link-local address."""
    local_as: int
    peer_as: PeerAs
    """The AS number expected, or only whether it is ours ("internal") or not ("external")."""
    router_id: str
    """BGP identifier, as an IPv4 address; any but 0.0.0.0 (RFC 6286)."""
    port: int = 179
    source: str | None = None
    """Local address to connect from; None leaves it to the kernel."""
    device: str | None = None
    """Interface or VRF device the socket is bound to."""
    hold_time: int = 90
    """Seconds we propose, 0 (no hold timer) or 3..65535; the smaller of both sides' counts."""
    keepalive_time: int | None = None
    """Seconds between KEEPALIVEs; at most, and by default, a third of the negotiated hold time."""
    connect_time: float = 30.0
    """Longest pause between attempts, seconds, 1..65535.  The first attempts follow faster."""
    families: frozenset[Family] = frozenset(Family)
    next_hops: Mapping[Family, bytes] = field(default_factory=dict)
    """Next hops (4, 16 or 32 octets) for families whose own one the session's address cannot give."""
    password: bytes | None = field(default=None, repr=False)
    """TCP MD5 key (RFC 2385), 1..80 octets."""
    multihop: bool = False
    """The peer is more than one hop away: TTL is not enforced whatever `ttl_security` says."""
    ttl_security: bool = False
    """Drop segments from farther than one hop (RFC 5082).  TTL 255 is sent in any case."""
    restart_time: int | None = None
    """Seconds the peer keeps our routes while we restart (RFC 4724), 1..4095; None: no graceful restart."""
    restarted: bool = False
    """This process has just restarted: the R bit of the first OPEN."""
    passive: bool = False
    """Never connect, only wait for the peer to; needs a `Listener`."""
    hostname: str = ""

    def __post_init__(self) -> None:
        problems: list[str] = []

        def check(name: str, good: bool, why: str) -> None:
            if not good:
                problems.append(f"{name}: {why}")

        def in_range(name: str, value: float | None, low: int, high: int) -> None:
            check(name, value is None or low <= value <= high, f"{value} is not in {low}..{high}")

        def octets(name: str, value: bytes | None, most: int) -> None:
            check(name, value is None or 0 < len(value) <= most, f"must have 1 to {most} octets")

        if self.interface is None:
            check("peer", _is_ip(self.peer), f"{self.peer!r} is not an IP address")
            local = _is_ip(self.peer) and ipaddress.ip_address(self.peer.partition("%")[0]).is_link_local
            scoped = self.device is not None or "%" in self.peer or ":" not in self.peer
            check("device", scoped or not local, f"needed with the link-local peer {self.peer}")
        else:
            check("peer", not self.peer, "contradicts interface")
            check(
                "interface", 0 < len(self.interface) <= MAX_DEVICE, f"must have 1 to {MAX_DEVICE} characters"
            )
            check("multihop", not self.multihop, "an unnumbered peer is one hop away")
        if self.device is not None:
            check("device", 0 < len(self.device) <= MAX_DEVICE, f"must have 1 to {MAX_DEVICE} characters")
        check("source", self.source is None or _is_ip(self.source), f"{self.source!r} is not an IP address")
        if self.source is not None and _is_ip(self.source):
            six = self.interface is not None or ":" in self.peer
            check("source", (":" in self.source) is six, f"{self.source} is not of the peer's address family")
        in_range("local_as", self.local_as, 1, MAX_AS)
        in_range("peer_as", self.peer_as if isinstance(self.peer_as, int) else None, 1, MAX_AS)
        check(
            "router_id",
            _is_router_id(self.router_id),
            f"{self.router_id!r} must be an IPv4 address, not 0.0.0.0",
        )
        in_range("port", self.port, 1, 65535)
        in_range("hold_time", self.hold_time or None, 3, 65535)
        in_range("keepalive_time", self.keepalive_time, 1, self.hold_time or 65535)
        in_range("connect_time", self.connect_time, 1, 65535)
        check("families", bool(self.families), "at least one is needed")
        check(
            "next_hops",
            all(len(hop) in (4, 16, 32) for hop in self.next_hops.values()),
            "must have 4, 16 or 32 octets",
        )
        octets("password", self.password, MAX_MD5_KEY)
        check("ttl_security", not (self.multihop and self.ttl_security), "contradicts multihop")
        in_range("restart_time", self.restart_time, 1, 4095)
        if problems:
            raise UsageError("; ".join(problems))

    @property
    def name(self) -> str:
        """The peer as people and messages call it: its address, or the interface it is at."""
        return self.interface or self.peer

    @property
    def scope(self) -> str | None:
        """Interface a link-local peer is at."""
        return self.interface or self.peer.partition("%")[2] or self.device

    def accepts_as(self, asn: int) -> bool:
        match self.peer_as:
            case "internal":
                return asn == self.local_as
            case "external":
                return asn != self.local_as
            case wanted:
                return asn == wanted


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_router_id(text: str) -> bool:
    try:
        return int(ipaddress.IPv4Address(text)) != 0
    except ValueError:
        return False
