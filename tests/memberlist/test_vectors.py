"""Captures of real hashicorp/memberlist 0.2.2, 0.5.1 and 0.6.0, both ways, octet for octet."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memberlist import codec, packet, stream
from memberlist.cli.describe import describe
from memberlist.errors import DecodeError
from memberlist.keyring import Keyring
from memberlist.layout import Layout
from memberlist.messages import User
from memberlist.packet import Wire

Vector = dict[str, Any]

VECTORS: list[Vector] = json.loads((Path(__file__).parent / "data" / "memberlist_vectors.json").read_text())
PACKETS = [vector for vector in VECTORS if vector["kind"] == "udp-packet"]
STREAMS = [vector for vector in VECTORS if vector["kind"].startswith("tcp-stream")]
BODIES = [vector for vector in VECTORS if vector["kind"] == "codec" and "inner_len" not in vector["decoded"]]
DEFLATED = [vector for vector in VECTORS if "inner_len" in vector["decoded"]]
PAYLOADS = [vector for vector in VECTORS if vector["kind"].startswith("encrypted-payload")]


def name_of(vector: Vector) -> str:
    return str(vector["name"])


def ring(vector: Vector) -> Keyring | None:
    return Keyring([bytes.fromhex(vector["key"])]) if "key" in vector else None


def leaves(message: Vector) -> list[Vector]:
    if message["type"] in ("hasCrc", "compress"):
        return leaves(message["inner"])
    if message["type"] == "compound":
        return [leaf for part in message["parts"] for leaf in leaves(part)]
    return [message]


def test_no_vector_is_left_out() -> None:
    groups = (PACKETS, STREAMS, BODIES, DEFLATED, PAYLOADS)
    assert Counter(map(len, groups)) == Counter([42, 37, 55, 4, 10])
    assert sum(map(len, groups)) == len(VECTORS) == 148


@pytest.mark.parametrize("vector", PACKETS, ids=name_of)
def test_packets(vector: Vector) -> None:
    datagram = bytes.fromhex(vector["hex"])
    wire = Wire(ring(vector), vector.get("label", ""))
    opened = wire.examine(datagram)
    assert [describe(message) for message in opened.messages] == leaves(vector["decoded"]["msg"])
    assert wire.open(datagram) == opened.messages
    assert not opened.problems

    at = len(wire.label_header)
    version, nonce = (datagram[at], datagram[at + 1 : at + 13]) if "key" in vector else (1, b"")
    same = Wire(
        ring(vector),
        vector.get("label", ""),
        compress="compress" in opened.layers,
        encryption_version=version,
    )
    parts = [codec.encode(message) for message in opened.messages]
    assert vector["python_reencode_identical"]
    assert same.seal(parts, crc="crc" in opened.layers, nonce=nonce) == datagram


@pytest.mark.parametrize("vector", STREAMS, ids=name_of)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_streams(vector: Vector, step: int) -> None:
    data = bytes.fromhex(vector["hex"])
    dialling = vector["kind"] == "tcp-stream-c2s"
    wire = Wire(ring(vector), vector.get("label", ""))
    reader = stream.Reader(wire, accepted=dialling)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert [reader.feed(piece) for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    message = reader.feed(pieces[-1])
    assert message is not None
    described = describe(message, on_stream=True)
    assert described == {key: vector["decoded"][key] for key in described}
    assert stream.encode_plain(message).hex() == vector["decoded"]["plain_hex"]

    at = len(wire.label_header) * dialling
    version, nonce = (data[at + 5], data[at + 6 : at + 18]) if "key" in vector else (1, b"")
    same = Wire(
        ring(vector),
        vector.get("label", ""),
        compress="compress" in reader.layers,
        encryption_version=version,
    )
    assert vector["python_reencode_identical"]
    assert stream.encode(message, same, dialling=dialling, nonce=nonce) == data


HEADERS: dict[str, Layout[Any]] = {
    "pushpull_header": codec.PUSH_PULL_HEADER,
    "usermsg_header": codec.USER_HEADER,
    "pushnodestate": codec.NODE_STATE,
    "err": codec.ERROR,
}


@pytest.mark.parametrize("vector", BODIES, ids=name_of)
def test_bodies(vector: Vector) -> None:
    data = bytes.fromhex(vector["hex"])
    kind = vector["name"].removeprefix("codec ").split(".")[0]
    if kind == "compound":  # its parts are no messages
        parts, lost = packet.parts_of(data)
        assert ([part.hex() for part in parts], lost) == (vector["decoded"]["parts"], 0)
        return
    layout = HEADERS.get(kind)
    if layout is None:
        message = codec.decode(data)
        described = describe(message)
        described.pop("type")
        assert described == vector["decoded"]
        assert codec.encode(message) == data
        return
    body = data if kind == "pushnodestate" else data[1:]
    # 0.5 wrote Go's ints unsigned; we read that and write them as v2 does.
    v2: str = vector.get("hex_msgpack_v2") or vector["hex"]
    ours = bytes.fromhex(v2)[len(data) - len(body) :]
    if vector["decoded"].get("Nodes", 0) > codec.MAX_NODES:  # 2^24, over 0.6.0's own bound
        with pytest.raises(DecodeError, match="Nodes"):
            layout.decode(body)
        return
    for form in (body, ours):
        value = layout.decode(form)
        shown = layout.describe(value)
        plain = {key: item.hex() if isinstance(item, bytes) else item for key, item in shown.items()}
        assert plain == vector["decoded"]
        assert layout.encode(value) == ours


def test_both_generations_of_integers_are_among_the_vectors() -> None:
    assert sum("hex_msgpack_v2" in vector for vector in VECTORS) == 13


@pytest.mark.parametrize("vector", DEFLATED, ids=name_of)
def test_compression(vector: Vector) -> None:
    data = bytes.fromhex(vector["hex"])
    assert data[0] == 9
    text = packet.inflate(data[1:], 1 << 20)
    assert len(text) == vector["decoded"]["inner_len"]
    stated: str = vector["decoded"]["inner"]
    if stated.startswith("sha256:"):
        assert hashlib.sha256(text).hexdigest() == stated.removeprefix("sha256:")
    else:
        assert text.hex() == stated
    assert packet.deflate(text) == data


@pytest.mark.parametrize("vector", PAYLOADS, ids=name_of)
def test_encryption(vector: Vector) -> None:
    data = bytes.fromhex(vector["hex"])
    keys = ring(vector)
    assert keys is not None
    plain, aad = bytes.fromhex(vector["decoded"]["plain"]), bytes.fromhex(vector["decoded"]["aad"])
    assert keys.decrypt(data, aad=aad) == plain
    nonce, version = bytes.fromhex(vector["decoded"]["nonce"]), vector["decoded"]["vsn"]
    assert keys.encrypt(plain, aad=aad, nonce=nonce, version=version) == data


def test_a_user_message_is_among_the_packets() -> None:
    assert any(isinstance(m, User) for v in PACKETS if "key" not in v and "label" not in v
               for m in Wire().open(bytes.fromhex(v["hex"])))  # fmt: skip
