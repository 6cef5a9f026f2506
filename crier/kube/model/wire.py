"""From an object's JSON to a typed structure: what every kind's `decode` is made of.

The structures name only the fields we use; msgspec skips the rest without building it.  A field that the API
may leave out or send as null is optional here, and gets its meaning in the record made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import msgspec

from crier.kube.model.errors import DecodeError

MAX_OBJECT: Final = 8 * 1024 * 1024
"""Octets of one object.  etcd takes 1.5 MiB by default; JSON can be some times larger than what is stored."""


class _NoLabels(Mapping[str, str]):
    """Empty for ever.  Hashable, as a dataclass wants its defaults; a mapping proxy is that from 3.12 on."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __getitem__(self, key: str) -> str:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


NO_LABELS: Final[Mapping[str, str]] = _NoLabels()

T = TypeVar("T")


class OwnerWire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    kind: str = ""
    name: str = ""
    uid: str = ""


class MetaWire(msgspec.Struct, frozen=True, rename="camel"):
    """ObjectMeta, as far as we read it."""

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerWire, ...] | None = None
    creation_timestamp: str | None = None


class ObjectWire(msgspec.Struct, frozen=True):
    """Any object, when only its name matters."""

    metadata: MetaWire


def decode(decoder: msgspec.json.Decoder[T], data: bytes | bytearray | memoryview | msgspec.Raw) -> T:
    """Decode one object.

    Raises:
        DecodeError: on anything but JSON of the decoder's type within `MAX_OBJECT`.
    """
    size = memoryview(data).nbytes
    if size > MAX_OBJECT:
        raise DecodeError(f"an object of {size} octets; at most {MAX_OBJECT} are read")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as problem:
        raise DecodeError(_explain(str(problem), data)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise DecodeError(str(problem)) from None
    except RecursionError:
        raise DecodeError("nested too deeply") from None


_COMPLAINT: Final = re.compile(r"(.*) - at `(?:key in )?\$\.?([^`]*)`", re.DOTALL)
_STEP: Final = re.compile(r"\[(\d+)\]|\[\.\.\.\]|([^.\[]+)")
_SOME_KEY: Final = "[...]"
_MAX_SHOWN: Final = 60
"""Characters of a value in a message."""


def _explain(complaint: str, data: bytes | bytearray | memoryview | msgspec.Raw) -> str:
    """msgspec's complaint with the field first, as in all our messages, and with the value.

    Passwords, and what a Secret holds, are never shown.
    """
    match = _COMPLAINT.fullmatch(complaint)
    if match is None:
        return complaint
    what, path = match[1], match[2]
    what = what[:1].lower() + what[1:].replace(" | null`", "`")
    if "password" in path.lower() or path.startswith("data"):
        return f"{path}: {what}"
    try:
        value = msgspec.json.decode(data)
        whole = path.removesuffix(_SOME_KEY)
        for index, name in (step.groups() for step in _STEP.finditer(whole)):
            value = value[int(index)] if index else value[name]
        if whole != path:  # a map of texts, and which of them is none is ours to find
            key, value = next(pair for pair in value.items() if not isinstance(pair[1], str))
            path = f"{whole}[{_shown(key)}]"
    except (msgspec.MsgspecError, LookupError, TypeError, RecursionError, ValueError, StopIteration):
        return f"{path}: {what}"  # as where a path leads through an object whose keys it does not name
    shown = _shown(value)
    return f"{path}: {what}" if "password" in shown.lower() else f"{path}: {shown}: {what}"


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


_OBJECT: Final = msgspec.json.Decoder(ObjectWire)


def decode_meta(data: bytes | bytearray | memoryview | msgspec.Raw) -> MetaWire:
    """The metadata of an object of any kind.  Raises `DecodeError`, also when it has no name."""
    meta = decode(_OBJECT, data).metadata
    if not meta.name:
        raise DecodeError("metadata.name is missing")
    return meta


def object_key(namespace: str | None, name: str) -> str:
    """`namespace/name`, or `name` alone for what lives in no namespace."""
    return f"{namespace}/{name}" if namespace else name


def named(meta: MetaWire, *, namespaced: bool) -> MetaWire:
    """The same metadata, once it is sure that the object has the names its kind must have."""
    if not meta.name:
        raise DecodeError("metadata.name is missing")
    if namespaced and not meta.namespace:
        raise DecodeError("metadata.namespace is missing")
    return meta


Spec = TypeVar("Spec")


class _EnvelopeWire(msgspec.Struct, Generic[Spec], frozen=True):
    metadata: MetaWire
    spec: Spec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecObject(Generic[Spec]):
    """An object of a namespaced kind as it stands in the API: of the right shape, but not checked yet."""

    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default=NO_LABELS)
    spec: Spec

    _decoder: ClassVar[msgspec.json.Decoder[Any]]
    _no_spec: ClassVar[Any]

    def __init_subclass__(cls, *, spec: type) -> None:
        cls._decoder = msgspec.json.Decoder(_EnvelopeWire[spec])  # type: ignore[valid-type]
        cls._no_spec = spec()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `DecodeError`."""
        found = decode(cls._decoder, data)
        meta = named(found.metadata, namespaced=True)
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            uid=meta.uid or "",
            labels=meta.labels or NO_LABELS,
            spec=cls._no_spec if found.spec is None else found.spec,
        )
