"""Every decoder against damaged input, for as long as you like.

    python -m tests.memberlist.fuzz [--seconds N] [--seed S] [--target NAME] [--save]

Inputs are mutations of the corpus and of the captured vectors.  One that ends in a way not seen before
(another error, another mix of messages) is kept and mutated further; `--save` adds it to the corpus, which
the tests replay.  What no decoder may do is written down in the targets; the first offence ends the run with
the input in hexadecimal.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import struct
import sys
import time
import zlib
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, Final

from memberlist import codec, lzw
from memberlist.cli import pcap
from memberlist.errors import DecodeError
from memberlist.keyring import Keyring
from memberlist.layout import Layout, measure
from memberlist.packet import Wire, deflate
from memberlist.stream import Reader, encode_plain

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
KEY: Final = bytes(range(16))
NONCE: Final = bytes(12)
PLAIN: Final = Wire(compress=False)
KEYED: Final = Wire(Keyring([KEY]), "blue")
LAYOUTS: Final[list[Layout[Any]]] = [value for value in vars(codec).values() if isinstance(value, Layout)]

Target = Callable[[bytes], Hashable]
"""Raises DecodeError (PcapError for captures), or returns what kind of thing it read."""


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
TARGETS: Final = {target.__name__: target for target in _ALL}


def outcome(target: Target, data: bytes) -> tuple[str, Hashable]:
    """`ok` or `error`, and a mark of how it came to that.  Whatever else is raised goes through."""
    try:
        return "ok", target(data)
    except (DecodeError, pcap.PcapError) as problem:
        return "error", re.sub(r"\b[0-9a-f]{8}\b|\d+", "#", str(problem))[:80]


def load(name: str) -> list[tuple[str, bytes]]:
    """The corpus of a target: lines of the outcome and the input in hexadecimal."""
    path = CORPUS / f"{name}.txt"
    if not path.exists():
        return []
    lines = (line.split() for line in path.read_text().splitlines())
    return [(words[0], bytes.fromhex("".join(words[1:]))) for words in lines]


def vectors() -> Iterable[bytes]:
    for vector in json.loads((HERE / "data" / "memberlist_vectors.json").read_text()):
        if len(data := bytes.fromhex(vector["hex"])) < 2000:
            yield data
            yield data[1:]


INTERESTING: Final = [
    bytes((octet,)) for octet in bytes.fromhex("000107090a0c7f808190a0c0c1c4c7cfd3d9dbdcdddff4ff")
]


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(result) + 1)
        span = rng.choice((1, 1, 2, 4, 16))
        match rng.randrange(7):
            case 0 if at < len(result):
                result[at] ^= 1 << rng.randrange(8)
            case 1:
                result[at : at + 1] = rng.choice(INTERESTING)
            case 2:
                del result[at : at + span]
            case 3:
                result[at:at] = result[at : at + span] * rng.choice((1, 2, 64))
            case 4:
                result[at:at] = rng.randbytes(span)
            case 5:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                result[at : at + span] = other[start : start + rng.choice((4, 32, 1000))]
            case _:
                del result[at:]
    return bytes(result[:20_000])


def fuzz(name: str, seconds: float, rng: random.Random) -> tuple[int, list[tuple[str, bytes]]]:
    """How many inputs were tried, and those that ended in a new way."""
    target = TARGETS[name]
    seeds = [data for _, data in load(name)]
    seen = {outcome(target, data) for data in seeds}
    seeds += list(vectors()) if name != "capture" else [pcap_seed()]
    found: list[tuple[str, bytes]] = []
    count, until = 0, time.monotonic() + seconds
    for data in seeds:
        ended = outcome(target, data)
        if ended not in seen and len(data) < 500:
            seen.add(ended)
            found.append((ended[0], data))
    while time.monotonic() < until:
        data = mutate(rng.choice(seeds), rng, seeds)
        count += 1
        try:
            ended = outcome(target, data)
        except Exception:
            print(f"{name} fails on {data.hex()}", file=sys.stderr)
            raise
        if ended not in seen and len(data) < 500:
            seen.add(ended)
            seeds.append(data)
            found.append((ended[0], data))
    return count, found


def pcap_seed() -> bytes:
    udp = struct.pack("!4H", 7946, 7946, 10, 0) + b"\x07\x00"
    ip = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(8)) + udp
    frame = bytes(12) + b"\x08\x00" + ip
    return struct.pack("<IHHiIII4I", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 0, 0, len(frame), len(frame)) + frame


def main() -> None:
    parser = argparse.ArgumentParser(description="Damage packets until a decoder breaks.")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target (default 10)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--save", action="store_true", help="add what ended in a new way to the corpus")
    args = parser.parse_args()
    seed = random.randrange(1 << 32) if args.seed is None else args.seed
    print(f"seed {seed}")
    for name in args.target or TARGETS:
        count, found = fuzz(name, args.seconds, random.Random(f"{seed}{name}"))
        print(f"{name:<14} {count:>9,} inputs, {len(found):>4} new endings")
        if args.save and found:
            with (CORPUS / f"{name}.txt").open("a") as file:
                file.writelines(f"{kind} {data.hex()}\n" for kind, data in found)


if __name__ == "__main__":
    main()
