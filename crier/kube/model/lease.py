"""Lease: who leads when several replicas run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.wire import MetaWire


class _SpecWire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _LeaseWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    spec: _SpecWire | None = None


_DECODER: Final = msgspec.json.Decoder(_LeaseWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What we read of a coordination.k8s.io/v1 Lease."""

    namespace: str
    name: str
    resource_version: str = ""
    holder: str = ""
    duration: int = 0
    """Seconds; 0 when not set."""
    acquired: str = ""
    """RFC 3339 text.  Only its change means anything: clocks of different nodes are never compared."""
    renewed: str = ""
    """As `acquired`."""
    transitions: int = 0

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def decode(cls, data: bytes) -> Lease:
        """Raises `DecodeError`."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        spec = found.spec or _SpecWire()
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            resource_version=meta.resource_version or "",
            holder=spec.holder_identity or "",
            duration=spec.lease_duration_seconds or 0,
            acquired=spec.acquire_time or "",
            renewed=spec.renew_time or "",
            transitions=spec.lease_transitions or 0,
        )
