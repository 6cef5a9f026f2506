"""ConfigMap: texts by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.wire import MetaWire


class _ConfigMapWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    data: dict[str, str] | None = None


_DECODER: Final = msgspec.json.Decoder(_ConfigMapWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap:
    """What we read of a core/v1 ConfigMap."""

    namespace: str
    name: str
    data: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes) -> ConfigMap:
        """Raises `DecodeError`."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        return cls(namespace=meta.namespace or "", name=meta.name, data=found.data or {})
