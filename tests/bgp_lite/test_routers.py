"""`python -m bgp_lite announce` against FRR, BIRD and GoBGP: sessions, routes, restarts and ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bgp_lite.rig import Announcer, Bird, Frr, Gobgp, Rig, eventually, rig

pytestmark = [pytest.mark.netns, pytest.mark.e2e]

EBGP = """ neighbor 10.9.0.2 remote-as 65001
 neighbor 10.9.0.2 timers 3 9
 neighbor 10.9.0.2 timers connect 1
 {extra}
 address-family ipv4 unicast
  neighbor 10.9.0.2 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.9.0.2 activate
 exit-address-family
"""
BFD = "neighbor 10.9.0.2 bfd\n neighbor 10.9.0.2 bfd profile fast"
US = ("--source", "10.9.0.2", "--hold", "9", "--next-hop", "fd09::2")


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


class FibMonitor:
    """Every change the kernel of a router sees."""

    def __init__(self, lan: Rig, host: str) -> None:
        self._output = lan.workdir / f"monitor-{host}.txt"
        with self._output.open("wb") as file:
            self.process = lan.spawn(host, ["ip", "monitor", "route"], stdout=file)

    def changes(self, net: str) -> list[str]:
        return [line for line in self._output.read_text().splitlines() if net in line]


def test_one_announcer_three_routers(lan: Rig) -> None:
    """eBGP with all three at once, both families over IPv4 sessions, communities, and the kernel's FIB."""
    us = lan.host(2)
    frr, bird, gobgp = Frr(lan, 3, peers=EBGP.format(extra="")), Bird(lan, 4), Gobgp(lan, 5)
    peers = ("--peer", "10.9.0.3", "--peer", "10.9.0.4", "--peer", "10.9.0.5")
    announcer = Announcer(lan, us, *peers, *US)
    announcer.say(
        "+ 203.0.113.9 community=65001:7 community=large:65001:1:2", "+ 2001:db8::9", "+ 198.51.100.0/24"
    )
    four, six = {"203.0.113.9/32", "198.51.100.0/24"}, {"2001:db8::9/128"}
    eventually(lambda: all(r.prefixes() >= four and r.prefixes("ipv6") >= six for r in (frr, gobgp)))
    eventually(lambda: bird.count() == 3)
    assert "BGP.community: (65001,7)" in bird.routes()
    assert "BGP.large_community: (65001, 1, 2)" in bird.routes()
    assert "203.0.113.9 via 10.9.0.2" in eventually(lambda: lan.routes(bird.host))
    eventually(
        lambda: "2001:db8::9 nhid" in (text := lan.routes(frr.host, six=True)) and "via fd09::2" in text
    )
    announcer.say("- 203.0.113.9")
    eventually(lambda: all("203.0.113.9/32" not in router.prefixes() for router in (frr, gobgp)))
    announcer.stop()
    assert announcer.process.returncode == 0
    assert frr.neighbor()["lastShutdownDescription"] == "announcer stopped"
    assert 'Administrative shutdown: "announcer stopped"' in bird.log.read_text()


def test_inside_one_as_and_over_ipv6(lan: Rig) -> None:
    us = lan.host(2)
    bird = Bird(lan, 4, peer="fd09::2", local_as=65001)
    announcer = Announcer(
        lan, us, "--peer", "fd09::4", "--router-id", "10.9.0.2", "--next-hop", "10.9.0.2", peer_as="internal"
    )
    announcer.say("+ 203.0.113.9 local-pref=150", "+ 2001:db8::9")
    eventually(lambda: bird.count() == 2)
    assert "BGP.local_pref: 150" in bird.routes()
    assert "BGP.local_pref: 100" in bird.routes(), "what routers use among themselves when nothing is set"
    assert "203.0.113.9 via 10.9.0.2" in eventually(lambda: lan.routes(bird.host))


@pytest.mark.parametrize("right", [True, False])
def test_md5(lan: Rig, right: bool) -> None:
    us = lan.host(2)
    secret = lan.workdir / "secret"
    secret.write_text("s3cret\n" if right else "wrong\n")
    frr = Frr(lan, 3, peers=EBGP.format(extra="neighbor 10.9.0.2 password s3cret"))
    bird = Bird(lan, 4, peer="fd09::2", extra='password "s3cret";')
    four = Announcer(lan, us, "--peer", "10.9.0.3", "--password-file", str(secret), *US)
    six = Announcer(lan, us, "--peer", "fd09::4", "--router-id", "10.9.0.2", "--password-file", str(secret))
    if right:
        four.wait_up()
        six.wait_up()
        assert frr.neighbor()["bgpState"] == "Established"
    else:
        why = eventually(
            lambda: [e["why"] for e in four.events if "no answer" in e.get("why", "")], within=13
        )
        assert "with a password, a wrong one on either side looks like this" in why[0]
        assert "ESTABLISHED" not in four.states() + six.states()
        assert "s3cret" not in four.output.read_text()
    del bird


def test_two_thousand_withdrawn_in_one_breath_do_not_reset_the_session(lan: Rig) -> None:
    us = lan.host(2)
    frr = Frr(lan, 3, peers=EBGP.format(extra=""))
    announcer = Announcer(lan, us, "--peer", "10.9.0.3", *US)
    many = [f"10.{64 + n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(2000)]
    announcer.say(*(f"+ {prefix}" for prefix in many))
    eventually(lambda: len(frr.prefixes()) == 2000)
    announcer.say(*(f"- {prefix}" for prefix in many))
    eventually(lambda: not frr.prefixes())
    assert frr.neighbor()["connectionsDropped"] == 0
    assert announcer.states().count("ESTABLISHED") == 1


def test_a_frozen_router_is_left_within_the_hold_time(lan: Rig) -> None:
    us = lan.host(2)
    frr = Frr(lan, 3, peers=EBGP.format(extra=""))
    announcer = Announcer(lan, us, "--peer", "10.9.0.3", "--source", "10.9.0.2", "--hold", "3")
    announcer.wait_up()
    frr.processes["bgpd"].send_signal(signal.SIGSTOP)
    eventually(lambda: "hold timer expired" in [e.get("why") for e in announcer.events])
    assert "ACTIVE" in announcer.states()


def test_route_refresh(lan: Rig) -> None:
    us = lan.host(2)
    frr = Frr(lan, 3, peers=EBGP.format(extra=""))
    announcer = Announcer(lan, us, "--peer", "10.9.0.3", *US)
    announcer.say("+ 203.0.113.9")
    eventually(lambda: frr.prefixes() == {"203.0.113.9/32"})
    before = frr.neighbor()["messageStats"]["updatesRecv"]
    frr.do("clear bgp ipv4 unicast 10.9.0.2 soft in")
    eventually(lambda: frr.neighbor()["messageStats"]["updatesRecv"] > before)
    assert announcer.states().count("ESTABLISHED") == 1
    assert frr.prefixes() == {"203.0.113.9/32"}


def test_the_wrong_side_is_refused_and_named(lan: Rig) -> None:
    us = lan.host(2)
    frr = Frr(lan, 3, peers=EBGP.format(extra=""))
    announcer = Announcer(lan, us, "--peer", "10.9.0.3", *US, peer_as="internal")
    eventually(
        lambda: any("peer is AS 65000, expected internal" in e.get("why", "") for e in announcer.events)
    )
    assert "ESTABLISHED" not in announcer.states()
    del frr


def test_a_crash_under_graceful_restart_moves_no_route(lan: Rig) -> None:
    """kill -9, start again: the routers' kernels see nothing."""
    us = lan.host(2)
    frr, bird = Frr(lan, 3, peers=EBGP.format(extra="")), Bird(lan, 4)
    how = ("--peer", "10.9.0.3", "--peer", "10.9.0.4", *US, "--graceful-restart", "60")
    first = Announcer(lan, us, *how)
    first.say("+ 203.0.113.9", "+ 203.0.113.10")
    eventually(lambda: all(lan.routes(router.host).count("203.0.113.") == 2 for router in (frr, bird)))
    monitors = [FibMonitor(lan, router.host) for router in (frr, bird)]
    first.process.kill()
    first.process.wait(2)
    second = Announcer(lan, us, *how, "--restart")
    second.say("+ 203.0.113.9", "+ 203.0.113.10")
    second.wait_up(2)
    eventually(lambda: frr.neighbor().get("bgpState") == "Established")
    eventually(lambda: bird.count() == 2)
    # The monitors do hear: what is withdrawn now shows, what was announced again does not.
    second.say("- 203.0.113.10")
    eventually(lambda: all(monitor.changes("203.0.113.10") for monitor in monitors))
    assert [monitor.changes("203.0.113.9 ") for monitor in monitors] == [[], []]


def test_bfd_comes_up_with_both_and_tells_them_of_a_death(lan: Rig) -> None:
    us = lan.host(2)
    frr = Frr(lan, 3, peers=EBGP.format(extra=BFD))
    bird = Bird(lan, 4, extra="bfd on;")
    announcer = Announcer(
        lan, us, "--peer", "10.9.0.3", "--peer", "10.9.0.4", *US, "--hold", "90", "--bfd", "50x3"
    )
    announcer.say("+ 203.0.113.9")
    announcer.wait_up(2)
    eventually(lambda: sum(e["event"] == "bfd" and e["new"] == "UP" for e in announcer.events) == 2)
    eventually(lambda: [peer["status"] for peer in frr.ask("show bfd peers")] == ["up"])
    eventually(lambda: "Up" in bird.ask("show bfd sessions"))
    eventually(lambda: all("203.0.113.9" in lan.routes(router.host) for router in (frr, bird)))
    # Power off: no FIN, no NOTIFICATION, and 90 s of hold time left.
    announcer.process.send_signal(signal.SIGSTOP)
    subprocess.run(["ip", "-n", us, "link", "set", "eth0", "down"], check=True)
    eventually(lambda: not any("203.0.113.9" in lan.routes(router.host) for router in (frr, bird)), within=5)


def test_a_router_that_goes_down_by_bfd_is_tried_again(lan: Rig) -> None:
    us = lan.host(2)
    bird = Bird(lan, 4, extra="bfd on;")
    announcer = Announcer(lan, us, "--peer", "10.9.0.4", *US, "--bfd", "50x3")
    announcer.wait_up()
    eventually(lambda: any(e["event"] == "bfd" and e["new"] == "UP" for e in announcer.events))
    bird.process.send_signal(signal.SIGSTOP)
    eventually(lambda: any(e["event"] == "bfd" and e["new"] == "DOWN" for e in announcer.events), within=5)
    eventually(lambda: announcer.states()[-1] != "ESTABLISHED")
    bird.process.send_signal(signal.SIGCONT)
    announcer.wait_up(2)


def test_the_same_prefix_from_two_announcers_is_multipath(lan: Rig) -> None:
    two, six = lan.host(2), lan.host(6)
    both = EBGP.format(extra="") + EBGP.format(extra="").replace("10.9.0.2", "10.9.0.6")
    frr = Frr(lan, 3, peers=both)
    announcers = [
        Announcer(lan, two, "--peer", "10.9.0.3", "--source", "10.9.0.2"),
        Announcer(lan, six, "--peer", "10.9.0.3", "--source", "10.9.0.6"),
    ]
    for announcer in announcers:
        announcer.say("+ 203.0.113.9")
    eventually(
        lambda: "nexthop via 10.9.0.2" in (text := lan.routes(frr.host)) and "nexthop via 10.9.0.6" in text
    )
    announcers[1].stop()
    eventually(lambda: "203.0.113.9 nhid" in (text := lan.routes(frr.host)) and "10.9.0.6" not in text)
