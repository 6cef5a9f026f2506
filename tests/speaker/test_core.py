"""Layer 2 as a whole: what is served where, and that exactly what is new gets announced."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from speaker.reflex.l2 import ndp
from speaker.reflex.l2.arp import ETHERNET_IPV4, Arp
from speaker.reflex.l2.core import L2, Close, Effect, Interfaces, JoinGroup, LeaveGroup, Open, pack
from speaker.reflex.l2.gratuitous import INTERVAL, ROUNDS
from speaker.reflex.l2.links import Link
from speaker.reflex.l2.respond import Drop, Reply, respond_arp
from tests.speaker.test_arp import oracle

ETH0 = Link(2, "eth0", b"\2\0\0\0\0\1", arp=True, ndp=True, carrier=True)
ETH1 = Link(3, "eth1", b"\2\0\0\0\0\2", arp=True, ndp=True, carrier=True)
V4, V6 = pack("192.0.2.1"), pack("2001:db8::1")
GROUP = ndp.solicited_node(V6)


def due(core: L2, now: float) -> list[tuple[str, bytes, int]]:
    """Interface, address and number of frames of everything due."""
    return [(send.link.name, send.address, len(send.frames)) for send in core.due(now, 1000)]


def test_a_new_address_is_announced_on_every_link_and_joined() -> None:
    core = L2()
    assert core.set_links([ETH0, ETH1], 0.0) == [Open(ETH0), Open(ETH1)]
    assert core.answer(V4, None, 0.0) == []
    assert core.answer(V6, None, 0.0) == [JoinGroup(2, GROUP), JoinGroup(3, GROUP)]
    assert due(core, 0.0) == [("eth0", V4, 2), ("eth1", V4, 2), ("eth0", V6, 1), ("eth1", V6, 1)]
    assert core.interfaces(V4) == ("eth0", "eth1")


def test_answering_on_is_nothing_new() -> None:
    core = L2()
    core.set_links([ETH0], 0.0)
    core.answer(V4, None, 0.0)
    rounds = 0
    while core.next_deadline() != float("inf"):
        now = max(core.next_deadline(), 0.0)
        rounds += len(due(core, now))
    assert rounds == ROUNDS
    core.answer(V4, None, 100.0)
    core.answer(V4, frozenset({"eth0"}), 101.0)
    core.set_links([ETH0], 102.0)
    assert core.next_deadline() == float("inf")


def test_an_interface_that_appears_is_used_and_announced_on_at_once() -> None:
    core = L2()
    core.answer(V4, None, 0.0)
    core.answer(V6, None, 0.0)
    assert core.interfaces(V4) == ()
    assert core.set_links([ETH0], 5.0) == [Open(ETH0), JoinGroup(2, GROUP)]
    assert due(core, 5.0) == [("eth0", V4, 2), ("eth0", V6, 1)]
    assert core.set_links([ETH0, ETH1], 5.01) == [Open(ETH1), JoinGroup(3, GROUP)]
    assert due(core, 5.01) == [("eth1", V4, 2), ("eth1", V6, 1)]
    assert core.set_links([ETH1], 6.5) == [Close(ETH0)]
    assert {name for name, _, _ in due(core, 6.5 + INTERVAL)} == {"eth1"}


def test_a_new_hardware_address_is_announced_and_answered_with() -> None:
    core = L2()
    core.set_links([ETH0], 0.0)
    core.answer(V4, None, 0.0)
    core.due(0.0, 10)
    changed = replace(ETH0, mac=b"\2\0\0\0\0\7")
    assert core.set_links([changed], 0.5) == [Open(changed)]
    (send,) = core.due(0.5, 10)
    assert send.frames[0][6:12] == changed.mac
    asked = oracle_request(V4)
    outcome = respond_arp(asked, core.station(2))
    assert isinstance(outcome, Reply)
    assert outcome.frame[6:12] == changed.mac


def oracle_request(target: bytes) -> bytes:
    return oracle(
        Arp(b"\xff" * 6, b"\2\0\0\0\0\x09", ETHERNET_IPV4, 1, b"\2\0\0\0\0\x09", b"\1" * 4, bytes(6), target)
    )


def test_nobody_is_told_without_carrier_and_everybody_when_it_is_back() -> None:
    core = L2()
    core.set_links([replace(ETH0, carrier=False)], 0.0)
    core.answer(V4, None, 0.0)
    core.announce(V4, None, 0.0)
    assert core.due(0.0, 10) == []
    assert isinstance(respond_arp(oracle_request(V4), core.station(2)), Reply)
    core.set_links([ETH0], 1.0)
    assert due(core, 1.0) == [("eth0", V4, 2)]


def test_restricted_to_interfaces() -> None:
    core = L2()
    core.set_links([ETH0, ETH1], 0.0)
    core.answer(V4, frozenset({"eth1", "absent"}), 0.0)
    assert due(core, 0.0) == [("eth1", V4, 2)]
    assert respond_arp(oracle_request(V4), core.station(2)) is Drop.NOT_MATCH_INTERFACE
    core.answer(V4, frozenset({"eth0"}), 0.01)
    assert due(core, 0.01) == [("eth0", V4, 2)]
    assert core.interfaces(V4) == ("eth0",)
    assert {name for name, _, _ in due(core, 0.0 + INTERVAL)} == {"eth0"}


def test_hushed_still_answers_and_silenced_does_not() -> None:
    core = L2()
    core.set_links([ETH0], 0.0)
    core.answer(V4, None, 0.0)
    core.answer(V6, None, 0.0)
    core.hush(V4)
    assert due(core, 0.0) == [("eth0", V6, 1)]
    assert isinstance(respond_arp(oracle_request(V4), core.station(2)), Reply)
    core.announce(V4, 2, 0.01)
    assert due(core, 0.01) == [("eth0", V4, 2)]
    assert core.silence(V4) == []
    assert core.silence(V6) == [LeaveGroup(2, GROUP)]
    assert respond_arp(oracle_request(V4), core.station(2)) is Drop.ANNOUNCE_IP
    assert core.next_deadline() == float("inf")


def test_a_group_is_left_with_its_last_user() -> None:
    core = L2()
    core.set_links([ETH0], 0.0)
    same_group = pack("2001:db8:1::1")
    assert core.answer(V6, None, 0.0) == [JoinGroup(2, GROUP)]
    assert core.answer(same_group, None, 0.0) == []
    assert core.silence(V6) == []
    assert core.silence(same_group) == [LeaveGroup(2, GROUP)]


def test_no_arp_without_broadcast_and_no_ndp_without_a_link_local_address() -> None:
    core = L2()
    core.set_links([replace(ETH0, ndp=False), replace(ETH1, arp=False)], 0.0)
    core.answer(V4, None, 0.0)
    core.answer(V6, None, 0.0)
    assert core.interfaces(V4) == ("eth0",)
    assert core.interfaces(V6) == ("eth1",)


def test_counters_live_as_long_as_the_address_is_known() -> None:
    core = L2()
    core.watch([V4, V6])
    core.answer(V4, None, 0.0)
    core.counters[V4].requests_received = 7
    core.silence(V4)
    core.watch([V4])
    assert core.counters[V4].requests_received == 7
    core.watch([])
    assert V4 not in core.counters


INTERFACES = st.sampled_from([None, frozenset({"eth0"}), frozenset({"eth1"}), frozenset({"eth0", "eth1"})])
LINKS = st.lists(
    st.sampled_from([ETH0, replace(ETH0, mac=b"\2\0\0\0\0\7"), replace(ETH0, ndp=False), ETH1]),
    unique_by=lambda link: link.index,
)


@dataclass(frozen=True)
class Links:
    links: list[Link]


@dataclass(frozen=True)
class Give:
    address: bytes
    interfaces: Interfaces


@dataclass(frozen=True)
class Take:
    address: bytes


@dataclass(frozen=True)
class SendDue:
    pass


ADDRESSES = st.sampled_from([V4, V6, pack("::1")])
STEPS = st.lists(
    st.one_of(
        st.builds(Links, LINKS),
        st.builds(Give, ADDRESSES, INTERFACES),
        st.builds(Take, ADDRESSES),
        st.builds(SendDue),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_came_before_what_is_served_is_what_is_wanted(
    steps: list[Links | Give | Take | SendDue],
) -> None:
    core = L2()
    now = 0.0
    links: list[Link] = []
    answered: dict[bytes, Interfaces] = {}
    groups: dict[int, set[bytes]] = {}

    def apply(effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Open(link):
                    groups[link.index] = set()
                case Close(link):
                    del groups[link.index]
                case JoinGroup(index, group):
                    assert group not in groups[index]
                    groups[index].add(group)
                case LeaveGroup(index, group):
                    groups[index].remove(group)

    for step in steps:
        now += 0.4
        match step:
            case Links(links):
                apply(core.set_links(links, now))
            case Give(address, interfaces):
                answered[address] = interfaces
                apply(core.answer(address, interfaces, now))
            case Take(address):
                answered.pop(address, None)
                apply(core.silence(address))
            case SendDue():
                for send in core.due(now, 1000):
                    assert send.link in links
                    assert send.link.name in core.interfaces(send.address)
    for address in (V4, V6, pack("::1")):
        wanted = [
            link.name
            for link in links
            if address in answered
            and (answered[address] is None or link.name in (answered[address] or ()))
            and (link.arp if len(address) == 4 else link.ndp)
        ]
        assert core.interfaces(address) == tuple(sorted(wanted))
    for link in links:
        assert groups[link.index] == set(core.groups(link.index))
