"""EndpointSlice: where a service's pods are and whether they serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.wire import MetaWire

SERVICE_LABEL: Final = "kubernetes.io/service-name"


class _ConditionsWire(msgspec.Struct, frozen=True, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _EndpointWire(msgspec.Struct, frozen=True, rename="camel"):
    addresses: tuple[str, ...] | None = None
    node_name: str | None = None
    conditions: _ConditionsWire | None = None


class _PortWire(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class _SliceWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    endpoints: tuple[_EndpointWire, ...] | None = None
    ports: tuple[_PortWire, ...] | None = None


_DECODER: Final = msgspec.json.Decoder(_SliceWire)


@dataclass(frozen=True, slots=True)
class Endpoint:
    addresses: tuple[str, ...]
    node_name: str
    """"" when the slice does not say."""
    ready: bool = True
    """The API's "unknown" counts as ready."""
    serving: bool = True
    """The API's "unknown" means: as `ready`."""
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class EndpointPort:
    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """What we read of a discovery.k8s.io/v1 EndpointSlice."""

    namespace: str
    name: str
    service_key: str
    """`namespace/name` of its service; "" for a slice of none."""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def decode(cls, data: bytes) -> EndpointSlice:
        """Raises `DecodeError`."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        service = (meta.labels or {}).get(SERVICE_LABEL, "")
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            service_key=f"{meta.namespace}/{service}" if service else "",
            endpoints=tuple(_endpoint(entry) for entry in found.endpoints or ()),
            ports=tuple(
                EndpointPort(port.name or "", port.protocol or "TCP", port.port or 0)
                for port in found.ports or ()
            ),
        )


def _endpoint(entry: _EndpointWire) -> Endpoint:
    conditions = entry.conditions or _ConditionsWire()
    ready = conditions.ready is not False
    return Endpoint(
        addresses=entry.addresses or (),
        node_name=entry.node_name or "",
        ready=ready,
        serving=ready if conditions.serving is None else conditions.serving,
        terminating=conditions.terminating is True,
    )
