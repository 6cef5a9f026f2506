"""The rules of answering, frame by frame; scapy writes what comes in and reads what goes out."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from speaker.reflex.l2 import arp, ndp
from speaker.reflex.l2.respond import Drop, Heard, Kind, Outcome, Reply, Station, respond_arp, respond_ndp

MINE, OTHER_OF_MINE = "02:00:00:00:00:01", "02:00:00:00:00:02"
ASKER, RIVAL = "02:00:00:00:00:09", "02:00:00:00:00:0a"
ALL = "ff:ff:ff:ff:ff:ff"
VIP4, ELSEWHERE4, UNKNOWN4 = "192.0.2.1", "192.0.2.2", "192.0.2.3"
VIP6, ELSEWHERE6, UNKNOWN6 = "2001:db8::1:1", "2001:db8::1:2", "2001:db8::1:3"


def octets(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", "")) if text.count(":") == 5 else ip_address(text).packed


def station() -> Station:
    mac = octets(MINE)
    known = frozenset(octets(vip) for vip in (VIP4, ELSEWHERE4, VIP6, ELSEWHERE6))
    return Station(
        mac,
        arp={octets(VIP4): arp.reply_middle(mac, octets(VIP4))},
        ndp={octets(VIP6): ndp.template(mac, octets(VIP6), ndp.SOLICITED)},
        answered=known,
        watched=known,
        own_macs=frozenset({mac, octets(OTHER_OF_MINE)}),
    )


def request(
    target: str = VIP4, *, to: str = ALL, op: int = 1, sender: str = ASKER, ip: str = "192.0.2.9"
) -> Packet:
    return Ether(dst=to, src=sender) / ARP(
        op=op, hwsrc=sender, psrc=ip, hwdst="00:00:00:00:00:00", pdst=target
    )


def solicit(
    target: str = VIP6,
    *,
    to: str = "33:33:ff:01:00:01",
    destination: str = "ff02::1:ff01:1",
    source: str = "fe80::9",
    option: bool = True,
    sender: str = ASKER,
) -> Packet:
    packet = Ether(dst=to, src=sender) / IPv6(src=source, dst=destination, hlim=255) / ICMPv6ND_NS(tgt=target)
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=sender) if option else packet


def advertise(target: str = VIP6, *, sender: str = RIVAL, to: str = "33:33:00:00:00:01") -> Packet:
    destination = "ff02::1" if to.startswith("33:33") else "fe80::1"
    packet = Ether(dst=to, src=sender) / IPv6(src="fe80::a", dst=destination, hlim=255)
    return packet / ICMPv6ND_NA(tgt=target, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=sender)


@pytest.mark.parametrize("to", [ALL, MINE])
@pytest.mark.parametrize("ip", ["192.0.2.9", "0.0.0.0"], ids=["request", "probe"])
def test_arp_is_answered_to_whoever_asked(to: str, ip: str) -> None:
    outcome = respond_arp(bytes(request(to=to, ip=ip)), station())
    assert isinstance(outcome, Reply)
    assert outcome.address == octets(VIP4)
    reply = Ether(outcome.frame)
    assert (reply.dst, reply.src) == (ASKER, MINE)
    answer = reply[ARP]
    assert (answer.op, answer.hwsrc, answer.psrc, answer.hwdst, answer.pdst) == (2, MINE, VIP4, ASKER, ip)


def test_arp_is_answered_to_the_arp_senders_address_not_the_frames() -> None:
    packet = Ether(dst=ALL, src=RIVAL) / ARP(op=1, hwsrc=ASKER, psrc="192.0.2.9", pdst=VIP4)
    outcome = respond_arp(bytes(packet), station())
    assert isinstance(outcome, Reply)
    assert Ether(outcome.frame).dst == ASKER


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (request(op=2), Drop.ARP_REPLY),
        (request(op=2, to=MINE, target=UNKNOWN4), Drop.ARP_REPLY),
        (request(op=3), Drop.ARP_REPLY),
        (request(to=RIVAL), Drop.ETHERNET_DESTINATION),
        (request(to="01:00:5e:00:00:01"), Drop.ETHERNET_DESTINATION),
        (request(to=RIVAL, target=UNKNOWN4), Drop.ETHERNET_DESTINATION),
        (request(target=UNKNOWN4), Drop.ANNOUNCE_IP),
        (request(target=ELSEWHERE4), Drop.NOT_MATCH_INTERFACE),
        (request(ip=VIP4, sender=OTHER_OF_MINE), Drop.OWN),
        (Ether(dst=ALL, type=0x0806) / b"short", Drop.MALFORMED),
    ],
)
def test_arp_that_gets_no_answer(packet: Packet, why: Drop) -> None:
    assert respond_arp(bytes(packet), station()) is why


@pytest.mark.parametrize(
    ("to", "destination", "option"),
    [
        ("33:33:ff:01:00:01", "ff02::1:ff01:1", True),
        (MINE, VIP6, True),
        (MINE, VIP6, False),
    ],
    ids=["multicast", "unicast", "unicast without option"],
)
def test_a_solicitation_is_answered(to: str, destination: str, option: bool) -> None:
    outcome = respond_ndp(bytes(solicit(to=to, destination=destination, option=option)), station())
    assert isinstance(outcome, Reply)
    assert outcome.address == octets(VIP6)
    reply = Ether(outcome.frame)
    assert (reply.dst, reply.src) == (ASKER, MINE)
    assert (reply[IPv6].dst, reply[IPv6].hlim) == ("fe80::9", 255)
    advertisement = reply[ICMPv6ND_NA]
    assert (advertisement.tgt, advertisement.R, advertisement.S, advertisement.O) == (VIP6, 0, 1, 0)
    assert advertisement[ICMPv6NDOptDstLLAddr].lladdr == MINE


def test_options_may_come_in_any_order() -> None:
    packet = solicit(option=False) / ICMPv6NDOptMTU() / ICMPv6NDOptSrcLLAddr(lladdr=RIVAL)
    outcome = respond_ndp(bytes(packet), station())
    assert isinstance(outcome, Reply)
    assert Ether(outcome.frame).dst == RIVAL


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (solicit(UNKNOWN6, source="::", option=False, destination="ff02::1:ff01:3"), Drop.NO_SOURCE_LL),
        (solicit(source="::", option=False, sender=OTHER_OF_MINE), Drop.OWN),
        (solicit(option=False), Drop.NO_SOURCE_LL),
        (solicit(to=RIVAL, destination=VIP6), Drop.ETHERNET_DESTINATION),
        (solicit(target=UNKNOWN6), Drop.ANNOUNCE_IP),
        (solicit(target=ELSEWHERE6), Drop.NOT_MATCH_INTERFACE),
        (solicit(sender=OTHER_OF_MINE), Drop.OWN),
        (advertise(UNKNOWN6), Drop.MESSAGE_TYPE),
        (advertise(to=RIVAL), Drop.MESSAGE_TYPE),
        (advertise(sender=OTHER_OF_MINE), Drop.OWN),
        (Ether(dst=MINE, type=0x86DD) / b"short", Drop.MALFORMED),
    ],
)
def test_a_neighbour_message_that_gets_no_answer(packet: Packet, why: Drop) -> None:
    assert respond_ndp(bytes(packet), station()) is why


@pytest.mark.parametrize("target", [VIP4, ELSEWHERE4])
@pytest.mark.parametrize("op", [1, 2])
def test_a_foreign_gratuitous_arp_is_heard(op: int, target: str) -> None:
    outcome = respond_arp(bytes(request(target, op=op, ip=target, sender=RIVAL)), station())
    assert isinstance(outcome, Heard)
    assert (outcome.address, outcome.mac) == (octets(target), octets(RIVAL))
    # like any request, a gratuitous one is answered by who owns the address here: its sender learns of
    # the conflict
    assert (outcome.reply is not None) is (op == 1 and target == VIP4)


@pytest.mark.parametrize("target", [VIP6, ELSEWHERE6])
def test_a_foreign_unsolicited_advertisement_is_heard(target: str) -> None:
    assert respond_ndp(bytes(advertise(target)), station()) == Heard(octets(target), octets(RIVAL), None)


def test_who_tries_to_take_our_address_is_told_that_it_is_taken() -> None:
    """RFC 4862 section 5.4.4: an advertisement of the tentative address, to all nodes, not solicited."""
    outcome = respond_ndp(bytes(solicit(source="::", option=False)), station())
    assert isinstance(outcome, Reply)
    reply = Ether(outcome.frame)
    assert (reply.src, reply.dst, reply[IPv6].dst) == (MINE, "33:33:00:00:00:01", "ff02::1")
    advertisement = reply[ICMPv6ND_NA]
    assert (advertisement.tgt, advertisement.S, advertisement.O) == (VIP6, 0, 1)


@pytest.mark.parametrize("claimed", [VIP4, ELSEWHERE4])
def test_a_reply_to_us_from_one_of_our_addresses_is_a_claim(claimed: str) -> None:
    packet = request("192.0.2.50", op=2, to=MINE, ip=claimed, sender=RIVAL)
    assert respond_arp(bytes(packet), station()) == Heard(octets(claimed), octets(RIVAL), None, Kind.ANSWERED)
    own = request("192.0.2.50", op=2, to=MINE, ip=claimed, sender=OTHER_OF_MINE)
    assert respond_arp(bytes(own), station()) is Drop.OWN


@pytest.mark.parametrize("target", [VIP6, ELSEWHERE6])
def test_an_advertisement_to_us_alone_is_an_answer(target: str) -> None:
    heard = Heard(octets(target), octets(RIVAL), None, Kind.ANSWERED)
    assert respond_ndp(bytes(advertise(target, to=MINE)), station()) == heard


def test_who_asks_for_what_we_are_asking_for_is_heard() -> None:
    """RFC 5227 section 2.1.1 and RFC 4862 section 5.4.3."""
    asking = station()
    asking.probed = frozenset({octets(UNKNOWN4), octets(UNKNOWN6)})
    arp_probe = request(UNKNOWN4, ip="0.0.0.0", sender=RIVAL)
    assert respond_arp(bytes(arp_probe), asking) == Heard(octets(UNKNOWN4), octets(RIVAL), None, Kind.PROBED)
    ndp_probe = solicit(
        UNKNOWN6,
        source="::",
        option=False,
        destination="ff02::1:ff01:3",
        to="33:33:ff:01:00:03",
        sender=RIVAL,
    )
    assert respond_ndp(bytes(ndp_probe), asking) == Heard(octets(UNKNOWN6), octets(RIVAL), None, Kind.PROBED)
    own = request(UNKNOWN4, ip="0.0.0.0", sender=OTHER_OF_MINE)
    assert respond_arp(bytes(own), asking) is Drop.OWN
    assert respond_arp(bytes(request(UNKNOWN4)), asking) is Drop.ANNOUNCE_IP, "a host that wants to reach it"


HANDLERS: list[Callable[[bytes, Station], Outcome]] = [respond_arp, respond_ndp]
SEEDS = [request(), request(op=2, ip=VIP4), solicit(), solicit(to=MINE, destination=VIP6), advertise()]


@given(st.binary(max_size=1514))
def test_no_octets_do_worse_than_drop(frame: bytes) -> None:
    for handle in HANDLERS:
        assert isinstance(handle(frame, station()), Drop | Reply | Heard)


@given(st.sampled_from(SEEDS), st.integers(0, 2**32))
def test_no_broken_frame_does_worse_than_drop(packet: Packet, seed: int) -> None:
    rng = random.Random(seed)
    frame = bytearray(bytes(packet))
    for _ in range(rng.randrange(4)):
        frame[rng.randrange(len(frame))] = rng.randrange(256)
    for handle in HANDLERS:
        outcome = handle(bytes(frame[: rng.choice([len(frame), rng.randrange(len(frame))])]), station())
        assert isinstance(outcome, Drop | Reply | Heard)
        if isinstance(outcome, Reply):
            assert outcome.address in (octets(VIP4), octets(VIP6))
