"""Every decoder against damaged input, for as long as you like.

    python -m tests.memberlist.fuzz [--seconds N] [--seed S] [--target NAME] [--save]

Inputs are mutations of the corpus and of the captured vectors.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Final

from memberlist import codec, lzw
from memberlist.cli import pcap
from memberlist.errors import DecodeError
from memberlist.keyring import Keyring
from memberlist.layout import Layout, measure
from memberlist.packet import Wire, deflate
from memberlist.stream import Reader, encode_plain
from tests.fuzzing import Fuzzer, Target

HERE: Final = Path(__file__).parent
KEY: Final = bytes(range(16))
NONCE: Final = bytes(12)
PLAIN: Final = Wire(compress=False)
KEYED: Final = Wire(Keyring([KEY]), "blue")
LAYOUTS: Final[list[Layout[Any]]] = [value for value in vars(codec).values() if isinstance(value, Layout)]


def one_message(data: bytes) -> Hashable:
    message = codec.decode(data)
    assert codec.decode(codec.encode(message)) == message
    return type(message).__name__


def one_struct(data: bytes) -> Hashable:
    """The first octet says which."""
    layout = LAYOUTS[data[0] % len(LAYOUTS)] if data else LAYOUTS[0]
    value = layout.decode(data[1:])
    again = layout.decode(layout.encode(value))
    assert layout.describe(again) == layout.describe(value) or layout is codec.NODE_STATE
    return layout.fields[0].wire


def one_object(data: bytes) -> Hashable:
    end = measure(data)
    assert end is None or end <= len(data)
    return end is None


def lzw_text(data: bytes) -> Hashable:
    text = lzw.decompress(data, 1 << 16)
    assert lzw.decompress(lzw.compress(text), 1 << 16) == text
    return len(text).bit_length()


def packet(data: bytes) -> Hashable:
    messages = PLAIN.open(data)
    parts = [codec.encode(message) for message in messages]
    assert [codec.decode(part) for part in parts] == messages
    return tuple(sorted({type(message).__name__ for message in messages})), tuple(
        PLAIN.examine(data).layers[:4]
    )


def packet_within(data: bytes) -> Hashable:
    """By somebody who has the key and the checksum right, and everything else wrong."""
    checked = struct.pack("!BI", 12, zlib.crc32(data)) + data
    version = data[0] & 1 if data else 1
    payload = Keyring([KEY]).encrypt(checked, aad=b"blue", nonce=NONCE, version=version)
    return len(KEYED.open(KEYED.label_header + payload))


def encrypted(data: bytes) -> Hashable:
    """What was never encrypted with our key does not open, whatever it is."""
    messages = KEYED.open(KEYED.label_header + data)
    raise AssertionError(f"opened without the key: {messages}")


def stream(data: bytes) -> Hashable:
    reader = Reader(PLAIN, accepted=True, max_nodes=1000)
    message = reader.feed(data)
    in_pieces = Reader(PLAIN, accepted=True, max_nodes=1000)
    pieces = [piece for octet in data if (piece := in_pieces.feed(bytes((octet,)))) is not None]
    assert pieces == [message] * (message is not None), "whole or in pieces, it is the same"
    if message is not None:
        assert Reader(PLAIN, accepted=True).feed(encode_plain(message)) is not None
    return type(message).__name__, tuple(reader.layers)


def stream_within(data: bytes) -> Hashable:
    text = deflate(data)
    header = b"\x0a" + struct.pack("!I", len(text) + 29)
    payload = Keyring([KEY]).encrypt(text, aad=header + b"blue", nonce=NONCE)
    message = Reader(KEYED, accepted=False).feed(header + payload)
    assert message is not None
    return type(message).__name__


def capture(data: bytes) -> Hashable:
    return tuple(datagram.problem for datagram in pcap.read(io.BytesIO(data)))


_ALL: Final[list[Target]] = [
    *(one_message, one_struct, one_object, lzw_text),
    *(packet, packet_within, encrypted, stream, stream_within, capture),
]


def vectors() -> Iterable[bytes]:
    for vector in json.loads((HERE / "data" / "memberlist_vectors.json").read_text()):
        if len(data := bytes.fromhex(vector["hex"])) < 2000:
            yield data
            yield data[1:]


def pcap_seed() -> bytes:
    udp = struct.pack("!4H", 7946, 7946, 10, 0) + b"\x07\x00"
    ip = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(8)) + udp
    frame = bytes(12) + b"\x08\x00" + ip
    return struct.pack("<IHHiIII4I", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 0, 0, len(frame), len(frame)) + frame


def more_seeds(name: str) -> Iterable[bytes]:
    return vectors() if name != "capture" else [pcap_seed()]


FUZZER: Final = Fuzzer(
    corpus=HERE / "corpus",
    targets={target.__name__: target for target in _ALL},
    errors=(DecodeError, pcap.PcapError),
    more_seeds=more_seeds,
    interesting=tuple(
        bytes((octet,)) for octet in bytes.fromhex("000107090a0c7f808190a0c0c1c4c7cfd3d9dbdcdddff4ff")
    ),
    longest=20_000,
    accident=r"\b[0-9a-f]{8}\b|\d+",
)

if __name__ == "__main__":
    FUZZER.main()
