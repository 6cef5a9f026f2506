"""The Adj-RIB-Out against a model of the peer: whatever happened, the peer ends with what is wanted."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp_lite.attributes import Dialect, Path
from bgp_lite.messages import RawAttribute, Type, Update
from bgp_lite.prefix import Family, Prefix, parse_prefix
from bgp_lite.rib import AdjRibOut, Outlet
from bgp_lite.wire import MAX_MESSAGE, Framer, decode
from tests.bgp_lite.strategies import paths, prefixes

HOPS = {Family.IPV4: bytes((10, 0, 0, 1)), Family.IPV6: bytes(15) + b"\x01"}


def outlet(families: frozenset[Family] = frozenset(Family), internal: bool = False) -> Outlet:
    return Outlet(Dialect(65001, 65001 if internal else 65000, four_octet_as=True), HOPS, families)


def read(octets: bytes) -> Update:
    assert len(octets) <= MAX_MESSAGE
    framer = Framer()
    framer.feed(octets)
    got = framer.next_frame()
    assert got is not None
    assert got[0] is Type.UPDATE
    update = decode(*got)
    assert isinstance(update, Update)
    return update


class Peer:
    """A router's RIB, as simple as can be."""

    def __init__(self) -> None:
        self.routes: dict[Prefix, tuple[RawAttribute, ...]] = {}
        self.ended: list[Family] = []

    def hear(self, octets: bytes) -> None:
        update = read(octets)
        for prefix in update.withdrawn:
            assert prefix in self.routes, "withdrawn twice, or never announced"
            del self.routes[prefix]
        for prefix in update.announced:
            self.routes[prefix] = update.attributes
        if update.end_of_rib is not None:
            self.ended.append(update.end_of_rib)


def communities(attributes: tuple[RawAttribute, ...]) -> tuple[int, ...]:
    for attribute in attributes:
        if attribute.type == 8:
            return struct.unpack(f"!{len(attribute.value) // 4}I", attribute.value)
    return ()


pool = st.sampled_from(
    [parse_prefix(f"192.0.2.{n}") for n in range(6)] + [parse_prefix(f"2001:db8::{n}") for n in range(6)]
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("announce"), pool, paths),
        st.tuples(st.just("withdraw"), pool, st.none()),
        st.tuples(st.just("take"), st.integers(0, 4), st.none()),
        st.tuples(st.just("refresh"), st.sampled_from(Family), st.none()),
        st.tuples(st.just("lose"), st.none(), st.none()),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=300)
@given(steps)
def test_the_peer_ends_with_what_is_wanted(history: list[tuple[str, object, object]]) -> None:
    rib, peer = AdjRibOut(), Peer()
    rib.session_up(Family)
    for what, subject, value in history:
        match what, subject, value:
            case "announce", Prefix() as prefix, Path() as path:
                rib.announce(prefix, path)
            case "withdraw", Prefix() as prefix, _:
                rib.withdraw(prefix)
            case "take", int() as count, _:
                batches = rib.messages(outlet())
                for _, octets in zip(range(count), batches, strict=False):
                    peer.hear(octets)
                batches.close()  # type: ignore[attr-defined]
            case "refresh", Family() as family, _:
                rib.refresh(family)
            case _:
                peer = Peer()
                rib.session_up(Family)
    for octets in rib.messages(outlet()):
        peer.hear(octets)
    assert not rib.pending
    assert peer.routes.keys() == rib.wanted.keys() == rib.sent.keys()
    assert {p: communities(a) for p, a in peer.routes.items()} == {
        p: w.communities for p, w in rib.wanted.items()
    }
    assert sorted(peer.ended) == sorted(Family), "exactly one end-of-RIB per family"


@given(st.sets(prefixes(Family.IPV4), max_size=3000), paths, st.booleans())
@settings(max_examples=30)
def test_packing_never_exceeds_a_message(some: set[Prefix], path: Path, internal: bool) -> None:
    rib, peer = AdjRibOut(), Peer()
    rib.session_up([])
    rib.replace(dict.fromkeys(some, path))
    for octets in rib.messages(outlet(internal=internal)):
        peer.hear(octets)
    assert peer.routes.keys() == some


def test_ten_thousand_host_routes_are_thirteen_messages() -> None:
    rib = AdjRibOut()
    rib.session_up([])
    for n in range(10_000):
        rib.announce(parse_prefix(f"10.0.{n >> 8}.{n & 255}"), Path())
    messages = list(rib.messages(outlet()))
    assert len(messages) == 13
    assert sum(map(len, messages)) <= 60_000
    rib.replace({})
    assert len(list(rib.messages(outlet()))) == 13


def test_there_and_back_again_says_nothing() -> None:
    rib = AdjRibOut()
    rib.session_up([])
    prefix = parse_prefix("192.0.2.1")
    rib.announce(prefix, Path())
    list(rib.messages(outlet()))
    rib.withdraw(prefix)
    rib.announce(prefix, Path())
    assert not rib.pending


def test_a_family_without_next_hop_is_not_announced() -> None:
    rib = AdjRibOut()
    rib.session_up([])
    rib.announce(parse_prefix("2001:db8::1"), Path())
    no_six = Outlet(
        Dialect(65001, 65000, four_octet_as=True), {Family.IPV4: HOPS[Family.IPV4]}, frozenset(Family)
    )
    assert list(rib.messages(no_six)) == []


MARKER = "ff" * 16
TEN = bytes((10, 9, 0, 2))
SIX = bytes.fromhex("fd090000000000000000000000000002")
GOLDEN = {
    "eBGP, IPv4, communities of both kinds": (
        Dialect(65001, 65000, four_octet_as=True),
        Path(communities=(65001 << 16 | 7, 0xFFFFFF01), large_communities=((65001, 1, 2),), local_pref=200),
        ["203.0.113.9"],
        (
            "004a 02 0000 002e 40010100 400206 02010000fde9 400304 0a090002 c00808 fde90007ffffff01"
            "c0200c 0000fde90000000100000002 20cb007109"
        ),
    ),
    "iBGP, IPv4: an empty AS path, a local preference": (
        Dialect(65000, 65000, four_octet_as=True),
        Path(),
        ["203.0.113.0/24", "198.51.100.0/22"],
        "0034 02 0000 0015 40010100 400200 400304 0a090002 400504 00000064 18cb0071 16c63364",
    ),
    "a peer of two octets: AS_TRANS, and the real number beside it": (
        Dialect(4200000001, 65000, four_octet_as=False),
        Path(),
        ["203.0.113.9"],
        "0037 02 0000 001b 40010100 400204 02015ba0 400304 0a090002 c01106 0201fa56ea01 20cb007109",
    ),
    "eBGP, IPv6: MP_REACH first, no NEXT_HOP": (
        Dialect(65001, 65000, four_octet_as=True),
        Path(),
        ["2001:db8::9"],
        (
            "004d 02 0000 0036 800e26 0002 01 10 fd090000000000000000000000000002 00"
            "80 20010db8000000000000000000000009 40010100 400206 02010000fde9"
        ),
    ),
    "IPv4 by way of IPv6 (RFC 8950)": (
        Dialect(65001, 65000, four_octet_as=True),
        Path(next_hop=SIX),
        ["203.0.113.9"],
        (
            "0041 02 0000 002a 800e1a 0001 01 10 fd090000000000000000000000000002 00 20cb007109"
            "40010100 400206 02010000fde9"
        ),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_updates(name: str) -> None:
    dialect, path, prefixes_, text = GOLDEN[name]
    rib = AdjRibOut()
    rib.session_up([])
    rib.replace({parse_prefix(each): path for each in prefixes_})
    hops = {Family.IPV4: TEN, Family.IPV6: SIX}
    (octets,) = rib.messages(Outlet(dialect, hops, frozenset(Family)))
    assert octets.hex() == MARKER + text.replace(" ", "")


def test_golden_withdrawals() -> None:
    rib = AdjRibOut()
    rib.session_up([])
    rib.replace({parse_prefix(each): Path() for each in ("203.0.113.9", "2001:db8::9")})
    list(rib.messages(outlet()))
    rib.replace({})
    assert [octets.hex() for octets in rib.messages(outlet())] == [
        MARKER + "001c0200 0520cb007109 0000".replace(" ", ""),
        MARKER + "002e 02 0000 0017 800f14 0002 01 80 20010db8000000000000000000000009".replace(" ", ""),
    ]


def test_draining_asks_for_every_other_path_first() -> None:
    """RFC 8326: 65535:0 beside what was there, and the least local preference."""
    rib = AdjRibOut()
    rib.session_up([])
    rib.announce(parse_prefix("203.0.113.9"), Path(communities=(7,), local_pref=150))
    list(rib.messages(outlet(internal=True)))
    rib.drain()
    (update,) = [read(octets) for octets in rib.messages(outlet(internal=True))]
    values = {attribute.type: attribute.value for attribute in update.attributes}
    assert values[8].hex() == "00000007ffff0000"
    assert values[5] == bytes(4)
