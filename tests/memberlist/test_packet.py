from __future__ import annotations

import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist import codec, lzw, packet
from memberlist.errors import ConfigError, DecodeError
from memberlist.keyring import Keyring
from memberlist.messages import Ack, Nack, PacketMessage, Ping, User
from memberlist.packet import MAX_COMMANDS, MAX_DEPTH, MAX_INFLATED, MAX_PARTS, Wire, deflate
from tests.memberlist.messages import PACKET_MESSAGES

NONCE = bytes(range(12))
NACK = codec.encode(Nack(8))
PLAIN = Wire(compress=False)


def ring(size: int = 16) -> Keyring:
    return Keyring([bytes(range(size))])


LABELS = st.sampled_from(["", "blue", "x" * 255, "é", "\udcff"])
RINGS = st.sampled_from([None, Keyring(), ring(16), ring(24), ring(32)])
WIRES = st.builds(Wire, RINGS, LABELS, st.booleans(), encryption_version=st.sampled_from([0, 1]))


# --- both directions ----------------------------------------------------------------------------------------


@given(st.lists(PACKET_MESSAGES, min_size=1, max_size=12), WIRES, st.booleans())
def test_what_is_sealed_is_opened(messages: list[PacketMessage], wire: Wire, crc: bool) -> None:
    sealed = wire.seal([codec.encode(message) for message in messages], crc=crc, nonce=NONCE)
    opened = wire.examine(sealed)
    assert (opened.messages, opened.problems) == (messages, [])
    assert wire.open(sealed) == messages
    assert ("label" in opened.layers, "encrypt" in opened.layers) == (wire.label != "", wire.encrypting)
    assert ("crc" in opened.layers, "compound" in opened.layers) == (crc, len(messages) > 1)


@given(st.binary(max_size=300), WIRES)
def test_any_octets_are_messages_or_an_error(data: bytes, wire: Wire) -> None:
    for datagram in (data, wire.label_header + data):
        with suppress(DecodeError):
            wire.open(datagram)


def opened(wire: Wire, datagram: bytes, *, shortly: bool) -> list[PacketMessage] | None:
    """None for what is refused."""
    try:
        if shortly:
            return wire.open(datagram)
        long_way = wire.examine(datagram)
    except DecodeError:
        return None
    return None if long_way.problems and not long_way.messages else long_way.messages


@given(
    st.binary(max_size=60) | PACKET_MESSAGES.map(codec.encode),
    st.sampled_from([b"", b"\x00", b"\x07\x01", b"\x09", b"\x0c", b"\xf4", b"\xf4\x01a"]),
    WIRES,
    st.booleans(),
)
def test_the_short_way_through_one_bare_message_leads_where_the_long_one_does(
    data: bytes, front: bytes, wire: Wire, encrypted: bool
) -> None:
    text = front + data
    if encrypted and wire.keyring:
        text = wire.keyring.encrypt(text, aad=wire.label_octets, nonce=NONCE, version=1)
    assert opened(wire, text, shortly=True) == opened(wire, text, shortly=False)


@given(st.binary(max_size=300), st.sampled_from([0, 1]), st.booleans())
def test_any_octets_within_good_layers_too(data: bytes, version: int, crc: bool) -> None:
    """A member with the key is not to be trusted either."""
    wire = Wire(ring(), "blue")
    inner = struct.pack("!BI", 12, zlib.crc32(data)) + data if crc else data
    for text in (inner, deflate(inner)):
        payload = ring().encrypt(text, aad=b"blue", nonce=NONCE, version=version)
        with suppress(DecodeError):
            wire.open(wire.label_header + payload)


@given(st.lists(PACKET_MESSAGES, min_size=1, max_size=5), WIRES, st.data())
def test_damage_is_an_error_or_other_messages(
    messages: list[PacketMessage], wire: Wire, data: st.DataObject
) -> None:
    sealed = bytearray(wire.seal([codec.encode(message) for message in messages], crc=True, nonce=NONCE))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with suppress(DecodeError):
        opened = wire.open(bytes(sealed))
        assert not wire.keyring or wire.encryption_version == 0 or position == len(wire.label_header), opened


# --- label --------------------------------------------------------------------------------------------------


def test_only_the_own_label_is_heard() -> None:
    blue, red, none = Wire(label="blue"), Wire(label="red"), Wire()
    for sender in (blue, red, none):
        for receiver in (blue, red, none):
            sealed = sender.seal([NACK], crc=False, nonce=b"")
            if sender is receiver:
                assert receiver.open(sealed) == [Nack(8)]
            else:
                with pytest.raises(DecodeError, match="label"):
                    receiver.open(sealed)


def test_a_label_is_authenticated_when_encrypted() -> None:
    blue, red = Wire(ring(), "blue"), Wire(ring(), "redd")
    sealed = blue.seal([NACK], crc=False, nonce=NONCE)
    with pytest.raises(DecodeError, match="no installed keys"):
        red.open(red.label_header + sealed[len(blue.label_header) :])


@pytest.mark.parametrize("header", [b"\xf4", b"\xf4\x00", b"\xf4\x04blu", b"\xf4\xff"])
@pytest.mark.parametrize("wire", [Wire(), Wire(label="blue"), Wire(label="blue", skip_label=True)])
def test_wrong_label_headers(header: bytes, wire: Wire) -> None:
    with pytest.raises(DecodeError, match="label"):
        wire.open(header)


def test_behind_a_proxy_the_header_is_gone_and_still_authenticated() -> None:
    member = Wire(ring(), "blue", skip_label=True)
    sealed = member.seal([NACK], crc=False, nonce=NONCE)
    assert sealed.startswith(b"\xf4\x04blue"), "what it sends still has the header"
    assert member.open(sealed.removeprefix(b"\xf4\x04blue")) == [Nack(8)]
    with pytest.raises(DecodeError, match="taken off"):
        member.open(sealed)
    assert Wire(label="blue", skip_label=True).open(NACK) == [Nack(8)]


def test_labels_have_a_bound() -> None:
    assert Wire(label="é" * 127).label_overhead == 256
    with pytest.raises(ConfigError, match="label: 256 octets; at most 255 are allowed"):
        Wire(label="é" * 128)


# --- encryption ---------------------------------------------------------------------------------------------


def test_the_way_from_plain_to_encrypted() -> None:
    """Three steps, and at each a member that took it and one that did not yet understand one another."""
    steps = [
        Wire(),
        Wire(ring(), verify_incoming=False, verify_outgoing=False),
        Wire(ring(), verify_incoming=False),
        Wire(ring()),
    ]
    for one in range(4):
        for other in range(4):
            sealed = steps[one].seal([NACK], crc=True, nonce=NONCE)
            if abs(one - other) <= 1:
                assert steps[other].open(sealed) == [Nack(8)]
    with pytest.raises(DecodeError):
        steps[3].open(steps[0].seal([NACK], crc=False, nonce=b""))
    with pytest.raises(DecodeError):
        steps[0].open(steps[3].seal([NACK], crc=False, nonce=NONCE))


def test_keys_change_while_the_wire_is_in_use() -> None:
    keys = Keyring()
    wire = Wire(keys)
    assert wire.seal([NACK], crc=False, nonce=b"") == NACK
    before = wire.encrypting
    keys.add(bytes(16))
    assert (before, wire.encrypting) == (False, True)
    sealed = wire.seal([NACK], crc=False, nonce=NONCE)
    assert len(sealed) == len(NACK) + wire.encryption_overhead
    keys.add(bytes(32))
    keys.use(bytes(32))
    assert wire.open(sealed) == [Nack(8)]
    keys.remove(bytes(16))
    with pytest.raises(DecodeError, match="no installed keys"):
        wire.open(sealed)


def test_both_encryption_versions_are_read_whatever_is_sent() -> None:
    old, new = Wire(ring(), encryption_version=0), Wire(ring(), encryption_version=1)
    for sender in (old, new):
        sealed = sender.seal([NACK], crc=False, nonce=NONCE)
        assert sealed[0] == sender.encryption_version
        assert len(sealed) <= len(NACK) + sender.encryption_overhead
        assert old.open(sealed) == new.open(sealed) == [Nack(8)]


def test_an_unknown_encryption_version_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="encryption_version: 2; it must be 0 or 1"):
        Wire(encryption_version=2)


def test_a_failure_under_both_readings_tells_both() -> None:
    with pytest.raises(DecodeError, match=r"no installed keys.*; and as plain text: INDIRECT_PING"):
        Wire(ring(), verify_incoming=False).open(b"\x01" + b"\xc1" * 40)


def test_a_wire_shows_no_key() -> None:
    assert "secret" not in repr(Wire(Keyring([b"secret secret 16"])))


# --- checksum -----------------------------------------------------------------------------------------------


def test_a_wrong_checksum_drops_the_packet() -> None:
    sealed = bytearray(PLAIN.seal([NACK], crc=True, nonce=b""))
    assert sealed[:1] == b"\x0c"
    sealed[-1] ^= 1
    with pytest.raises(DecodeError, match="checksum"):
        PLAIN.open(bytes(sealed))


def test_a_checksum_is_known_only_outermost() -> None:
    checked = PLAIN.seal([NACK], crc=True, nonce=b"")
    for wrapped in (
        packet.compound([checked]),
        deflate(checked),
        struct.pack("!BI", 12, zlib.crc32(checked)) + checked,
    ):
        with pytest.raises(DecodeError, match="type 12"):
            PLAIN.open(wrapped)


# --- compound -----------------------------------------------------------------------------------------------

DATA = Path(__file__).parent / "data" / "memberlist_formulas_and_tolerance.json"
TABLE = json.loads(DATA.read_text())["decoder_tolerance"]
ROWS = [row for row in TABLE if row["name"] == "decodeCompound"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["hex"])
def test_as_liberal_as_go_with_compounds(row: dict[str, str]) -> None:
    data, said = b"\x07" + bytes.fromhex(row["hex"]), row["go_msgpack_0.5.5"]
    if said.startswith("ERR"):
        with pytest.raises(DecodeError):
            packet.parts_of(data)
    else:
        parts, lost = packet.parts_of(data)
        assert said == f"OK trunc={lost} parts=[{' '.join(part.hex() for part in parts)}]"


def test_the_rows_are_there() -> None:
    assert len(ROWS) == 7


def test_one_message_is_sent_bare_and_more_as_a_compound() -> None:
    assert PLAIN.seal([NACK], crc=False, nonce=b"") == NACK
    assert PLAIN.seal([NACK, NACK], crc=False, nonce=b"") == b"\x07\x02\x00\x09\x00\x09" + NACK * 2


def test_limits_of_what_is_sent() -> None:
    parts = [NACK] * 300
    sizes = [len(piece) for piece in packet.split(parts)]
    assert sizes == [MAX_PARTS, MAX_PARTS, 300 - 2 * MAX_PARTS]
    for piece in packet.split(parts):
        assert PLAIN.open(PLAIN.seal(piece, crc=True, nonce=b"")) == [Nack(8)] * len(piece)
    assert list(packet.split([])) == []
    for wrong in ([], [NACK] * (MAX_PARTS + 1), [NACK, b""], [b""], [NACK, bytes(65536)]):
        with pytest.raises(ValueError, match=r"messages?\b"):
            PLAIN.seal(wrong, crc=False, nonce=b"")


def test_what_can_be_read_of_a_compound_counts() -> None:
    """One part nobody knows, one that is empty, one cut off: the others are messages all the same."""
    whole = packet.compound([NACK, b"\x63?", codec.encode(Ack(1))])
    assert PLAIN.open(whole) == [Nack(8), Ack(1)]
    assert PLAIN.open(b"\x07\x03\x00\x00\x00\x09\x00\x09" + NACK + NACK[:5]) == [Nack(8)]
    assert PLAIN.examine(whole).problems == ["message type 99 has no place in a packet"]


def test_a_compound_of_nothing_is_no_error_and_one_of_nothing_readable_is() -> None:
    assert PLAIN.open(b"\x07\x00") == []
    assert PLAIN.open(b"\x07\x00junk") == []
    with pytest.raises(DecodeError, match="type 99"):
        PLAIN.open(packet.compound([b"\x63?"]))


def test_255_parts_are_read() -> None:
    body = b"\x07\xff" + struct.pack("!H", len(NACK)) * 255 + NACK * 255
    assert PLAIN.open(body) == [Nack(8)] * 255


# --- compression --------------------------------------------------------------------------------------------


@given(st.binary(max_size=120) | st.integers(0, 200).map(bytes))
def test_compressed_only_if_shorter(data: bytes) -> None:
    chosen = packet.shorter(data)
    deflated = deflate(data)
    assert chosen == (deflated if len(deflated) < len(data) else data)


def test_layers_may_hold_one_another() -> None:
    twice = deflate(deflate(NACK))
    within = packet.compound([deflate(NACK), packet.compound([NACK, twice])])
    assert PLAIN.open(twice) == [Nack(8)]
    assert PLAIN.open(within) == [Nack(8)] * 3
    assert PLAIN.examine(within).layers == ["compound", "compress", "compound", "compress", "compress"]


@pytest.mark.parametrize("name", ["compress algo 1", "compress missing eof"])
def test_as_strict_as_go_with_compression(name: str) -> None:
    (row,) = (row for row in TABLE if row["name"] == name)
    assert row["go_msgpack_v2.1.1"].startswith("ERR")
    good = lzw.compress(NACK)
    wrong = codec.Compressed(1, good) if "algo" in name else codec.Compressed(0, good[:-1])
    with pytest.raises(DecodeError, match=r"^(compress: )?(algorithm 1|LZW)"):
        PLAIN.open(b"\x09" + codec.COMPRESSED.encode(wrong))


# --- bounds and bombs ---------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    data = NACK
    for _ in range(depth):
        data = packet.compound([data])
    return data


def test_depth_has_a_bound() -> None:
    assert PLAIN.open(nested(MAX_DEPTH)) == [Nack(8)]
    with pytest.raises(DecodeError, match="layers"):
        PLAIN.open(nested(MAX_DEPTH + 1))
    data = NACK
    for _ in range(MAX_DEPTH + 1):
        data = deflate(data)
    with pytest.raises(DecodeError, match="layers"):
        PLAIN.open(data)


def test_what_a_packet_inflates_to_has_a_bound_in_all() -> None:
    half = deflate(b"\x08" + bytes(MAX_INFLATED // 2 - 1))
    assert len(half) < 2000
    assert PLAIN.open(packet.compound([half, half])) == [User(bytes(MAX_INFLATED // 2 - 1))] * 2
    opened = PLAIN.examine(packet.compound([half, half, half]))
    assert len(opened.messages) == 2
    assert opened.problems == ["inflates to more than 0 octets"]


def test_the_number_of_messages_has_a_bound() -> None:
    many = b"\x07\xff" + struct.pack("!H", 2) * 255 + b"\x0b\xc0" * 255
    outer = packet.compound([many] * (MAX_COMMANDS // 256 - 1))
    assert len(PLAIN.open(outer)) == 255 * 15
    with pytest.raises(DecodeError, match="more than 4096"):
        PLAIN.open(packet.compound([many] * 17))
    nothing = b"\x07\xff" + bytes(510)  # 255 empty parts
    with pytest.raises(DecodeError, match="more than 4096"):
        PLAIN.open(packet.compound([nothing] * 17))


def checked(data: bytes) -> bytes:
    return struct.pack("!BI", 12, zlib.crc32(data)) + data


CRASHES_GO = {
    "compress of nothing": deflate(b""),
    "compound with an empty part": b"\x07\x01\x00\x00",
    "crc of nothing": checked(b""),
    "crc of compress of nothing": checked(deflate(b"")),
    **{
        f"versions of {size} octets": b"\x04\x81\xa3Vsn" + bytes((0xA0 | size,)) + bytes(size)
        for size in range(1, 6)
    },
    "nothing at all": b"",
}


@pytest.mark.parametrize("name", CRASHES_GO)
def test_what_crashes_go_is_refused_quietly(name: str) -> None:
    with pytest.raises(DecodeError):
        PLAIN.open(CRASHES_GO[name])


@pytest.mark.parametrize("text", [b"", b"\x20" * 16, b"\xff" * 32])
def test_encrypted_nothing_and_wrong_padding(text: bytes) -> None:
    payload = b"\x00" + ring().encrypt(text, aad=b"", nonce=NONCE)[1:]
    for datagram in (ring().encrypt(b"", aad=b"", nonce=NONCE), payload):
        with pytest.raises(DecodeError):
            Wire(ring()).open(datagram)


def test_a_ping_is_answered_from_the_same_octets_everywhere() -> None:
    """The first example of the reference: one ping, as 0.2.2 sends it."""
    data = "0085a44e6f6465a66e6f64652d61a55365714e6f01aa536f7572636541646472a47f00000d"
    data += "aa536f757263654e6f6465aa3132372e302e302e3133aa536f75726365506f7274cd42ce"
    assert Wire().open(bytes.fromhex(data)) == [
        Ping(1, "node-a", bytes((127, 0, 0, 13)), 17102, "127.0.0.13")
    ]
