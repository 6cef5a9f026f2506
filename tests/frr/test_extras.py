"""The ConfigMap `bgpextras`: as text, and in real FRR beside what is ours."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from speaker.frr.backend import FrrPaths, FrrRouters
from speaker.frr.extras import Line, again, attached, parse, removed, sections
from speaker.frr.render import render
from tests.bgp_lite.rig import Bird, Frr, rig
from tests.frr.rig import Speaker, apply, paths, peer, session, until

ROUTER, FAMILY = "router bgp 65001", "address-family ipv4 unicast"
BASE = render(
    [BgpPeer(name="tor", my_asn=65001, peer_asn=65000, address=ip_address("10.9.0.1"))],
    Node(name="iris1", internal_ips=("10.9.0.2",)),
)

INDENTED = """\
! a comment
ip prefix-list near seq 5 permit 10.0.0.0/8 le 32
route-map near-only permit 10
 match ip address prefix-list near
exit
!
router bgp 65001
 neighbor 10.9.0.1  ttl-security hops 1
 address-family ipv4 unicast
\tneighbor 10.9.0.1 route-map near-only in
 exit-address-family
!
ip prefix-list far seq 5 deny any
"""
FLAT = """\
ip prefix-list near seq 5 permit 10.0.0.0/8 le 32
route-map near-only permit 10
match ip address prefix-list near
exit
router bgp 65001
neighbor 10.9.0.1 ttl-security hops 1
address-family ipv4 unicast
neighbor 10.9.0.1 route-map near-only in
exit-address-family
exit
ip prefix-list far seq 5 deny any
"""


@pytest.mark.parametrize("text", [INDENTED, FLAT], ids=["indented", "flat"])
def test_every_line_knows_its_place(text: str) -> None:
    assert parse(text) == (
        Line((), "ip prefix-list near seq 5 permit 10.0.0.0/8 le 32"),
        Line((), "route-map near-only permit 10", opens=True),
        Line(("route-map near-only permit 10",), "match ip address prefix-list near"),
        Line((), ROUTER, opens=True),
        Line((ROUTER,), "neighbor 10.9.0.1 ttl-security hops 1"),
        Line((ROUTER,), FAMILY, opens=True),
        Line((ROUTER, FAMILY), "neighbor 10.9.0.1 route-map near-only in"),
        Line((), "ip prefix-list far seq 5 deny any"),
    )


@given(st.text(alphabet="abr \t\n!#", max_size=60) | st.text(max_size=60))
def test_any_text_is_lines(text: str) -> None:
    for line in parse(text):
        assert line.text == " ".join(line.text.split()) != ""
    said = [text for _, texts in sections(parse(text)) for text in texts]
    assert said == [line.text for line in parse(text)]


def test_what_goes_is_taken_back_from_the_end_and_nothing_of_ours() -> None:
    held = parse(f"{INDENTED}router bgp 65001\n no bgp default ipv4-unicast\n timers bgp 3 9\n")
    assert removed(held, held, BASE) == again(held, held, BASE) == ()
    assert removed(held, (), BASE) == (
        Line((ROUTER,), "no timers bgp 3 9"),
        Line((), "no ip prefix-list far seq 5 deny any"),
        Line((ROUTER,), "no neighbor 10.9.0.1 ttl-security hops 1"),
        Line((), "no route-map near-only permit 10"),
        Line((), "no ip prefix-list near seq 5 permit 10.0.0.0/8 le 32"),
    )
    ours = again(held, (), BASE)
    assert Line((ROUTER, FAMILY), "neighbor 10.9.0.1 route-map crier-in in") in ours
    assert Line((ROUTER,), "no bgp default ipv4-unicast") in ours
    assert not any("remote-as" in line.text for line in ours), "what nobody touched is not said again"


def test_what_ours_says_too_is_said_again_with_ours() -> None:
    held = parse("router bgp 65001\n neighbor 10.9.0.1 timers 1 3\n neighbor 10.9.0.1 port 179\n")
    assert removed(held, (), BASE) == (Line((ROUTER,), "no neighbor 10.9.0.1 timers 1 3"),)
    assert Line((ROUTER,), "neighbor 10.9.0.1 timers 30 90") in again(held, (), BASE)


def test_a_route_map_with_the_name_it_has_in_metallb_is_put_in_its_place() -> None:
    assert attached(parse("route-map 10.9.0.7-in permit 10\n"), BASE) == ()
    assert attached(parse("route-map 10.9.0.1-in permit 10\n"), BASE) == (
        Line((ROUTER, FAMILY), "neighbor 10.9.0.1 route-map 10.9.0.1-in in"),
    )


# ------------------------------------------------------------------------------------------ real FRR

ANNOUNCES = """
 neighbor 10.9.0.2 remote-as 65001
 neighbor 10.9.0.2 timers connect 1
 no bgp network import-check
 address-family ipv4 unicast
  network 198.51.99.0/24
  network 198.51.98.0/24
  neighbor 10.9.0.2 activate
 exit-address-family
"""
THEIRS = """
ip prefix-list ours permit 198.51.99.0/24
route-map 10.9.0.1-in permit 20
 match ip address prefix-list ours
router bgp 65001
 neighbor 10.9.0.1 advertisement-interval 3
 neighbor 10.9.0.77 remote-as 65077
"""


@pytest.mark.netns
@pytest.mark.e2e
async def test_incoming_routes_are_taken_when_it_says_so(tmp_path: Path, nursery: trio.Nursery) -> None:
    """And no longer when it does not; the session, and what is ours, are not touched."""
    with rig(tmp_path) as lan:
        router, us = Frr(lan, 1, peers=ANNOUNCES), Speaker(lan)
        text = ""
        routers = FrrRouters(us.paths, extra_lines=lambda: text)
        nursery.start_soon(routers.run)
        peers, routes = [peer()], paths("203.0.113.9/32")

        def taken() -> set[str]:
            shown = us.show("show bgp ipv4 unicast")
            return {net for net in ("198.51.98.0/24", "198.51.99.0/24") if net in shown}

        def configuration() -> str:
            return us.show("show running-config")

        apply(routers, peers, routes)
        await until(lambda: router.prefixes() >= {"203.0.113.9/32"})
        await until(lambda: session(routers).state == "Established")
        before, since = await until(configuration), session(routers).since
        assert taken() == set()

        text = THEIRS
        apply(routers, peers, routes)
        await until(lambda: taken() == {"198.51.99.0/24"})
        await until(lambda: "neighbor 10.9.0.77 remote-as 65077" in configuration())
        us.kill("bgpd")
        us.start("bgpd")
        await until(lambda: session(routers).state == "Established" and session(routers).since != since)
        await until(lambda: taken() == {"198.51.99.0/24"})
        since = session(routers).since

        text = f"{THEIRS} neighbor 10.9.0.1 makes no sense\n"
        apply(routers, peers, routes)
        why = await until(lambda: session(routers).last_error)
        assert why == "bgpextras: FRR refuses 'neighbor 10.9.0.1 makes no sense': no daemon knows it"
        assert taken() == {"198.51.99.0/24"}

        text = ""
        apply(routers, peers, routes)
        await until(lambda: configuration() == before)
        await until(lambda: taken() == set())
        await until(lambda: session(routers).last_error == "")
        assert session(routers).since == since
        assert router.prefixes() >= {"203.0.113.9/32"}
        nursery.cancel_scope.cancel()


@pytest.mark.netns
@pytest.mark.e2e
async def test_without_sockets_it_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    with rig(tmp_path) as lan:
        bird, us = Bird(lan, 1), Speaker(lan)
        us.lead_vtysh_here(tmp_path / "bin", monkeypatch)
        text = "router bgp 65001\n neighbor 10.9.0.1 advertisement-interval 3\n"
        where = FrrPaths(tmp_path / "nowhere", tmp_path / "frr.conf", tmp_path / "pid")
        routers = FrrRouters(where, debounce=0.1, extra_lines=lambda: text)
        nursery.start_soon(routers.run)
        apply(routers, [peer()], paths("203.0.113.9/32"))
        await until(lambda: bird.count() == 1)
        await until(lambda: "advertisement-interval 3" in us.show("show running-config"))
        text = ""
        apply(routers, [peer()], paths("203.0.113.9/32"))
        await until(lambda: "advertisement-interval 3" not in us.show("show running-config"))
        assert bird.count() == 1
        nursery.cancel_scope.cancel()
