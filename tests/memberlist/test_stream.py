from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist import codec, lzw
from memberlist.errors import DecodeError
from memberlist.keyring import Keyring
from memberlist.layout import MAX_BODY, MAX_ELEMENTS
from memberlist.messages import Ack, Error, Ping, PushNodeState, PushPull, StreamMessage, User
from memberlist.packet import Wire, deflate
from memberlist.stream import MAX_ENCRYPTED, MAX_TEXT, Reader, Refused, encode, encode_plain
from tests.memberlist.messages import STREAM_MESSAGES
from tests.memberlist.test_lzw import pack as pack_codes
from tests.memberlist.test_packet import NONCE, WIRES, ring

PLAIN = Wire(compress=False)


def read(data: bytes, wire: Wire = PLAIN, *, accepted: bool = True) -> StreamMessage | None:
    return Reader(wire, accepted=accepted).feed(data)


def packed(**fields: object) -> bytes:
    return bytes(msgpack.packb(dict(sorted(fields.items())), use_bin_type=False))


# --- both directions ----------------------------------------------------------------------------------------


@given(STREAM_MESSAGES, WIRES, st.booleans(), st.data())
def test_what_is_sent_is_read_in_whatever_pieces(
    message: StreamMessage, wire: Wire, dialling: bool, data: st.DataObject
) -> None:
    sent = encode(message, wire, dialling=dialling, nonce=NONCE)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    reader = Reader(wire, accepted=dialling)
    results = [result for piece in pieces if (result := reader.feed(piece)) is not None]
    assert results == [message]


@given(STREAM_MESSAGES, WIRES, st.booleans())
def test_octet_by_octet_it_is_whole_only_at_the_end(
    message: StreamMessage, wire: Wire, dialling: bool
) -> None:
    sent = encode(message, wire, dialling=dialling, nonce=NONCE)
    reader = Reader(wire, accepted=dialling)
    for position in range(len(sent) - 1):
        assert reader.feed(sent[position : position + 1]) is None
    assert reader.feed(sent[-1:]) == message
    assert reader.feed(b"more") is None


@given(st.binary(max_size=300), WIRES, st.booleans())
def test_any_octets_are_a_message_an_error_or_not_all(data: bytes, wire: Wire, accepted: bool) -> None:
    label = wire.label_header if accepted else b""
    for sent in (data, label + data, label + deflate(data)):
        with suppress(DecodeError):
            read(sent, wire, accepted=accepted)


@given(st.binary(max_size=300))
def test_any_octets_within_good_layers_too(data: bytes) -> None:
    for text in (data, deflate(data)):
        size = len(text) + 29
        header = b"\x0a" + struct.pack("!I", size)
        sent = header + ring().encrypt(text, aad=header + b"blue", nonce=NONCE)
        with suppress(DecodeError):
            assert read(sent, Wire(ring(), "blue"), accepted=False) is not None, "all of it is there"


@given(STREAM_MESSAGES, WIRES, st.data())
def test_damage_is_an_error_another_message_or_not_all(
    message: StreamMessage, wire: Wire, data: st.DataObject
) -> None:
    sent = bytearray(encode(message, wire, dialling=True, nonce=NONCE))
    sent[data.draw(st.integers(0, len(sent) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(DecodeError):
        read(bytes(sent), wire)


# --- label --------------------------------------------------------------------------------------------------


def test_only_who_dials_sends_the_label() -> None:
    wire = Wire(ring(), "blue")
    request = encode(Ack(1), wire, dialling=True, nonce=NONCE)
    answer = encode(Ack(1), wire, dialling=False, nonce=NONCE)
    assert request == b"\xf4\x04blue" + answer
    assert read(request, wire) == read(answer, wire, accepted=False) == Ack(1)
    for data, accepted in ((request, False), (answer, True)):
        with pytest.raises(DecodeError):
            read(data, wire, accepted=accepted)
    with pytest.raises(Refused, match="no installed keys"):
        read(answer, Wire(ring(), "redd"), accepted=False)


@pytest.mark.parametrize("data", [b"\xf4\x00", b"\xf4\x03red\x02", b"\x02", b"\xf4\x05blue!\x02"])
def test_another_label_is_not_even_told_so(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        read(data, Wire(label="blue"))
    assert not isinstance(caught.value, Refused)


def test_behind_a_proxy_the_header_is_gone_and_still_authenticated() -> None:
    wire = Wire(ring(), "blue", skip_label=True)
    sent = encode(Ack(1), wire, dialling=True, nonce=NONCE)
    assert read(sent.removeprefix(b"\xf4\x04blue"), wire) == Ack(1)
    with pytest.raises(DecodeError, match="taken off"):
        read(sent, wire)


# --- encryption ---------------------------------------------------------------------------------------------


def test_the_peer_is_told_when_the_first_layer_is_wrong() -> None:
    encrypted = encode(Ack(1), Wire(ring()), dialling=True, nonce=NONCE)
    plain = encode(Ack(1), PLAIN, dialling=True, nonce=b"")
    cases = [
        (encrypted, PLAIN, "remote state is encrypted and encryption is not configured"),
        (plain, Wire(ring()), "encryption is configured but remote state is not encrypted"),
        (encrypted, Wire(ring(32)), "no installed keys could decrypt the message"),
        (
            b"\x0a" + struct.pack("!I", MAX_ENCRYPTED + 1),
            Wire(ring()),
            "remote state is larger than 20971520 bytes",
        ),
        (b"\x0a\x00\x00\x00\x05\x01ello", Wire(ring()), "5 octets are too few to decrypt"),
        (b"\x09\x82\xa4Algo\x01\xa3Buf\xa0", PLAIN, "compress: algorithm 1 is unknown"),
        (b"\x09\xc1", PLAIN, "bad MessagePack: octet c1"),
        (b"\x09\x80", PLAIN, "LZW stream ends without its end code"),
    ]
    for data, wire, text in cases:
        with pytest.raises(Refused) as caught:
            read(data, wire)
        assert str(caught.value) == text
        answer = encode(Error(text), wire, dialling=False, nonce=NONCE)
        assert read(answer, wire, accepted=False) == Error(text)


def test_the_way_from_plain_to_encrypted() -> None:
    steps = [
        Wire(),
        Wire(ring(), verify_incoming=False, verify_outgoing=False),
        Wire(ring(), verify_incoming=False),
        Wire(ring()),
    ]
    for one in range(4):
        for other in range(4):
            sent = encode(Ack(1), steps[one], dialling=True, nonce=NONCE)
            if abs(one - other) <= 1:
                assert read(sent, steps[other]) == Ack(1)


def test_the_length_is_authenticated() -> None:
    sent = bytearray(encode(Ack(1), Wire(ring()), dialling=True, nonce=NONCE) + b"x")
    sent[4] += 1
    with pytest.raises(Refused):
        read(bytes(sent), Wire(ring()))


def test_what_peers_would_refuse_is_not_sent() -> None:
    with pytest.raises(ValueError, match="UserMsgLen"):
        encode_plain(User(bytes(codec.MAX_USER_STATE + 1)))
    with pytest.raises(ValueError, match="UserStateLen"):
        encode_plain(PushPull(False, (), bytes(codec.MAX_USER_STATE + 1)))
    with pytest.raises(ValueError, match="at most 20971520"):
        encode(User(bytes(codec.MAX_USER_STATE)), Wire(ring(), compress=False), dialling=True, nonce=NONCE)


def test_the_largest_that_fits_is_sent_and_read() -> None:
    for version in (0, 1):
        wire = Wire(ring(), compress=False, encryption_version=version)
        message = User(bytes(MAX_ENCRYPTED - 64))
        assert read(encode(message, wire, dialling=True, nonce=NONCE), wire) == message


# --- compression --------------------------------------------------------------------------------------------


def test_a_stream_is_compressed_even_if_it_grows() -> None:
    """As in Go: an ack of 18 octets becomes 36."""
    sent = encode(Ack(7), Wire(), dialling=True, nonce=b"")
    assert (len(encode_plain(Ack(7))), len(sent), sent[0]) == (18, 36, 9)
    assert read(sent, PLAIN) == Ack(7), "whether it compresses or not, a member reads both"


def test_compress_within_compress_has_no_place_on_a_stream() -> None:
    with pytest.raises(DecodeError, match="type 9 "):
        read(deflate(deflate(encode_plain(Ack(7)))))


# --- content ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 3, 4, 5, 7, 11, 12, *range(14, 244), *range(245, 256)])
def test_other_types_have_no_place_on_a_stream(kind: int) -> None:
    with pytest.raises(DecodeError, match=f"type {kind} ") as caught:
        read(bytes((kind, 0x80)))
    assert not isinstance(caught.value, Refused)


def node(name: str = "a") -> PushNodeState:
    return PushNodeState(name, bytes((10, 0, 0, 1)), 7946, 1, 0)


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ({"Nodes": -1}, "PUSH_PULL: Nodes"),
        ({"Nodes": codec.MAX_NODES + 1}, "PUSH_PULL: Nodes"),
        ({"UserStateLen": -1}, "PUSH_PULL: UserStateLen"),
        ({"UserStateLen": codec.MAX_USER_STATE + 1}, "PUSH_PULL: UserStateLen"),
    ],
)
def test_numbers_in_a_push_pull_have_bounds(header: dict[str, int], named: str) -> None:
    with pytest.raises(DecodeError, match=named):
        read(b"\x06" + packed(**header))


def test_numbers_in_a_user_header_have_bounds() -> None:
    for length in (-1, codec.MAX_USER_STATE + 1):
        with pytest.raises(DecodeError, match="USER: UserMsgLen"):
            read(b"\x08" + packed(UserMsgLen=length))


def test_a_caller_can_lower_the_number_of_nodes() -> None:
    sent = encode_plain(PushPull(True, (node(),) * 3))
    assert Reader(PLAIN, accepted=True, max_nodes=3).feed(sent) is not None
    with pytest.raises(DecodeError, match="3 nodes; at most 2"):
        Reader(PLAIN, accepted=True, max_nodes=2).feed(sent)


@pytest.mark.parametrize("size", range(1, 6))
def test_versions_that_crash_go_are_refused(size: int) -> None:
    state = packed(Name="a", Vsn=bytes(size))
    with pytest.raises(DecodeError, match="PUSH_PULL: Vsn"):
        read(b"\x06" + packed(Nodes=1) + state)


def test_compressed_nothing_is_refused() -> None:
    """It makes every version of Go's end with a panic."""
    with pytest.raises(DecodeError, match="holds nothing"):
        read(deflate(b""))


def test_encrypted_nothing_is_refused() -> None:
    for version, size in ((0, 45), (1, 29)):
        header = b"\x0a" + struct.pack("!I", size)
        sent = header + ring().encrypt(b"", aad=header, nonce=NONCE, version=version)
        with pytest.raises(DecodeError, match="cut off"):
            read(sent, Wire(ring()))


def test_octets_after_the_message_are_ignored() -> None:
    assert read(encode_plain(Ack(1)) + b"junk") == Ack(1)
    assert read(encode(Ack(1), Wire(ring()), dialling=True, nonce=NONCE) + b"junk", Wire(ring())) == Ack(1)


def test_a_large_cluster_in_small_pieces() -> None:
    message = PushPull(False, tuple(node(f"node-{n}") for n in range(3000)), b"state" * 1000)
    sent = encode_plain(message)
    reader = Reader(PLAIN, accepted=True)
    pieces = [sent[at : at + 1448] for at in range(0, len(sent), 1448)]
    assert [reader.feed(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert reader.feed(pieces[-1]) == message


# --- bombs --------------------------------------------------------------------------------------------------


def test_a_stream_inflates_no_further_than_allowed() -> None:
    bomb = b"\x09" + codec.COMPRESSED.encode(codec.Compressed(0, pack_codes(zeros(MAX_TEXT))))
    assert len(bomb) < 100_000
    with pytest.raises(DecodeError, match=f"more than {MAX_TEXT}"):
        read(bomb)


def zeros(at_least: int) -> list[tuple[int, int]]:
    """LZW codes, each of which stands for one octet more than the one before."""
    codes: list[tuple[int, int]] = []
    length = 0
    while length <= at_least:
        codes += [(256, 12 if codes else 9), (0, 9)]
        for code in range(258, 4095):
            codes.append((code, max(9, (code).bit_length())))
            length += code - 256
    return codes


def endless(piece: bytes) -> Iterator[bytes]:
    """As much as a peer may send before we must have had enough."""
    sent = 0
    while sent <= MAX_TEXT + (1 << 20):
        yield piece
        sent += len(piece)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (
            b"\x06" + packed(Nodes=codec.MAX_NODES),
            (b"\x81\xa1x\xda" + struct.pack("!H", 60_000) + bytes(60_000)) * 4,
        ),
        (b"\x06\xdb\xff\xff\xff\xff", bytes(1 << 16)),
        (b"\x09\x81\xa3Buf\xdb\xff\xff\xff\xff", bytes(1 << 20)),
        (b"\x00\x81\xa4Node\xdb\xff\xff\xff\xff", bytes(1 << 16)),
        (b"\x06" + packed(Nodes=1), b"\x81\xa1x" * 1024),
    ],
    ids=["nodes", "header", "compressed", "name", "depth"],
)
def test_a_plain_stream_that_never_ends_is_cut(start: bytes, piece: bytes) -> None:
    reader = Reader(PLAIN, accepted=True)
    with pytest.raises(DecodeError):
        any(reader.feed(data) for data in (start, *endless(piece)))


def test_many_items_in_an_object_are_refused() -> None:
    with pytest.raises(DecodeError, match=f"more than {MAX_ELEMENTS} items"):
        read(b"\x06\xdd" + struct.pack("!I", MAX_ELEMENTS + 1))
    assert MAX_BODY < MAX_TEXT


def test_pings_error_answers_and_users_are_read_as_the_reference_has_them() -> None:
    user = bytes.fromhex("0881aa557365724d73674c656e1072656c6961626c65207061796c6f6164")
    assert read(user) == User(b"reliable payload")
    assert encode_plain(User(b"reliable payload")) == user
    assert read(b"\x0d" + packed(Error="too bad")) == Error("too bad")
    ping = Ping(8, "node-b", bytes((127, 0, 0, 11)), 17100, "node-a")
    assert read(encode_plain(ping)) == ping
    assert lzw.decompress(lzw.compress(user), 100) == user
    assert not Keyring()
