"""Unnumbered peers: messages of RFC 4861, when they are sent, and whose are believed."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptSrcLLAddr

from bgp_lite.discovery import (
    ADVERTISEMENT,
    ALL_NODES,
    ALL_ROUTERS,
    BURST_PAUSE,
    SOLICITATION,
    Discovery,
    decode,
    encode_advertisement,
    encode_solicitation,
)

MAC = bytes.fromhex("02c71e070011")
ROUTER = "fe80::1"
# What FRR 8.4.4 sends: lifetime 1800 s, its hardware address, and a reachable time of its own.
FRR = bytes.fromhex("8600 0000 4000 0708 00000000 00000000 0101 02aabbccddee".replace(" ", ""))


def test_golden() -> None:
    assert encode_solicitation(MAC).hex() == "8500000000000000" + "0101" + MAC.hex()
    assert encode_advertisement(MAC).hex() == "860000004000000000000000" + "00000000" + "0101" + MAC.hex()
    assert decode(encode_solicitation(MAC)) == SOLICITATION
    assert decode(encode_advertisement(MAC)) == ADVERTISEMENT
    assert decode(encode_advertisement(b"")) == ADVERTISEMENT


def test_scapy_reads_ours() -> None:
    advertisement = ICMPv6ND_RA(encode_advertisement(MAC))
    assert advertisement.routerlifetime == 0, "no host takes us for its default router"
    assert advertisement[ICMPv6NDOptSrcLLAddr].lladdr == "02:c7:1e:07:00:11"
    assert ICMPv6ND_RS(encode_solicitation(MAC))[ICMPv6NDOptSrcLLAddr].lladdr == "02:c7:1e:07:00:11"


def discovery() -> Discovery:
    return Discovery(MAC, rng=random.Random(1), now=0.0)


def test_it_asks_and_advertises_at_once_and_stops_asking_when_answered() -> None:
    core = discovery()
    assert {send.to for send in core.tick(0.0)} == {ALL_NODES, ALL_ROUTERS}
    core.received(FRR, f"{ROUTER}%eth0", 255, 0.01)
    assert core.router == ROUTER
    for _ in range(20):
        sent = core.tick(core.next_deadline())
        assert [send.to for send in sent] == [ALL_NODES]


@pytest.mark.parametrize(
    ("data", "source", "hop_limit"),
    [
        (FRR, ROUTER, 254),  # somebody forwarded it
        (FRR, "2001:db8::1", 255),  # a router speaks from its link-local address (RFC 4861 §6.1.2)
        (FRR, "nonsense", 255),
        (FRR[:12], ROUTER, 255),
        (FRR[:1] + b"\x01" + FRR[2:], ROUTER, 255),
        (FRR[:-8] + bytes((1, 0)) + FRR[-6:], ROUTER, 255),  # an option of length 0 would never end
        (encode_solicitation(MAC), ROUTER, 255),
    ],
)
def test_what_is_no_advertisement_of_a_neighbour_is_dropped(data: bytes, source: str, hop_limit: int) -> None:
    core = discovery()
    core.received(data, source, hop_limit, 0.0)
    assert core.router is None


def test_solicitations_become_rarer_and_never_end() -> None:
    core, at = discovery(), list[float]()
    while len(at) < 12:
        now = core.next_deadline()
        at += [now for send in core.tick(now) if send.to == ALL_ROUTERS]
    pauses = [b - a for a, b in itertools.pairwise(at)]
    assert pauses[0] == pytest.approx(4, rel=0.11)
    assert pauses[-1] == pytest.approx(60, rel=0.11)
    core.received(FRR, ROUTER, 255, at[-1])
    core.lost(at[-1])
    assert core.router is None
    assert any(send.to == ALL_ROUTERS for send in core.tick(at[-1])), "asked again at once"


def test_many_solicitations_are_one_answer_in_three_seconds() -> None:
    core = discovery()
    sent: list[float] = []
    now = 0.0
    while now < 60:
        core.received(encode_solicitation(b""), "fe80::2", 255, now)
        sent += [now for send in core.tick(now) if send.to == ALL_NODES]
        now += 0.01
    assert all(b - a >= BURST_PAUSE - 0.011 for a, b in itertools.pairwise(sent))
    assert len(sent) >= 15


@given(st.binary(max_size=120), st.integers(0, 255), st.text(max_size=20))
def test_any_octets_are_survived(data: bytes, hop_limit: int, source: str) -> None:
    core = discovery()
    core.received(data, source, hop_limit, 0.0)
    core.received(data, ROUTER, 255, 0.0)
    assert core.router in (None, ROUTER)
