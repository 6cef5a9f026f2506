"""Every decoder against damaged input, for as long as you like.

    python -m tests.bgp_lite.fuzz [--seconds N] [--seed S] [--target NAME] [--save]

Inputs are mutations of the corpus and of messages of real routers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Final

from bgp_lite import discovery
from bgp_lite.attributes import Path as Route
from bgp_lite.bfd.packet import BadPacket, ControlPacket
from bgp_lite.cli.decode import messages
from bgp_lite.config import PeerConfig
from bgp_lite.core import Close, Session
from bgp_lite.errors import PeerError
from bgp_lite.fsm import State
from bgp_lite.messages import Keepalive, Notification, Open, Type, Update
from bgp_lite.prefix import Family, parse_prefix
from bgp_lite.wire import MARKER, MAX_EXTENDED, Framer, decode, encode
from tests.fuzzing import Fuzzer, Target

# What FRR 8.4.4, BIRD 2.0.12 and GoBGP 3.10 open a session with.
FRR: Final = (
    "00710104fde800090a0900035402060104000100010206010400020001020280000202020002024600020641040000fde802"
    "020600020a450800010101000201010206490402766d0002044002c0780210470e0001018000000000020180000000"
)
BIRD: Final = "003d0104fde800f00a09000420021e010400010001010400020001020006004002007841040000fde846004700"
GOBGP: Final = (
    "00450104fde800090a0900052802260200490402766d0001040001000101040002000141040000fde84002003c0506"
    "000100010002"
)
ROUTERS: Final = tuple(MARKER + bytes.fromhex(text) for text in (FRR, BIRD, GOBGP))
EVERYTHING: Final = (
    "0046 02 0000 002a 40010100 4002060201 0000fde9 4003040a090002 c00804 fde90007"
    " c0200c 0000fde9 00000001 00000002 20cb007109"
)
SEEDS: Final = (
    *ROUTERS,
    encode(Keepalive()),
    encode(Notification(6, 2, b"\x03bye")),
    MARKER + bytes.fromhex("00170500010001"),
    # A route with everything on it, its withdrawal, IPv6 of both, and the ends of both tables.
    MARKER + bytes.fromhex(EVERYTHING.replace(" ", "")),
    MARKER + bytes.fromhex("001c02000520cb0071090000"),
    MARKER + bytes.fromhex("001702 0000 0000".replace(" ", "")),
    MARKER + bytes.fromhex("001d02 0000 0006 800f03 000201".replace(" ", "")),
    bytes.fromhex("20c80318 00000001 00000002 0000c350 0000c350 00000000".replace(" ", "")),
    bytes.fromhex("86000000400007080000000000000000010102aabbccddee"),
)


def open_body(data: bytes) -> Hashable:
    message = decode(Type.OPEN, data.ljust(10, b"\0"))
    assert isinstance(message, Open)
    # An encoder of one octet of length cannot say all that the extended form can (RFC 9072).
    if len(message.capabilities.hostname.encode()) <= 64:
        kind, body = _frame(encode(message))
        assert decode(kind, body) == message
    can = message.capabilities
    given = (can.asn, can.graceful_restart, can.extended_next_hop, can.hostname)
    return len(can.families), tuple(map(bool, given))


def update_body(data: bytes) -> Hashable:
    message = decode(Type.UPDATE, data.ljust(4, b"\0"))
    assert isinstance(message, Update)
    if len({prefix.family for prefix in (*message.announced, *message.withdrawn)}) < 2 and message.announced:
        again = decode(*_frame(encode(message)))
        assert isinstance(again, Update)
        if message.announced[0].family is Family.IPV4 or message.next_hop:
            assert set(again.announced) == set(message.announced)
    kinds = tuple(sorted({attribute.type for attribute in message.attributes} & {1, 8, 17}))
    return bool(message.withdrawn), bool(message.announced), len(message.next_hop), message.end_of_rib, kinds


def stream(data: bytes) -> Hashable:
    """Whole or in pieces, a stream says the same."""
    whole, pieces = _read([data]), _read([data[at : at + 1] for at in range(len(data))])
    assert whole[0] == pieces[0]
    assert repr(whole[1]) == repr(pieces[1])
    if whole[1] is not None:
        raise whole[1]
    return tuple(sorted({type(message).__name__ for message in whole[0]}))


def session(data: bytes) -> Hashable:
    """The first octet says how far it is.  Whatever comes, its answer can be read, and it can end."""
    config = PeerConfig(peer="10.0.0.1", local_as=65001, peer_as="external", router_id="10.0.0.2")
    core = Session(config, rng=random.Random(1))
    core.rib.announce(parse_prefix("203.0.113.1"), Route())
    core.start(0.0)
    core.connected(0.0, {Family.IPV4: bytes(4)})
    before = (b"", ROUTERS[0], ROUTERS[1] + encode(Keepalive()))[data[0] % 3 if data else 0]
    effects = core.received(before, 0.0) + core.received(data[1:], 0.0)
    state = core.state
    said = core.take(1.0) + b"".join(each.last for each in effects if isinstance(each, Close))
    answers = _read([said])
    assert answers[1] is None, "we said something nobody can read"
    core.stop(2.0)
    assert core.state is State.IDLE
    assert core.next_deadline() == float("inf")
    return (
        state,
        re.sub(r"\d+", "#", core.last_error)[:40],
        tuple(sorted({type(each).__name__ for each in answers[0]})),
    )


def explained(data: bytes) -> Hashable:
    """What the command line makes of it: one description a message, an error only as the last."""
    described = list(messages(data))
    assert all("error" not in each for each in described[:-1])
    return tuple(each.get("type", "error") for each in described[:3])


def bfd(data: bytes) -> Hashable:
    packet = ControlPacket.decode(data)
    assert ControlPacket.decode(packet.encode()) == packet
    return packet.state, packet.poll, packet.final, packet.demand, packet.your_discriminator == 0


def neighbour(data: bytes) -> Hashable:
    core = discovery.Discovery(b"", rng=random.Random(1), now=0.0)
    core.received(data, "fe80::1", 255, 0.0)
    kind = discovery.decode(data)
    assert (core.router is not None) == (kind == discovery.ADVERTISEMENT)
    return kind


_ALL: Final[list[Target]] = [open_body, update_body, stream, session, explained, bfd, neighbour]


def _frame(octets: bytes) -> tuple[Type, bytes]:
    framer = Framer()
    framer.max_message = MAX_EXTENDED
    framer.feed(octets)
    got = framer.next_frame()
    assert got is not None
    return got


def _read(chunks: list[bytes]) -> tuple[list[object], PeerError | None]:
    framer = Framer()
    framer.max_message = MAX_EXTENDED
    heard: list[object] = []
    try:
        for chunk in chunks:
            framer.feed(chunk)
            while got := framer.next_frame():
                heard.append(decode(*got))
    except PeerError as problem:
        return heard, problem
    return heard, None


def more_seeds(name: str) -> list[bytes]:
    """Bodies where the target takes bodies, and otherwise everything."""
    skip = {"open_body": 19, "update_body": 19}.get(name, 0)
    first = b"\x02" if name == "session" else b""
    return [first + seed[skip:] for seed in SEEDS if len(seed) > skip]


FUZZER: Final = Fuzzer(
    corpus=Path(__file__).parent / "corpus",
    targets={target.__name__: target for target in _ALL},
    errors=(PeerError, BadPacket),
    more_seeds=more_seeds,
    interesting=tuple(bytes((octet,)) for octet in bytes.fromhex("000102107f20ff")),
    longest=5000,
)

if __name__ == "__main__":
    FUZZER.main()
