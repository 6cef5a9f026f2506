"""Go structs in MessagePack, as hashicorp/go-msgpack has them.

A struct is a map whose keys are the Go field names in ascending order.  Text and octets both use
MessagePack's old "raw" family; the newer str8 and bin types are understood and never sent, because the
older of the two Go generations rejects bin where it expects text.

What decoders accept is the union of what go-msgpack 0.5 and v2 accept: unknown, missing and repeated keys,
nil for anything, a struct as an array in declaration order, octets as an array of small integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import msgpack

from memberlist.errors import DecodeError

MAX_BODY: Final = 1 << 16
"""Octets of one MessagePack body.  No datagram is larger; one node of a push/pull is far smaller."""

MAX_ELEMENTS: Final = 2048
"""Items in one array or map, and in one whole object of a stream.

A declared length costs its sender five octets and us eight times the length in memory, so it needs a bound of
its own.  The largest honest array is the meta data as integers (512).
"""

MAX_META: Final = 512

MAX_U8: Final = 0xFF
MAX_U16: Final = 0xFFFF
MAX_U32: Final = 0xFFFF_FFFF
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1

pack: Final[Callable[[object], bytes]] = msgpack.Packer(use_bin_type=False).pack
_EXTENSION: Final = object()


def _extension(_code: int, _data: bytes) -> object:
    """Go's structs have no extensions: something to pass over, and wrong wherever a value is wanted."""
    return _EXTENSION


def unpack(body: bytes, limit: int = MAX_BODY) -> object:
    """One MessagePack object: maps as tuples of pairs, arrays as lists, text and octets as bytes."""
    if len(body) > limit:
        raise DecodeError(f"{len(body)} octets, at most {limit} are read")
    try:
        value: object = msgpack.unpackb(
            body,
            raw=True,
            strict_map_key=False,
            object_pairs_hook=tuple,  # keys may be anything in maps we skip, and need no hash
            ext_hook=_extension,
            max_array_len=MAX_ELEMENTS,
            max_map_len=MAX_ELEMENTS,
        )
    except msgpack.ExtraData as extra:  # Go reads one object and looks no further
        value = extra.unpacked
    except (ValueError, OverflowError) as problem:
        raise DecodeError(f"bad MessagePack: {problem}") from None
    return value


def _sizes() -> dict[int, tuple[int, int, int]]:
    """For 0xc0..0xdf: octets of the length, octets beside it, items per count (0: it counts octets)."""
    table = {0xC0: (0, 0, 0), 0xC2: (0, 0, 0), 0xC3: (0, 0, 0), 0xCA: (0, 4, 0), 0xCB: (0, 8, 0)}
    for power in range(3):
        size = 1 << power
        table[0xC4 + power] = (size, 0, 0)  # bin
        table[0xC7 + power] = (size, 1, 0)  # ext
        table[0xD9 + power] = (size, 0, 0)  # str
    for power in range(4):
        table[0xCC + power] = table[0xD0 + power] = (0, 1 << power, 0)  # uint, int
    for power in range(5):
        table[0xD4 + power] = (0, 1 + (1 << power), 0)  # fixext
    table.update({0xDC: (2, 0, 1), 0xDD: (4, 0, 1), 0xDE: (2, 0, 2), 0xDF: (4, 0, 2)})  # array, map
    return table


_SIZES: Final = _sizes()


def measure(data: bytes | bytearray, start: int = 0) -> int | None:
    """Where the MessagePack object at `start` ends, None if that is beyond `data`; nothing is built.

    A stream has no length in front: this tells when an object is whole.  Raises DecodeError for what is no
    MessagePack or has over `MAX_ELEMENTS` items.
    """
    at, pending, seen = start, 1, 0
    while pending:
        if at >= len(data):
            return None
        head = data[at]
        at += 1
        pending -= 1
        seen += 1
        if head < 0x80 or head >= 0xE0:
            continue
        if head < 0x90:
            pending += 2 * (head & 15)
        elif head < 0xA0:
            pending += head & 15
        elif head < 0xC0:
            at += head & 31
        elif head == 0xC1:
            raise DecodeError("bad MessagePack: octet c1")
        else:
            length_size, beside, items = _SIZES[head]
            count = int.from_bytes(data[at : at + length_size], "big")
            if len(data) < at + length_size:
                return None
            at += length_size + beside
            if items:
                pending += items * count
            else:
                at += count
        if pending + seen > MAX_ELEMENTS:
            raise DecodeError(f"an object of more than {MAX_ELEMENTS} items")
    return at if at <= len(data) else None


# --- kinds of field ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """How one type of Go field is written and read.

    `encode` raises ValueError, `decode` DecodeError; both name the reason and leave the field to the caller.
    `decode` is also called with None for nil and for a missing key: Go's zero value.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[Any], Any]
    nil_when_empty: bool = False
    """Octets of which there are always some, so that none at all means Go's nil."""


def _unsigned(maximum: int) -> Kind:
    def encode(value: int) -> bytes:
        if not 0 <= value <= maximum:
            raise ValueError(f"{value} is not within 0..{maximum}")
        return pack(value)

    def decode(value: object) -> int:
        if value is None:
            return 0
        if type(value) is not int:  # a bool is an int to Python, not to Go
            raise DecodeError("not an integer")
        if not 0 <= value <= maximum:
            raise DecodeError(f"{value} is not within 0..{maximum}")
        return value

    return Kind(encode, decode)


def signed(minimum: int = _INT_MIN, maximum: int = _INT_MAX) -> Kind:
    """A Go `int`.  Above 127 go-msgpack v2, MetalLB's, writes it signed; 0.5 wrote uint8 to uint64."""

    def encode(value: int) -> bytes:
        if not minimum <= value <= maximum:
            raise ValueError(f"{value} is not within {minimum}..{maximum}")
        if value <= 127:
            return pack(value)
        if value <= 0x7FFF:
            return b"\xd1" + value.to_bytes(2, "big")
        if value <= 0x7FFF_FFFF:
            return b"\xd2" + value.to_bytes(4, "big")
        return b"\xd3" + value.to_bytes(8, "big")

    def decode(value: object) -> int:
        if value is None:
            value = 0
        if type(value) is not int:
            raise DecodeError("not an integer")
        if not minimum <= value <= maximum:
            raise DecodeError(f"{value} is not within {minimum}..{maximum}")
        return value

    return Kind(encode, decode)


def _decode_bool(value: object) -> bool:
    if value is None:
        return False
    if type(value) in (bool, int) and value in (0, 1):
        return bool(value)
    raise DecodeError("not a bool")


def _decode_octets(value: object) -> bytes | None:
    if value is None or type(value) is bytes:
        return value
    if type(value) is list:
        try:
            return bytes(0 if item is None else item for item in value)
        except (TypeError, ValueError):
            raise DecodeError("an array with something other than 0..255") from None
    raise DecodeError("neither octets nor an array of them")


def _encode_text(value: str) -> bytes:
    return pack(value.encode("utf-8", "surrogateescape"))


def _decode_text(value: object) -> str:
    octets = value if type(value) is bytes else _decode_octets(value)
    return octets.decode("utf-8", "surrogateescape") if octets else ""


def _octets(wrong: Callable[[int], str | None]) -> Kind:
    """Octets whose number is checked: `wrong` gives the reason against it, or None."""

    def encode(value: bytes) -> bytes:
        if reason := wrong(len(value)):
            raise ValueError(reason)
        return pack(value or None)

    def decode(value: object) -> bytes:
        octets = _decode_octets(value) or b""
        if reason := wrong(len(octets)):
            raise DecodeError(reason)
        return octets

    return Kind(encode, decode, nil_when_empty=True)


def _wrong_address(length: int) -> str | None:
    return None if length in (0, 4, 16) else f"{length} octets; an address has 4 or 16"


def _wrong_versions(length: int) -> str | None:
    # One to five octets make every version of hashicorp/memberlist panic.  More than six are ignored there.
    return f"{length} octets; versions are six" if 0 < length < 6 else None


def _encode_meta(value: bytes | None) -> bytes:
    if value is not None and len(value) > MAX_META:
        raise ValueError(f"{len(value)} octets; at most {MAX_META} are allowed")
    return pack(value)


def _decode_meta(value: object) -> bytes | None:
    meta = _decode_octets(value)
    if meta is not None and len(meta) > MAX_META:
        raise DecodeError(f"{len(meta)} octets; at most {MAX_META} are allowed")
    return meta


U8: Final = _unsigned(MAX_U8)
U16: Final = _unsigned(MAX_U16)
U32: Final = _unsigned(MAX_U32)
BOOL: Final = Kind(pack, _decode_bool)
TEXT: Final = Kind(_encode_text, _decode_text)
OCTETS: Final = Kind(pack, _decode_octets)
ADDRESS: Final = _octets(_wrong_address)
META: Final = Kind(_encode_meta, _decode_meta)
VERSIONS: Final = _octets(_wrong_versions)
# In a push/pull nil versions crash Go nodes that have a merge delegate; Go itself sends zeros there.
STATE_VERSIONS: Final = Kind(lambda value: VERSIONS.encode(value or bytes(6)), VERSIONS.decode)


# --- layouts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    wire: str
    """Go's name, the key on the wire."""
    attribute: str
    kind: Kind
    omitted_when_empty: bool = False


T = TypeVar("T")


class Layout(Generic[T]):
    """A struct on the wire.  Fields are listed in Go's declaration order, which the array form follows."""

    def __init__(self, make: Callable[..., T], *fields: Field) -> None:
        assert 0 < len(fields) < 16, "every map of the protocol fits MessagePack's shortest form"
        self.fields = fields
        self._make = make
        self._readers = [(field.wire.encode(), field.kind.decode) for field in fields]
        self._sorted = sorted(fields, key=lambda field: field.wire)
        self._writers = [
            (
                b"%c%b" % (0xA0 | len(field.wire), field.wire.encode()),
                field.kind.encode,
                field.omitted_when_empty,
            )
            for field in self._sorted
        ]
        self._values = attrgetter(*(field.attribute for field in self._sorted))

    def values(self, message: T) -> Sequence[Any]:
        """The attributes in the order of the wire."""
        values = self._values(message)
        return values if len(self.fields) > 1 else (values,)

    def encode(self, message: T) -> bytes:
        """Raises ValueError, which names the field, for what must not be sent."""
        fragments = [b""]
        values = self.values(message)
        for value, (key, encode, omitted_when_empty) in zip(values, self._writers, strict=True):
            if omitted_when_empty and not value:
                continue
            fragments.append(key)
            try:
                fragments.append(encode(value))
            except (ValueError, TypeError) as problem:
                raise ValueError(f"{type(message).__name__} {key[1:].decode()}: {problem}") from None
        fragments[0] = b"%c" % (0x80 | len(fragments) >> 1)
        return b"".join(fragments)

    def describe(self, message: T) -> dict[str, int | bool | str | bytes | None]:
        """What stands on the wire for `message`: Go's names, in order; None where it is nil."""
        return {
            field.wire: None if field.kind.nil_when_empty and not value else value
            for field, value in zip(self._sorted, self.values(message), strict=True)
            if value or not field.omitted_when_empty
        }

    def decode(self, body: bytes, limit: int = MAX_BODY) -> T:
        """The struct in `body`; octets after it are ignored.  Raises DecodeError, which names the field."""
        return self.build(unpack(body, limit))

    def build(self, value: object) -> T:
        """The struct out of what `unpack` returned."""
        given: list[object]
        if type(value) is tuple:
            try:
                fields = dict(value)
                b"".join(fields)  # the quickest way to see that all keys are text
            except TypeError:
                raise DecodeError("a key that is no text") from None
            get = fields.get
            given = [get(key) for key, _ in self._readers]
        elif type(value) is list:
            given = (value + [None] * len(self._readers))[: len(self._readers)]
        elif value is None:
            given = [None] * len(self._readers)
        else:
            raise DecodeError("neither a map nor an array")
        arguments = []
        for (key, decode), item in zip(self._readers, given, strict=True):
            try:
                arguments.append(decode(item))
            except DecodeError as problem:
                raise DecodeError(f"{key.decode()}: {problem}") from None
        return self._make(*arguments)
