"""The shell around layer 2 when the system is unkind: full queues, failing interfaces, lost events."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import trio
import trio.testing
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from speaker.reflex.l2 import driver as module
from speaker.reflex.l2 import netlink
from speaker.reflex.l2.core import pack
from speaker.reflex.l2.driver import MAX_SENDS, Driver
from speaker.reflex.l2.gratuitous import ROUNDS
from speaker.reflex.l2.links import Excluded, Follower, Link, Table
from speaker.reflex.l2.wire import Full, Heed
from tests.speaker.lan import lan
from tests.speaker.running import until
from tests.speaker.test_reflex import arrived

ETH0 = Link(2, "eth0", b"\2\0\0\0\0\1", arp=True, ndp=True, carrier=True)
ETH1 = Link(3, "eth1", b"\2\0\0\0\0\2", arp=True, ndp=True, carrier=True)
V4, V6 = pack("192.0.2.1"), pack("2001:db8::1")


class FakeWire:
    """Sends into a list, or fails as told."""

    trouble: dict[str, Exception] = {}  # noqa: RUF012 - set anew for each test
    sent: list[tuple[str, bytes]] = []  # noqa: RUF012
    opened: list[str] = []  # noqa: RUF012

    def __init__(self, link: Link, _: Heed) -> None:
        self.link = link
        self.arp = self.ndp = None
        self.groups: set[bytes] = set()
        if "open" in self.trouble:
            raise self.trouble["open"]
        self.opened.append(link.name)

    def send(self, frame: bytes) -> None:
        if self.link.name in self.trouble:
            raise self.trouble[self.link.name]
        self.sent.append((self.link.name, frame))

    def join(self, group: bytes) -> None:
        self.groups.add(group)

    def leave(self, group: bytes) -> None:
        self.groups.remove(group)

    def close(self) -> None:
        pass


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> type[FakeWire]:
    for name, fresh in (("trouble", {}), ("sent", []), ("opened", [])):
        monkeypatch.setattr(FakeWire, name, fresh)
    monkeypatch.setattr(module, "Wire", FakeWire)
    return FakeWire


@contextmanager
def driving(nursery: trio.Nursery, *links: Link) -> Iterator[tuple[Driver, list[str]]]:
    """A driver that believes to have these links."""
    told: list[str] = []
    driver = Driver(
        Excluded([]),
        heard=lambda address, mac, kind: None,
        on_link=lambda what, link: told.append(f"{what} {link.name}"),
        on_links=lambda: None,
    )
    driver._nursery = nursery
    driver._apply(driver.core.set_links(links, trio.current_time()))
    yield driver, told
    nursery.cancel_scope.cancel()


async def test_what_an_interface_does_not_take_now_is_sent_when_it_does(
    wires: type[FakeWire], autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        with driving(nursery, ETH0) as (driver, _):
            nursery.start_soon(driver._keep_time)
            wires.trouble["eth0"] = Full()
            for number in range(200):
                driver.answer(pack(f"192.0.2.{number}"), None)
            for _ in range(5):
                assert driver.flush() == MAX_SENDS, "what waits is bounded"
            assert wires.sent == []
            del wires.trouble["eth0"]
            await trio.sleep(0.03)
            assert len(set(wires.sent)) == len(wires.sent) == 400, "each once, and not with the next round"


async def test_an_interface_that_fails_stops_neither_the_others_nor_the_schedule(
    wires: type[FakeWire], autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        with driving(nursery, ETH0, ETH1) as (driver, _):
            nursery.start_soon(driver._keep_time)
            wires.trouble["eth0"] = OSError(errno.ENETDOWN, "down")
            driver.answer(V4, None)
            driver.flush()
            assert [name for name, _ in wires.sent] == ["eth1", "eth1"]
            await trio.sleep(1.0)
            del wires.trouble["eth0"]
            await trio.sleep(9.0)
            assert [name for name, _ in wires.sent].count("eth0") == 2 * 4
            assert [name for name, _ in wires.sent].count("eth1") == 2 * ROUNDS
            assert driver.core.counters[V4].gratuitous_sent == 2 * (4 + ROUNDS)


async def test_an_interface_that_cannot_be_opened_is_tried_again(
    wires: type[FakeWire], autojump_clock: trio.testing.MockClock
) -> None:
    wires.trouble["open"] = OSError(errno.EPERM, "not now")
    async with trio.open_nursery() as nursery:
        with driving(nursery, ETH0) as (driver, told):
            nursery.start_soon(driver._repair)
            driver.answer(V6, None)
            await trio.sleep(10.0)
            assert told == ["interface_failed eth0"], "said once"
            del wires.trouble["open"]
            await trio.sleep(2.0)
            assert wires.opened == ["eth0"]
            assert driver._wires[2].groups == driver.core.groups(2) != set()  # type: ignore[attr-defined]


def test_lost_events_make_us_ask_anew() -> None:
    class Overrun:
        def __init__(self) -> None:
            self.sent: list[bytes] = []
            self.said: list[bytes | Exception] = [OSError(errno.ENOBUFS, "lost"), b"\1\0", BlockingIOError()]

        def recv(self, _: int) -> bytes:
            said = self.said.pop(0)
            if isinstance(said, Exception):
                raise said
            return said

        def send(self, request: bytes) -> None:
            self.sent.append(request)

    sock = Overrun()
    follower = Follower(Table(Excluded([])))
    Driver._read_news(sock, follower)  # type: ignore[arg-type]
    assert sock.sent == [netlink.ask_links(1), netlink.ask_links(2)], (
        "once for what was lost, once for nonsense"
    )
    assert not follower.synced


JOIN_MANY = """
import socket
from speaker.reflex.l2 import ndp
from speaker.reflex.l2.groups import Groups
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
index = socket.if_nametoindex("eth0")
groups = Groups(index, packet)
wanted = [ndp.solicited_node(bytes(13) + number.to_bytes(3, "big")) for number in range(2000, 3000)]
def joined():
    lines = open("/proc/net/igmp6").read().split()
    return sum(group.hex() in lines for group in wanted)
for group in wanted * 2:
    groups.join(group)
print(joined(), end=" ")
for group in wanted[:300] * 2:
    groups.leave(group)
print(joined(), end=" ")
for group in wanted[:300]:
    groups.join(group)
print(joined(), len(groups._room), end=" ")
groups.close()
print(joined())
"""


@pytest.mark.netns
def test_a_thousand_groups_are_joined_and_left() -> None:
    with lan(["a"]) as (a,):
        assert a.run(sys.executable, "-c", JOIN_MANY).split() == ["1000", "700", "1000", "5", "0"]


GREET = """
import socket, sys
from speaker.reflex.l2.links import Link
from speaker.reflex.l2.wire import Heed, Wire
def octets(mac):
    return bytes.fromhex(mac.replace(":", ""))
ours, theirs, address = sys.argv[1:]
wire = Wire(Link(socket.if_nametoindex("eth0"), "eth0", octets(ours), True, False, True), Heed())
for target in ("198.51.100.1", address):
    wire.ask(socket.inet_aton(target), octets(theirs))
"""


@pytest.mark.netns
def test_kernels_that_lost_each_other_are_introduced_by_one_question() -> None:
    with lan(["client", "a"]) as (client, a):
        a.ip("neigh", "replace", client.ipv4, "dev", "eth0", "nud", "incomplete")
        client.ip("neigh", "replace", a.ipv4, "dev", "eth0", "nud", "incomplete")
        with client.packet_socket() as sock:
            a.run(sys.executable, "-c", GREET, a.mac(), client.mac(), client.ipv4)
            until(lambda: a.mac() in client.ip("neigh", "show", a.ipv4), "it knows us")
            until(lambda: client.mac() in a.ip("neigh", "show", client.ipv4), "we know it")
            heard = [frame for frame in arrived(sock) if ARP in frame and frame[ARP].op == 1]
        assert [f[ARP].psrc for f in heard if f.dst == client.mac()] == [a.ipv4], "to nobody else"
        assert "198.51.100.1" not in {frame[ARP].pdst for frame in heard}, "it is not on this network"


async def test_a_host_that_was_away_is_asked_for_by_ipv6_too(wires: type[FakeWire]) -> None:
    link = replace(ETH0, source=pack("fe80::1"))
    async with trio.open_nursery() as nursery:
        with driving(nursery, link) as (driver, _):
            driver.greet(pack("fd77::2"), ())
            ((name, frame),) = wires.sent
            asked = Ether(frame)
            assert (name, asked.dst, asked[IPv6].src) == ("eth0", "33:33:ff:00:00:02", "fe80::1")
            assert asked[ICMPv6ND_NS].tgt == "fd77::2"


def test_without_the_right_to_packet_sockets_it_says_so() -> None:
    program = [sys.executable, "-m", "speaker.reflex.app", "--node-name=a", "--namespace=x", "--pod-name=p"]
    without = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    done = subprocess.run([*without, *program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "crier-speaker: packet sockets: Operation not permitted; the capability NET_RAW is needed\n"
    )
