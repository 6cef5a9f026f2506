"""One datagram: label, encryption, checksum, compression and compound around encoded messages.

    [f4 length label] [encrypted:] [0c crc32] [09 compressed:] [07 compound:] message

Each layer is optional and, read from outside, they come in this order; compound and compress may also hold
one another.  A `Wire` is what all datagrams and streams of one member have in common.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from memberlist import codec, lzw
from memberlist.errors import ConfigError, DecodeError
from memberlist.keyring import Keyring, overhead
from memberlist.messages import MessageType, PacketMessage

MAX_PACKET: Final = 65536
"""Octets to receive.  The configured size only bounds what we gather into one datagram."""

MAX_PAYLOAD: Final = 65507 - 5 - 45 - 2 - 255 - 16
"""Octets of the application's that fit a datagram with every layer around them; 16 are for the message."""

MAX_PARTS: Final = 127
"""Messages in a compound we send.  The format has room for 255; before 0.2.4 peers misread 128 and more."""

MAX_LABEL: Final = 255

MAX_INFLATED: Final = 1 << 20
"""Octets all compressed layers of one datagram may inflate to, together."""

MAX_DEPTH: Final = 16
"""Compound and compress within one another.  Go sets no bound and nothing honest needs more than two."""

MAX_COMMANDS: Final = 4096
"""Messages and layers in one datagram, so that a small one that inflates well cannot keep us busy."""

_WRAPPERS: Final = frozenset((MessageType.COMPOUND, MessageType.COMPRESS, MessageType.CRC))
_COMPOUND: Final = int(MessageType.COMPOUND)
_COMPRESS: Final = int(MessageType.COMPRESS)
_CHECKSUM: Final = struct.Struct("!BI")
_USELESS_TO_COMPRESS: Final = 24
"""Up to here even a text of equal octets grows: 13 octets of frame, nine bits for each of nine codes."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How one member's octets are wrapped.  Raises ConfigError for a setting out of range."""

    keyring: Keyring | None = None
    """None, or a ring without keys: no encryption.  Asked for each packet, so keys can change at run time."""
    label: str = ""
    """Members with another label, or none, are not heard.  At most 255 octets of UTF-8."""
    compress: bool = True
    """What we send; compressed input is always read."""
    verify_incoming: bool = True
    """With keys: drop what is not encrypted.  False only while a cluster moves to encryption."""
    verify_outgoing: bool = True
    """With keys: encrypt what we send.  False only while a cluster moves to encryption."""
    skip_label: bool = False
    """A proxy in front takes the label header off; input that still has one is refused."""
    encryption_version: int = 1
    """0 for members that speak protocol 1, else 1."""
    label_octets: bytes = field(init=False, repr=False)
    _bare: bool = field(init=False, repr=False)
    """There is no label, and nothing to do with one."""

    def __post_init__(self) -> None:
        octets = self.label.encode("utf-8", "surrogateescape")
        if len(octets) > MAX_LABEL:
            raise ConfigError(f"label: {len(octets)} octets; at most {MAX_LABEL} are allowed")
        if self.encryption_version not in (0, 1):
            raise ConfigError(f"encryption_version: {self.encryption_version}; it must be 0 or 1")
        object.__setattr__(self, "label_octets", octets)
        object.__setattr__(self, "_bare", not octets and not self.skip_label)

    @property
    def encrypting(self) -> bool:
        """Whether what we send is encrypted."""
        return bool(self.keyring) and self.verify_outgoing

    @property
    def label_overhead(self) -> int:
        """Octets the label adds to a datagram."""
        return len(self.label_header)

    @property
    def encryption_overhead(self) -> int:
        """The most octets encryption adds to a datagram; 0 without keys.  `verify_outgoing` is not asked."""
        return overhead(self.encryption_version) if self.keyring else 0

    @property
    def label_header(self) -> bytes:
        octets = self.label_octets
        return b"%c%c%b" % (MessageType.LABEL, len(octets), octets) if octets else b""

    def seal(self, parts: Sequence[bytes], *, crc: bool, nonce: bytes) -> bytes:
        """One datagram of encoded messages, at most `MAX_PARTS` of them (see `split`).

        `crc` is for receivers that speak protocol 5.  `nonce` is used when `encrypting` and never twice.
        Raises ValueError for no part, too many, an empty one, or one that a compound cannot hold.
        """
        data = parts[0] if len(parts) == 1 else compound(parts)
        if not data:
            raise ValueError("an empty message would crash old peers")
        if self.compress:
            data = shorter(data)
        if crc:
            data = _CHECKSUM.pack(MessageType.CRC, zlib.crc32(data)) + data
        if self.keyring and self.verify_outgoing:
            version = self.encryption_version
            data = self.keyring.encrypt(data, aad=self.label_octets, nonce=nonce, version=version)
        return self.label_header + data if self.label_octets else data

    def open(self, datagram: bytes) -> list[PacketMessage]:
        """The messages, in their order.

        A part of a compound that cannot be read is dropped and the others count, as in Go.  Raises
        DecodeError if that leaves nothing (an honest compound of no parts is an empty list), or a layer is
        wrong.
        """
        if self._bare and (self.verify_incoming or not self.keyring) and datagram[:1] != b"\xf4":
            # Nearly all there is: one message, at most encrypted.
            data = self.keyring.decrypt(datagram, aad=b"") if self.keyring else datagram
            if data and data[0] not in _WRAPPERS:
                return [codec.decode(data)]
        opened = self.examine(datagram)
        if opened.problems and not opened.messages:
            raise DecodeError(opened.problems[0])
        return opened.messages

    def examine(self, datagram: bytes) -> Opened:
        """Like `open`, with what was met on the way.  Raises DecodeError if the outer layers are wrong."""
        opened = Opened()
        data = datagram
        if self.label_octets or self.skip_label or data[:1] == b"\xf4":
            data = self._strip_label(data, opened)
        undecipherable: DecodeError | None = None
        if self.keyring:
            try:
                data = self.keyring.decrypt(data, aad=self.label_octets)
                opened.layers.append("encrypt")
            except DecodeError as problem:
                if self.verify_incoming:
                    raise
                undecipherable = problem
        try:
            if data[:1] == b"\x0c" and len(data) >= _CHECKSUM.size:
                data = _check(data)
                opened.layers.append("crc")
            opened.take(data, 0)
        except DecodeError as problem:
            if undecipherable is None:
                raise
            raise DecodeError(f"{undecipherable}; and as plain text: {problem}") from None
        return opened

    def _strip_label(self, data: bytes, opened: Opened) -> bytes:
        label, rest = split_label(data)
        if self.skip_label:
            if label:
                raise DecodeError("a label header, though it should have been taken off")
            return rest
        if label != self.label_octets:
            raise DecodeError("another label")
        if label:
            opened.layers.append("label")
        return rest


class Opened:
    """What was in a datagram."""

    __slots__ = ("_commands", "_inflated", "layers", "messages", "problems")

    def __init__(self) -> None:
        self.messages: list[PacketMessage] = []
        self.layers: list[str] = []
        """From the outside: label, encrypt, crc, compress, compound."""
        self.problems: list[str] = []
        """Why each part that was dropped was dropped."""
        self._commands = 0
        self._inflated = 0

    def take(self, data: bytes, depth: int) -> None:
        """Read one command, however deep; raises DecodeError when not a part but all of it is lost."""
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            raise DecodeError(f"more than {MAX_COMMANDS} messages in one packet")
        kind = data[0] if data else -1
        if kind == _COMPOUND:
            self.layers.append("compound")
            self._take_compound(data, _deeper(depth))
        elif kind == _COMPRESS:
            self.layers.append("compress")
            data = inflate(data[1:], MAX_INFLATED - self._inflated)
            self._inflated += len(data)
            self.take(data, _deeper(depth))
        else:
            self.messages.append(codec.decode(data))

    def _take_compound(self, data: bytes, depth: int) -> None:
        parts, lost = parts_of(data)
        if lost:
            self.problems.append(f"compound: {lost} parts are cut off")
        for part in parts:
            try:
                self.take(part, depth)
            except DecodeError as problem:
                if self._commands > MAX_COMMANDS:
                    raise
                self.problems.append(str(problem))


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise DecodeError(f"more than {MAX_DEPTH} layers of compound and compress")
    return depth + 1


def _check(data: bytes) -> bytes:
    _, stated = _CHECKSUM.unpack_from(data)
    rest = data[_CHECKSUM.size :]
    if zlib.crc32(rest) != stated:
        raise DecodeError(f"checksum {zlib.crc32(rest):08x}, the packet says {stated:08x}")
    return rest


def split_label(data: bytes) -> tuple[bytes, bytes]:
    """The label, empty if there is no header, and the rest.  Raises DecodeError for a wrong header."""
    if data[:1] != b"\xf4":
        return b"", data
    if len(data) < 2:
        raise DecodeError("label: header is cut off")
    size = data[1]
    if size == 0:
        raise DecodeError("label: header without a label")
    if len(data) < 2 + size:
        raise DecodeError("label: header is cut off")
    return data[2 : 2 + size], data[2 + size :]


def compound(parts: Sequence[bytes]) -> bytes:
    """Encoded messages as one.  Raises ValueError for what peers could not read."""
    if not 0 < len(parts) <= MAX_PARTS:
        raise ValueError(f"{len(parts)} messages; a compound we send has 1 to {MAX_PARTS}")
    lengths = [len(part) for part in parts]
    if not 0 < min(lengths) <= max(lengths) <= 0xFFFF:
        raise ValueError("a message of a compound has 1 to 65535 octets")
    head = struct.pack(f"!BB{len(parts)}H", MessageType.COMPOUND, len(parts), *lengths)
    return b"".join((head, *parts))


def split(parts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """As many `seal` arguments as the parts need."""
    for start in range(0, len(parts), MAX_PARTS):
        yield parts[start : start + MAX_PARTS]


def parts_of(data: bytes) -> tuple[list[bytes], int]:
    """The parts of a compound, and how many are lost: one that is cut off and all after it.

    Raises DecodeError if not even the lengths are there.
    """
    if len(data) < 2:
        raise DecodeError("compound: no number of parts")
    count = data[1]
    start = 2 + 2 * count
    if len(data) < start:
        raise DecodeError("compound: lengths are cut off")
    parts = []
    for length in struct.unpack_from(f"!{count}H", data, 2):
        end = start + length
        if end > len(data):
            break
        parts.append(data[start:end])
        start = end
    return parts, count - len(parts)


def deflate(data: bytes) -> bytes:
    """`data` as a compress message, whether that is shorter or not."""
    return _framed(lzw.compress(data))


def _framed(compressed: bytes) -> bytes:
    return b"\x09" + codec.COMPRESSED.encode(codec.Compressed(0, compressed))


_SHORTEST_FRAME: Final = len(_framed(b""))
"""Octets around what is compressed, at least."""


def shorter(data: bytes) -> bytes:
    """`data`, or the same compressed if that is shorter: the rule for datagrams."""
    if len(data) <= _USELESS_TO_COMPRESS:
        return data
    # A frame is never shorter than that of a short text.
    compressed = lzw.compress_below(len(data) - _SHORTEST_FRAME, data)
    if compressed is None:
        return data
    deflated = _framed(compressed)
    return deflated if len(deflated) < len(data) else data


def inflate(body: bytes, limit: int) -> bytes:
    """What a compress message holds, at most `limit` octets.  `body` begins after the type.

    Raises DecodeError also when it holds nothing, which crashes Go peers on streams.
    """
    compressed = codec.COMPRESSED.decode(body, limit=len(body))  # its caller knows how much to hold
    if compressed.algorithm != 0:
        raise DecodeError(f"compress: algorithm {compressed.algorithm} is unknown")
    data = lzw.decompress(compressed.data or b"", limit)
    if not data:
        raise DecodeError("compress: holds nothing")
    return data
