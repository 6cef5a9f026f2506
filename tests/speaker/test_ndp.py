"""Our neighbour messages against scapy's."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.utils6 import in6_getnsma, in6_getnsmac

from speaker.reflex.l2 import ndp
from speaker.reflex.l2.ethernet import BadFrame, multicast_mac, render_mac
from speaker.reflex.l2.ndp import Advertisement, Solicitation

MACS = st.binary(min_size=6, max_size=6)
ADDRESSES = st.binary(min_size=16, max_size=16)
UNICAST = ADDRESSES.filter(lambda address: address[0] != 0xFF and any(address))

ME, ASKER = "02:00:00:00:00:01", "02:00:00:00:00:09"
VIP = "2001:db8::1:2345"


def text(address: bytes) -> str:
    return str(IPv6Address(address))


def solicitation(*, ip: Packet | None = None, target: str = VIP, options: Packet | None = None) -> Packet:
    """A proper one, but for what is asked for."""
    ether = Ether(dst="33:33:ff:01:23:45", src=ASKER)
    ip = ip or IPv6(src="fe80::9", dst="ff02::1:ff01:2345", hlim=255)
    return ether / ip / ICMPv6ND_NS(tgt=target) / (options or ICMPv6NDOptSrcLLAddr(lladdr=ASKER))


@given(MACS, MACS, UNICAST, ADDRESSES, UNICAST, MACS)
def test_we_read_scapys_solicitation(
    to: bytes, sender: bytes, source: bytes, destination: bytes, target: bytes, link_layer: bytes
) -> None:
    frame = bytes(
        Ether(dst=render_mac(to), src=render_mac(sender))
        / IPv6(src=text(source), dst=text(destination), hlim=255)
        / ICMPv6ND_NS(tgt=text(target))
        / ICMPv6NDOptMTU()
        / ICMPv6NDOptSrcLLAddr(lladdr=render_mac(link_layer))
    )
    assert ndp.decode(frame) == Solicitation(to, sender, source, destination, target, link_layer)


@given(
    MACS, UNICAST, UNICAST, MACS, st.sampled_from([ndp.SOLICITED, ndp.OVERRIDE, ndp.SOLICITED | ndp.OVERRIDE])
)
def test_what_we_write_is_what_scapy_would(
    mac: bytes, target: bytes, destination: bytes, to: bytes, flags: int
) -> None:
    ours = ndp.advertise(ndp.template(mac, target, flags), to, destination)
    expected = (
        Ether(dst=render_mac(to), src=render_mac(mac))
        / IPv6(src=text(target), dst=text(destination), hlim=255)
        / ICMPv6ND_NA(tgt=text(target), R=0, S=bool(flags & ndp.SOLICITED), O=bool(flags & ndp.OVERRIDE))
        / ICMPv6NDOptDstLLAddr(lladdr=render_mac(mac))
    )
    assert ours == bytes(expected)
    assert ndp.decode(ours) == Advertisement(to, mac, target, destination, target, flags, mac)


@given(MACS, UNICAST)
def test_unsolicited_is_metallbs_frame(mac: bytes, target: bytes) -> None:
    found = Ether(ndp.unsolicited(mac, target))
    assert found.dst == "33:33:00:00:00:01"
    assert (found[IPv6].dst, found[IPv6].hlim) == ("ff02::1", 255)
    advertisement = found[ICMPv6ND_NA]
    assert (advertisement.R, advertisement.S, advertisement.O) == (0, 0, 1)
    assert found[ICMPv6NDOptDstLLAddr].lladdr == render_mac(mac)


@given(UNICAST)
def test_solicited_node_group(target: bytes) -> None:
    group = ndp.solicited_node(target)
    assert group == in6_getnsma(target)
    assert render_mac(multicast_mac(group)) == in6_getnsmac(group)


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_bad(frame: bytes) -> None:
    with suppress(BadFrame):
        ndp.decode(frame)


@given(st.data())
def test_a_broken_solicitation_is_one_or_bad(data: st.DataObject) -> None:
    """Random octets never get past the checksum; so break a good frame, and repair its checksum."""
    packet = solicitation(options=Raw(data.draw(st.binary(max_size=40))))
    frame = bytearray(bytes(packet))
    for _ in range(data.draw(st.integers(0, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    with suppress(BadFrame):
        message = ndp.decode(cut)
        assert len(message.target) == 16


@given(st.integers(0, 85), st.integers(1, 255))
def test_the_checksum_guards_every_octet_it_covers(at: int, flip: int) -> None:
    frame = bytearray(bytes(solicitation()))
    before = ndp.decode(bytes(frame))
    frame[at] ^= flip
    if at >= 22:  # addresses and message
        with pytest.raises(BadFrame):
            ndp.decode(bytes(frame))
    else:
        with suppress(BadFrame):
            assert ndp.decode(bytes(frame)).target == before.target


BAD = {
    "came through a router": solicitation(ip=IPv6(src="fe80::9", dst="ff02::1:ff01:2345", hlim=254)),
    "multicast target": solicitation(target="ff02::1"),
    "option of length 0": solicitation(options=Raw(b"\1\0" + bytes(6))),
    "option cut off": solicitation(options=Raw(b"\1\2" + bytes(6))),
    "half an option": solicitation(options=ICMPv6NDOptSrcLLAddr(lladdr=ASKER) / Raw(b"\1")),
    "address detection with a link-layer address": solicitation(
        ip=IPv6(src="::", dst="ff02::1:ff01:2345", hlim=255)
    ),
    "address detection to another group": Ether(dst="33:33:00:00:00:01", src=ASKER)
    / IPv6(src="::", dst="ff02::1", hlim=255)
    / ICMPv6ND_NS(tgt=VIP),
    "extension header": Ether(dst=ME) / IPv6(dst=VIP, hlim=255) / IPv6ExtHdrHopByHop() / ICMPv6ND_NS(tgt=VIP),
    "fragment": Ether(dst=ME) / IPv6(dst=VIP, hlim=255) / IPv6ExtHdrFragment() / ICMPv6ND_NS(tgt=VIP),
    "code": Ether(dst=ME) / IPv6(src="fe80::9", dst=VIP, hlim=255) / ICMPv6ND_NS(code=1, tgt=VIP),
    "echo request": Ether(dst=ME)
    / IPv6(src="fe80::9", dst=VIP, hlim=255)
    / ICMPv6EchoRequest(data=bytes(30)),
    "multicast, yet solicited": Ether(dst="33:33:00:00:00:01")
    / IPv6(src="fe80::9", dst="ff02::1", hlim=255)
    / ICMPv6ND_NA(tgt=VIP, S=1),
}


@pytest.mark.parametrize("packet", BAD.values(), ids=BAD.keys())
def test_what_rfc_4861_calls_invalid_is_bad(packet: Packet) -> None:
    with pytest.raises(BadFrame):
        ndp.decode(bytes(packet))


def test_what_follows_the_payload_is_not_read() -> None:
    frame = bytes(solicitation())
    assert ndp.decode(frame + b"trailer") == ndp.decode(frame)
