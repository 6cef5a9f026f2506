"""AdmissionReview and ConversionReview: what the API server asks, and how it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

MAX_BODY: Final = 8 * 1024 * 1024
"""Octets.  The API server takes objects of 3 MiB, and sends at most the new one and the old one."""
MAX_OBJECTS: Final = 10_000
"""Objects of one conversion; the API server sends one page of a list."""

_ADMISSION_VERSIONS: Final = ("admission.k8s.io/v1", "admission.k8s.io/v1beta1")
_CONVERSION_VERSIONS: Final = ("apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1")


class BadReview(ValueError):
    """Not a question of the API server's.  The only thing the decoders here raise."""


class _AdmissionRequestWire(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    operation: str
    namespace: str = ""
    name: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")


class _AdmissionWire(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: _AdmissionRequestWire


class _ConversionRequestWire(msgspec.Struct, frozen=True):
    uid: str
    desired: str = msgspec.field(name="desiredAPIVersion")
    objects: tuple[dict[str, Any], ...] = ()


class _ConversionWire(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: _ConversionRequestWire


_ADMISSION: Final = msgspec.json.Decoder(_AdmissionWire)
_CONVERSION: Final = msgspec.json.Decoder(_ConversionWire)


@dataclass(frozen=True, slots=True)
class Admission:
    """May this be done?"""

    version: str
    uid: str
    operation: str
    """CREATE, UPDATE, DELETE or CONNECT."""
    namespace: str
    name: str
    """Of the object; "" for one whose name is still to be made."""
    object: bytes
    """JSON of what is to be; empty for a deletion."""
    old: bytes = b""
    """JSON of what is; empty for a creation."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The same objects in another version, please."""

    version: str
    uid: str
    desired: str
    """apiVersion."""
    objects: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    message: str = ""
    """Why not."""
    warnings: tuple[str, ...] = ()
    """Shown by kubectl, whatever the verdict."""
    code: int = 403


def decode_admission(body: bytes) -> Admission:
    """Raises BadReview."""
    found = _decode(_ADMISSION, body)
    _check(found.api_version, found.kind, _ADMISSION_VERSIONS, "AdmissionReview")
    request = found.request
    return Admission(
        found.api_version,
        request.uid,
        request.operation,
        request.namespace,
        request.name,
        _or_nothing(request.object),
        _or_nothing(request.old_object),
    )


def encode_verdict(question: Admission, verdict: Verdict) -> bytes:
    response: dict[str, Any] = {"uid": question.uid, "allowed": verdict.allowed}
    if verdict.warnings:
        response["warnings"] = verdict.warnings
    if not verdict.allowed:
        response["status"] = {"code": verdict.code, "message": verdict.message}
    return _answer(question.version, "AdmissionReview", response)


def decode_conversion(body: bytes) -> Conversion:
    """Raises BadReview."""
    found = _decode(_CONVERSION, body)
    _check(found.api_version, found.kind, _CONVERSION_VERSIONS, "ConversionReview")
    if len(found.request.objects) > MAX_OBJECTS:
        raise BadReview(f"more than {MAX_OBJECTS} objects")
    return Conversion(found.api_version, found.request.uid, found.request.desired, found.request.objects)


def encode_converted(question: Conversion, objects: Sequence[Mapping[str, Any]]) -> bytes:
    return _answer(
        question.version,
        "ConversionReview",
        {"uid": question.uid, "result": {"status": "Success"}, "convertedObjects": objects},
    )


def encode_not_converted(question: Conversion, why: str) -> bytes:
    result = {"status": "Failure", "message": why}
    return _answer(question.version, "ConversionReview", {"uid": question.uid, "result": result})


def _answer(version: str, kind: str, response: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"apiVersion": version, "kind": kind, "response": response})


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    if len(body) > MAX_BODY:
        raise BadReview(f"{len(body)} octets; at most {MAX_BODY} are read")
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise BadReview(str(problem)) from None
    except RecursionError:
        raise BadReview("nested too deeply") from None


def _check(version: str, kind: str, versions: Sequence[str], expected: str) -> None:
    if kind != expected or version not in versions:
        raise BadReview(f"{version!r} {kind!r} is not {expected} of {versions[0]}")


def _or_nothing(raw: msgspec.Raw) -> bytes:
    found = bytes(raw)
    return b"" if found == b"null" else found
