"""Peers and advertisements that were checked together, and which of them are in force.

What cannot be used is refused and the last good state stays.  A reference to what does not exist concerns
only the object that makes it: a peer without its Secret waits, the others have their sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from crier.kube import resources
from crier.kube.model.bfdprofile import BfdProfile, BfdProfileObject, parse_bfd_profiles
from crier.kube.model.bgpadvertisement import (
    BgpAdvertisement,
    BgpAdvertisementObject,
    parse_bgp_advertisements,
)
from crier.kube.model.bgppeer import BgpPeer, BgpPeerObject, parse_bgp_peers
from crier.kube.model.community import CommunityObject, CommunityValue, parse_communities
from crier.kube.model.errors import ConfigError
from crier.kube.model.node import Node
from crier.kube.model.pool import Pool
from crier.kube.model.secret import Secret
from crier.kube.model.selector import SelectorWire, any_matches, parse_selectors

T = TypeVar("T")

PEER = resources.BGP_PEERS.kind
ADVERTISEMENT = resources.BGP_ADVERTISEMENTS.kind
PROFILE = resources.BFD_PROFILES.kind
COMMUNITY = resources.COMMUNITIES.kind


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with one object."""

    kind: str
    name: str
    text: str
    """Names object and field."""


class BgpConfigError(ConfigError):
    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__([fault.text for fault in faults])
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class BgpObjects:
    """All that the API has of it."""

    peers: tuple[BgpPeerObject, ...] = ()
    advertisements: tuple[BgpAdvertisementObject, ...] = ()
    profiles: tuple[BfdProfileObject, ...] = ()
    communities: tuple[CommunityObject, ...] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """By `namespace/name`."""

    def without(self, faults: Iterable[Fault]) -> BgpObjects:
        """Only the objects in which nobody found a fault."""
        bad = {(fault.kind, fault.name) for fault in faults}
        return replace(
            self,
            peers=tuple(each for each in self.peers if (PEER, each.name) not in bad),
            advertisements=tuple(
                each for each in self.advertisements if (ADVERTISEMENT, each.name) not in bad
            ),
            profiles=tuple(each for each in self.profiles if (PROFILE, each.name) not in bad),
            communities=tuple(each for each in self.communities if (COMMUNITY, each.name) not in bad),
        )


@dataclass(frozen=True, slots=True, eq=False)
class BgpConfiguration:
    """Compared by identity: a new one is a new one."""

    peers: tuple[BgpPeer, ...]
    attached: Mapping[str, tuple[BgpAdvertisement, ...]]
    """Pool name to the advertisements that select it, by name of the advertisement."""
    waiting: tuple[Fault, ...] = ()
    """What is referred to and does not exist yet."""

    @classmethod
    def parse(
        cls,
        *,
        peers: Iterable[BgpPeerObject] = (),
        advertisements: Iterable[BgpAdvertisementObject] = (),
        profiles: Iterable[BfdProfileObject] = (),
        communities: Iterable[CommunityObject] = (),
        secrets: Mapping[str, Secret] = MappingProxyType({}),
        pools: Iterable[Pool] = (),
        node: Node,
    ) -> BgpConfiguration:
        """Check what concerns one node, and only that: another's mistakes must not stop this one.

        Raises:
            BgpConfigError: with every fault of every object.
        """
        faults: list[Fault] = []

        def checked(kind: str, parse: Callable[[], T], instead: T) -> T:
            try:
                return parse()
            except ConfigError as problem:
                faults.extend(Fault(kind, text.partition(": ")[0], text) for text in problem.problems)
                return instead

        pools = tuple(pools)
        no_aliases: Mapping[str, CommunityValue] = {}
        no_profiles: Mapping[str, BfdProfile] = {}
        no_peers: tuple[BgpPeer, ...] = ()
        no_ads: tuple[BgpAdvertisement, ...] = ()
        aliases = checked(COMMUNITY, lambda: parse_communities(communities), no_aliases)
        known = checked(PROFILE, lambda: parse_bfd_profiles(profiles), no_profiles)
        ours = [each for each in peers if _concerns(each.spec.node_selectors, node)]
        sessions = checked(PEER, lambda: parse_bgp_peers(ours, known, secrets), no_peers)
        here = [each for each in advertisements if _concerns(each.spec.node_selectors, node)]
        labels = {node.name: node.labels}
        ads = checked(ADVERTISEMENT, lambda: parse_bgp_advertisements(here, pools, aliases, labels), no_ads)
        attached = {pool.name: tuple(ad for ad in ads if ad.selects_pool(pool)) for pool in pools}
        faults += _echo_over_ipv6(sessions, attached, pools)
        if faults:
            raise BgpConfigError(faults)
        waiting = [Fault(PEER, peer.name, text) for peer in sessions for text in peer.waiting]
        waiting += [
            Fault(
                PEER,
                peer.name,
                f"{peer.name}: spec.{'peerAddress' if peer.address else 'interface'}: {first.name} has the "
                f"session with {peer.address or peer.interface} from this node already",
            )
            for peer, first in _doubled(sessions)
        ]
        waiting += [
            Fault(ADVERTISEMENT, ad.name, f"{ad.name}: spec.communities: there is no community {name!r}")
            for ad in ads
            for name in ad.unknown
        ]
        return cls(sessions, attached, tuple(waiting))

    def peers_of(self, node: Node) -> tuple[BgpPeer, ...]:
        """Those the node is to have a session with, now.

        Of several for the very same session the first by name: a router would have but one of them, and
        hang up on the others for ever.
        """
        wanted = tuple(peer for peer in self.peers if peer.selects_node(node.labels) and not peer.waiting)
        doubled = {peer.name for peer, _ in _doubled(wanted)}
        return tuple(peer for peer in wanted if peer.name not in doubled)

    def over(self, last: BgpConfiguration | None) -> BgpConfiguration:
        """The same, but what waits for something stays as it was when it had all it needed."""
        if last is None or not self.waiting:
            return self
        peers = {peer.name: peer for peer in last.peers if not peer.waiting}
        ads = {(pool, ad.name): ad for pool, some in last.attached.items() for ad in some if not ad.unknown}
        return BgpConfiguration(
            tuple(peers.get(peer.name, peer) if peer.waiting else peer for peer in self.peers),
            {
                pool: tuple(ads.get((pool, ad.name), ad) if ad.unknown else ad for ad in some)
                for pool, some in self.attached.items()
            },
            self.waiting,
        )


def _doubled(peers: Iterable[BgpPeer]) -> list[tuple[BgpPeer, BgpPeer]]:
    """Peers whose session another one before them has, and that one."""
    taken: dict[object, BgpPeer] = {}
    found: list[tuple[BgpPeer, BgpPeer]] = []
    for peer in peers:
        place = (peer.address, peer.interface, peer.port, peer.vrf, peer.source)
        first = taken.setdefault(place, peer)
        if first is not peer:
            found.append((peer, first))
    return found


def _concerns(selectors: Iterable[SelectorWire] | None, node: Node) -> bool:
    """Whether the selectors choose the node, or are wrong: that is everybody's concern."""
    faults: list[str] = []
    found = parse_selectors(selectors, "", faults)
    return bool(faults) or any_matches(found, node.labels)


def _echo_over_ipv6(
    peers: Sequence[BgpPeer], attached: Mapping[str, Sequence[BgpAdvertisement]], pools: Iterable[Pool]
) -> list[Fault]:
    """MetalLB's rule: BFD's echo mode is for IPv4 only."""
    wide = {pool.name for pool in pools if any(network.version == 6 for network in pool.networks)}
    return [
        Fault(
            PEER,
            peer.name,
            f"{peer.name}: spec.bfdProfile: pool {pool!r} has IPv6 addresses, {peer.bfd.name!r} echoMode",
        )
        for peer in peers
        if peer.bfd is not None and peer.bfd.echo_mode
        for pool, ads in sorted(attached.items())
        if pool in wide and any(ad.selects_peer(peer.name) for ad in ads)
    ]


class BgpKeeper:
    """A core: give it what the API has, read what is in force and what is wrong with the newest."""

    def __init__(self) -> None:
        self.in_force: BgpConfiguration | None = None
        self.faults: tuple[Fault, ...] = ()
        """Of the newest configuration: what is wrong with it, then what it waits for."""
        self._good: BgpObjects | None = None
        self._seen: object = None

    def consider(
        self,
        objects: BgpObjects,
        pools: Iterable[Pool],
        node: Node,
        undecoded: Iterable[Fault] = (),
    ) -> None:
        """Take the newest objects.  `undecoded`: those that are not even of the right shape."""
        pools, undecoded = tuple(pools), tuple(undecoded)
        seen = (objects, pools, node.name, node.labels, undecoded)
        if self._seen == seen:
            return
        self._seen = seen
        found: BgpConfiguration | None
        try:
            found = _parse(objects, pools, node)
        except BgpConfigError as problem:
            self.faults = (*undecoded, *problem.faults)
            found = self._instead(objects, problem, pools, node)
        else:
            self.faults = (*undecoded, *found.waiting)
            self._good = objects
        if found is not None:
            self.in_force = found.over(self.in_force)

    def _instead(
        self, objects: BgpObjects, problem: BgpConfigError, pools: tuple[Pool, ...], node: Node
    ) -> BgpConfiguration | None:
        """The last good objects as they apply now; before there were any, those without fault: after a
        restart the routers shall not lose everything because of one typing error."""
        if self._good is not None:
            try:
                return _parse(self._good, pools, node)
            except BgpConfigError:
                return None  # they do not fit the new pools or labels; what was made of them stays
        while True:
            rest = objects.without(problem.faults)
            if rest == objects:
                return None
            try:
                return _parse(rest, pools, node)
            except BgpConfigError as next_problem:
                objects, problem = rest, next_problem


def _parse(objects: BgpObjects, pools: tuple[Pool, ...], node: Node) -> BgpConfiguration:
    return BgpConfiguration.parse(
        peers=objects.peers,
        advertisements=objects.advertisements,
        profiles=objects.profiles,
        communities=objects.communities,
        secrets=objects.secrets,
        pools=pools,
        node=node,
    )
