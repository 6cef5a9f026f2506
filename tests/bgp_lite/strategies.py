"""Random BGP messages for the property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from bgp_lite.attributes import Path
from bgp_lite.messages import (
    Capabilities,
    GracefulRestart,
    Keepalive,
    Notification,
    Open,
    RawAttribute,
    RouteRefresh,
    Update,
)
from bgp_lite.prefix import Family, Prefix


@st.composite
def prefixes(draw: st.DrawFn, family: Family | None = None) -> Prefix:
    chosen = family or draw(st.sampled_from(Family))
    length = draw(st.integers(0, chosen.bits))
    octets = bytearray(draw(st.binary(min_size=(length + 7) // 8, max_size=(length + 7) // 8)))
    if spare := -length % 8:
        octets[-1] &= 0xFF << spare & 0xFF
    return Prefix(chosen, bytes((length, *octets)))


families = st.frozensets(st.sampled_from(Family))
u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)

paths = st.builds(
    Path,
    communities=st.lists(u32, max_size=5).map(lambda each: tuple(sorted(set(each)))),
    large_communities=st.lists(st.tuples(u32, u32, u32), max_size=3).map(
        lambda each: tuple(sorted(set(each)))
    ),
    local_pref=st.none() | u32,
)


@st.composite
def capabilities(draw: st.DrawFn) -> Capabilities:
    spoken = draw(families)
    restart = st.builds(
        GracefulRestart,
        restart_time=st.integers(0, 4095),
        restarting=st.booleans(),
        notification=st.booleans(),
        forwarding=st.frozensets(st.sampled_from(sorted(spoken))) if spoken else st.just(frozenset()),
    )
    return Capabilities(
        families=spoken,
        asn=draw(st.none() | u32),
        route_refresh=draw(st.booleans()),
        enhanced_refresh=draw(st.booleans()),
        extended_message=draw(st.booleans()),
        extended_next_hop=draw(st.booleans()),
        link_local_next_hop=draw(st.booleans()),
        graceful_restart=draw(st.none() | restart),
        hostname=draw(st.text("abcdefghijklmnopqrstuvwxyz-.0123456789", max_size=64)),
    )


opens = st.builds(
    Open,
    asn=u16,
    hold_time=st.just(0) | st.integers(3, 0xFFFF),
    router_id=st.integers(1, 0xFFFFFFFF),
    capabilities=capabilities(),
)
plain_attributes = st.builds(
    RawAttribute,
    flags=st.sampled_from((0x40, 0x80, 0xC0, 0xE0)),
    type=st.integers(0, 255).filter(lambda kind: kind not in (14, 15)),
    value=st.binary(max_size=300),
)
updates = st.builds(
    Update,
    withdrawn=st.lists(prefixes(Family.IPV4), max_size=20).map(tuple),
    attributes=st.lists(plain_attributes, min_size=1, max_size=4).map(tuple),
    announced=st.lists(prefixes(Family.IPV4), max_size=20).map(tuple),
) | st.builds(
    Update,
    withdrawn=st.lists(prefixes(Family.IPV6), max_size=20).map(tuple),
    attributes=st.lists(plain_attributes, min_size=1, max_size=4).map(tuple),
    announced=st.lists(prefixes(Family.IPV6), min_size=1, max_size=20).map(tuple),
    next_hop=st.sampled_from((bytes(16), bytes(range(32)))),
)
messages = (
    opens
    | updates
    | st.builds(
        Notification, code=st.integers(0, 255), subcode=st.integers(0, 255), data=st.binary(max_size=100)
    )
    | st.just(Keepalive())
    | st.builds(RouteRefresh, afi=u16, safi=st.integers(0, 255), subtype=st.integers(0, 255))
)
