"""Our ARP octets against scapy's."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP, Ether

from speaker.reflex.l2 import arp
from speaker.reflex.l2.arp import Arp, Operation
from speaker.reflex.l2.ethernet import BROADCAST, MIN_FRAME, BadFrame, render_mac

MACS = st.binary(min_size=6, max_size=6)
IPS = st.binary(min_size=4, max_size=4)
ARPS = st.builds(Arp, MACS, MACS, st.just(arp.ETHERNET_IPV4), st.integers(0, 65535), MACS, IPS, MACS, IPS)


def dotted(address: bytes) -> str:
    return ".".join(map(str, address))


def oracle(message: Arp) -> bytes:
    ether = Ether(
        dst=render_mac(message.ether_destination), src=render_mac(message.ether_source), type=0x0806
    )
    return bytes(
        ether
        / ARP(
            op=message.operation,
            hwsrc=render_mac(message.sender_mac),
            psrc=dotted(message.sender_ip),
            hwdst=render_mac(message.target_mac),
            pdst=dotted(message.target_ip),
        )
    )


@given(ARPS)
def test_what_we_write_scapy_reads_and_back(message: Arp) -> None:
    ours = arp.encode(message)
    assert len(ours) == MIN_FRAME
    theirs = oracle(message)
    assert ours[: len(theirs)] == theirs
    assert not any(ours[len(theirs) :])
    assert arp.decode(theirs) == message == arp.decode(ours)


@given(st.binary(max_size=100))
def test_any_octets_are_a_message_or_bad(frame: bytes) -> None:
    with suppress(BadFrame):
        assert arp.encode(arp.decode(frame))[:42] == frame[:42]


@given(ARPS, st.integers(0, 41))
def test_no_short_frame_is_a_message(message: Arp, length: int) -> None:
    with pytest.raises(BadFrame):
        arp.decode(arp.encode(message)[:length])


@pytest.mark.parametrize("at", range(12, 20))
def test_other_hardware_and_protocols_are_bad(at: int) -> None:
    frame = bytearray(oracle(Arp(BROADCAST, b"\2" * 6, b"", 1, b"\2" * 6, b"\1" * 4, b"\0" * 6, b"\3" * 4)))
    arp.decode(bytes(frame))
    frame[at] ^= 1
    with pytest.raises(BadFrame):
        arp.decode(bytes(frame))


@given(MACS, IPS)
def test_gratuitous_is_metallbs_two_frames(mac: bytes, address: bytes) -> None:
    frames = arp.gratuitous(mac, address)
    for frame, operation in zip(frames, (Operation.REQUEST, Operation.REPLY), strict=True):
        expected = Arp(BROADCAST, mac, arp.ETHERNET_IPV4, operation, mac, address, BROADCAST, address)
        assert frame[:42] == oracle(expected)


@given(MACS, IPS, MACS, IPS)
def test_a_reply_is_what_scapy_would_say(mac: bytes, address: bytes, asker: bytes, asker_ip: bytes) -> None:
    expected = Arp(asker, mac, arp.ETHERNET_IPV4, Operation.REPLY, mac, address, asker, asker_ip)
    reply = arp.reply(arp.reply_middle(mac, address), asker, asker_ip)
    assert len(reply) == MIN_FRAME
    assert reply[:42] == oracle(expected)
