"""The messages between the halves: what is written is read back, and nothing else is believed."""

from __future__ import annotations

import struct
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.orders import (
    HEADER,
    MAX_FRAME,
    BadOrder,
    Down,
    Happened,
    Hello,
    Members,
    MemberView,
    Orders,
    Pulse,
    Seeds,
    Up,
    Vip,
    Vips,
    VipState,
    decode,
    encode,
    frame_length,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
TEXTS = st.lists(TEXT, max_size=4).map(tuple)
NUMBERS = st.integers(0, 2**63 - 1)
SECONDS = st.floats(0, 1e9)

MESSAGES: st.SearchStrategy[Down | Up] = st.one_of(
    st.builds(Orders, NUMBERS, st.lists(st.builds(Vip, TEXT, TEXTS, TEXTS, st.none() | TEXTS)).map(tuple)),
    st.builds(Seeds, TEXTS),
    st.builds(Hello, NUMBERS, TEXT, NUMBERS, st.booleans(), NUMBERS),
    st.builds(
        Members,
        st.lists(st.builds(MemberView, TEXT, TEXT, NUMBERS, TEXT, st.booleans())).map(tuple),
        st.booleans(),
    ),
    st.builds(
        Vips,
        NUMBERS,
        st.lists(
            st.builds(
                VipState,
                TEXT,
                st.none() | TEXT,
                st.booleans(),
                TEXTS,
                st.booleans(),
                NUMBERS,
                NUMBERS,
                NUMBERS,
            )
        ).map(tuple),
    ),
    st.builds(Pulse, SECONDS, SECONDS, SECONDS, NUMBERS, NUMBERS),
    st.builds(Happened, SECONDS, TEXT, TEXT, TEXT),
)


@given(MESSAGES)
def test_a_message_survives_the_way(message: Down | Up) -> None:
    frame = encode(message)
    assert frame_length(frame[:HEADER]) == len(frame) - HEADER
    assert decode(frame[HEADER:]) == message


@given(st.binary(max_size=300))
def test_any_octets_are_a_message_or_bad(body: bytes) -> None:
    with suppress(BadOrder):
        assert decode(body) is not None


@given(MESSAGES, st.data())
def test_broken_messages_are_messages_or_bad(message: Down | Up, data: st.DataObject) -> None:
    body = bytearray(encode(message)[HEADER:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadOrder):
        decode(bytes(body[: data.draw(st.integers(0, len(body)))]))


@pytest.mark.parametrize(
    "body",
    [
        {"type": "orders", "generation": 1},
        {"type": "orders", "generation": "1", "vips": []},
        {"type": "orders", "generation": 1, "vips": [{"address": "192.0.2.1"}]},
        {"type": "unheard of"},
        {"generation": 1, "vips": []},
        ["orders", 1],
        None,
    ],
)
def test_what_is_no_message_is_bad(body: object) -> None:
    with pytest.raises(BadOrder):
        decode(msgspec.msgpack.encode(body))


def test_nesting_without_end_is_bad() -> None:
    with pytest.raises(BadOrder):
        decode(b"\x91" * 100_000)


@pytest.mark.parametrize(
    "header", [b"", b"\0\0\0", bytes(5), bytes(4), struct.pack("!I", MAX_FRAME + 1), b"\xff" * 4]
)
def test_bad_headers(header: bytes) -> None:
    with pytest.raises(BadOrder):
        frame_length(header)


def test_nothing_larger_than_a_frame_is_written() -> None:
    assert frame_length(struct.pack("!I", MAX_FRAME)) == MAX_FRAME
    with pytest.raises(BadOrder, match=f"at most {MAX_FRAME}"):
        encode(Seeds(("x" * MAX_FRAME,)))
