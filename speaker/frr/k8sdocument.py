"""The FRRConfiguration of one node, and what FRR-K8s says of its sessions.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from bgp_lite.attributes import Path
from bgp_lite.prefix import Prefix
from crier.kube.model import wire
from crier.kube.model.bfdprofile import BfdProfile
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.wire import MetaWire
from crier.kube.resources import Resource
from speaker.frr.render import CONNECT_TIME, peer_id, vrf_of

GROUP: Final = "frrk8s.metallb.io"
FRR_CONFIGURATIONS: Final = Resource(GROUP, "v1beta1", "frrconfigurations", "FRRConfiguration")
BGP_SESSION_STATES: Final = Resource(GROUP, "v1beta1", "bgpsessionstates", "BGPSessionState")
FRR_NODE_STATES: Final = Resource(GROUP, "v1beta1", "frrnodestates", "FRRNodeState", namespaced=False)
NODE_LABEL: Final = f"{GROUP}/node"
"""On a BGPSessionState."""
HOSTNAME: Final = "kubernetes.io/hostname"
_MAX_PORT: Final = 16384
_MAX_TEXT: Final = 256

Routes = Mapping[str, Mapping[Prefix, Path]]


def object_name(node: str) -> str:
    """MetalLB's, so that ours takes the place of its own."""
    return f"metallb-{node}"


def objection(peer: BgpPeer) -> str:
    """What FRRConfiguration cannot say of this peer; empty when it can say all.  A session that is not the
    one that was asked for is worse than none."""
    if peer.local_asn is not None and peer.local_asn != peer.my_asn:
        return "spec.localASN: an FRRConfiguration has no such field"
    if peer.port > _MAX_PORT:
        return f"spec.peerPort: {peer.port}, and an FRRConfiguration takes at most {_MAX_PORT}"
    return ""


def spec(peers: Sequence[BgpPeer], routes: Routes, node: str, *, secrets: bool) -> dict[str, Any]:
    """`spec` of the FRRConfiguration.  `secrets`: FRR-K8s reads the Secrets of our namespace itself, so that
    passwords need not be written down a second time."""
    routers: dict[str, list[BgpPeer]] = {}
    for peer in sorted(peers, key=lambda each: each.name):
        routers.setdefault(vrf_of(peer), []).append(peer)
    found: dict[str, Any] = {
        "routers": [_router(vrf, of_vrf, routes, secrets) for vrf, of_vrf in sorted(routers.items())]
    }
    profiles = {peer.bfd.name: _profile(peer.bfd) for peer in peers if peer.bfd is not None}
    if profiles:
        found["bfdProfiles"] = [profiles[name] for name in sorted(profiles)]
    return {"bgp": found, "nodeSelector": {"matchLabels": {HOSTNAME: node}}}


def body(namespace: str, node: str, wanted: Mapping[str, Any], version: str = "") -> dict[str, Any]:
    """The whole object; `version` makes it replace just that one."""
    metadata = {"name": object_name(node), "namespace": namespace}
    if version:
        metadata["resourceVersion"] = version
    kind = FRR_CONFIGURATIONS
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": wanted}


def _router(vrf: str, peers: Sequence[BgpPeer], routes: Routes, secrets: bool) -> dict[str, Any]:
    first = peers[0]
    prefixes = {str(prefix) for peer in peers for prefix in routes.get(peer.name, {})}
    router: dict[str, Any] = {
        "asn": first.my_asn,
        "neighbors": [_neighbor(peer, routes.get(peer.name, {}), secrets) for peer in peers],
        "prefixes": sorted(prefixes),
    }
    if first.router_id is not None:
        router["id"] = str(first.router_id)
    if vrf:
        router["vrf"] = vrf
    return router


def _neighbor(peer: BgpPeer, routes: Mapping[Prefix, Path], secrets: bool) -> dict[str, Any]:
    keepalive = peer.hold_time // 3 if peer.keepalive_time is None else peer.keepalive_time
    said: dict[str, Any] = {
        ("dynamicASN" if isinstance(peer.peer_asn, str) else "asn"): peer.peer_asn,
        ("interface" if peer.interface else "address"): peer_id(peer),
        "port": peer.port,
        "holdTime": f"{peer.hold_time}s",
        "keepaliveTime": f"{keepalive}s",
        "connectTime": f"{peer.connect_time or CONNECT_TIME}s",
        "toAdvertise": _advertise(routes),
    }
    if peer.source is not None:
        said["sourceaddress"] = str(peer.source)
    if peer.password_secret and secrets:
        said["passwordSecret"] = {"name": peer.password_secret}
    elif peer.password is not None:
        said["password"] = peer.password.decode()
    if peer.bfd is not None:
        said["bfdProfile"] = peer.bfd.name
    flags = {
        "ebgpMultiHop": peer.multihop,
        "enableGracefulRestart": peer.graceful_restart,
        "dualStackAddressFamily": peer.dual_stack,
    }
    return said | {name: True for name, given in flags.items() if given}


def _advertise(routes: Mapping[Prefix, Path]) -> dict[str, Any]:
    allowed: list[str] = []
    communities: dict[str, list[str]] = {}
    preferences: dict[int, list[str]] = {}
    for prefix, path in routes.items():
        text = str(prefix)
        allowed.append(text)
        for name in _communities(path):
            communities.setdefault(name, []).append(text)
        if path.local_pref:
            preferences.setdefault(path.local_pref, []).append(text)
    said: dict[str, Any] = {"allowed": {"prefixes": sorted(allowed)}}
    if communities:
        said["withCommunity"] = [
            {"community": name, "prefixes": sorted(found)} for name, found in sorted(communities.items())
        ]
    if preferences:
        said["withLocalPref"] = [
            {"localPref": value, "prefixes": sorted(found)} for value, found in sorted(preferences.items())
        ]
    return said


def _communities(path: Path) -> Iterable[str]:
    yield from (f"{value >> 16}:{value & 0xFFFF}" for value in path.communities)
    yield from (f"large:{':'.join(map(str, value))}" for value in path.large_communities)


def _profile(profile: BfdProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "receiveInterval": profile.receive_interval,
        "transmitInterval": profile.transmit_interval,
        "detectMultiplier": profile.detect_multiplier,
        "echoInterval": profile.echo_interval,
        "echoMode": profile.echo_mode,
        "passiveMode": profile.passive_mode,
        "minimumTtl": profile.minimum_ttl,
    }


# ------------------------------------------------------------------------------------- what is read back


class _SpecWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    spec: dict[str, Any] = {}


class _SessionStatusWire(msgspec.Struct, frozen=True):
    peer: str = ""
    vrf: str = ""
    bgp: str = msgspec.field(default="", name="bgpStatus")
    bfd: str = msgspec.field(default="", name="bfdStatus")


class _SessionWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    status: _SessionStatusWire = _SessionStatusWire()


class _NodeStatusWire(msgspec.Struct, frozen=True, rename="camel"):
    last_conversion_result: str = ""
    last_reload_result: str = ""


class _NodeWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    status: _NodeStatusWire = _NodeStatusWire()


_SPEC: Final = msgspec.json.Decoder(_SpecWire)
_SESSION: Final = msgspec.json.Decoder(_SessionWire)
_NODE: Final = msgspec.json.Decoder(_NodeWire)


@dataclass(frozen=True, slots=True)
class Existing:
    """The FRRConfiguration in the API.  There may be a password in it, so it has no words for itself."""

    name: str
    resource_version: str
    spec: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<FRRConfiguration {self.name}>"

    @classmethod
    def decode(cls, data: bytes) -> Existing:
        """Raises DecodeError."""
        found = wire.decode(_SPEC, data)
        meta = wire.named(found.metadata, namespaced=True)
        return cls(meta.name, meta.resource_version or "", found.spec)


@dataclass(frozen=True, slots=True)
class SessionState:
    """A BGPSessionState."""

    name: str
    peer: str
    """As `status_name` writes it."""
    vrf: str
    state: str
    bfd: str
    """As `SessionView` has it; empty without BFD."""

    @classmethod
    def decode(cls, data: bytes) -> SessionState:
        """Raises DecodeError."""
        found = wire.decode(_SESSION, data)
        said = found.status
        bfd = {"up": "Up", "init": "Init", "shutdown": "AdminDown", "down": "Down"}.get(said.bfd.lower(), "")
        vrf = "" if said.vrf == "default" else said.vrf
        return cls(wire.named(found.metadata, namespaced=True).name, said.peer, vrf, said.bgp, bfd)


def status_name(peer: BgpPeer) -> str:
    """What FRR-K8s calls a neighbour in a status: IPv6 in full, with dashes, because it is a label, too."""
    if isinstance(peer.address, ipaddress.IPv6Address):
        return peer.address.exploded.replace(":", "-")
    return peer_id(peer)


def decode_complaint(data: bytes) -> str:
    """What an FRRNodeState complains of; empty when all went well.  Raises DecodeError."""
    status = wire.decode(_NODE, data).status
    for text in (status.last_conversion_result, status.last_reload_result):
        if text and text.strip().lower() != "success":
            return f"FRR-K8s: {' '.join(text.split())}"[:_MAX_TEXT]
    return ""
