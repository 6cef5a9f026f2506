"""FrrRouters with real FRR daemons, judged by the routers at the other end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from bgp_lite.attributes import WELL_KNOWN, parse_community
from bgp_lite.attributes import Path as RoutePath
from crier.kube.model.bfdprofile import BfdProfile
from speaker.frr.backend import FrrPaths, FrrRouters
from tests.bgp_lite.rig import Bird, Frr, Rig, ip, rig
from tests.frr.rig import Speaker, apply, paths, peer, session, until

pytestmark = [pytest.mark.netns, pytest.mark.e2e]

SEVEN = parse_community("65001:7")
assert isinstance(SEVEN, int)
COLOURED = RoutePath(communities=(SEVEN,), large_communities=((65001, 1, 2),), local_pref=250)
NOT_FURTHER = RoutePath(communities=(WELL_KNOWN["no-advertise"],))
"""It is for the router to obey; to FRR it must not be one of its own routes'."""
FAST = BfdProfile(name="fast", receive_interval=350, transmit_interval=350)
"""Fast, and yet no flap on a machine on which nobody runs for a while."""
EVERYTHING = """
 neighbor 10.9.0.22 remote-as 65001
 neighbor 10.9.0.22 timers connect 1
 neighbor 10.9.0.22 password s3"cret
 neighbor 10.9.0.22 ebgp-multihop 5
 neighbor 10.9.0.22 bfd
 neighbor 10.9.0.22 bfd profile fast
 neighbor fd09::2 remote-as 65077
 neighbor fd09::2 timers connect 1
 address-family ipv4 unicast
  neighbor 10.9.0.22 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor fd09::2 activate
 exit-address-family
"""
UNNUMBERED = """
 neighbor eth0 interface remote-as external
 neighbor eth0 timers connect 1
 neighbor eth0 bfd profile fast
 address-family ipv4 unicast
  neighbor eth0 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor eth0 activate
 exit-address-family
"""


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


async def test_routes_reach_a_router_change_and_go(lan: Rig, nursery: trio.Nursery) -> None:
    """Inside one AS, for only there the local preference is told; the end is one the router is told of."""
    bird, us = Bird(lan, 1, local_as=65001), Speaker(lan)
    routers = FrrRouters(us.paths)
    nursery.start_soon(routers.run)
    peers = [peer(dual_stack=True, hold_time=9, peer_asn="internal")]
    apply(routers, peers, paths("203.0.113.9/32", "2001:db8::9/128", path=COLOURED))
    await until(lambda: bird.count() == 2)
    routes = bird.routes()
    for said in ("community: (65001,7)", "large_community: (65001, 1, 2)", "local_pref: 250"):
        assert f"BGP.{said}" in routes
    await until(lambda: session(routers).sent == 2)
    view = session(routers)
    assert (view.state, view.last_error, view.wanted) == ("Established", "", 2)
    assert min(view.counters["opens_sent"], view.counters["updates_total"]) >= 1

    apply(routers, peers, paths("203.0.113.9/32", "203.0.113.10/32", "2001:db8::9/128"))
    await until(lambda: bird.count() == 3 and "BGP.community" not in bird.routes())
    apply(routers, peers, paths("198.51.100.0/24"))
    await until(lambda: bird.count() == 1 and "198.51.100.0/24" in bird.routes())
    assert session(routers).since == view.since, "the session stayed"

    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await routers.close()
        await until(lambda: bird.count() == 0)
        assert "crier" not in us.show("show running-config")


async def test_each_peer_its_own_routes_and_others_mistakes(lan: Rig, nursery: trio.Nursery) -> None:
    """Peers come, go and are wrong; the session of the one that stays is never touched."""
    one, other, us = Bird(lan, 1), Bird(lan, 3), Speaker(lan)
    routers = FrrRouters(us.paths)
    nursery.start_soon(routers.run)
    stays, second = peer("one"), peer("two", "10.9.0.3")
    astray = peer("two", "10.9.0.3", peer_asn=65099)
    wrong = [
        peer("far", interface="eth0", multihop=True),
        peer("spaced", "10.9.0.5", password=b"not to be seen"),
    ]
    apply(routers, [stays, astray], paths("203.0.113.1/32"))
    await until(lambda: one.count() == 1)
    await until(lambda: "OPEN Message Error/Bad Peer AS" in session(routers, "two").last_error)
    await until(lambda: session(routers, "one").state == "Established")
    since = session(routers, "one").since

    told = {
        "one": paths("203.0.113.1/32") | paths("203.0.113.2/32", path=COLOURED),
        "two": paths("203.0.113.2/32") | paths("203.0.113.3/32", path=NOT_FURTHER),
    }
    apply(routers, [stays, second, *wrong], told)
    await until(lambda: (one.count(), other.count()) == (2, 2))
    assert "203.0.113.1/32" not in other.routes()
    assert "BGP.community: (65001,7)" not in other.routes(), (
        "the same prefix, with other attributes for the other peer"
    )
    assert "BGP.community: (65535,65282)" in other.routes()
    assert "BGP.community: (65001,7)" in one.routes()
    why = await until(lambda: session(routers, "far").last_error)
    assert why.startswith("FRR refuses 'neighbor eth0 ebgp-multihop'")
    assert "spec.password" in session(routers, "spaced").last_error
    assert not any("not to be seen" in view.last_error for view in routers.sessions())

    apply(routers, [stays, *wrong], told)
    await until(lambda: other.count() == 0)
    configuration = us.show("show running-config")
    assert "neighbor 10.9.0.1 " in configuration
    assert "neighbor 10.9.0.3 " not in configuration
    assert "neighbor eth0 " not in configuration, "half a session is none"
    await until(lambda: session(routers, "one").sent == 2)
    assert session(routers, "one").since == since
    nursery.cancel_scope.cancel()


async def test_restarts(lan: Rig, nursery: trio.Nursery) -> None:
    """A planner that comes back changes nothing; a daemon that comes back is told everything."""
    bird, us = Bird(lan, 1, extra="bfd on;"), Speaker(lan)
    peers, routes = [peer(bfd=FAST)], paths("203.0.113.9/32", path=COLOURED) | paths("203.0.113.10/32")
    with trio.CancelScope() as first_life:
        async with trio.open_nursery() as inner:
            first = FrrRouters(us.paths)
            inner.start_soon(first.run)
            apply(first, peers, routes)
            await until(lambda: bird.count() == 2)
            await until(lambda: session(first).bfd == "Up")
            first_life.cancel()
    # what a planner leaves that is killed in the middle of an entry, and what is not ours at all
    left = ["-c", "configure terminal", "-c", "route-map crier-out-tor permit 7", "-c", "exit"]
    theirs = ["-c", "router bgp 65001", "-c", "neighbor 10.9.0.99 remote-as 65099"]
    await trio.run_process(["vtysh", "-N", us.host, "-d", "bgpd", *left, *theirs])
    configuration = us.show("show running-config")
    assert "crier-out-tor permit 7" in configuration

    again = FrrRouters(us.paths)
    nursery.start_soon(again.run)
    apply(again, peers, routes)
    await until(lambda: session(again).state == "Established")
    await until(lambda: "permit 7" not in us.show("show running-config"))
    assert us.show("show running-config") == configuration.replace(
        "route-map crier-out-tor permit 7\nexit\n!\n", ""
    )
    assert bird.log.read_text().count("Session established") <= 1

    us.kill("bgpd")
    await until(lambda: session(again).state == "Idle" and "bgpd" in session(again).last_error)
    us.start("bgpd")
    await until(lambda: session(again).state == "Established" and session(again).sent == 2)
    await until(lambda: bird.count() == 2 and "BGP.community: (65001,7)" in bird.routes())
    us.kill("bfdd")
    us.start("bfdd")
    await until(lambda: "receive-interval 350" in us.show("show running-config"))
    await until(lambda: session(again).bfd == "Up")
    nursery.cancel_scope.cancel()


async def test_every_field_of_a_peer(lan: Rig, nursery: trio.Nursery) -> None:
    """The router demands what the BGPPeers say, and sees it."""
    frr, us = Frr(lan, 1, peers=EVERYTHING), Speaker(lan)
    ip("-n", us.host, "addr", "add", "10.9.0.22/24", "dev", "eth0")
    routers = FrrRouters(us.paths)
    nursery.start_soon(routers.run)
    four = peer(
        "four",
        source="10.9.0.22",
        password=b's3"cret',
        multihop=True,
        bfd=FAST,
        graceful_restart=True,
        hold_time=30,
        keepalive_time=7,
    )
    six = peer("six", "fd09::1", peer_asn="external", local_asn=65077)
    apply(routers, [four, six], {"four": paths("203.0.113.9/32"), "six": paths("2001:db8::9/128")})
    await until(lambda: frr.prefixes() == {"203.0.113.9/32"} and frr.prefixes("ipv6") == {"2001:db8::9/128"})
    await until(lambda: session(routers, "four").bfd == "Up")
    seen = frr.neighbor("10.9.0.22")
    assert (seen["bgpTimerHoldTimeMsecs"], seen["gracefulRestartInfo"]["remoteGrMode"]) == (30_000, "Restart")
    assert seen["gracefulRestartInfo"]["ipv4Unicast"]["fBit"] is True
    assert seen["peerBfdInfo"]["type"] == "multi hop"
    route = frr.ask("show bgp ipv6 unicast 2001:db8::9/128")["paths"][0]
    assert route["aspath"]["string"] == "65077"
    ours = us.show("show bgp neighbors 10.9.0.1")
    assert "keepalive interval is 7 seconds" in ours
    nursery.cancel_scope.cancel()


async def test_unnumbered(lan: Rig, nursery: trio.Nursery) -> None:
    frr, us = Frr(lan, 1, peers=UNNUMBERED), Speaker(lan)
    routers = FrrRouters(us.paths)
    nursery.start_soon(routers.run)
    peers = [peer(interface="eth0", peer_asn="external", bfd=FAST)]
    apply(routers, peers, paths("203.0.113.9/32", "2001:db8::9/128"))
    await until(lambda: frr.prefixes() == {"203.0.113.9/32"} and frr.prefixes("ipv6") == {"2001:db8::9/128"})
    await until(lambda: session(routers).state == "Established" and session(routers).bfd == "Up")
    assert session(routers).address == "eth0"
    assert "203.0.113.9 " in await until(
        lambda: "\n".join(line for line in lan.routes(frr.host).splitlines() if "via inet6 fe80::" in line)
    )
    apply(routers, [], {})
    await until(lambda: not frr.prefixes())
    nursery.cancel_scope.cancel()


async def test_vtysh_when_the_sockets_are_elsewhere(
    lan: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """FRR takes what we would have said over its sockets as a file, too, and the difference after it."""
    bird, us = Bird(lan, 1), Speaker(lan)
    us.lead_vtysh_here(tmp_path / "bin", monkeypatch)
    routers = FrrRouters(
        FrrPaths(tmp_path / "nowhere", tmp_path / "frr.conf", tmp_path / "pid"), debounce=0.1
    )
    nursery.start_soon(routers.run)
    peers = [peer(bfd=FAST, dual_stack=True)]
    apply(routers, peers, paths("203.0.113.9/32", "2001:db8::9/128", path=COLOURED))
    await until(lambda: bird.count() == 2 and "BGP.community: (65001,7)" in bird.routes())
    apply(routers, peers, paths("203.0.113.10/32"))
    await until(lambda: bird.count() == 1 and "203.0.113.10/32" in bird.routes())
    assert "cannot be seen" in session(routers).last_error
    apply(routers, [], {})
    await until(lambda: bird.count() == 0)
    await until(lambda: "crier-" not in us.show("show running-config"))
    nursery.cancel_scope.cancel()
