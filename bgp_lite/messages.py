"""The messages of BGP-4, one frozen record each (RFC 4271 §4), and the capabilities of an OPEN."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from bgp_lite.prefix import Family, Prefix

AS_TRANS: Final = 23456
"""Stands for a 4-octet AS number where only two octets fit (RFC 6793)."""


class Type(IntEnum):
    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


class Capability(IntEnum):
    """Capability codes we know (IANA)."""

    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_NEXT_HOP = 5
    EXTENDED_MESSAGE = 6
    GRACEFUL_RESTART = 64
    FOUR_OCTET_AS = 65
    ENHANCED_REFRESH = 70
    FQDN = 73
    LINK_LOCAL_NEXT_HOP = 77


@dataclass(frozen=True, slots=True)
class GracefulRestart:
    """Capability 64 (RFC 4724, RFC 8538)."""

    restart_time: int
    """Seconds the peer should keep our routes after the session is lost, 0..4095."""
    restarting: bool = False
    """R bit: we have just restarted, do not wait for our end-of-RIB before sending yours."""
    notification: bool = False
    """N bit: also keep routes after a NOTIFICATION or a hold timer expiry.  Off by default: with it the death
    of a node is a black hole until hold time plus restart time."""
    forwarding: frozenset[Family] = frozenset()
    """F bit per family: forwarding state was kept."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one side of a session can do."""

    families: frozenset[Family] = frozenset()
    """Capability 1.  A peer that sends none speaks IPv4 unicast (RFC 4760 §8)."""
    asn: int | None = None
    """Capability 65; None when the peer knows only 2-octet AS numbers."""
    route_refresh: bool = False
    enhanced_refresh: bool = False
    extended_message: bool = False
    extended_next_hop: bool = False
    """IPv4 routes may have an IPv6 next hop (RFC 8950)."""
    link_local_next_hop: bool = False
    graceful_restart: GracefulRestart | None = None
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    asn: int
    """The 2-octet field; `AS_TRANS` when the real one does not fit."""
    hold_time: int
    """Seconds; 0, or 3..65535."""
    router_id: int
    capabilities: Capabilities

    @property
    def real_asn(self) -> int:
        return self.asn if self.capabilities.asn is None else self.capabilities.asn


@dataclass(frozen=True, slots=True)
class RawAttribute:
    """A path attribute as it came (RFC 4271 §4.3)."""

    flags: int
    type: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Update:
    withdrawn: tuple[Prefix, ...] = ()
    attributes: tuple[RawAttribute, ...] = ()
    announced: tuple[Prefix, ...] = ()

    # MP_REACH and MP_UNREACH are folded into the three above, `next_hop` and `end_of_rib`.
    next_hop: bytes = b""
    """Of MP_REACH: 4, 16 or 32 octets."""
    end_of_rib: Family | None = None
    """This message is the end-of-RIB marker of a family (RFC 4724 §2)."""


@dataclass(frozen=True, slots=True)
class Notification:
    code: int
    subcode: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Keepalive:
    pass


@dataclass(frozen=True, slots=True)
class RouteRefresh:
    """RFC 2918, RFC 7313."""

    afi: int
    safi: int
    subtype: int = 0
    """0 request, 1 beginning and 2 end of a refresh."""


Message: TypeAlias = Open | Update | Notification | Keepalive | RouteRefresh
