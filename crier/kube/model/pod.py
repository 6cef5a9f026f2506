"""Pod: how speakers find one another, and who owns what a pod writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.wire import NO_LABELS, MetaWire


class _SpecWire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    node_name: str | None = None


class _StatusWire(msgspec.Struct, frozen=True, gc=False):
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    phase: str | None = None


class _PodWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    spec: _SpecWire | None = None
    status: _StatusWire | None = None


_DECODER: Final = msgspec.json.Decoder(_PodWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What we read of a core/v1 Pod."""

    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default=NO_LABELS)
    ip: str = ""
    """"" until the pod has one."""
    node_name: str = ""
    phase: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def decode(cls, data: bytes) -> Pod:
        """Raises `DecodeError`."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        spec, status = found.spec or _SpecWire(), found.status or _StatusWire()
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            uid=meta.uid or "",
            labels=meta.labels or NO_LABELS,
            ip=status.pod_ip or "",
            node_name=spec.node_name or "",
            phase=status.phase or "",
        )
