from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist import codec
from memberlist.errors import DecodeError
from memberlist.layout import MAX_BODY, MAX_ELEMENTS, Layout, measure, unpack
from memberlist.messages import (
    Ack,
    Alive,
    Dead,
    MessageType,
    Nack,
    PacketMessage,
    Ping,
    PushNodeState,
    Suspect,
    User,
)
from tests.memberlist.messages import NODE_STATES, PACKET_MESSAGES, PINGS

DATA = Path(__file__).parent / "data" / "memberlist_formulas_and_tolerance.json"
TOLERANCE: list[dict[str, str]] = json.loads(DATA.read_text())["decoder_tolerance"]
LAYOUTS = [value for value in vars(codec).values() if isinstance(value, Layout)]


# --- both directions ----------------------------------------------------------------------------------------


@given(PACKET_MESSAGES)
def test_what_is_encoded_is_decoded(message: PacketMessage) -> None:
    assert codec.decode(codec.encode(message)) == message


@given(NODE_STATES)
def test_node_states_too(state: PushNodeState) -> None:
    assert codec.NODE_STATE.decode(codec.NODE_STATE.encode(state)) == state


@given(PACKET_MESSAGES)
def test_keys_ascend_and_nothing_of_the_new_types_is_sent(message: PacketMessage) -> None:
    data = codec.encode(message)
    if isinstance(message, User):
        return
    fields: dict[bytes, object] = msgpack.unpackb(data[1:], raw=True)
    assert list(fields) == sorted(fields)
    again = msgpack.packb(fields, use_bin_type=False)
    assert again == data[1:], "the old raw family and the shortest integers"


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_an_error(data: bytes) -> None:
    with suppress(DecodeError):
        message = codec.decode(data)
        assert codec.decode(codec.encode(message)) == message


WIRE_NAMES = [field.wire for layout in LAYOUTS for field in layout.fields]
SCALARS = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary(max_size=20)
)
ODD_OBJECTS = st.recursive(
    SCALARS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.sampled_from(WIRE_NAMES) | st.text(max_size=3), inner, max_size=8)
    ),
    max_leaves=20,
)


@given(st.integers(0, 13), ODD_OBJECTS, st.booleans())
def test_any_object_is_a_message_or_an_error(kind: int, value: object, new_types: bool) -> None:
    data = bytes((kind,)) + msgpack.packb(value, use_bin_type=new_types)
    with suppress(DecodeError):
        message = codec.decode(data)
        assert codec.decode(codec.encode(message)) == message


# --- the short cuts against the layouts ---------------------------------------------------------------------


@given(PINGS | st.builds(Ack, st.integers(0, 0xFFFF_FFFF)))
def test_short_cuts_say_what_the_layouts_say(message: Ping | Ack) -> None:
    layout: Layout[Any] = codec.PING if isinstance(message, Ping) else codec.ACK
    data = codec.encode(message)
    assert data[1:] == layout.encode(message)
    assert codec.decode(data) == layout.decode(data[1:])


PING = Ping(70_000, "node-b", bytes((10, 0, 0, 1)), 7946, "node-a")


def decoded(decode: Callable[[bytes], object], data: bytes) -> object:
    try:
        return decode(data)
    except DecodeError:
        return None


@pytest.mark.parametrize("message", [PING, replace(PING, seq_no=300), Ack(7), Ack(300), Ack(70_000)])
def test_short_cuts_refuse_what_the_layouts_refuse(message: Ping | Ack) -> None:
    layout: Layout[Any] = codec.PING if isinstance(message, Ping) else codec.ACK
    data = codec.encode(message)
    for position in range(1, len(data)):
        for octet in range(256):
            damaged = data[:position] + bytes((octet,)) + data[position + 1 :]
            assert decoded(codec.decode, damaged) == decoded(layout.decode, damaged[1:]), damaged.hex()


@pytest.mark.parametrize(
    "ping",
    [
        PING,
        replace(PING, source_addr=bytes(16)),
        replace(PING, source_addr=b""),
        replace(PING, source_port=0),
        replace(PING, source_node=""),
        replace(PING, node=""),
        replace(PING, node="\udcff" * 40),
    ],
)
def test_every_shape_of_ping(ping: Ping) -> None:
    assert codec.encode(ping)[1:] == codec.PING.encode(ping)
    assert codec.decode(codec.encode(ping)) == ping


# --- what Go tolerates --------------------------------------------------------------------------------------


def go_text(layout: Layout[Any], message: object) -> str:
    """A message as Go's %+v prints the struct, in the order in which it is declared."""
    words = []
    for field in layout.fields:
        value = getattr(message, field.attribute)
        if isinstance(value, bytes) or value is None:
            value = f"[{' '.join(map(str, value or b''))}]"
        words.append(f"{field.wire}:{str(value).lower() if isinstance(value, bool) else value}")
    return "{" + " ".join(words) + "}"


BODIES: dict[str, Layout[Any]] = {
    "ping": codec.PING,
    "alive": codec.ALIVE,
    "indirect": codec.INDIRECT_PING,
    "pns": codec.NODE_STATE,
}
# Rows whose octets are not in the table, from their names.
OCTETS = {
    "ping empty input": b"",
    "indirect nack int 1": b"\x81\xa4Nack\x01",
    "indirect nack int 0": b"\x81\xa4Nack\x00",
    "indirect nack int 2": b"\x81\xa4Nack\x02",
    "pns state negative": b"\x81\xa5State\xff",
}
ROWS = [row for row in TOLERANCE if row["name"].split()[0] in BODIES]


def test_the_table_is_all_there() -> None:
    # The others are about compress, compound and decrypt, in the tests of those.
    assert (len(TOLERANCE), len(ROWS)) == (57, 40)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_as_liberal_as_both_generations_together(row: dict[str, str]) -> None:
    layout = BODIES[row["name"].split()[0]]
    octets = bytes.fromhex(row["hex"]) or OCTETS[row["name"]]
    accepted = [text.removeprefix("OK ") for text in row.values() if text.startswith("OK ")]
    if not accepted:
        with pytest.raises(DecodeError):
            layout.decode(octets)
        return
    assert go_text(layout, layout.decode(octets)) in accepted


def test_a_key_that_is_no_text_is_refused() -> None:
    for key in (b"\x01", b"\xc3", b"\x90", b"\x80", b"\xca" + bytes(4)):
        with pytest.raises(DecodeError, match="no text"):
            codec.decode(b"\x0b\x82\xa5SeqNo\x09" + key + b"\x01")


def test_extensions_and_odd_keys_are_passed_over() -> None:
    for skipped in (b"\xc7\x03\xfeabc", b"\xd5\x85ab", b"\x81\x90\x80", b"\x81\x80\x01", b"\xcb" + bytes(8)):
        assert codec.decode(b"\x0b\x82\xa1x" + skipped + b"\xa5SeqNo\x09") == Nack(9)


# --- bounds -------------------------------------------------------------------------------------------------


def packed(**fields: object) -> bytes:
    return bytes(msgpack.packb(fields, use_bin_type=False))


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (MessageType.ALIVE, {"Meta": bytes(513)}, "Meta"),
        (MessageType.ALIVE, {"Meta": [1] * 513}, "Meta"),
        (MessageType.ALIVE, {"Addr": bytes(5)}, "Addr"),
        (MessageType.ALIVE, {"Port": 65536}, "Port"),
        (MessageType.ALIVE, {"Incarnation": 1 << 32}, "Incarnation"),
        (MessageType.ALIVE, {"Incarnation": -1}, "Incarnation"),
        (MessageType.ALIVE, {"Incarnation": True}, "Incarnation"),
        (MessageType.ALIVE, {"Node": 3}, "Node"),
        (MessageType.ALIVE, {"Node": {}}, "Node"),
        (MessageType.PING, {"SourceAddr": [256]}, "SourceAddr"),
        (MessageType.PING, {"SourceAddr": ["x"]}, "SourceAddr"),
        (MessageType.INDIRECT_PING, {"Nack": 1.0}, "Nack"),
        *((MessageType.ALIVE, {"Vsn": bytes(size)}, "Vsn") for size in range(1, 6)),
    ],
)
def test_errors_name_the_message_and_the_field(
    kind: MessageType, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(DecodeError, match=f"^{kind.name}: {named}: "):
        codec.decode(bytes((kind,)) + packed(**fields))


def test_versions_may_be_nil_or_more_than_six_as_in_go() -> None:
    assert codec.decode(b"\x04" + packed(Vsn=None)) == Alive(0, "", b"", 0, None, b"")
    assert codec.decode(b"\x04" + packed(Vsn=bytes(7))) == Alive(0, "", b"", 0, None, bytes(7))


def test_a_push_pull_never_carries_nil_versions() -> None:
    state = PushNodeState("a", b"", 0, 1, 0, None, b"")
    assert codec.NODE_STATE.decode(codec.NODE_STATE.encode(state)).vsn == bytes(6)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (Ping(1 << 32, "a"), "Ping SeqNo"),
        (Ping(-1, "a"), "Ping SeqNo"),
        (Ping(1, "a", b"abc"), "Ping SourceAddr"),
        (Ping(1, "a", bytes(4), 65536, "b"), "Ping SourcePort"),
        (Ping(1, "\ud800"), "Ping Node"),
        (Ack(-1), "Ack SeqNo"),
        (Nack(1 << 32), "Nack SeqNo"),
        (Suspect(-1, "a", "b"), "Suspect Incarnation"),
        (Dead(1 << 40, "a", "b"), "Dead Incarnation"),
        (Alive(1, "a", bytes(4), 65536), "Alive Port"),
        (Alive(1, "a", bytes(4), 1, bytes(513)), "Alive Meta"),
        (Alive(1, "a", bytes(4), 1, None, bytes(5)), "Alive Vsn"),
        (Alive(1, "a", bytes(7), 1), "Alive Addr"),
    ],
)
def test_what_must_not_be_sent_is_refused_by_name(message: PacketMessage, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(named)}: "):
        codec.encode(message)


@pytest.mark.parametrize("kind", [*range(6, 8), 9, 10, *range(12, 256)])
def test_other_types_have_no_place_in_a_packet(kind: int) -> None:
    with pytest.raises(DecodeError, match=f"type {kind} "):
        codec.decode(bytes((kind, 0x80)))


def test_a_body_has_a_bound() -> None:
    fits = packed(Payload=bytes(MAX_BODY - 20))
    assert isinstance(codec.decode(b"\x02" + fits), Ack)
    with pytest.raises(DecodeError, match="at most"):
        codec.decode(b"\x02" + packed(Payload=bytes(MAX_BODY)))


@pytest.mark.parametrize("head", [b"\xdc", b"\xde"])
def test_a_declared_length_is_not_believed(head: bytes) -> None:
    """A thousand nested arrays that each claim 65535 items would have us reserve half a gigabyte."""
    with pytest.raises(DecodeError):
        codec.decode(b"\x0b" + (head + b"\xff\xff") * 1000)


def test_depth_has_a_bound() -> None:
    for opening in (b"\x91", b"\x81\xa1x"):
        with pytest.raises(DecodeError):
            codec.decode(b"\x0b\x81\xa1x" + opening * 20_000)


# --- measuring ----------------------------------------------------------------------------------------------

OBJECTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary(max_size=300)
    | st.text(max_size=40) | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=300)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=50,
)  # fmt: skip


@given(OBJECTS, st.binary(max_size=5), st.binary(max_size=5), st.booleans())
def test_an_object_ends_where_it_ends(value: object, before: bytes, after: bytes, new_types: bool) -> None:
    body = msgpack.packb(value, use_bin_type=new_types)
    assert measure(before + body + after, len(before)) == len(before) + len(body)
    for cut in range(len(body)):
        assert measure(before + body[:cut], len(before)) is None


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536])
def test_lengths_of_every_width(size: int) -> None:
    for value in (bytes(size), "x" * size, msgpack.ExtType(5, bytes(size))):
        for new_types in (False, True):
            body = msgpack.packb(value, use_bin_type=new_types)
            assert measure(body + b"z") == len(body)


def test_all_256_heads() -> None:
    for head in range(256):
        data = bytes((head,)) + bytes(100)
        if head == 0xC1:
            with pytest.raises(DecodeError):
                measure(data)
            continue
        unpacker = msgpack.Unpacker(
            strict_map_key=False, raw=True, object_pairs_hook=tuple, ext_hook=lambda *_: None
        )
        unpacker.feed(data)
        if head == 0xC7:  # a zero length extension of type 0
            assert measure(data) == 3
            continue
        with suppress(ValueError):
            unpacker.skip()
            assert measure(data) == unpacker.tell(), hex(head)


def test_many_items_are_refused_before_they_come() -> None:
    with pytest.raises(DecodeError, match="items"):
        measure(b"\xdd" + struct.pack("!I", MAX_ELEMENTS + 1))
    with pytest.raises(DecodeError, match="items"):
        measure(b"\xdc\x00\x80" * 40)
    assert (
        measure(b"\xdc" + struct.pack("!H", MAX_ELEMENTS - 1) + bytes(MAX_ELEMENTS - 1)) == MAX_ELEMENTS + 2
    )


@given(st.binary(max_size=64))
def test_what_can_be_measured_is_no_surprise_to_the_decoder(data: bytes) -> None:
    with suppress(DecodeError):
        end = measure(data)
        if end is not None:
            with suppress(DecodeError):
                unpack(data[:end])
                unpack(data)  # the rest changes nothing
