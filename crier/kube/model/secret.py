"""Secret: octets that must not be printed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.errors import DecodeError
from crier.kube.model.wire import MetaWire


class _SecretWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    type: str | None = None
    data: dict[str, str] | None = None


_DECODER: Final = msgspec.json.Decoder(_SecretWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What we read of a core/v1 Secret.  Its repr never shows the data."""

    namespace: str
    name: str
    type: str = "Opaque"
    data: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def decode(cls, data: bytes) -> Secret:
        """Raises `DecodeError`, whose text never has a value of the secret."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        values: dict[str, bytes] = {}
        for name, text in (found.data or {}).items():
            try:
                values[name] = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise DecodeError(f"data.{name} is not base64") from None
        return cls(namespace=meta.namespace or "", name=meta.name, type=found.type or "Opaque", data=values)
