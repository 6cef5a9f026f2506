"""Octets and messages: golden ones written out by hand, properties for the rest."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import bgp as scapy_bgp  # type: ignore[import-untyped, unused-ignore]

from bgp_lite.errors import PeerError
from bgp_lite.messages import (
    Capabilities,
    GracefulRestart,
    Keepalive,
    Message,
    Notification,
    Open,
    RouteRefresh,
    Type,
    Update,
)
from bgp_lite.prefix import Family, decode_prefixes, parse_prefix
from bgp_lite.wire import HEADER, MAX_EXTENDED, Framer, decode, encode
from tests.bgp_lite.strategies import messages, opens, prefixes, updates

MARKER = "ff" * 16


def frame(message: Message) -> tuple[Type, bytes]:
    framer = Framer()
    framer.max_message = MAX_EXTENDED
    framer.feed(encode(message))
    got = framer.next_frame()
    assert got is not None
    assert framer.next_frame() is None
    return got


GOLDEN: list[tuple[Message, str]] = [
    (Keepalive(), "0013 04"),
    (Notification(6, 2, b"\x03bye"), "0019 03 06 02 03627965"),
    (RouteRefresh(1, 1), "0017 05 0001 00 01"),
    (
        Open(
            65001,
            90,
            0x0A090002,
            Capabilities(frozenset(Family), asn=65001, route_refresh=True, extended_message=True),
        ),
        "0035 01 04 fde9 005a 0a090002 18 02 16 0104 0001 00 01 0104 0002 00 01 0200 0600 4104 0000fde9",
    ),
    # End-of-RIB: an empty UPDATE for IPv4, an empty MP_UNREACH for the others (RFC 4724 §2).
    (Update(end_of_rib=Family.IPV4), "0017 02 0000 0000"),
    (Update(end_of_rib=Family.IPV6), "001d 02 0000 0006 80 0f 03 0002 01"),
    (Update(withdrawn=(parse_prefix("192.0.2.0/24"),)), "001b 02 0004 18c00002 0000"),
]


@pytest.mark.parametrize(("message", "text"), GOLDEN, ids=lambda each: type(each).__name__)
def test_golden(message: Message, text: str) -> None:
    assert encode(message).hex() == MARKER + text.replace(" ", "")
    assert decode(*frame(message)) == message


def test_graceful_restart_flags_as_a_router_sends_them() -> None:
    """FRR's `c078`: R and N bits, 120 s, no families."""
    body = bytes.fromhex("04 fde9 00b4 0a090001 06 02 04 40 02 c078".replace(" ", ""))
    message = decode(Type.OPEN, body)
    assert isinstance(message, Open)
    assert message.capabilities.graceful_restart == GracefulRestart(120, restarting=True, notification=True)


def test_extended_optional_parameters_are_understood() -> None:
    """RFC 9072: first parameter type 255, lengths of two octets."""
    parameters = bytes.fromhex("02 0006 4104 00010000".replace(" ", ""))
    body = bytes.fromhex("04 5ba0 005a 0a090001 ff ff 0009".replace(" ", "")) + parameters
    message = decode(Type.OPEN, body)
    assert isinstance(message, Open)
    assert message.real_asn == 65536


@pytest.mark.parametrize(
    ("data", "code", "subcode", "extra"),
    [
        ("00" * 16 + "001304", 1, 1, ""),
        (MARKER + "0012 04", 1, 2, "0012"),
        (MARKER + "0014 04 00", 1, 2, "0014"),  # a KEEPALIVE is exactly 19 octets
        (MARKER + "1001 02", 1, 2, "1001"),  # 4097 without capability 6
        (MARKER + "0013 06", 1, 3, "06"),
        (MARKER + "001d 01 03 fde9 005a 0a090002 00", 2, 1, "0004"),
        (MARKER + "001d 01 04 fde9 0002 0a090002 00", 2, 6, ""),
        (MARKER + "001d 01 04 fde9 005a 00000000 00", 2, 3, ""),
        (MARKER + "001f 01 04 fde9 005a 0a090002 02 0100", 2, 4, ""),
        (MARKER + "001f 01 04 fde9 005a 0a090002 02 0201", 2, 0, ""),
        (MARKER + "0017 02 0001 0000", 3, 1, ""),
        (MARKER + "0017 02 0000 0001", 3, 1, ""),
        (MARKER + "0019 02 0000 0000 2101", 3, 10, ""),  # a prefix of 33 bits
    ],
)
def test_mistakes_are_answered_as_the_rfc_says(data: str, code: int, subcode: int, extra: str) -> None:
    framer = Framer()
    framer.feed(bytes.fromhex(data.replace(" ", "")))

    def read() -> None:
        got = framer.next_frame()
        assert got is not None
        decode(*got)

    with pytest.raises(PeerError) as caught:
        read()
    assert (caught.value.code, caught.value.subcode, caught.value.data.hex()) == (code, subcode, extra)


@given(messages)
def test_every_message_survives_the_wire(message: Message) -> None:
    again = decode(*frame(message))
    if isinstance(message, Update) and isinstance(again, Update):
        assert set(again.withdrawn) == set(message.withdrawn)
        assert set(again.announced) == set(message.announced)
        assert again.attributes == message.attributes
    else:
        assert again == message


@given(st.sampled_from(Type), st.binary(max_size=400))
def test_any_body_is_a_message_or_the_one_exception(kind: Type, body: bytes) -> None:
    least = {Type.OPEN: 10, Type.UPDATE: 4, Type.NOTIFICATION: 2, Type.KEEPALIVE: 0, Type.ROUTE_REFRESH: 4}
    with contextlib.suppress(PeerError):
        decode(kind, body.ljust(least[kind], b"\0") if kind is not Type.KEEPALIVE else b"")


@given(opens | updates, st.data())
def test_damage_is_a_message_or_the_one_exception(message: Message, data: st.DataObject) -> None:
    octets = bytearray(encode(message))
    at = data.draw(st.integers(HEADER, len(octets) - 1))
    octets[at] = data.draw(st.integers(0, 255))
    framer = Framer()
    framer.max_message = MAX_EXTENDED
    framer.feed(bytes(octets))
    with contextlib.suppress(PeerError):
        got = framer.next_frame()
        assert got is not None
        decode(*got)


@given(st.lists(messages, max_size=5), st.lists(st.integers(1, 50), min_size=1))
def test_how_the_stream_is_cut_does_not_matter(sent: list[Message], cuts: list[int]) -> None:
    whole = b"".join(map(encode, sent))
    framer = Framer()
    framer.max_message = MAX_EXTENDED
    kinds, at, turn = [], 0, 0
    while at < len(whole):
        step = cuts[turn % len(cuts)]
        framer.feed(whole[at : at + step])
        at, turn = at + step, turn + 1
        while (got := framer.next_frame()) is not None:
            kinds.append(got[0])
    expected = [Type(encode(message)[18]) for message in sent]
    assert kinds == expected


@given(prefixes())
def test_prefixes_are_text_and_octets_alike(prefix: object) -> None:
    text = str(prefix)
    assert str(parse_prefix(text)) == text
    parsed = parse_prefix(text)
    assert decode_prefixes(parsed.nlri, parsed.family) == [parsed] == [prefix]


def test_scapy_reads_our_update() -> None:
    """An independent reader agrees on a message with everything in it."""
    from bgp_lite.attributes import Dialect, Path
    from bgp_lite.rib import AdjRibOut, Outlet

    rib = AdjRibOut()
    rib.session_up([])
    rib.announce(parse_prefix("203.0.113.9/32"), Path(communities=(65001 << 16 | 7, 0xFFFFFF01)))
    outlet = Outlet(
        Dialect(65001, 65000, four_octet_as=False),
        {Family.IPV4: socket.inet_aton("10.9.0.2")},
        frozenset({Family.IPV4}),
    )
    (octets,) = rib.messages(outlet)
    update = scapy_bgp.BGPHeader(octets)[scapy_bgp.BGPUpdate]
    kinds = [attribute.type_code for attribute in update.path_attr]
    assert kinds == [1, 2, 3, 8]
    assert update.path_attr[2].attribute.next_hop == "10.9.0.2"
    assert update.path_attr[1].attribute.segments[0].segment_value == [65001]
    assert update.nlri[0].prefix == "203.0.113.9/32"
