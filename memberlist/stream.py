"""One message on a TCP connection, in each direction.

    [f4 length label]                         only the side that dialled, and only if there is a label
    0a length:u32 payload                     encrypted; the text is one of the two forms below
    09 map {Algo, Buf}                        compressed; the text is the form below
    type, header map, more maps or octets

Nothing around a plain message says how long it is, so the reader works through what is there as it comes.
The five octets before an encrypted payload, and the label even where no header carries it, are authenticated.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Final, TypeVar

from memberlist import codec
from memberlist.codec import MAX_NODES, MAX_USER_STATE
from memberlist.errors import DecodeError
from memberlist.layout import MAX_BODY, measure
from memberlist.messages import Ack, Error, MessageType, Ping, PushNodeState, PushPull, StreamMessage, User
from memberlist.packet import Wire, deflate, inflate

MAX_ENCRYPTED: Final = 20 * 1024 * 1024
"""Octets after the five of the header; Go refuses more."""

MAX_TEXT: Final = 2 * MAX_USER_STATE
"""Octets of a message without its layers: the largest user state, and as much for the nodes."""

_ENCRYPTED: Final = struct.Struct("!BI")

T = TypeVar("T")
Wait = Generator[None, None, T]
"""Yields when octets are wanting, returns when it has what it is for."""


class Refused(DecodeError):
    """The outer layer is wrong in a way the peer is told: answer with `Error(str(refused))`, then close.

    For every other DecodeError the connection is closed without a word.
    """


def encode(message: StreamMessage, wire: Wire, *, dialling: bool, nonce: bytes) -> bytes:
    """All that goes out on one side of a connection: the label is in it when `dialling`.

    `nonce` is used when `wire.encrypting`, and never twice.  Unlike a datagram a stream is compressed, when
    compression is on, even if it grows, as Go does.  Raises ValueError for a message peers would refuse.
    """
    data = encode_plain(message)
    if wire.compress:
        data = deflate(data)
    if wire.keyring and wire.verify_outgoing:
        version = wire.encryption_version
        size = len(data) + (wire.encryption_overhead if version else 29 + 16 - len(data) % 16)
        if size > MAX_ENCRYPTED:
            raise ValueError(f"{size} octets encrypted; at most {MAX_ENCRYPTED} are read by peers")
        header = _ENCRYPTED.pack(MessageType.ENCRYPT, size)
        aad = header + wire.label_octets
        data = header + wire.keyring.encrypt(data, aad=aad, nonce=nonce, version=version)
    return wire.label_header + data if dialling else data


def encode_plain(message: StreamMessage) -> bytes:
    """The message without any layer.  Raises ValueError for one that must not be sent."""
    match message:
        case Ping():
            return b"\x00" + codec.PING.encode(message)
        case Ack():
            return b"\x02" + codec.ACK.encode(message)
        case Error():
            return b"\x0d" + codec.ERROR.encode(message)
        case User(payload):
            return b"\x08" + codec.USER_HEADER.encode(codec.UserHeader(len(payload))) + payload
        case PushPull(join, nodes, user_state):
            header = codec.PushPullHeader(len(nodes), len(user_state), join)
            states = map(codec.NODE_STATE.encode, nodes)
            return b"".join((b"\x06", codec.PUSH_PULL_HEADER.encode(header), *states, user_state))


class Reader:
    """Reads the one message that comes in on a connection.

    `accepted`: the peer dialled, so a label header must be there if the wire has a label; on a connection we
    dialled the answer carries none.  `max_nodes` lowers the protocol's bound for those who know
    how large their cluster can be.
    """

    def __init__(self, wire: Wire, *, accepted: bool, max_nodes: int = MAX_NODES) -> None:
        self._octets = _Octets(b"", whole=False)
        self.layers: list[str] = []
        """What was met so far, from the outside: label, encrypt, compress."""
        self._steps = self._read(wire, accepted=accepted, max_nodes=min(max_nodes, MAX_NODES))
        next(self._steps)

    def feed(self, data: bytes) -> StreamMessage | None:
        """Take what was received; the message once it is whole, else None.

        Raises DecodeError, of which `Refused` is a kind, whatever the octets.  Once it has returned a message
        or raised, the reader is spent and ignores what more there is.
        """
        self._octets.append(data)
        try:
            next(self._steps)
        except StopIteration as done:
            message: StreamMessage | None = done.value
            return message
        return None

    def _read(self, wire: Wire, *, accepted: bool, max_nodes: int) -> Wait[StreamMessage]:
        yield  # the first octets come with the first `feed`
        source = self._octets
        if accepted:
            yield from self._read_label(source, wire)
        (kind,) = yield from source.take(1)
        if kind == MessageType.ENCRYPT:
            source = _Octets((yield from self._read_encrypted(source, wire)), whole=True)
            (kind,) = yield from source.take(1)
        elif wire.keyring and wire.verify_incoming:
            raise Refused("encryption is configured but remote state is not encrypted")
        if kind == MessageType.COMPRESS:
            self.layers.append("compress")
            try:
                wrapper = yield from source.take_object(MAX_USER_STATE)
                text = inflate(wrapper, MAX_TEXT)
            except DecodeError as problem:
                raise Refused(str(problem)) from None
            source = _Octets(text, whole=True)
            (kind,) = yield from source.take(1)
        return (yield from _read_message(kind, source, max_nodes))

    def _read_label(self, source: _Octets, wire: Wire) -> Wait[None]:
        label = b""
        if (yield from source.peek()) == MessageType.LABEL:
            _, size = yield from source.take(2)
            if not size:
                raise DecodeError("label: header without a label")
            label = yield from source.take(size)
            self.layers.append("label")
        if wire.skip_label:
            if label:
                raise DecodeError("a label header, though it should have been taken off")
        elif label != wire.label_octets:
            raise DecodeError("another label")

    def _read_encrypted(self, source: _Octets, wire: Wire) -> Wait[bytes]:
        self.layers.append("encrypt")
        length = yield from source.take(4)
        if not wire.keyring:
            raise Refused("remote state is encrypted and encryption is not configured")
        size = int.from_bytes(length, "big")
        if size > MAX_ENCRYPTED:
            raise Refused(f"remote state is larger than {MAX_ENCRYPTED} bytes")
        payload = yield from source.take(size)
        try:
            return wire.keyring.decrypt(payload, aad=b"\x0a" + length + wire.label_octets)
        except DecodeError as problem:
            raise Refused(str(problem)) from None


def _read_message(kind: int, source: _Octets, max_nodes: int) -> Wait[StreamMessage]:
    try:
        if kind == MessageType.PING:
            return codec.PING.decode((yield from source.take_object()))
        if kind == MessageType.ACK:
            return codec.ACK.decode((yield from source.take_object()))
        if kind == MessageType.ERROR:
            return codec.ERROR.decode((yield from source.take_object()))
        if kind == MessageType.USER:
            user = codec.USER_HEADER.decode((yield from source.take_object()))
            return User((yield from source.take(user.length)))
        if kind == MessageType.PUSH_PULL:
            return (yield from _read_push_pull(source, max_nodes))
    except DecodeError as problem:
        raise DecodeError(f"{MessageType(kind).name}: {problem}") from None
    raise DecodeError(f"message type {kind} has no place on a stream")


def _read_push_pull(source: _Octets, max_nodes: int) -> Wait[PushPull]:
    header = codec.PUSH_PULL_HEADER.decode((yield from source.take_object()))
    if header.nodes > max_nodes:
        raise DecodeError(f"{header.nodes} nodes; at most {max_nodes} are read")
    nodes: list[PushNodeState] = []
    for _ in range(header.nodes):
        body = yield from source.take_object()
        nodes.append(codec.NODE_STATE.decode(body))
    user_state = yield from source.take(header.user_state_length)
    return PushPull(header.join, tuple(nodes), user_state)


class _Octets:
    """What has come and was not yet used."""

    def __init__(self, data: bytes, *, whole: bool) -> None:
        self._data = bytearray(data)
        self._at = 0
        self._used = 0
        self._whole = whole
        """Nothing more will come: to want more is an error."""

    def append(self, data: bytes) -> None:
        if self._at:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    def _wait(self) -> Wait[None]:
        if self._whole:
            raise DecodeError("cut off")
        yield

    def peek(self) -> Wait[int]:
        while self._at >= len(self._data):
            yield from self._wait()
        return self._data[self._at]

    def take(self, size: int) -> Wait[bytes]:
        while len(self._data) - self._at < size:
            yield from self._wait()
        return self._use(self._at + size)

    def take_object(self, limit: int = MAX_BODY) -> Wait[bytes]:
        """One MessagePack object, of which there can be no more than `limit` octets."""
        while (end := measure(self._data, self._at)) is None:
            if len(self._data) - self._at > limit:
                raise DecodeError(f"an object of more than {limit} octets")
            yield from self._wait()
        return self._use(end)

    def _use(self, end: int) -> bytes:
        start, self._at = self._at, end
        self._used += end - start
        if self._used > MAX_TEXT:
            raise DecodeError(f"more than {MAX_TEXT} octets")
        return bytes(self._data[start:end])
