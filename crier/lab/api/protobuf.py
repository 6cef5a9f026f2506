"""Request bodies in Kubernetes' protobuf: what Go clients send for builtin kinds, as JSON.

Answers are JSON always; clients that prefer protobuf say that they take JSON too.  The fields are in
`schema`.  An envelope is the four octets `k8s\\0` and a `k8s.io.apimachinery.pkg.runtime.Unknown`, which
names the kind and carries the object.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import msgspec

from crier.lab.api.errors import bad_request
from crier.lab.api.schema import INT_OR_STRING, MICRO_TIME, QUANTITY, RAW, STRINGS, TIME, Field, table

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\0"
MAX_DEPTH: Final = 64

Raw: TypeAlias = bytes | int


class _Malformed(Exception):
    pass


def decode(data: bytes) -> dict[str, Any]:
    """The object in an envelope, as its JSON would decode.

    Raises:
        ApiError: 400, it is malformed, or of a kind that is not known here.
    """
    try:
        return _decode(data)
    except (_Malformed, UnicodeDecodeError, msgspec.DecodeError, OverflowError, OSError, ValueError) as error:
        raise bad_request(f"the body is not Kubernetes' protobuf: {error}") from None


def _decode(data: bytes) -> dict[str, Any]:
    if not data.startswith(MAGIC):
        raise _Malformed("no envelope")
    envelope = dict(_fields(data[len(MAGIC) :]))
    head = {number: _text(value) for number, value in _fields(_octets(envelope.get(1, b"")))}
    api_version, kind = head.get(1, ""), head.get(2, "")
    message = table().kinds.get(f"{api_version} {kind}")
    if message is None:
        raise _Malformed(f"no kind {kind!r} of {api_version!r} is known")
    decoded = _message(message, _octets(envelope.get(2, b"")), 0)
    assert isinstance(decoded, dict), "a kind is an object"
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _fields(data: bytes) -> Iterator[tuple[int, Raw]]:
    """The fields of a message, of the wire types Kubernetes uses: varint and length-delimited."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        value, position = _varint(data, position)
        if wire_type == 0:
            yield number, value
        elif wire_type == 2:
            if value > len(data) - position:
                raise _Malformed("a field is longer than its message")
            yield number, data[position : position + value]
            position += value
        else:
            raise _Malformed(f"wire type {wire_type}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _Malformed("it ends within a number")
        octet = data[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise _Malformed("a number has more than ten octets")


def _message(name: str, data: bytes, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _Malformed(f"nested deeper than {MAX_DEPTH} levels")
    if name in _SPECIAL:
        return _SPECIAL[name](data)
    if name in RAW:
        raw = b"".join(_octets(value) for number, value in _fields(data) if number == 1)
        return msgspec.json.decode(raw) if raw else None
    known = table().messages[name]
    made: dict[str, Any] = {}
    for number, value in _fields(data):
        field = known.get(number)
        if field is not None:  # a field of a newer version is dropped, as the server does without its type
            _take(made, field, value, depth)
    return made


def _take(made: dict[str, Any], field: Field, value: Raw, depth: int) -> None:
    if field.form == "map":
        entry = dict(_fields(_octets(value)))
        inner = _value(field.type, entry.get(2, b""), depth)
        made.setdefault(field.name, {})[_text(entry.get(1, b""))] = inner
    elif field.form == "repeated":
        made.setdefault(field.name, []).append(_value(field.type, value, depth))
    else:
        decoded = _value(field.type, value, depth)
        if field.inline:
            made.update(decoded)
        elif decoded is not None and (field.keeps_zero or decoded not in (0, "", False)):
            made[field.name] = decoded


def _value(type_name: str, value: Raw, depth: int) -> Any:
    match type_name:
        case "string":
            return _text(value)
        case "bytes":
            return base64.b64encode(_octets(value)).decode()
        case "bool":
            return bool(_number(value))
        case "int32" | "int64":
            number = _number(value)
            return number - (1 << 64) if number >> 63 else number
    return _message(type_name, _octets(value), depth + 1)


def _octets(value: Raw) -> bytes:
    if not isinstance(value, bytes):
        raise _Malformed("a number where a message is expected")
    return value


def _text(value: Raw) -> str:
    return _octets(value).decode()


def _number(value: Raw) -> int:
    if not isinstance(value, int):
        raise _Malformed("a message where a number is expected")
    return value


def _time(data: bytes, *, micro: bool = False) -> str | None:
    parts = {number: _value("int64", value, 0) for number, value in _fields(data)}
    if not parts:
        return None  # Go's zero time
    time = datetime.fromtimestamp(parts.get(1, 0), UTC)
    if micro:
        return f"{time:%Y-%m-%dT%H:%M:%S}.{parts.get(2, 0) // 1000:06}Z"
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _quantity(data: bytes) -> str:
    return "".join(_text(value) for number, value in _fields(data) if number == 1) or "0"


def _int_or_string(data: bytes) -> int | str:
    parts = dict(_fields(data))
    if _number(parts.get(1, 0)) == 1:
        return _text(parts.get(3, b""))
    number: int = _value("int32", parts.get(2, 0), 0)
    return number


def _items(data: bytes) -> list[str]:
    return [_text(value) for _, value in _fields(data)]


_SPECIAL: Final[dict[str, Callable[[bytes], Any]]] = {
    TIME: _time,
    MICRO_TIME: functools.partial(_time, micro=True),
    QUANTITY: _quantity,
    INT_OR_STRING: _int_or_string,
    **dict.fromkeys(STRINGS, _items),
}
"""Types that JSON writes in a way of their own."""
