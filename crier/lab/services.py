"""The Services the demo creates, and the pool their addresses come from, as Kubernetes objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from crier.lab.errors import LabError

NAMESPACE: Final = "default"
POOL: Final = ("172.30.0.200-172.30.0.250", "fd00:c71e:7::200-fd00:c71e:7::250")
ROUTED_POOL: Final = ("198.51.100.1-198.51.100.50", "fd00:c71e:9::1-fd00:c71e:9::50")
ROUTED_NETWORKS: Final = ("198.51.100.0/24", "fd00:c71e:9::/64")
"""Where that is: no network of the LAN, so only a router finds it."""


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    protocol: str
    """`TCP` or `UDP`."""
    port: int
    target: int
    """Where the backends listen, on their node's own address."""


@dataclass(frozen=True, slots=True)
class LabService:
    name: str
    families: tuple[str, ...]
    """`IPv4`, `IPv6`, or both in order of preference."""
    ports: tuple[Port, ...]
    policy: str
    """externalTrafficPolicy."""
    summary: str

    @property
    def key(self) -> str:
        return f"{NAMESPACE}/{self.name}"

    def port(self, protocol: str) -> int | None:
        return next((port.port for port in self.ports if port.protocol == protocol), None)

    def manifest(self) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "type": "LoadBalancer",
            "selector": {"app": self.name},
            "externalTrafficPolicy": self.policy,
            "ipFamilyPolicy": "SingleStack" if len(self.families) == 1 else "RequireDualStack",
            "ipFamilies": list(self.families),
            "ports": [
                {"name": p.name, "protocol": p.protocol, "port": p.port, "targetPort": p.target}
                for p in self.ports
            ],
        }
        if self.policy == "Cluster":
            # The node that takes over serves from its own pod, so what the client misses is the VIP's
            # failover and not the death of a pod on another node.
            spec["trafficDistribution"] = "PreferSameNode"
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": spec,
        }


CATALOGUE: Final = {
    service.name: service
    for service in (
        LabService(
            "web",
            ("IPv4",),
            (Port("http", "TCP", 80, 8080), Port("probe", "UDP", 8000, 9080)),
            "Cluster",
            "TCP and UDP, IPv4, any node may serve",
        ),
        LabService(
            "voice", ("IPv4",), (Port("sip", "UDP", 5060, 9060),), "Local", "UDP, IPv4, the source is kept"
        ),
        LabService(
            "web6",
            ("IPv6",),
            (Port("http", "TCP", 80, 8086), Port("probe", "UDP", 8000, 9086)),
            "Cluster",
            "TCP and UDP, IPv6 only",
        ),
        LabService(
            "dual",
            ("IPv4", "IPv6"),
            (Port("http", "TCP", 80, 8087), Port("probe", "UDP", 8000, 9087)),
            "Cluster",
            "TCP and UDP, both families",
        ),
    )
}
DEFAULT: Final = ("web", "voice", "web6")


def parse_services(text: str) -> tuple[LabService, ...]:
    """Services by name, separated by commas.  Raises LabError for a name that is unknown or comes twice."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in CATALOGUE:
            raise LabError(f"{name!r} is none of {', '.join(CATALOGUE)}")
        if names.count(name) > 1:
            raise LabError(f"{name!r} is named twice")
    return tuple(CATALOGUE[name] for name in names)


def routed_manifests(
    system_namespace: str, *, router: str, router_asn: int, asn: int, bfd: tuple[int, int]
) -> list[dict[str, Any]]:
    """A pool that is announced to a router, which is watched by BFD (milliseconds, multiplier)."""
    interval, multiplier = bfd
    specs: list[tuple[str, str, dict[str, Any]]] = [
        ("v1beta1", "IPAddressPool", {"addresses": list(ROUTED_POOL)}),
        ("v1beta1", "BFDProfile",
         {"receiveInterval": interval, "transmitInterval": interval, "detectMultiplier": multiplier}),
        ("v1beta2", "BGPPeer",
         {"myASN": asn, "peerASN": router_asn, "peerAddress": router, "bfdProfile": "router",
          "dualStackAddressFamily": True, "connectTime": "1s"}),
        ("v1beta1", "BGPAdvertisement", {"ipAddressPools": ["router"]}),
    ]  # fmt: skip
    return [
        {
            "apiVersion": f"metallb.io/{version}",
            "kind": kind,
            "metadata": {"name": "router", "namespace": system_namespace},
            "spec": spec,
        }
        for version, kind, spec in specs
    ]


def pool_manifests(system_namespace: str, interfaces: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The address pool and its announcement, on these interfaces or on all."""
    return [
        {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"name": "lan", "namespace": system_namespace},
            "spec": {"addresses": list(POOL)},
        },
        {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "L2Advertisement",
            "metadata": {"name": "lan", "namespace": system_namespace},
            "spec": {"ipAddressPools": ["lan"], **({"interfaces": list(interfaces)} if interfaces else {})},
        },
    ]
