"""Which routes each BGP peer of this node is to be told: a pure function of the view.

Every node that may announce a service does, and the routers balance between them; nobody is elected, and
gossip plays no part.  A service that is not announced by this node has an `Unfit` or an
`Objection`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from bgp_lite.attributes import DEFAULT_LOCAL_PREF, GRACEFUL_SHUTDOWN, MAX_COMMUNITIES, Path
from bgp_lite.prefix import Family, Prefix
from crier.kube.model.addresses import Address
from crier.kube.model.bgpadvertisement import BgpAdvertisement, conflicting
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.node import Node
from crier.kube.model.service import Service
from speaker.planner.bgpconfiguration import BgpConfiguration
from speaker.planner.plan import Rules
from speaker.planner.reasons import Reason, Unfit, placed
from speaker.planner.view import Configuration, View

K = TypeVar("K")
V = TypeVar("V")


class Objection(Reason):
    """Why this node tells no peer of a service that is fit for it.  The last two words are ours."""

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one service at this node."""

    service: str
    objection: Unfit | Objection | None = None
    peers: tuple[str, ...] = ()
    """Names of the peers that are told of it, sorted: what ServiceBGPStatus says.  Session or not."""


class Table(dict[Prefix, Path]):
    """What one peer is told, and in what that differs from the table it was made from.

    Not to be changed once it is made.
    """

    __slots__ = ("_before", "_news", "_number")
    _numbers = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self._number, self._before = next(self._numbers), 0
        self._news: Mapping[Prefix, Path | None] = {}

    def amended(self, news: Mapping[Prefix, Path | None]) -> Table:
        """With what is new; None takes a prefix away.  The very same when nothing is."""
        if not news:
            return self
        found = Table()
        found.update(self)
        _amend(found, news)
        found._before, found._news = self._number, news
        return found

    def made_from(self, other: Mapping[Prefix, Path]) -> Mapping[Prefix, Path | None] | None:
        """The news over the other table; None when this one was not made from it."""
        return self._news if isinstance(other, Table) and other._number == self._before else None


def differences(before: Mapping[Prefix, Path], after: Mapping[Prefix, Path]) -> Mapping[Prefix, Path | None]:
    """What turns one into the other; None takes a prefix away.  What did not change is the same object."""
    if isinstance(after, Table) and (news := after.made_from(before)) is not None:
        return news
    gone: dict[Prefix, Path | None] = dict.fromkeys(before.keys() - after.keys())
    gone.update((prefix, path) for prefix, path in after.items() if before.get(prefix) is not path)
    return gone


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
    return RoutePlanner(me, rules).plan(view, bgp)


class RoutePlanner:
    """`plan_routes` with a memory: only what changed is decided again, and only its prefixes are joined anew.

    The result is the same (property test).
    """

    def __init__(self, me: str, rules: Rules) -> None:
        self._me = me
        self._rules = rules
        self._node = Node(name=me)
        self._bgp: BgpConfiguration | None = None
        self._configuration: Configuration | None = None
        self._peers: tuple[BgpPeer, ...] = ()
        self._decided: dict[str, _Decided] = {}
        self._paths: dict[tuple[int, bool], Path] = {}
        self._sharers: dict[Prefix, tuple[str, ...]] = {}
        """The services behind each prefix, sorted."""
        self._told: dict[str, Table] = {}
        self._planned: int | None = None
        """The number of the view planned last."""
        self._last = Routes()

    def plan(self, view: View, bgp: BgpConfiguration | None) -> Routes:
        node = view.nodes.get(self._me, Node(name=self._me))
        other = bgp is not self._bgp or view.configuration is not self._configuration or node != self._node
        if other:
            self._begin(node, bgp, view.configuration)
        keys = view.touched(self._planned) if not other else None
        self._planned = view.number
        if keys is None:
            keys = self._decided.keys() | view.services.keys()
        touched: set[Prefix] = set()
        verdicts: dict[str, Verdict | None] = {}
        for key in keys:
            service = view.services.get(key)
            if service is None:
                if key in self._decided:
                    self._place(key, self._decided.pop(key).offers, (), touched)
                    verdicts[key] = None
                continue
            slices = view.slices.get(key, ())
            known = self._decided.get(key)
            if known is not None and (
                (known.service is service and known.slices is slices) or known.holds(service, slices)
            ):
                continue  # mirrors keep objects as they are while nothing changed: identity answers mostly
            verdict, offers = self._decide(service, view)
            self._decided[key] = _Decided(service, slices, offers)
            self._place(key, known.offers if known else (), offers, touched)
            verdicts[key] = verdict
        if not other and not verdicts:
            return self._last
        for name in self._told:
            self._join(name, touched)
        self._last = Routes(dict(self._told), _amended(self._last.verdicts, verdicts))
        return self._last

    def _begin(self, node: Node, bgp: BgpConfiguration | None, configuration: Configuration | None) -> None:
        self._node, self._bgp, self._configuration = node, bgp, configuration
        self._peers = bgp.peers_of(node) if bgp is not None else ()
        self._decided.clear()
        self._sharers.clear()
        self._paths.clear()
        self._told = {peer.name: Table() for peer in self._peers}
        self._last = Routes()

    def _decide(self, service: Service, view: View) -> tuple[Verdict | None, _Offers]:
        """No verdict for what is not ours to judge."""
        key = service.key
        found = _applicable(service, view, self._bgp, self._node, self._rules)
        if found is Unfit.OTHER_CLASS:
            return None, ()
        if isinstance(found, Unfit | Objection):
            return Verdict(key, found), ()
        ips, ads = found
        leaving = _drains(self._node, ips)
        offers: dict[tuple[tuple[Prefix, Path], ...], list[str]] = {}
        for peer in self._peers:
            paths: dict[Prefix, Path] = {}
            for ad, ip in itertools.product(ads, ips):
                if ad.selects_peer(peer.name) and ip.version in peer.versions:
                    prefix = prefix_of(ip, ad.length(ip.version))
                    paths[prefix] = _joined(paths.get(prefix), self._path(ad, leaving))
            if any(_overfull(path) for path in paths.values()):
                return Verdict(key, Objection.TOO_MANY_COMMUNITIES), ()
            if paths:
                offers.setdefault(tuple(paths.items()), []).append(peer.name)
        told = tuple(sorted(name for names in offers.values() for name in names))
        return Verdict(key, peers=told), tuple((tuple(names), items) for items, names in offers.items())

    def _path(self, ad: BgpAdvertisement, leaving: bool) -> Path:
        """One object for all routes that say the same."""
        found = self._paths.get((id(ad), leaving))
        if found is None:
            found = self._paths[id(ad), leaving] = farewell(path_of(ad)) if leaving else path_of(ad)
        return found

    def _place(self, key: str, before: _Offers, after: _Offers, touched: set[Prefix]) -> None:
        """Note which prefixes a service is behind."""
        if before == after:
            return
        old, new = _prefixes(before), _prefixes(after)
        touched |= old | new
        for prefix in old - new:
            rest = tuple(each for each in self._sharers[prefix] if each != key)
            if rest:
                self._sharers[prefix] = rest
            else:
                del self._sharers[prefix]
        for prefix in new - old:
            self._sharers[prefix] = tuple(sorted((*self._sharers.get(prefix, ()), key)))

    def _join(self, peer: str, touched: Iterable[Prefix]) -> None:
        """What the services say together of the prefixes that were touched."""
        told = self._told[peer]
        news: dict[Prefix, Path | None] = {}
        for prefix in touched:
            path: Path | None = None
            for key in self._sharers.get(prefix, ()):
                said = _said(self._decided[key].offers, peer, prefix)
                united = path if said is None else _joined(path, said)
                if united is not None and not _overfull(united):
                    path = united  # what does not fit on the route of an aggregate is left out
            if told.get(prefix) != path:
                news[prefix] = path
        self._told[peer] = told.amended(news)


_Offers = tuple[tuple[tuple[str, ...], tuple[tuple[Prefix, Path], ...]], ...]
"""What one service is told as: groups of peers, and the routes each of a group gets."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """What was decided about a service, and what it was made from."""

    service: Service
    slices: tuple[EndpointSlice, ...]
    offers: _Offers

    def holds(self, service: Service, slices: tuple[EndpointSlice, ...]) -> bool:
        return self.service == service and self.slices == slices


def _amended(old: Mapping[K, V], news: Mapping[K, V | None]) -> Mapping[K, V]:
    """The old one with what is new; None takes a key away.  The very same when nothing is."""
    if not news:
        return old
    found = dict(old)
    _amend(found, news)
    return found


def _amend(found: dict[K, V], news: Mapping[K, V | None]) -> None:
    for key, value in news.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value


def _prefixes(offers: _Offers) -> set[Prefix]:
    return {prefix for _, items in offers for prefix, _ in items}


def _said(offers: _Offers, peer: str, prefix: Prefix) -> Path | None:
    for peers, items in offers:
        if peer in peers:
            for each, path in items:
                if each == prefix:
                    return path
    return None


def _overfull(path: Path) -> bool:
    return max(len(path.communities), len(path.large_communities)) > MAX_COMMUNITIES


def _applicable(
    service: Service, view: View, bgp: BgpConfiguration | None, node: Node, rules: Rules
) -> tuple[tuple[Address, ...], tuple[BgpAdvertisement, ...]] | Unfit | Objection:
    """The addresses and the advertisements for them, or the first objection in MetalLB's order."""
    found = placed(service, view.configuration if bgp is not None else None, rules.lb_class)
    if isinstance(found, Unfit):
        return found
    assert bgp is not None
    ips, pool = found
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


def prefix_of(ip: Address, length: int) -> Prefix:
    """The network of that many bits around the address."""
    family = Family.IPV4 if ip.version == 4 else Family.IPV6
    if length == ip.max_prefixlen:
        return Prefix(family, bytes((length,)) + ip.packed)
    spare = ip.max_prefixlen - length
    network = (int(ip) >> spare << spare).to_bytes(len(ip.packed), "big")
    return Prefix(family, bytes((length,)) + network[: (length + 7) // 8])


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
