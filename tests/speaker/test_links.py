"""Which interfaces qualify: by rules on made-up news, and by the real kernel, with pyroute2 as the second
opinion."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from speaker.reflex.l2 import netlink
from speaker.reflex.l2.links import Excluded, Follower, Link, Table
from speaker.reflex.l2.netlink import AddressGone, AddressSeen, BadNetlink, DumpDone, LinkGone, LinkSeen, News
from tests.speaker.lan import lan

UP, BROADCAST, LOOPBACK, NOARP, LOWER_UP = 0x1, 0x2, 0x8, 0x80, 0x10000
MAC = bytes.fromhex("020000000001")
LINK_LOCAL = bytes.fromhex("fe80000000000000") + bytes(7) + b"\1"
GLOBAL = bytes.fromhex("20010db800000000") + bytes(7) + b"\1"
TENTATIVE, FAILED = 0x40, 0x08

SHIPPED = [
    *("^docker.*", "^cbr.*", "^dummy.*", "^virbr.*", "^lxcbr.*", "^veth.*", "^lo$", "^cali.*", "^tunl.*"),
    *("^flannel.*", "^kube-ipvs.*", "^cni.*", "^nodelocaldns.*", "^lxc.*"),
]


def seen(index: int = 2, name: str = "eth0", **other: object) -> LinkSeen:
    fields: dict[str, object] = {
        "index": index,
        "name": name,
        "hardware": 1,
        "flags": UP | BROADCAST | LOWER_UP,
        "mac": MAC,
        "master": 0,
        **other,
    }
    return LinkSeen(**fields)  # type: ignore[arg-type]


def qualified(*news: News, excluded: Iterable[str] = ()) -> tuple[Link, ...]:
    table = Table(Excluded(list(excluded)))
    for item in news:
        table.handle(item)
    return table.qualified()


def test_an_ethernet_interface_that_is_up_does_arp_and_with_a_link_local_address_ndp() -> None:
    assert qualified(seen()) == (Link(2, "eth0", MAC, arp=True, ndp=False, carrier=True),)
    assert qualified(seen(), AddressSeen(2, LINK_LOCAL, 0))[0].ndp
    assert not qualified(seen(), AddressSeen(2, GLOBAL, 0))[0].ndp


@pytest.mark.parametrize(
    "link",
    [
        seen(flags=BROADCAST),
        seen(flags=UP | BROADCAST | NOARP),
        seen(flags=UP | LOOPBACK),
        seen(flags=UP),
        seen(master=7),
        seen(hardware=65534),
        seen(mac=b""),
        seen(mac=bytes(6)),
        seen(mac=bytes(20)),
    ],
    ids=[
        "down",
        "no ARP",
        "loopback",
        "no broadcast, no IPv6",
        "in a bridge",
        "a tunnel",
        "no MAC",
        "zero",
        "IB",
    ],
)
def test_what_does_not_qualify(link: LinkSeen) -> None:
    assert qualified(link) == ()


@pytest.mark.parametrize("name", ["docker0", "veth12", "cali8f", "lo", "lxc0", "cni0", "kube-ipvs0"])
def test_metallbs_list_excludes(name: str) -> None:
    assert qualified(seen(name=name), excluded=SHIPPED) == ()
    assert qualified(seen(name="eth0"), seen(3, "loop"), excluded=SHIPPED) == qualified(
        seen(), seen(3, "loop")
    )


def test_patterns_match_anywhere_and_a_bad_one_is_named() -> None:
    assert "my-veth" in Excluded(["veth"])
    assert "my-veth" not in Excluded(["^veth"])
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression"):
        Excluded(["("])


@pytest.mark.parametrize("flags", [TENTATIVE, FAILED])
def test_an_address_under_detection_is_not_used(flags: int) -> None:
    news: list[News] = [seen(), AddressSeen(2, LINK_LOCAL, flags)]
    assert not qualified(*news)[0].ndp
    assert qualified(*news, AddressSeen(2, LINK_LOCAL, 0))[0].ndp
    assert not qualified(seen(), AddressSeen(2, LINK_LOCAL, 0), AddressGone(2, LINK_LOCAL))[0].ndp


def test_a_rename_may_exclude_and_removal_forgets() -> None:
    assert qualified(seen(), seen(name="veth0"), excluded=SHIPPED) == ()
    assert qualified(seen(), AddressSeen(2, LINK_LOCAL, 0), LinkGone(2)) == ()
    again = qualified(seen(), AddressSeen(2, LINK_LOCAL, 0), LinkGone(2), seen())
    assert not again[0].ndp, "the old interface's addresses went with it"


def test_what_a_new_dump_does_not_mention_is_gone() -> None:
    table = Table(Excluded([]))
    for news in (seen(2), seen(3, "eth1"), AddressSeen(2, LINK_LOCAL, 0)):
        table.handle(news)
    table.begin_dump()
    table.handle(seen(2))
    table.end_dump()
    assert table.qualified() == (Link(2, "eth0", MAC, arp=True, ndp=False, carrier=True),)


EVENTS = st.lists(
    st.one_of(
        st.builds(
            lambda i, up: seen(i, f"eth{i}", flags=BROADCAST | up),
            st.integers(1, 4),
            st.sampled_from([0, UP]),
        ),
        st.builds(LinkGone, st.integers(1, 4)),
        st.builds(AddressSeen, st.integers(1, 4), st.just(LINK_LOCAL), st.sampled_from([0, TENTATIVE])),
        st.builds(AddressGone, st.integers(1, 4), st.just(LINK_LOCAL)),
    ),
    max_size=30,
)


@given(EVENTS)
def test_a_dump_after_any_history_agrees_with_the_history(events: list[News]) -> None:
    """Said twice is said once: replaying the last word on everything changes nothing."""
    table = Table(Excluded([]))
    for news in events:
        table.handle(news)
    before = table.qualified()
    links: dict[int, News] = {}
    addresses: dict[int, News] = {}
    for news in events:
        match news:
            case LinkSeen(index):
                links[index] = news
            case LinkGone(index):
                links.pop(index, None)
                addresses.pop(index, None)
            case AddressSeen(index):
                addresses[index] = news
            case AddressGone(index):
                addresses.pop(index, None)
    table.begin_dump()
    for news in (*links.values(), *addresses.values()):
        table.handle(news)
    table.end_dump()
    assert table.qualified() == before


# ---------------------------------------------------------------------------------------- on the wire


@given(st.binary(max_size=300))
def test_any_octets_are_news_or_bad(datagram: bytes) -> None:
    with suppress(BadNetlink):
        netlink.decode(datagram)


def message(
    kind: type[ifinfmsg | ifaddrmsg], number: int, fields: dict[str, object], **attrs: object
) -> bytes:
    """What pyroute2 makes of it."""
    made = kind()
    made.update(fields)
    made["attrs"] = list(attrs.items())
    made["header"] = {"type": number, "flags": 0, "sequence_number": 5, "pid": 0}
    made.encode()
    return bytes(made.data)


def test_we_read_what_pyroute2_writes() -> None:
    link = message(
        ifinfmsg,
        16,
        {"family": 0, "ifi_type": 1, "index": 7, "flags": UP | LOWER_UP, "change": 0},
        IFLA_MTU=1500,
        IFLA_IFNAME="eth7",
        IFLA_ADDRESS="02:00:00:00:00:01",
        IFLA_MASTER=3,
    )
    address = message(
        ifaddrmsg,
        20,
        {"family": socket.AF_INET6, "prefixlen": 64, "flags": 0x80, "scope": 253, "index": 7},
        IFA_ADDRESS="fe80::1",
        IFA_FLAGS=0x40,
    )
    assert netlink.decode(link + address) == [
        LinkSeen(7, "eth7", 1, UP | LOWER_UP, MAC, 3),
        AddressSeen(7, LINK_LOCAL, 0x40),
    ]
    bridge = message(ifinfmsg, 17, {"family": socket.AF_BRIDGE, "index": 7}, IFLA_IFNAME="eth7")
    assert netlink.decode(bridge) == [], "a port leaving its bridge is no link going away"


@given(st.integers(0, 2**32))
def test_broken_news_is_news_or_bad(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(message(ifinfmsg, 16, {"family": 0, "index": 7}, IFLA_IFNAME="eth7", IFLA_MASTER=3))
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    with suppress(BadNetlink):
        netlink.decode(bytes(data[: rng.randrange(len(data) + 1)]))


def test_a_dump_that_was_interrupted_is_asked_for_again() -> None:
    def done(sequence: int, flags: int = 0) -> bytes:
        return netlink._HEADER.pack(20, 3, flags, sequence, 0) + bytes(4)

    follower = Follower(Table(Excluded([])))
    assert follower.ask() == netlink.ask_links(1)
    assert netlink.decode(done(1)) == [DumpDone(1, intact=True)]
    assert follower.handle(done(99)) is None, "somebody else's answer"
    assert follower.handle(done(1)) == netlink.ask_addresses(2)
    assert not follower.synced
    assert follower.handle(done(2, flags=0x10)) == netlink.ask_links(3)
    assert follower.handle(done(3)) == netlink.ask_addresses(4)
    assert follower.handle(done(4)) is None
    assert follower.synced


FOLLOW = """
import socket, sys
from speaker.reflex.l2.links import Excluded, Follower, Table
table = Table(Excluded(["^veth"]))
follower = Follower(table)
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
sock.bind((0, 0x101))
sock.send(follower.ask())
sock.settimeout(120)
told = None
while True:
    request = follower.handle(sock.recv(65536))
    if request:
        sock.send(request)
    found = [(link.name, link.arp, link.ndp, link.carrier, link.mac.hex(":")) for link in table.qualified()]
    if follower.synced and found != told:
        print(told := found, flush=True)
"""


@pytest.mark.netns
def test_the_kernels_own_story() -> None:
    with lan(["a"]) as (a,):
        command = a.command(sys.executable, "-c", FOLLOW)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None

                def until(wanted: list[tuple[str, bool, bool, bool, str]]) -> None:
                    assert process.stdout is not None
                    for line in process.stdout:
                        if line.strip() == str(wanted):
                            return
                    raise AssertionError(f"{wanted} was never told")

                mac = a.mac()
                eth0 = ("eth0", True, True, True, mac)
                until([eth0])
                a.attach("veth9")
                a.attach("spare", mac="02:00:00:00:00:05")
                until([eth0, ("spare", True, True, True, "02:00:00:00:00:05")])
                a.ip("link", "add", "br1", "type", "bridge")
                a.ip("link", "set", "spare", "master", "br1")
                until([eth0])
                a.ip("link", "set", "spare", "nomaster")
                until([eth0, ("spare", True, True, True, "02:00:00:00:00:05")])
                a.ip("link", "del", "spare")
                until([eth0])
                a.ip("link", "set", "eth0", "address", "02:00:00:00:00:06")
                until([("eth0", True, True, True, "02:00:00:00:00:06")])
                a.ip("link", "set", "eth0", "down")
                until([])
            finally:
                process.kill()
