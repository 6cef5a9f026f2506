"""Service: who wants an address and which it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crier.kube.model import annotations as notes
from crier.kube.model import wire
from crier.kube.model.wire import NO_LABELS, MetaWire


class _PortWire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    port: int = 0
    protocol: str | None = None
    name: str | None = None
    node_port: int | None = None


class _SpecWire(msgspec.Struct, frozen=True, rename="camel"):
    type: str | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str | None = msgspec.field(default=None, name="loadBalancerIP")
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    ip_families: tuple[str, ...] | None = None
    ip_family_policy: str | None = None
    external_traffic_policy: str | None = None
    selector: dict[str, str] | None = None
    ports: tuple[_PortWire, ...] | None = None


class _IngressWire(msgspec.Struct, frozen=True, gc=False):
    ip: str | None = None


class _LoadBalancerWire(msgspec.Struct, frozen=True):
    ingress: tuple[_IngressWire, ...] | None = None


class _StatusWire(msgspec.Struct, frozen=True, rename="camel"):
    load_balancer: _LoadBalancerWire | None = None


class _ServiceWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    spec: _SpecWire | None = None
    status: _StatusWire | None = None


_DECODER: Final = msgspec.json.Decoder(_ServiceWire)


@dataclass(frozen=True, slots=True)
class ServicePort:
    protocol: str
    """TCP, UDP or SCTP."""
    port: int
    name: str = ""
    node_port: int = 0

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What we read of a core/v1 Service."""

    namespace: str
    name: str
    uid: str = ""
    type: str = "ClusterIP"
    load_balancer_class: str | None = None
    load_balancer_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    """As in the spec; a headless service has the text "None" here."""
    ip_families: tuple[str, ...] = ()
    """`IPv4`, `IPv6`; the first is the primary."""
    ip_family_policy: str = "SingleStack"
    external_traffic_policy: str = "Cluster"
    selector: Mapping[str, str] = field(default=NO_LABELS)
    ports: tuple[ServicePort, ...] = ()
    labels: Mapping[str, str] = field(default=NO_LABELS)
    annotations: Mapping[str, str] = field(default=NO_LABELS)
    ingress_ips: tuple[str, ...] = ()
    """One text per entry of status.loadBalancer.ingress, as it stands; "" where an entry has no ip."""
    resource_version: str = ""
    created: str = ""
    """RFC 3339 text in UTC, as the API writes it; sorts by age."""
    document: bytes = field(default=b"", compare=False, repr=False)
    """The JSON it was decoded from, where `decode_whole` kept it."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def is_load_balancer(self) -> bool:
        return self.type == "LoadBalancer"

    @property
    def is_local(self) -> bool:
        """Only nodes with an endpoint of the service may answer for it."""
        return self.external_traffic_policy == "Local"

    def annotation(self, name: str) -> str:
        """One of our annotations by its name without prefix; "" when absent."""
        return notes.read(self.annotations, name)

    @classmethod
    def decode_whole(cls, data: bytes) -> Service:
        """The same, with the JSON where the service waits for an address: for who will replace it.

        What has its address is not kept, so that a large cluster at rest costs no memory for it.  Raises
        `DecodeError`.
        """
        return cls._decode(data, whole=True)

    @classmethod
    def decode(cls, data: bytes) -> Service:
        """Raises `DecodeError`."""
        return cls._decode(data, whole=False)

    @classmethod
    def _decode(cls, data: bytes, *, whole: bool) -> Service:
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        spec = found.spec or _SpecWire()
        balancer = found.status.load_balancer if found.status else None
        cluster_ips = tuple(ip for ip in spec.cluster_ips or () if ip)
        if not cluster_ips and spec.cluster_ip:
            cluster_ips = (spec.cluster_ip,)
        ingress_ips = tuple(entry.ip or "" for entry in (balancer.ingress if balancer else None) or ())
        waits = spec.type == "LoadBalancer" and not ingress_ips
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            uid=meta.uid or "",
            type=spec.type or "ClusterIP",
            load_balancer_class=spec.load_balancer_class,
            load_balancer_ip=spec.load_balancer_ip or "",
            cluster_ips=cluster_ips,
            ip_families=spec.ip_families or (),
            ip_family_policy=spec.ip_family_policy or "SingleStack",
            external_traffic_policy=spec.external_traffic_policy or "Cluster",
            selector=spec.selector or NO_LABELS,
            ports=tuple(
                ServicePort(port.protocol or "TCP", port.port, port.name or "", port.node_port or 0)
                for port in spec.ports or ()
            ),
            labels=meta.labels or NO_LABELS,
            annotations=meta.annotations or NO_LABELS,
            ingress_ips=ingress_ips,
            resource_version=meta.resource_version or "",
            created=meta.creation_timestamp or "",
            document=data if whole and waits else b"",
        )
