"""Which routes each BGP peer of this node is to be told: a pure function of the view.

Every node that may announce a service does, and the routers balance between them; nobody is elected, and
gossip plays no part.  A service that is not announced by this node has an `Objection`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_network
from types import MappingProxyType
from typing import Self

from bgp_lite.attributes import DEFAULT_LOCAL_PREF, GRACEFUL_SHUTDOWN, MAX_COMMUNITIES, Path
from bgp_lite.prefix import Prefix, parse_prefix
from crier.kube.model.addresses import Address
from crier.kube.model.bfdprofile import BfdProfile, BfdProfileObject, parse_bfd_profiles
from crier.kube.model.bgpadvertisement import (
    BgpAdvertisement,
    BgpAdvertisementObject,
    conflicting,
    parse_bgp_advertisements,
)
from crier.kube.model.bgppeer import BgpPeer, BgpPeerObject, parse_bgp_peers
from crier.kube.model.community import CommunityObject, CommunityValue, parse_communities
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.errors import ConfigError
from crier.kube.model.node import Node
from crier.kube.model.pool import Pool
from crier.kube.model.secret import Secret
from crier.kube.model.selector import SelectorWire, any_matches, parse_selectors
from crier.kube.model.service import Service
from speaker.planner.plan import Rules
from speaker.planner.view import View, addresses


class Objection(Enum):
    """Why this node tells no peer of a service.  The reason is MetalLB's word, the text is for people."""

    text: str

    NOT_LOAD_BALANCER = "notLoadBalancer", "its type is not LoadBalancer"
    OTHER_CLASS = "otherClass", "its loadBalancerClass is not the one we serve"
    NO_CONFIGURATION = "noConfiguration", "there has been no usable configuration yet"
    NO_ADDRESS = "noIPAllocated", "no address has been assigned"
    INVALID_ADDRESS = "invalidIP", "its status has something that is not an address"
    NOT_IN_POOL = "ipNotAllowed", "no pool has all of its addresses"
    NOT_SELECTED = "notOwner", "no BGPAdvertisement of its pool selects this node"
    NO_ADVERTISEMENT = "noMatchingAdvertisement", "no BGPAdvertisement of its pool selects its labels"
    CONFLICT = "conflictingAdvertisements", "BGPAdvertisements disagree about its localPref"
    NETWORK_UNAVAILABLE = "nodeNetworkUnavailable", "the node's condition NetworkUnavailable is True"
    EXCLUDED = (
        "nodeLabeledExcludeBalancers",
        "the node has the label node.kubernetes.io/exclude-from-external-load-balancers",
    )
    NO_LOCAL_ENDPOINT = (
        "noLocalEndpoints",
        "externalTrafficPolicy is Local and no endpoint on this node is ready or serving",
    )
    NO_ENDPOINT = "noEndpoints", "no endpoint is ready or serving"
    WAITING = "waitingForCommunity", "its BGPAdvertisements name communities that are not defined"
    TOO_MANY_COMMUNITIES = "tooManyCommunities", "a prefix would have more communities than a route can carry"

    def __new__(cls, reason: str, text: str) -> Self:
        it = object.__new__(cls)
        it._value_ = reason
        it.text = text
        return it

    @property
    def reason(self) -> str:
        """MetalLB's word; the last two are ours."""
        return str(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class BgpConfiguration:
    """Peers and advertisements that were checked together.  Compared by identity: a new one is a new one."""

    peers: tuple[BgpPeer, ...]
    attached: Mapping[str, tuple[BgpAdvertisement, ...]]
    """Pool name to the advertisements that select it, by name of the advertisement."""
    waiting: tuple[str, ...] = ()
    """What is referred to and does not exist yet, each with the path of the field that refers."""

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
            ConfigError: with every problem of every object.
        """
        problems: list[str] = []
        pools = tuple(pools)
        aliases: Mapping[str, CommunityValue] = {}
        watched: Mapping[str, BfdProfile] = {}
        sessions: tuple[BgpPeer, ...] = ()
        ads: tuple[BgpAdvertisement, ...] = ()
        try:
            aliases = parse_communities(communities)
        except ConfigError as problem:
            problems += problem.problems
        try:
            watched = parse_bfd_profiles(profiles)
        except ConfigError as problem:
            problems += problem.problems
        try:
            sessions = parse_bgp_peers(
                [each for each in peers if _concerns(each.spec.node_selectors, node)], watched, secrets
            )
        except ConfigError as problem:
            problems += problem.problems
        try:
            ads = parse_bgp_advertisements(
                [each for each in advertisements if _concerns(each.spec.node_selectors, node)],
                pools,
                aliases,
                {node.name: node.labels},
            )
        except ConfigError as problem:
            problems += problem.problems
        attached = {pool.name: tuple(ad for ad in ads if ad.selects_pool(pool)) for pool in pools}
        problems += _echo_over_ipv6(sessions, attached, pools)
        if problems:
            raise ConfigError(problems)
        waiting = [text for peer in sessions for text in peer.waiting]
        waiting += [
            f"{ad.name}: spec.communities: there is no community {name!r}"
            for ad in ads
            for name in ad.unknown
        ]
        return cls(sessions, attached, tuple(waiting))

    def peers_of(self, node: Node) -> tuple[BgpPeer, ...]:
        """Those the node is to have a session with, now."""
        return tuple(peer for peer in self.peers if peer.selects_node(node.labels) and not peer.waiting)


def _concerns(selectors: Iterable[SelectorWire] | None, node: Node) -> bool:
    """Whether the selectors choose the node, or are wrong: that is everybody's concern."""
    faults: list[str] = []
    found = parse_selectors(selectors, "", faults)
    return bool(faults) or any_matches(found, node.labels)


def _echo_over_ipv6(
    peers: Sequence[BgpPeer], attached: Mapping[str, Sequence[BgpAdvertisement]], pools: Iterable[Pool]
) -> list[str]:
    """MetalLB's rule: BFD's echo mode is for IPv4 only."""
    wide = {pool.name for pool in pools if any(network.version == 6 for network in pool.networks)}
    return [
        f"{peer.name}: spec.bfdProfile: pool {pool!r} has IPv6 addresses, {peer.bfd.name!r} echoMode"
        for peer in peers
        if peer.bfd is not None and peer.bfd.echo_mode
        for pool, ads in sorted(attached.items())
        if pool in wide and any(ad.selects_peer(peer.name) for ad in ads)
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one service at this node."""

    service: str
    objection: Objection | None = None
    peers: tuple[str, ...] = ()
    """Names of the peers that are told of it, sorted: what ServiceBGPStatus says.  Session or not."""


@dataclass(frozen=True, slots=True)
class Routes:
    peers: Mapping[str, Mapping[Prefix, Path]] = field(default_factory=dict)
    """Every peer that wants a session, by name, and all that it is to be told."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Every service of the view but those of another class, by `namespace/name`."""


def plan_routes(view: View, bgp: BgpConfiguration | None, me: str, rules: Rules) -> Routes:
    """What follows from the view for the node `me`.

    The result does not depend on the order of anything in the view: of several local preferences for one
    prefix the highest counts, and communities are united.
    """
    node = view.nodes.get(me, Node(name=me))
    peers = bgp.peers_of(node) if bgp is not None else ()
    told: dict[str, dict[Prefix, Path]] = {peer.name: {} for peer in peers}
    verdicts: dict[str, Verdict] = {}
    for key, service in sorted(view.services.items()):
        found = _applicable(service, view, bgp, node, rules)
        if found is Objection.OTHER_CLASS:
            continue
        if isinstance(found, Objection):
            verdicts[key] = Verdict(key, found)
            continue
        ips, ads = found
        wanted = _offers(ips, ads, peers, told, leaving=_drains(node, ips))
        if wanted is None:
            verdicts[key] = Verdict(key, Objection.TOO_MANY_COMMUNITIES)
            continue
        for name, paths in wanted.items():
            told[name].update(paths)
        verdicts[key] = Verdict(key, peers=tuple(sorted(wanted)))
    return Routes(told, verdicts)


def _applicable(
    service: Service, view: View, bgp: BgpConfiguration | None, node: Node, rules: Rules
) -> tuple[tuple[Address, ...], tuple[BgpAdvertisement, ...]] | Objection:
    """The addresses and the advertisements for them, or the first objection in MetalLB's order."""
    if (service.load_balancer_class or "") != rules.lb_class:
        return Objection.OTHER_CLASS
    if not service.is_load_balancer:
        return Objection.NOT_LOAD_BALANCER
    if bgp is None or view.configuration is None:
        return Objection.NO_CONFIGURATION
    if not service.ingress_ips:
        return Objection.NO_ADDRESS
    ips = addresses(service)
    if ips is None:
        return Objection.INVALID_ADDRESS
    pool = view.configuration.pools.locate_all(ips)
    if pool is None:
        return Objection.NOT_IN_POOL
    mine = tuple(ad for ad in bgp.attached.get(pool.name, ()) if ad.selects_node(node.labels))
    if not mine:
        return Objection.NOT_SELECTED
    ads = tuple(ad for ad in mine if ad.selects_service(service.labels))
    if not ads:
        return Objection.NO_ADVERTISEMENT
    versions = frozenset(ip.version for ip in ips)
    if any(conflicting(one, other, versions) for one, other in itertools.combinations(ads, 2)):
        return Objection.CONFLICT
    if node.network_unavailable:
        return Objection.NETWORK_UNAVAILABLE
    # drained and excluded: the last step of leaving, whatever the flag says of the label alone
    if node.excluded and (not rules.ignore_exclude_lb or _drains(node, ips)):
        return Objection.EXCLUDED
    slices = view.slices.get(service.key, ())
    if service.is_local and not _has_endpoint(slices, node.name):
        return Objection.NO_LOCAL_ENDPOINT
    if not _has_endpoint(slices):
        return Objection.NO_ENDPOINT
    usable = tuple(ad for ad in ads if not ad.unknown)
    return (ips, usable) if usable else Objection.WAITING


def _has_endpoint(slices: Iterable[EndpointSlice], on: str | None = None) -> bool:
    """Whether an endpoint with an address is ready (or unknown) or serving, anywhere or on a node."""
    return any(
        endpoint.addresses and (endpoint.ready or endpoint.serving) and on in (None, endpoint.node_name)
        for each in slices
        for endpoint in each.endpoints
    )


def _offers(
    ips: Iterable[Address],
    ads: Iterable[BgpAdvertisement],
    peers: Iterable[BgpPeer],
    told: Mapping[str, Mapping[Prefix, Path]],
    *,
    leaving: bool,
) -> dict[str, dict[Prefix, Path]] | None:
    """What one service adds to what the peers are told already; None when a route could not carry it."""
    wanted: dict[str, dict[Prefix, Path]] = {}
    ips, ads = tuple(ips), tuple(ads)
    for peer in peers:
        for ad, ip in itertools.product(ads, ips):
            if not ad.selects_peer(peer.name) or ip.version not in peer.versions:
                continue
            paths = wanted.setdefault(peer.name, {})
            prefix = prefix_of(ip, ad.length(ip.version))
            said = farewell(path_of(ad)) if leaving else path_of(ad)
            path = _joined(paths.get(prefix) or told[peer.name].get(prefix), said)
            if max(len(path.communities), len(path.large_communities)) > MAX_COMMUNITIES:
                return None
            paths[prefix] = path
    return wanted


def prefix_of(ip: Address, length: int) -> Prefix:
    """The network of that many bits around the address."""
    return parse_prefix(str(ip_network((ip, length), strict=False)))


def path_of(ad: BgpAdvertisement) -> Path:
    """What an advertisement says of its prefixes.  As FRR has it, a localPref of 0 is none at all."""
    standard = sorted(value for value in ad.communities if isinstance(value, int))
    large = sorted(value for value in ad.communities if not isinstance(value, int))
    return Path(tuple(standard), tuple(large), ad.local_pref or None)


def farewell(path: Path) -> Path:
    """The same route as one that is about to go: routers that know any other prefer it (RFC 8326).

    No other path has a local preference of 0.
    """
    return replace(path.with_communities(GRACEFUL_SHUTDOWN), local_pref=0)


def _drains(node: Node, ips: Iterable[Address]) -> bool:
    return bool(node.drained) and any(node.drains(str(ip)) for ip in ips)


def _joined(one: Path | None, other: Path) -> Path:
    if one is None or one == other:
        return other
    if 0 in (one.local_pref, other.local_pref):
        return farewell(_united(one, other))  # one service of an aggregate leaves, and so all of it does
    return _united(one, other)


def _united(one: Path, other: Path) -> Path:
    highest = max(path.local_pref or DEFAULT_LOCAL_PREF for path in (one, other))
    return Path(
        communities=tuple(sorted({*one.communities, *other.communities})),
        large_communities=tuple(sorted({*one.large_communities, *other.large_communities})),
        local_pref=None if one.local_pref is None and other.local_pref is None else highest,
    )
