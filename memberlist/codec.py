"""Messages <-> octets: one type octet and one struct in MessagePack (`layout`).

Each message has one `Layout`, and both directions are read off it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from memberlist.errors import DecodeError
from memberlist.layout import (
    ADDRESS,
    BOOL,
    MAX_U16,
    MAX_U32,
    META,
    OCTETS,
    STATE_VERSIONS,
    TEXT,
    U8,
    U16,
    U32,
    VERSIONS,
    Field,
    Layout,
    pack,
    signed,
    unpack,
)
from memberlist.messages import (
    Ack,
    Alive,
    Dead,
    Error,
    IndirectPing,
    MessageType,
    Nack,
    PacketMessage,
    Ping,
    PushNodeState,
    Suspect,
    User,
)

MAX_NODES: Final = 1_048_576
"""Nodes in one push/pull."""

MAX_USER_STATE: Final = 20 * 1024 * 1024
"""Octets of the application's state in a push/pull, and of a user message on a stream."""

_SOURCE = (
    Field("SourceAddr", "source_addr", ADDRESS, omitted_when_empty=True),
    Field("SourcePort", "source_port", U16, omitted_when_empty=True),
    Field("SourceNode", "source_node", TEXT, omitted_when_empty=True),
)
_ACCUSATION = (
    Field("Incarnation", "incarnation", U32),
    Field("Node", "node", TEXT),
    Field("From", "sender", TEXT),
)

PING: Final = Layout(Ping, Field("SeqNo", "seq_no", U32), Field("Node", "node", TEXT), *_SOURCE)
INDIRECT_PING: Final = Layout(
    IndirectPing,
    Field("SeqNo", "seq_no", U32),
    Field("Target", "target", ADDRESS),
    Field("Port", "port", U16),
    Field("Node", "node", TEXT),
    Field("Nack", "nack", BOOL),
    *_SOURCE,
)
ACK: Final = Layout(Ack, Field("SeqNo", "seq_no", U32), Field("Payload", "payload", OCTETS))
NACK: Final = Layout(Nack, Field("SeqNo", "seq_no", U32))
SUSPECT: Final = Layout(Suspect, *_ACCUSATION)
DEAD: Final = Layout(Dead, *_ACCUSATION)
ALIVE: Final = Layout(
    Alive,
    Field("Incarnation", "incarnation", U32),
    Field("Node", "node", TEXT),
    Field("Addr", "addr", ADDRESS),
    Field("Port", "port", U16),
    Field("Meta", "meta", META),
    Field("Vsn", "vsn", VERSIONS),
)
ERROR: Final = Layout(Error, Field("Error", "error", TEXT))


def _node_state(
    name: str, addr: bytes, port: int, meta: bytes | None, incarnation: int, state: int, vsn: bytes
) -> PushNodeState:
    return PushNodeState(name, addr, port, incarnation, state, meta, vsn)


NODE_STATE: Final = Layout(
    _node_state,
    Field("Name", "name", TEXT),
    Field("Addr", "addr", ADDRESS),
    Field("Port", "port", U16),
    Field("Meta", "meta", META),
    Field("Incarnation", "incarnation", U32),
    Field("State", "state", signed()),
    Field("Vsn", "vsn", STATE_VERSIONS),
)


@dataclass(frozen=True, slots=True)
class PushPullHeader:
    """What opens a push/pull: so many nodes and so many octets of the application's state follow."""

    nodes: int
    user_state_length: int
    join: bool


@dataclass(frozen=True, slots=True)
class UserHeader:
    """What opens a user message on a stream."""

    length: int


@dataclass(frozen=True, slots=True)
class Compressed:
    algorithm: int
    """0 is LZW; there is no other."""
    data: bytes | None


PUSH_PULL_HEADER: Final = Layout(
    PushPullHeader,
    Field("Nodes", "nodes", signed(0, MAX_NODES)),
    Field("UserStateLen", "user_state_length", signed(0, MAX_USER_STATE)),
    Field("Join", "join", BOOL),
)
USER_HEADER: Final = Layout(UserHeader, Field("UserMsgLen", "length", signed(0, MAX_USER_STATE)))
COMPRESSED: Final = Layout(Compressed, Field("Algo", "algorithm", U8), Field("Buf", "data", OCTETS))

_PACKET_TYPES: Final[dict[type, tuple[bytes, Layout[Any]]]] = {
    Ping: (b"\x00", PING),
    IndirectPing: (b"\x01", INDIRECT_PING),
    Ack: (b"\x02", ACK),
    Nack: (b"\x0b", NACK),
    Suspect: (b"\x03", SUSPECT),
    Alive: (b"\x04", ALIVE),
    Dead: (b"\x05", DEAD),
}


_PACKET_LAYOUTS: Final = {kind[0]: layout for kind, layout in _PACKET_TYPES.values()}


def encode(message: PacketMessage) -> bytes:
    """The type octet and the body, as they stand in a datagram without any layer.

    Raises ValueError, naming the field, for a message that must not be sent: a number outside its width,
    meta data over 512 octets, an address of a strange size, versions that would crash a Go peer.
    """
    quick: bytes | None = None
    match message:
        case Ping():
            quick = _encode_full_ping(message)
        case Ack():
            quick = _encode_bare_ack(message)
        case User(payload):
            return b"\x08" + payload
    if quick is not None:
        return quick
    kind, layout = _PACKET_TYPES[type(message)]
    return kind + layout.encode(message)


def decode(data: bytes) -> PacketMessage:
    """One message without any layer.  Raises DecodeError, and nothing else, whatever the octets."""
    if not data:
        raise DecodeError("no message type")
    kind = data[0]
    layout = _PACKET_LAYOUTS.get(kind)
    if layout is None:
        if kind == MessageType.USER:
            return User(data[1:])
        raise DecodeError(f"message type {kind} has no place in a packet")
    if (quick := _decode_quickly(data)) is not None:
        return quick
    try:
        message: PacketMessage = layout.build(unpack(data[1:]))
    except DecodeError as problem:
        raise DecodeError(f"{MessageType(kind).name}: {problem}") from None
    return message


# --- short cuts -------------------------------------------------------------------------------------------
#
# Watching makes pings and acks nearly all of the traffic, and nearly all of them have one shape each.  These
# do what the layouts do for that shape and give None for every other; the tests hold one against the other.

_BARE_ACK: Final = b"\x02\x82\xa7Payload\xc0\xa5SeqNo"
_PING_HEAD: Final = b"\x00\x85\xa4Node"
_SEQ_KEY: Final = b"\xa5SeqNo"
_FIXED_RAW: Final = range(0xA0, 0xC0)
"""What a text of up to 31 octets begins with."""
_SHORT: Final = 512
"""Octets of the pings whose shape is remembered."""
_SHAPES: Final = 1024

_Shape: TypeAlias = tuple[str, bytes, int, str]
"""All of a ping but its number."""


def _encode_full_ping(ping: Ping) -> bytes | None:
    if not 0 <= ping.seq_no <= MAX_U32:
        return None
    frame = _ping_frame(ping.node, ping.source_addr, ping.source_port, ping.source_node)
    return None if frame is None else frame[0] + pack(ping.seq_no) + frame[1]


@lru_cache(maxsize=_SHAPES)
def _ping_frame(node: str, address: bytes, port: int, source: str) -> tuple[bytes, bytes] | None:
    """What stands before and after the number."""
    if not (source and 0 < port <= MAX_U16 and len(address) in (4, 16)):
        return None
    head = _PING_HEAD + pack(node.encode("utf-8", "surrogateescape")) + _SEQ_KEY
    tail = pack({
        "SourceAddr": address,
        "SourceNode": source.encode("utf-8", "surrogateescape"),
        "SourcePort": port,
    })  # fmt: skip
    return head, tail[1:]


def _encode_bare_ack(ack: Ack) -> bytes | None:
    if ack.payload is None and 0 <= ack.seq_no <= MAX_U32:
        return _BARE_ACK + pack(ack.seq_no)
    return None


def _decode_quickly(data: bytes) -> Ping | Ack | None:
    if data.startswith(_BARE_ACK):
        seq_no, end = _number(data, len(_BARE_ACK))
        return Ack(seq_no) if end == len(data) else None
    if data.startswith(_PING_HEAD) and len(_PING_HEAD) < len(data) <= _SHORT and data[7] in _FIXED_RAW:
        start = 8 + data[7] - _FIXED_RAW.start
        seq_no, end = _number(data, start + len(_SEQ_KEY))
        if end and data.startswith(_SEQ_KEY, start):
            shape = _ping_shape(data[: start + len(_SEQ_KEY)], data[end:])
            return None if shape is None else Ping(seq_no, *shape)
    return None


def _number(data: bytes, start: int) -> tuple[int, int]:
    """An unsigned integer of 16 or 32 bits and where it ends; 0 if it is none."""
    kind = data[start : start + 1]
    size = 5 if kind == b"\xce" else 3 if kind == b"\xcd" else 0
    end = start + size
    if not size or end > len(data):
        return 0, 0
    return int.from_bytes(data[start + 1 : end], "big"), end


@lru_cache(maxsize=_SHAPES)
def _ping_shape(head: bytes, tail: bytes) -> _Shape | None:
    """None when it takes the long way to know, or to say what is wrong."""
    try:
        ping = PING.decode(head[1:] + b"\x01" + tail)
    except DecodeError:
        return None
    return (ping.node, ping.source_addr, ping.source_port, ping.source_node)
