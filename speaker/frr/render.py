"""What FRR is to be told of the peers: BGPPeers and BFDProfiles as lines of its configuration.  Pure.

What is ours carries a name that begins with `crier-`, or, for a neighbour, a description that begins with
`crier`: whatever else is configured in the same FRR is left alone.  The description ends in a digest of all
that was said of the neighbour, so that a planner that was started anew sees in FRR itself which sessions are
as they should be.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from crier.kube.model.bfdprofile import BfdProfile
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from speaker.frr.vty import printable

CONNECT_TIME: Final = 30
"""Seconds between attempts, where the BGPPeer says none: FRR's own 120 s are a long time without routes
after a router's restart, and our own BGP waits no longer than that either."""
IN_MAP: Final = "crier-in"
"""Nothing is taken from any router."""
GLOBALS: Final = ("bgp route-map delay-timer 1",)
"""Seconds until a changed route-map counts for what was sent before; 5 by default, and 0 means never."""
NHT: Final = ("ip nht resolve-via-default", "ipv6 nht resolve-via-default")
"""A router behind the default route is reached, too.  zebra's."""

_MAX_NAME: Final = 60
_WORD: Final = re.compile(r"[A-Za-z0-9._:@-]{1,63}")
_SECRET: Final = re.compile(r"(neighbor \S+ password ).*")


def shown(line: str) -> str:
    """A line as it may be logged."""
    return _SECRET.sub(r"\1***", line)


@dataclass(frozen=True, slots=True)
class Neighbor:
    """One session: what is said of it in `router bgp`, and in which families it is active."""

    peer: str
    """Name of the BGPPeer."""
    id: str
    """Its address or its interface: FRR's name for it."""
    lines: tuple[str, ...] = field(repr=False)
    families: tuple[int, ...]
    """IP versions."""

    @property
    def out_map(self) -> str:
        return own_name("out", self.peer)

    @property
    def family_lines(self) -> tuple[str, ...]:
        """What is said of it in each of its families."""
        return (
            f"neighbor {self.id} route-map {IN_MAP} in",
            f"neighbor {self.id} route-map {self.out_map} out",
            f"neighbor {self.id} activate",
        )

    @property
    def digest(self) -> str:
        said = "\n".join((*self.lines, *map(str, self.families), self.out_map))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def description(self) -> str:
        """At most 80 characters, FRR's limit."""
        return f"crier {self.peer[:50]} {self.digest}"


@dataclass(frozen=True, slots=True)
class Router:
    """`router bgp` of one VRF, without its prefixes."""

    vrf: str
    asn: int
    lines: tuple[str, ...]
    neighbors: tuple[Neighbor, ...]

    @property
    def command(self) -> str:
        return f"router bgp {self.asn}" + (f" vrf {self.vrf}" if self.vrf else "")


@dataclass(frozen=True, slots=True)
class Base:
    """All that follows from the set of peers alone."""

    routers: Mapping[str, Router]
    """By VRF."""
    profiles: Mapping[str, tuple[str, ...]]
    """BFD profiles, by FRR's name for them."""
    refused: Mapping[str, str]
    """Peers, by name, that FRR cannot be told of, and why."""


def own_name(kind: str, name: str) -> str:
    """`crier-KIND-NAME`, cut short in a way that keeps it unique where it would be too long for FRR."""
    full = f"crier-{kind}-{name}"
    if len(full) <= _MAX_NAME:
        return full
    return f"{full[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def render(peers: Sequence[BgpPeer], node: Node) -> Base:
    """The base configuration of a node.  Of two peers that exclude each other the first by name is kept."""
    refused: dict[str, str] = {}
    kept: list[BgpPeer] = []
    for peer in sorted(peers, key=lambda each: each.name):
        if why := _objection(peer, kept):
            refused[peer.name] = why
        else:
            kept.append(peer)
    routers = {
        vrf: _router(vrf, [peer for peer in kept if vrf_of(peer) == vrf], node)
        for vrf in sorted(set(map(vrf_of, kept)))
    }
    profiles = {
        own_name("bfd", peer.bfd.name): profile_lines(peer.bfd) for peer in kept if peer.bfd is not None
    }
    return Base(routers, dict(sorted(profiles.items())), refused)


def peer_id(peer: BgpPeer) -> str:
    return str(peer.address) if peer.address is not None else peer.interface


def vrf_of(peer: BgpPeer) -> str:
    """Empty for the default VRF, which FRR never names."""
    return "" if peer.vrf == "default" else peer.vrf


def _objection(peer: BgpPeer, others: Sequence[BgpPeer]) -> str:
    """Why FRR cannot have this peer beside the others; empty when it can."""
    for name, value in (("interface", peer.interface), ("vrf", peer.vrf)):
        if value and not _WORD.fullmatch(value):
            return f"spec.{name}: {value!r} is no name FRR takes"
    if peer.password is not None and not printable(peer.password.decode("utf-8", "replace")):
        return "spec.password: FRR takes only printable ASCII characters without spaces"
    for other in others:
        if vrf_of(other) == vrf_of(peer) and peer_id(other) == peer_id(peer):
            return (
                f"spec.peerAddress: peer {peer_id(peer)} already exists ({other.name}), "
                "FRR mode doesn't support duplicate BGPPeers selecting the same node"
            )
        if vrf_of(other) == vrf_of(peer) and other.my_asn != peer.my_asn:
            return f"spec.myASN: {peer.my_asn}, but {other.name} has {other.my_asn}: FRR has one per VRF"
        if other.router_id != peer.router_id:
            return (
                f"spec.routerID: {peer.router_id or 'none'}, but {other.name} has "
                f"{other.router_id or 'none'}: FRR has one"
            )
    return ""


def _router(vrf: str, peers: Sequence[BgpPeer], node: Node) -> Router:
    first = peers[0]
    lines = [
        "bgp log-neighbor-changes",
        "no bgp ebgp-requires-policy",
        "no bgp network import-check",
        "no bgp default ipv4-unicast",
        "bgp graceful-restart preserve-fw-state",
    ]
    router_id = first.router_id or _router_id(node)
    if router_id is not None:
        lines.append(f"bgp router-id {router_id}")
    return Router(vrf, first.my_asn, tuple(lines), tuple(map(_neighbor, peers)))


def _router_id(node: Node) -> IPv4Address | None:
    """FRR finds one by itself, except on a node without IPv4: there it is MetalLB's native mode's choice."""
    if not node.internal_ips or any(":" not in address for address in node.internal_ips):
        return None
    return IPv4Address(struct.pack("<I", zlib.crc32(node.name.encode()) or 1))


def _neighbor(peer: BgpPeer) -> Neighbor:
    name = peer_id(peer)
    lines = [f"neighbor {name}{' interface' if peer.interface else ''} remote-as {peer.peer_asn}"]

    def say(words: str) -> None:
        lines.append(f"neighbor {name} {words}")

    if peer.multihop:
        say("ebgp-multihop")
    if peer.local_asn is not None and peer.local_asn != peer.my_asn:
        say(f"local-as {peer.local_asn} no-prepend replace-as")
    if not peer.interface:
        say(f"port {peer.port}")
    keepalive = peer.hold_time // 3 if peer.keepalive_time is None else peer.keepalive_time
    say(f"timers {keepalive} {peer.hold_time}")
    say(f"timers connect {peer.connect_time or CONNECT_TIME}")
    if peer.password is not None:
        say(f"password {peer.password.decode()}")
    if peer.source is not None:
        say(f"update-source {peer.source}")
    if peer.graceful_restart:
        say("graceful-restart")
    if peer.bfd is not None:
        say("bfd")
        say(f"bfd profile {own_name('bfd', peer.bfd.name)}")
    if _needs_no_check(peer):
        say("disable-connected-check")
    return Neighbor(peer.name, name, tuple(lines), tuple(sorted(peer.versions)))


def _needs_no_check(peer: BgpPeer) -> bool:
    """eBGP over one hop of IPv6: FRR would look for a connected network, and a link-local one is in none."""
    external = peer.peer_asn not in (peer.asn, "internal")
    six = peer.address is not None and peer.address.version == 6
    return external and six and not peer.multihop


def profile_lines(profile: BfdProfile) -> tuple[str, ...]:
    """Every setting, so that the profile becomes this one whatever it was."""
    lines = [
        f"receive-interval {profile.receive_interval}",
        f"transmit-interval {profile.transmit_interval}",
        f"detect-multiplier {profile.detect_multiplier}",
        f"echo transmit-interval {profile.echo_interval}",
        f"echo receive-interval {profile.echo_interval}",
        f"{'' if profile.echo_mode else 'no '}echo-mode",
        f"{'' if profile.passive_mode else 'no '}passive-mode",
        f"minimum-ttl {profile.minimum_ttl}",
    ]
    return tuple(lines)
