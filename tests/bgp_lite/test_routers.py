"""`python -m bgp_lite announce` against FRR, BIRD and GoBGP: sessions, routes, restarts and ends.

The three routers are started once.  Each test is a host of its own to them, known to each by its address, and
announces prefixes nobody else does.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bgp_lite import crowd
from tests.bgp_lite.rig import Announcer, Bird, FibMonitor, Frr, Gobgp, Rig, eventually, rig

pytestmark = [pytest.mark.netns, pytest.mark.e2e]

FRR, BIRD, GOBGP = "10.9.0.3", "10.9.0.4", "10.9.0.5"
EBGP, IBGP, KEYS, SHORT, ECMP, OTHER, LISTENS, BLOCKED, UNNUMBERED, GRACE = range(20, 30)
"""Hosts, by the last octet of their address."""
SECRET = "s3cret"
FAMILIES = (" address-family ipv4 unicast", " address-family ipv6 unicast")


def frr_neighbor(name: str, *lines: str, remote: str = "65001") -> str:
    named = f" neighbor {name}"
    interface = "" if "." in name or ":" in name else "interface "
    out = [f"{named} {interface}remote-as {remote}", f"{named} timers 3 9", f"{named} timers connect 1"]
    out += [f"{named} {line}" for line in lines]
    for family in FAMILIES:
        out += [family, f" {named} activate", " exit-address-family"]
    return "\n".join(out) + "\n"


def bird_protocol(name: str, neighbor: str, extra: str = "", local: str = "10.9.0.4") -> str:
    return f"""protocol bgp {name} {{ local {local} as 65000; neighbor {neighbor};
        connect delay time 1; connect retry time 1; error wait time 1, 2; {extra}
        ipv4 {{ import all; export none; extended next hop on; }}; ipv6 {{ import all; export none; }}; }}
    """


BIRD_UNNUMBERED = """protocol bgp unnumbered { local as 65000; neighbor range fe80::/64 as 65001;
    interface "eth1"; passive; bfd on; dynamic name "un"; error wait time 1, 2;
    ipv4 { import all; export none; extended next hop on; }; ipv6 { import all; export none; }; }
"""


def address(host: int, family: int = 4) -> str:
    return f"10.9.0.{host}" if family == 4 else f"fd09::{host}"


class Routers:
    """FRR, BIRD and GoBGP of AS 65000 on one bridge, and a host for each test."""

    def __init__(self, lan: Rig) -> None:
        self.lan = lan
        bfd = ("bfd", "bfd profile fast")
        key = f"password {SECRET}"
        four, six = address(KEYS), address(KEYS, 6)
        self.frr = Frr(
            lan,
            3,
            peers="".join((
                frr_neighbor(address(EBGP)),
                frr_neighbor(address(IBGP, 6), "capability extended-nexthop", *bfd, remote="65000"),
                frr_neighbor(four, key),
                frr_neighbor(six, key),
                frr_neighbor(address(SHORT)),
                frr_neighbor(address(ECMP), *bfd),
                frr_neighbor(address(OTHER)),
                frr_neighbor(address(LISTENS)),
                frr_neighbor(address(BLOCKED), *bfd),
                frr_neighbor(address(GRACE), *bfd),
                " neighbor CROWD peer-group\n neighbor CROWD remote-as external\n",
                " bgp listen range 10.9.0.96/27 peer-group CROWD\n",
                " address-family ipv4 unicast\n  neighbor CROWD activate\n exit-address-family\n",
                frr_neighbor("eth1", "bfd", "bfd profile fast", remote="external"),
                "exit\ninterface eth1\n no ipv6 nd suppress-ra\n ipv6 nd ra-interval 10\nexit\n",
            )),
        )  # fmt: skip
        self.bird = Bird(
            lan,
            4,
            more="".join((
                bird_protocol("n_ebgp", f"{address(EBGP)} as 65001", "passive;"),
                bird_protocol(
                    "n_ibgp", f"{address(IBGP, 6)} as 65000", "passive; direct; bfd on;", local="fd09::4"
                ),
                bird_protocol("key4", f"{four} as 65001", f'passive; password "{SECRET}";'),
                bird_protocol("key6", f"{six} as 65001", f'passive; password "{SECRET}";', local="fd09::4"),
                bird_protocol("n_short", f"{address(SHORT)} as 65001", "passive; hold time 9;"),
                bird_protocol("n_ecmp", f"{address(ECMP)} as 65001", "passive; bfd on;"),
                bird_protocol("n_other", f"{address(OTHER)} as 65001", "passive;"),
                bird_protocol("n_listens", f"{address(LISTENS)} as 65001"),
                bird_protocol("n_blocked", f"{address(BLOCKED)} as 65001", "passive; bfd on;"),
                bird_protocol("n_grace", f"{address(GRACE)} as 65001", "passive; bfd on;"),
                bird_protocol("nodes", "range 10.9.0.96/27 as 65001", 'passive; dynamic name "dyn";'),
                'protocol radv { interface "eth1" { max ra interval 4; default lifetime 0; }; }\n',
                BIRD_UNNUMBERED,
            )),
        )  # fmt: skip
        plain = "peer-as = 65001"
        self.gobgp = Gobgp(
            lan,
            5,
            neighbors={
                **{address(each): plain for each in (EBGP, SHORT, ECMP, OTHER, GRACE)},
                address(IBGP, 6): "peer-as = 65000",
                **dict.fromkeys((four, six), f'{plain}\nauth-password = "{SECRET}"'),
            },
        )
        self._hosts: dict[int, str] = {}

    def host(self, number: int) -> str:
        if number not in self._hosts:
            self._hosts[number] = self.lan.host(number)
        return self._hosts[number]

    def fib(self, name: str, *, six: bool = False) -> str:
        """What the kernel of a router has."""
        return self.lan.routes(getattr(self, name).host, six=six)

    def has(self, name: str, net: str, how: str, *, six: bool = False) -> None:
        """Wait until a router's kernel reaches a net so; if it never does, say what it has instead."""
        try:
            eventually(lambda: how in self.line(name, net, six=six))
        except AssertionError:
            pytest.fail(f"{name} does not reach {net} {how}:\n{self.fib(name, six=six)}")

    def line(self, name: str, net: str, *, six: bool = False) -> str:
        return next((each for each in self.fib(name, six=six).splitlines() if each.startswith(f"{net} ")), "")


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routers]:
    with rig(tmp_path_factory.mktemp("routers")) as lan:
        yield Routers(lan)


@pytest.fixture
def started(routers: Routers) -> Iterator[ExitStack]:
    """What a test starts is gone when it ends, so that its sessions are."""
    with ExitStack() as stack:
        yield stack


def announce(started: ExitStack, routers: Routers, host: int, *words: str, **how: str) -> Announcer:
    announcer = Announcer(routers.lan, routers.host(host), *words, **how)

    def end() -> None:
        announcer.process.kill()
        announcer.process.wait(5)

    started.callback(end)
    return announcer


def to(*peers: str, source: str, hold: int = 9) -> list[str]:
    return [*(word for peer in peers for word in ("--peer", peer)), "--source", source, "--hold", str(hold)]


def test_ebgp_with_three_routers(routers: Routers, started: ExitStack) -> None:
    """Both families over IPv4 sessions, IPv6 by an address of the same interface; communities; last words."""
    frr, bird, gobgp = routers.frr, routers.bird, routers.gobgp
    announcer = announce(started, routers, EBGP, *to(FRR, BIRD, GOBGP, source=address(EBGP)))
    announcer.say(
        "+ 203.0.113.9 community=65001:7 community=large:65001:1:2", "+ 2001:db8::9", "+ 198.51.1.0/24"
    )
    four, six = {"203.0.113.9/32", "198.51.1.0/24"}, {"2001:db8::9/128"}
    eventually(lambda: all(r.prefixes() >= four and r.prefixes("ipv6") >= six for r in (frr, gobgp)))
    eventually(lambda: bird.count("n_ebgp") == 3)
    assert "(65001,7)" in bird.routes("n_ebgp")
    assert "(65001, 1, 2)" in bird.routes("n_ebgp")
    for router in ("frr", "bird"):
        routers.has(router, "203.0.113.9", "via 10.9.0.20")
        routers.has(router, "2001:db8::9", "via fd09::20", six=True)
    announcer.say("- 203.0.113.9")
    eventually(lambda: "203.0.113.9/32" not in frr.prefixes() | gobgp.prefixes())
    eventually(lambda: bird.count("n_ebgp") == 2)
    announcer.stop()
    assert announcer.process.returncode == 0
    eventually(lambda: frr.neighbor(address(EBGP)).get("lastShutdownDescription") == "announcer stopped")
    eventually(lambda: 'Administrative shutdown: "announcer stopped"' in bird.log.read_text())
    eventually(lambda: "198.51.1.0/24" not in gobgp.prefixes())


def test_ibgp_over_ipv6_with_three_routers(routers: Routers, started: ExitStack) -> None:
    """IPv4 routes have the session's IPv6 address as next hop, in the kernels too (RFC 8950).

    BFD goes by IPv6, too, and GoBGP, which does none, has its session all the same.
    """
    frr, bird, gobgp = routers.frr, routers.bird, routers.gobgp
    words = [*to("fd09::3", "fd09::4", "fd09::5", source=address(IBGP, 6)), "--bfd", "350x3"]
    announcer = announce(started, routers, IBGP, *words, peer_as="internal", local_as="65000")
    announcer.say("+ 203.0.113.21 local-pref=150", "+ 2001:db8::21")
    eventually(lambda: all("203.0.113.21/32" in each.prefixes() for each in (frr, gobgp)))
    eventually(lambda: all("2001:db8::21/128" in each.prefixes("ipv6") for each in (frr, gobgp)))
    eventually(lambda: bird.count("n_ibgp") == 2)
    assert "BGP.local_pref: 150" in bird.routes("n_ibgp")
    assert "BGP.local_pref: 100" in bird.routes("n_ibgp"), (
        "what routers use among themselves when nothing is set"
    )
    for router in ("frr", "bird"):
        routers.has(router, "203.0.113.21", "via inet6 fd09::21")
        routers.has(router, "2001:db8::21", "via fd09::21", six=True)
    watched = {"fd09::3", "fd09::4"}
    eventually(lambda: {e["peer"] for e in announcer.events if e.get("new") == "UP"} == watched)
    announcer.stop()


@pytest.mark.parametrize("right", [True, False])
def test_md5(routers: Routers, started: ExitStack, right: bool) -> None:
    secret = routers.lan.workdir / "secret"
    secret.write_text(f"{SECRET}\n" if right else "wrong\n")
    key = ("--password-file", str(secret))
    four = announce(started, routers, KEYS, *to(FRR, BIRD, GOBGP, source=address(KEYS)), *key)
    six = announce(
        started, routers, KEYS, *to("fd09::3", "fd09::4", "fd09::5", source=address(KEYS, 6)), *key
    )
    if right:
        four.wait_up(3)
        six.wait_up(3)
        assert routers.frr.neighbor(address(KEYS))["bgpState"] == "Established"
        # FRR was not told to take IPv6 next hops for IPv4: it gets the IPv4 address of the same interface.
        six.say("+ 203.0.113.22")
        eventually(lambda: "via 10.9.0.22" in routers.line("frr", "203.0.113.22"))
        eventually(lambda: "via inet6 fd09::22" in routers.line("bird", "203.0.113.22"))
    else:
        told = "with a password, a wrong one on either side looks like this"
        eventually(lambda: min(four.whys().count(told), six.whys().count(told)) >= 3)
        assert "ESTABLISHED" not in four.states() + six.states()
        assert SECRET not in four.output.read_text()


def test_two_thousand_withdrawn_in_one_breath_and_a_refresh(routers: Routers, started: ExitStack) -> None:
    frr, bird, gobgp = routers.frr, routers.bird, routers.gobgp
    announcer = announce(started, routers, SHORT, *to(FRR, BIRD, GOBGP, source=address(SHORT)))
    many = [f"10.64.{n // 256}.{n % 256}" for n in range(2000)]
    wanted = {f"{each}/32" for each in many}
    announcer.say("+ 203.0.113.23", *(f"+ {prefix}" for prefix in many))
    eventually(
        lambda: frr.prefixes() >= wanted and gobgp.prefixes() >= wanted and bird.count("n_short") == 2001
    )
    announcer.say(*(f"- {prefix}" for prefix in many))
    eventually(lambda: not (frr.prefixes() | gobgp.prefixes()) & wanted and bird.count("n_short") == 1)
    assert announcer.states().count("ESTABLISHED") == 3, "no session was reset"
    before = frr.neighbor(address(SHORT))["messageStats"]["updatesRecv"]
    frr.do(f"clear bgp ipv4 unicast {address(SHORT)} soft in")
    eventually(lambda: frr.neighbor(address(SHORT))["messageStats"]["updatesRecv"] > before)
    bird.ask("reload in n_short")
    subprocess.run(
        ["ip", "netns", "exec", gobgp.host, "gobgp", "neighbor", address(SHORT), "softresetin"], check=True
    )
    time.sleep(0.5)  # a reset would show by now
    assert announcer.states().count("ESTABLISHED") == 3
    assert "203.0.113.23/32" in frr.prefixes() & gobgp.prefixes()
    assert bird.count("n_short") == 1


@pytest.mark.parametrize("name", ["frr", "bird", "gobgp"])
def test_a_frozen_router_is_left_when_the_hold_time_is_over(
    routers: Routers, started: ExitStack, name: str
) -> None:
    peer = {"frr": FRR, "bird": BIRD, "gobgp": GOBGP}[name]
    announcer = announce(started, routers, OTHER, *to(peer, source=address(OTHER), hold=3))
    announcer.wait_up()
    process = routers.frr.processes["bgpd"] if name == "frr" else getattr(routers, name).process
    process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: "hold timer expired" in announcer.whys())
        assert "ACTIVE" in announcer.states()
        stopped = next(e["t"] for e in announcer.events if e.get("why") == "hold timer expired")
        up = max(e["t"] for e in announcer.events if e.get("new") == "ESTABLISHED" and e["t"] < stopped)
        assert stopped - up >= 1.9, "three seconds after it was last heard of, and it speaks every second"
    finally:
        process.send_signal(signal.SIGCONT)


def test_the_wrong_side_is_refused_and_named(routers: Routers, started: ExitStack) -> None:
    words = to(FRR, BIRD, GOBGP, source=address(OTHER))
    announcer = announce(started, routers, OTHER, *words, peer_as="internal")
    eventually(lambda: announcer.whys().count("peer is AS 65000, expected internal") >= 3)
    assert "ESTABLISHED" not in announcer.states()


def bfd_up(routers: Routers, host: int, *, frr: bool = True) -> None:
    def status() -> list[str]:
        peers = routers.frr.ask("show bfd peers") or []
        return [each["status"] for each in peers if each["peer"] == address(host)]

    eventually(lambda: not frr or status() == ["up"])
    eventually(lambda: any(
        address(host) in each and "Up" in each for each in routers.bird.ask("show bfd sessions").splitlines()
    ))  # fmt: skip


DETECTION = 1.0
"""Seconds until `bfd_process` and a router miss each other: a test that is to see no flap must hold on a
machine on which nobody runs for a while.  150 ms are for `bench/bgp.py`."""


def bfd_process(started: ExitStack, routers: Routers, host: int, *peers: str) -> None:
    """BFD where it belongs: beside what announces, and not in it."""
    command = [sys.executable, "-m", "bgp_lite", "bfd", "--source", address(host)]
    command += [word for peer in peers for word in ("--peer", peer)]
    # the routers ask for 50 ms x 3, so ours are the intervals that count, in both directions
    ours, theirs = DETECTION * 1000 / 4, DETECTION * 1000 / 3
    command += ["--transmit", f"{ours:g}", "--multiplier", "4", "--receive", f"{theirs:g}"]
    process = routers.lan.spawn(routers.host(host), command, stdout=subprocess.DEVNULL)

    def end() -> None:
        process.kill()
        process.wait(5)

    started.callback(end)


def test_a_crash_under_graceful_restart_moves_no_route(routers: Routers, started: ExitStack) -> None:
    """kill -9 and a new start, BFD in a process that lives on: the routers' kernels see nothing."""
    frr, bird, gobgp = routers.frr, routers.bird, routers.gobgp
    routes = ("+ 203.0.113.29", "+ 203.0.113.30", "+ 2001:db8::29")
    words = [*to(FRR, BIRD, GOBGP, source=address(GRACE)), "--graceful-restart", "60"]
    bfd_process(started, routers, GRACE, FRR, BIRD)
    first = announce(started, routers, GRACE, *words)
    first.say(*routes)
    bfd_up(routers, GRACE)
    for name, net in itertools.product(("frr", "bird"), ("203.0.113.29", "203.0.113.30")):
        eventually(lambda name=name, net=net: routers.line(name, net))  # type: ignore[misc]
    eventually(lambda: "203.0.113.29/32" in gobgp.prefixes())
    monitors = [FibMonitor(routers.lan, router.host) for router in (frr, bird)]
    first.process.kill()
    first.process.wait(5)
    time.sleep(1.5 * DETECTION)  # long enough for BFD to be missed, were it gone
    second = announce(started, routers, GRACE, *words, "--restart")
    second.say(*routes)
    second.wait_up(3)
    eventually(lambda: frr.neighbor(address(GRACE)).get("bgpState") == "Established")
    eventually(lambda: bird.count("n_grace") == 3)
    assert "203.0.113.29/32" in gobgp.prefixes()
    # The monitors do hear: what is withdrawn now shows, what was announced again does not.
    second.say("- 203.0.113.30")
    eventually(lambda: all(monitor.changes("203.0.113.30") for monitor in monitors))
    for net in ("203.0.113.29 ", "2001:db8::29 "):
        assert [monitor.changes(net) for monitor in monitors] == [[], []]


def test_a_block_of_the_announcer_is_nothing_to_bfd(routers: Routers, started: ExitStack) -> None:
    """It lasts longer than the detection time."""

    def downs_at_frr() -> list[int]:
        counters = routers.frr.ask("show bfd peers counters")
        return [each["session-down"] for each in counters if each["peer"] == address(BLOCKED)]

    announcer = announce(started, routers, BLOCKED, *to(FRR, BIRD, source=address(BLOCKED)))
    bfd_process(started, routers, BLOCKED, FRR, BIRD)
    announcer.wait_up(2)
    bfd_up(routers, BLOCKED)
    before, downs = announcer.states(), downs_at_frr()
    for _ in range(2):
        announcer.process.send_signal(signal.SIGSTOP)
        time.sleep(1.4 * DETECTION)
        announcer.process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    assert downs_at_frr() == downs
    assert announcer.states() == before
    bfd_up(routers, BLOCKED)


def test_one_prefix_from_two_announcers_and_the_power_off_of_one(
    routers: Routers, started: ExitStack
) -> None:
    """ECMP in FRR's kernel; BFD takes the dead one out long before its 90 s of hold time are over."""
    words = to(FRR, BIRD, source=address(ECMP), hold=90)
    first = announce(started, routers, ECMP, *words, "--bfd", "50x3")
    second = announce(started, routers, OTHER, *to(FRR, BIRD, source=address(OTHER)))
    for announcer in (first, second):
        announcer.say("+ 203.0.113.25")

    def both() -> bool:
        text = routers.fib("frr")
        return all(f"nexthop via {address(each)}" in text for each in (ECMP, OTHER))

    def watched() -> dict[str, str]:
        """What BFD says last of each router."""
        return {e["peer"]: e["new"] for e in first.events if e["event"] == "bfd"}

    eventually(both)
    bfd_up(routers, ECMP)
    allowed = subprocess.run(["chrt", "-f", "1", "true"], capture_output=True, check=False).returncode == 0
    urgent = os.sched_getscheduler(first.process.pid) == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    assert urgent == allowed, "with BFD on board it is not to wait for a processor"
    eventually(lambda: watched() == {FRR: "UP", BIRD: "UP"})
    first.process.send_signal(signal.SIGSTOP)  # no FIN, no NOTIFICATION, and 90 s of hold time
    eventually(lambda: address(OTHER) in routers.line("frr", "203.0.113.25") and not both())
    eventually(lambda: routers.bird.count("n_ecmp") == 0)
    assert routers.frr.neighbor(address(ECMP))["lastNotificationReason"] == "Cease/BFD Down"
    first.process.send_signal(signal.SIGCONT)
    eventually(lambda: routers.bird.count("n_ecmp") == 1)
    eventually(both)
    eventually(lambda: watched() == {FRR: "UP", BIRD: "UP"})


@pytest.mark.parametrize("router_id", ["1.1.1.1", "99.9.9.9"])
def test_routers_that_connect_to_us(routers: Routers, started: ExitStack, router_id: str) -> None:
    """Both ends connect, and one connection stays, whichever identifier is the higher one."""
    words = to(FRR, BIRD, source=address(LISTENS))
    announcer = announce(started, routers, LISTENS, *words, "--listen", "179", "--router-id", router_id)
    announcer.say("+ 203.0.113.26")
    eventually(lambda: routers.bird.count("n_listens") == 1 and "203.0.113.26/32" in routers.frr.prefixes())
    routers.frr.do(f"clear bgp {address(LISTENS)}")
    routers.bird.ask("restart n_listens")
    announcer.wait_up(4)
    eventually(lambda: routers.bird.count("n_listens") == 1 and "203.0.113.26/32" in routers.frr.prefixes())
    announcer.stop()


def test_a_session_that_only_routers_make(routers: Routers, started: ExitStack) -> None:
    words = to(FRR, BIRD, source=address(LISTENS))
    announcer = announce(started, routers, LISTENS, *words, "--listen", "179", "--passive")
    announcer.say("+ 203.0.113.27")
    announcer.wait_up(2)
    eventually(lambda: "203.0.113.27/32" in routers.frr.prefixes())
    assert "CONNECT" not in announcer.states()


@pytest.mark.parametrize("name", ["frr", "bird"])
def test_unnumbered(routers: Routers, started: ExitStack, name: str) -> None:
    """The router is found by its advertisements, and finds us by ours; IPv4 by way of IPv6 (RFC 8950)."""
    us = routers.host(UNNUMBERED)
    router = getattr(routers, name)
    routers.lan.link(us, router.host)
    words = ("--interface", "eth1", "--router-id", "10.255.0.1", "--bfd", "50x3", "--hold", "9")
    announcer = announce(started, routers, UNNUMBERED, *words, peer_as="external")
    announcer.say("+ 203.0.113.28", "+ 2001:db8::28")
    eventually(lambda: "via inet6 fe80::" in routers.line(name, "203.0.113.28"))
    eventually(lambda: "dev eth1" in routers.line(name, "2001:db8::28", six=True))
    eventually(lambda: any(e["event"] == "bfd" and e["new"] == "UP" for e in announcer.events))
    announcer.stop()
    subprocess.run(["ip", "-n", us, "link", "del", "eth1"], check=True)
    eventually(lambda: not routers.line(name, "203.0.113.28"))


@pytest.mark.parametrize("name", ["frr", "bird"])
def test_a_range_of_neighbors_with_twenty_speakers(routers: Routers, started: ExitStack, name: str) -> None:
    us = routers.host(96)
    for number in range(1, crowd.COUNT):
        where = ["ip", "-n", us, "addr", "replace", f"{crowd.source(number)}/24", "dev", "eth0"]
        subprocess.run(where, check=True)
    command = [sys.executable, "-m", "tests.bgp_lite.crowd", FRR if name == "frr" else BIRD]
    where_from = Path(__file__).parents[2]
    process = routers.lan.spawn(us, command, stdout=subprocess.DEVNULL, cwd=where_from)

    def end() -> None:
        process.kill()
        process.wait(5)

    started.callback(end)
    wanted = {crowd.prefix(number) for number in range(crowd.COUNT)}
    eventually(lambda: all(routers.line(name, net) for net in wanted))


def test_graceful_shutdown_comes_before_the_withdrawal(routers: Routers, started: ExitStack) -> None:
    words = to(FRR, BIRD, GOBGP, source=address(OTHER))
    announcer = announce(started, routers, OTHER, *words, "--graceful-shutdown", "20")
    announcer.say("+ 203.0.113.31")
    announcer.wait_up(3)
    eventually(lambda: routers.bird.count("n_other") == 1)
    announcer.process.send_signal(signal.SIGTERM)
    eventually(lambda: "(65535,0)" in routers.bird.routes("n_other"))
    shown = eventually(lambda: routers.frr.ask("show bgp ipv4 unicast 203.0.113.31/32"))
    assert "graceful-shutdown" in json.dumps(shown)
    assert routers.line("bird", "203.0.113.31"), "it is still there for whoever has no other way"


def test_a_device_decides_which_way_a_session_goes(routers: Routers, started: ExitStack) -> None:
    """Two links with the same addresses at their other ends, as VRFs have them: the device decides."""
    us = routers.host(OTHER)
    routers.lan.link(us, routers.lan.switch, "vrf0")
    subprocess.run(["ip", "-n", us, "addr", "add", "10.9.0.26/24", "dev", "vrf0"], check=True)
    words = to(FRR, source=address(OTHER))
    # Bound to a device at which no router answers: the routing table would have found one.
    lost = announce(started, routers, OTHER, *words, "--device", "vrf0", "--connect-time", "1")
    found = announce(started, routers, OTHER, *words, "--device", "eth0")
    found.wait_up()
    eventually(lambda: "cannot connect" in lost.whys() or "no answer" in lost.whys())
    assert "ESTABLISHED" not in lost.states()
    subprocess.run(["ip", "-n", us, "link", "del", "vrf0"], check=True)


def test_random_wishes_and_mishaps_end_in_the_wanted_set(routers: Routers, started: ExitStack) -> None:
    """BIRD loses the session, asks again, stops reading: its routes end equal to what is wanted.

    `test_model` is the same against a model of a router, with some thousand stories.
    """
    bird = routers.bird
    rng = random.Random(20)
    announcer = announce(started, routers, OTHER, *to(BIRD, source=address(OTHER), hold=30))
    announcer.wait_up()
    prefixes = [f"10.{65 + n // 256}.{n % 256}.0/24" for n in range(3000)]
    wanted: set[str] = set()
    for step in range(16):
        some = rng.sample(prefixes, rng.choice((1, 40, 1500)))
        if rng.random() < 0.6:
            announcer.say(*(f"+ {each} community=65001:{step}" for each in some))
            wanted |= set(some)
        else:
            announcer.say(*(f"- {each}" for each in some))
            wanted -= set(some)
        match step % 5:
            case 1:
                bird.ask("reload in n_other")
            case 2:
                bird.process.send_signal(signal.SIGSTOP)
            case 3:
                bird.process.send_signal(signal.SIGCONT)
                bird.ask("restart n_other")
            case _:
                pass

    def routes() -> set[str]:
        return set(re.findall(r"10\.\d+\.\d+\.0/24", bird.ask("show route protocol n_other")))

    bird.process.send_signal(signal.SIGCONT)
    eventually(lambda: routes() == wanted)
    assert "malformed" not in bird.log.read_text().lower()
