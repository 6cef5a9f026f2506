"""What has to work, row by row, and the tests that show it: a row whose test is gone is no longer shown."""

from __future__ import annotations

from typing import Final

import pytest

from tests.rows import missing

ROWS: Final[dict[str, tuple[str, ...]]] = {
    "eBGP, IPv4 and IPv6, with FRR, BIRD and GoBGP": ("test_routers.py::test_ebgp_with_three_routers",),
    "iBGP, IPv4 and IPv6, with FRR, BIRD and GoBGP": (
        "test_routers.py::test_ibgp_over_ipv6_with_three_routers",
    ),
    "TCP MD5 over IPv4 and IPv6, right and wrong key, with FRR, BIRD and GoBGP": (
        "test_routers.py::test_md5",
    ),
    "ECMP of two speakers in a kernel's FIB": (
        "test_routers.py::test_one_prefix_from_two_announcers_and_the_power_off_of_one",
    ),
    "2,000 prefixes withdrawn without a reset": (
        "test_routers.py::test_two_thousand_withdrawn_in_one_breath_and_a_refresh",
        "test_rib.py::test_packing_never_exceeds_a_message",
    ),
    "hold time with a frozen router: FRR, BIRD, GoBGP": (
        "test_routers.py::test_a_frozen_router_is_left_when_the_hold_time_is_over",
        "test_core.py::test_a_silent_peer_is_left_when_the_hold_timer_says_so",
    ),
    "shutdown communication visible in FRR and BIRD": ("test_routers.py::test_ebgp_with_three_routers",),
    "route refresh from FRR, BIRD and GoBGP": (
        "test_routers.py::test_two_thousand_withdrawn_in_one_breath_and_a_refresh",
        "test_core.py::test_route_refresh_sends_a_family_again",
    ),
    "IPv4 over IPv6 (RFC 8950) and IPv6 over IPv4 next hops in the kernels of FRR and BIRD": (
        "test_routers.py::test_ebgp_with_three_routers",
        "test_routers.py::test_ibgp_over_ipv6_with_three_routers",
        "test_routers.py::test_md5",
        "test_addresses.py::test_which_next_hop_a_session_uses",
    ),
    "unnumbered, with FRR and BIRD": ("test_routers.py::test_unnumbered",),
    "dynamic AS: the wrong side is refused, by FRR, BIRD and GoBGP": (
        "test_routers.py::test_the_wrong_side_is_refused_and_named",
        "test_core.py::test_dynamic_as",
    ),
    "crash and restart under graceful restart, BFD on: no FIB event at FRR and BIRD, kept by GoBGP": (
        "test_routers.py::test_a_crash_under_graceful_restart_moves_no_route",
    ),
    "BFD 50x3 up with FRR and BIRD, and the FIB after a death": (
        "test_routers.py::test_one_prefix_from_two_announcers_and_the_power_off_of_one",
        "test_routers.py::test_unnumbered",
    ),
    "BFD unaffected when the announcer is blocked for 200 ms": (
        "test_routers.py::test_a_block_of_the_announcer_is_nothing_to_bfd",
    ),
    "a range of neighbors with 20 speakers in one namespace, at FRR and BIRD": (
        "test_routers.py::test_a_range_of_neighbors_with_twenty_speakers",
    ),
    "BFD over IPv6 with FRR and BIRD, and over several hops with FRR: the least TTL, the passive end": (
        "test_routers.py::test_ibgp_over_ipv6_with_three_routers",
        "test_hops.py::test_a_session_and_its_bfd_over_three_hops",
    ),
    "TTL security: FRR's, ours, both": ("test_hops.py::test_ttl_security",),
    "a router without AS numbers of four octets: BIRD": (
        "test_hops.py::test_a_router_that_knows_no_as_numbers_of_four_octets",
    ),
    "collisions with FRR and BIRD, either identifier the higher one": (
        "test_routers.py::test_routers_that_connect_to_us",
        "test_collision.py::test_the_higher_identifier_keeps_the_connection_it_made",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_tests(row: str) -> None:
    assert missing(f"tests/bgp_lite/{test}" for test in ROWS[row]) == set(), f"nothing shows {row!r}"
