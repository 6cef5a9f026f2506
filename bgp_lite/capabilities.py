"""Capabilities of an OPEN, octets and back (RFC 5492 and the RFC of each capability)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bgp_lite.errors import Code, PeerError
from bgp_lite.messages import Capabilities, Capability, GracefulRestart
from bgp_lite.prefix import UNICAST, Family

_RESTARTING, _NOTIFICATION = 0x8000, 0x4000
_FORWARDING = 0x80


def encode(capabilities: Capabilities) -> bytes:
    """The value of one optional parameter of type 2, all capabilities in it."""
    out = bytearray()

    def add(code: Capability, value: bytes = b"") -> None:
        out.extend((code, len(value)))
        out.extend(value)

    for family in sorted(capabilities.families):
        add(Capability.MULTIPROTOCOL, struct.pack("!HBB", family, 0, UNICAST))
    if capabilities.route_refresh:
        add(Capability.ROUTE_REFRESH)
    if capabilities.extended_next_hop:
        add(Capability.EXTENDED_NEXT_HOP, struct.pack("!HHH", Family.IPV4, UNICAST, Family.IPV6))
    if capabilities.extended_message:
        add(Capability.EXTENDED_MESSAGE)
    if (restart := capabilities.graceful_restart) is not None:
        flags = _RESTARTING * restart.restarting | _NOTIFICATION * restart.notification
        value = struct.pack("!H", flags | restart.restart_time)
        for family in sorted(capabilities.families):
            value += struct.pack("!HBB", family, UNICAST, _FORWARDING * (family in restart.forwarding))
        add(Capability.GRACEFUL_RESTART, value)
    if capabilities.asn is not None:
        add(Capability.FOUR_OCTET_AS, struct.pack("!I", capabilities.asn))
    if capabilities.enhanced_refresh:
        add(Capability.ENHANCED_REFRESH)
    if capabilities.hostname:
        name = capabilities.hostname.encode()[:64]
        add(Capability.FQDN, bytes((len(name),)) + name + b"\0")
    if capabilities.link_local_next_hop:
        add(Capability.LINK_LOCAL_NEXT_HOP)
    return bytes(out)


def decode(parameters: bytes) -> Capabilities:
    """All capabilities of an OPEN's optional parameters.  Unknown ones are ignored (RFC 5492 §3).

    Raises PeerError 2/0 when lengths do not add up, 2/4 on an unknown parameter.
    """
    families: set[Family] = set()
    asn: int | None = None
    flags: set[int] = set()
    extended_next_hop = False
    restart: GracefulRestart | None = None
    hostname = ""
    for code, value in _capabilities(parameters):
        match code:
            case Capability.MULTIPROTOCOL if len(value) == 4:
                afi, _, safi = struct.unpack("!HBB", value)
                if safi == UNICAST and afi in set(Family):
                    families.add(Family(afi))
            case Capability.FOUR_OCTET_AS if len(value) == 4:
                (asn,) = struct.unpack("!I", value)
            case Capability.EXTENDED_NEXT_HOP:
                wanted = struct.pack("!HHH", Family.IPV4, UNICAST, Family.IPV6)
                extended_next_hop |= wanted in (value[i : i + 6] for i in range(0, len(value) - 5, 6))
            case Capability.GRACEFUL_RESTART if len(value) >= 2:
                restart = _graceful_restart(value)
            case Capability.FQDN if value and len(value) > value[0]:
                hostname = value[1 : 1 + value[0]].decode(errors="replace")
            case _:
                flags.add(code)
    return Capabilities(
        families=frozenset(families),
        asn=asn,
        route_refresh=Capability.ROUTE_REFRESH in flags,
        enhanced_refresh=Capability.ENHANCED_REFRESH in flags,
        extended_message=Capability.EXTENDED_MESSAGE in flags,
        extended_next_hop=extended_next_hop,
        link_local_next_hop=Capability.LINK_LOCAL_NEXT_HOP in flags,
        graceful_restart=restart,
        hostname="".join(c for c in hostname if c.isprintable()),
    )


def _graceful_restart(value: bytes) -> GracefulRestart:
    (head,) = struct.unpack_from("!H", value)
    kept: set[Family] = set()
    for at in range(2, len(value) - 3, 4):
        afi, safi, flags = struct.unpack_from("!HBB", value, at)
        if safi == UNICAST and afi in set(Family) and flags & _FORWARDING:
            kept.add(Family(afi))
    return GracefulRestart(
        restart_time=head & 0x0FFF,
        restarting=bool(head & _RESTARTING),
        notification=bool(head & _NOTIFICATION),
        forwarding=frozenset(kept),
    )


def _capabilities(parameters: bytes) -> Iterator[tuple[int, bytes]]:
    head, length_size = 2, 1
    if len(parameters) >= 3 and parameters[0] == 255:
        # RFC 9072: type 255 in the first place means 2-octet lengths, the whole length first.
        if int.from_bytes(parameters[1:3], "big") != len(parameters) - 3:
            raise PeerError(Code.OPEN, 0, "extended parameters' length does not match")
        parameters, head, length_size = parameters[3:], 3, 2
    at = 0
    while at < len(parameters):
        if at + head > len(parameters):
            raise PeerError(Code.OPEN, 0, "optional parameter cut short")
        kind = parameters[at]
        length = int.from_bytes(parameters[at + 1 : at + 1 + length_size], "big")
        value = parameters[at + head : at + head + length]
        if len(value) != length:
            raise PeerError(Code.OPEN, 0, "optional parameter cut short")
        if kind != 2:
            raise PeerError(Code.OPEN, 4, f"optional parameter {kind} is not supported")
        inner = 0
        while inner < length:
            if inner + 2 > length or inner + 2 + value[inner + 1] > length:
                raise PeerError(Code.OPEN, 0, "capability cut short")
            yield value[inner], value[inner + 2 : inner + 2 + value[inner + 1]]
            inner += 2 + value[inner + 1]
        at += head + length
