"""Next hops: what the kernel says of its addresses, and which one a session takes."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from bgp_lite.addresses import Address, Ip, addresses, next_hops
from bgp_lite.messages import Capabilities
from bgp_lite.prefix import Family
from bgp_lite.rib import session_next_hops

FOUR, SIX = ipaddress.ip_address("10.9.0.2"), ipaddress.ip_address("fd09::2")
LINK = ipaddress.ip_address("fe80::2")


def of(ip: Ip, *, index: int = 2, preferred: bool = True) -> Address:
    return Address(index, ip, 24, universal=not ip.is_link_local, preferred=preferred)


def test_the_kernel_tells_the_loopback() -> None:
    loopback = ipaddress.ip_address("127.0.0.1")
    (found,) = [each for each in addresses() if each.ip == loopback]
    assert (found.index, found.prefix_length, found.universal, found.preferred) == (1, 8, False, True)
    assert found.permanent


def test_the_other_family_is_taken_from_the_same_interface() -> None:
    elsewhere = of(ipaddress.ip_address("2001:db8::1"), index=3)
    known = [elsewhere, of(LINK), of(FOUR), of(SIX)]
    both = {Family.IPV4: FOUR.packed, Family.IPV6: SIX.packed}
    assert next_hops(FOUR, known) == next_hops(SIX, known) == both
    assert next_hops(FOUR, [of(FOUR), of(LINK), elsewhere]) == {Family.IPV4: FOUR.packed}
    assert next_hops(FOUR, []) == {Family.IPV4: FOUR.packed}


def test_addresses_that_do_not_last_are_no_next_hop() -> None:
    temporary = of(ipaddress.ip_address("fd09::aaaa"), preferred=False)
    assert next_hops(FOUR, [of(FOUR), temporary, of(SIX)])[Family.IPV6] == SIX.packed
    assert Family.IPV6 not in next_hops(FOUR, [of(FOUR), temporary])
    advertised = replace(of(ipaddress.ip_address("fd09::bbbb")), permanent=False)
    assert next_hops(FOUR, [of(FOUR), advertised, of(SIX)])[Family.IPV6] == SIX.packed
    assert next_hops(FOUR, [of(FOUR), advertised])[Family.IPV6] == advertised.ip.packed, "better than none"
    secondary = of(FOUR, preferred=False)
    assert next_hops(SIX, [of(SIX), secondary])[Family.IPV4] == FOUR.packed, "as good as any of IPv4"


BOTH = {Family.IPV4: FOUR.packed, Family.IPV6: SIX.packed}
PLAIN, EXTENDED = Capabilities(), Capabilities(extended_next_hop=True)


def test_which_next_hop_a_session_uses() -> None:
    assert session_next_hops(BOTH, {}, PLAIN, six=False) == BOTH
    assert session_next_hops(BOTH, {}, EXTENDED, six=False) == BOTH, "IPv4 is what the session is over"
    assert session_next_hops(BOTH, {}, PLAIN, six=True) == BOTH, "RFC 8950 was not agreed on"
    six = {Family.IPV4: SIX.packed, Family.IPV6: SIX.packed}
    assert session_next_hops(BOTH, {}, EXTENDED, six=True) == six


def test_a_link_local_next_hop_stands_in_both_places_unless_the_peer_takes_one() -> None:
    local = {Family.IPV6: LINK.packed}
    twice = LINK.packed * 2
    assert session_next_hops(local, {}, PLAIN, six=True) == {Family.IPV6: twice}
    assert session_next_hops(local, {}, EXTENDED, six=True) == dict.fromkeys(Family, twice)
    one = Capabilities(extended_next_hop=True, link_local_next_hop=True)
    assert session_next_hops(local, {}, one, six=True) == dict.fromkeys(Family, LINK.packed)


def test_what_was_configured_wins_where_the_peer_can_have_it() -> None:
    configured = {Family.IPV4: SIX.packed}
    assert session_next_hops(BOTH, configured, PLAIN, six=False) == BOTH
    assert session_next_hops(BOTH, configured, EXTENDED, six=False)[Family.IPV4] == SIX.packed
