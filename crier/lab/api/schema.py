"""The fields of the builtin kinds: `protobuf.json` (see `protobuf_fields`) as records.

One table serves two readers: `protobuf` knows fields by number, `shapes` by their JSON names.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

META: Final = "k8s.io.apimachinery.pkg.apis.meta.v1"
OBJECT_META: Final = f"{META}.ObjectMeta"
TIME: Final = f"{META}.Time"
MICRO_TIME: Final = f"{META}.MicroTime"
RAW: Final = frozenset({f"{META}.FieldsV1", "k8s.io.apimachinery.pkg.runtime.RawExtension"})
"""Any JSON."""
QUANTITY: Final = "k8s.io.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING: Final = "k8s.io.apimachinery.pkg.util.intstr.IntOrString"
STRINGS: Final = frozenset(
    {"k8s.io.api.authentication.v1.ExtraValue", "k8s.io.api.authorization.v1.ExtraValue"}
)
"""Messages that JSON writes as a list of strings."""


class Field(msgspec.Struct, frozen=True, array_like=True):
    """One field of a message."""

    name: str
    form: str
    """optional, repeated or map (of strings to `type`)."""
    type: str
    """string, bytes, bool, int32, int64 or a message."""
    keeps_zero: bool
    """Whether JSON shows a zero: Go has a pointer there, or no `omitempty`."""
    inline: bool
    """Its fields stand among its parent's."""


class Table(msgspec.Struct, frozen=True):
    """All of them."""

    kinds: dict[str, str]
    """`apiVersion kind` to message."""
    messages: dict[str, dict[int, Field]]


@functools.cache
def table() -> Table:
    """Read once, when first needed."""
    data = Path(__file__).with_name("protobuf.json").read_bytes()
    return msgspec.json.decode(data, type=Table, strict=False)


@functools.cache
def by_name(message: str) -> Mapping[str, Field]:
    """The fields of a message by their JSON names, those of inlined messages among them."""
    named: dict[str, Field] = {}
    for field in table().messages[message].values():
        if field.inline:
            named.update(by_name(field.type))
        else:
            named[field.name] = field
    return named
