"""Typed decoding: a JSON object held against the Go types it stands for.

As in the real server a field of the wrong type is a bad request, a null is as good as absent, and a field
that is not known is dropped, or refused where the client asked for `fieldValidation=Strict`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from crier.lab.api import schema
from crier.lab.api.errors import ApiError, bad_request
from crier.lab.api.store import Object

_LIMITS: Final = {"int32": 1 << 31, "int64": 1 << 63}

MAX_NAMED: Final = 10
"""Unknown fields named in one refusal."""


class _Wrong(Exception):
    def __init__(self, path: str, expected: str, value: Any) -> None:
        found = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        super().__init__(f"json: cannot unmarshal {found} into field {path} of type {expected}")


def conform(api_version: str, kind: str, body: Object, *, strict: bool = False) -> Object:
    """The object with typed fields only; of custom kinds only the metadata has types.

    Raises:
        ApiError: 400, a field has the wrong type, or is unknown and `strict` is set.
    """
    message = schema.table().kinds.get(f"{api_version} {kind}")
    unknown: list[str] = []
    head = {"apiVersion": api_version, "kind": kind}
    with _named(api_version, kind):
        if message is None:
            rest = {key: value for key, value in body.items() if key not in ("metadata", *head)}
            metadata = _message(schema.OBJECT_META, body.get("metadata") or {}, "metadata", unknown)
            for field in ("spec", "status"):
                if not isinstance(rest.get(field, {}), dict | None):
                    raise _Wrong(field, "object", rest[field])
            made = {**head, "metadata": metadata, **rest}
        else:
            body = {key: value for key, value in body.items() if key not in head}
            made = {**head, "metadata": {}, **_message(message, body, "", unknown)}
    if unknown and strict:
        listed = ", ".join(f'unknown field "{path}"' for path in unknown[:MAX_NAMED])
        raise _cannot(api_version, kind, f"strict decoding error: {listed}")
    return made


@contextmanager
def _named(api_version: str, kind: str) -> Iterator[None]:
    try:
        yield
    except _Wrong as wrong:
        raise _cannot(api_version, kind, str(wrong)) from None


def _cannot(api_version: str, kind: str, why: str) -> ApiError:
    version = api_version.rpartition("/")[2]
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')


def _message(name: str, value: Any, path: str, unknown: list[str]) -> Object:
    if not isinstance(value, dict):
        raise _Wrong(path, "object", value)
    fields = schema.by_name(name)
    made: Object = {}
    for key, inner in value.items():
        at = f"{path}.{key}" if path else key
        field = fields.get(key)
        if field is None:
            unknown.append(at)
        elif inner is not None:
            made[key] = _field(field, inner, at, unknown)
    return made


def _field(field: schema.Field, value: Any, path: str, unknown: list[str]) -> Any:
    if field.form == "repeated":
        if not isinstance(value, list):
            raise _Wrong(path, "array", value)
        return [_value(field.type, item, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    if field.form == "map":
        if not isinstance(value, dict):
            raise _Wrong(path, "map", value)
        return {key: _value(field.type, item, f"{path}.{key}", unknown) for key, item in value.items()}
    return _value(field.type, value, path, unknown)


def _value(type_name: str, value: Any, path: str, unknown: list[str]) -> Any:
    match type_name:
        case "string":
            return _checked(isinstance(value, str), type_name, value, path)
        case "bool":
            return _checked(isinstance(value, bool), type_name, value, path)
        case "int32" | "int64":
            limit = _LIMITS[type_name]
            is_number = isinstance(value, int) and not isinstance(value, bool)
            return _checked(is_number and -limit <= value < limit, type_name, value, path)
        case "bytes":
            return _checked(_is_base64(value), "base64", value, path)
        case schema.TIME | schema.MICRO_TIME:
            return _checked(value is None or _is_time(value), "time", value, path)
        case schema.INT_OR_STRING:
            is_number = (
                isinstance(value, int) and not isinstance(value, bool) and -(1 << 31) <= value < 1 << 31
            )
            return _checked(isinstance(value, str) or is_number, "int or string", value, path)
        case schema.QUANTITY:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            _checked(isinstance(value, str) or is_number, "quantity", value, path)
            return str(value)
    if type_name in schema.RAW:
        return value
    if type_name in schema.STRINGS:
        return _checked(
            isinstance(value, list) and all(isinstance(item, str) for item in value), "strings", value, path
        )
    return _message(type_name, {} if value is None else value, path, unknown)


def _checked(is_right: bool, expected: str, value: Any, path: str) -> Any:
    if not is_right:
        raise _Wrong(path, expected, value)
    return value


def _is_base64(value: Any) -> bool:
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) is not None
    except (ValueError, binascii.Error):
        return False


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
