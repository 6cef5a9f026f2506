"""Who may answer for which address: a pure function of the view.  MetalLB's election, byte for byte.

Every speaker computes the same order from the same view, without a message between them; the reflex then
picks the first of the order that is reachable.  So the candidates here are *all* nodes that may announce,
alive or not.

A service that is not announced has an `Unfit` or an `Objection`, and every node that is no candidate has a
`NodeObjection`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import TypeAlias

from crier.kube.model.addresses import Address
from crier.kube.model.advertisement import L2Advertisement
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.node import DRAIN_ANNOTATION, Node
from crier.kube.model.service import Service
from speaker.orders import Vip
from speaker.planner.reasons import Reason, Unfit, placed
from speaker.planner.view import Configuration, View, addresses


class Objection(Reason):
    """Why nobody announces a service that is fit for it."""

    NO_ADVERTISEMENT = "noMatchingAdvertisement", "no L2Advertisement selects its pool and its labels"
    NO_ENDPOINT = "notOwner", "no endpoint is ready or serving"
    NO_CANDIDATE = "notOwner", "no node may announce it"


class NodeObjection(Reason):
    """Why a node is not a candidate for a service."""

    NOT_SELECTED = "noMatchingAdvertisement", "no matching L2Advertisement selects the node"
    NETWORK_UNAVAILABLE = "notOwner", "its condition NetworkUnavailable is True"
    EXCLUDED = "notOwner", "it has the label node.kubernetes.io/exclude-from-external-load-balancers"
    DRAINED = "notOwner", f"its annotation {DRAIN_ANNOTATION} drains it"
    NO_LOCAL_ENDPOINT = "notOwner", "externalTrafficPolicy is Local and no endpoint there is ready or serving"


NodeObjections: TypeAlias = Mapping[str, NodeObjection]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the command line says about the election."""

    lb_class: str = ""
    ignore_exclude_lb: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one service."""

    service: str
    addresses: tuple[str, ...] = ()
    """Canonical texts, in the order of the service's status."""
    candidates: tuple[str, ...] = ()
    """Best first.  Empty exactly when there is an objection."""
    interfaces: tuple[str, ...] | None = None
    """Where this node would answer; None means everywhere."""
    restriction: int = 0
    """Stands for the advertisements' lists of interfaces, the same at every node; 0: they have none."""
    objection: Unfit | Objection | None = None
    nodes: NodeObjections = field(default_factory=dict)
    """Every node that is not a candidate, and why."""


@dataclass(frozen=True, slots=True)
class Plan:
    vips: tuple[Vip, ...] = ()
    """What goes to the reflex, in a fixed order."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Every service of the view but those of another class, by `namespace/name`."""


def why_not(verdict: Verdict, node: str) -> Unfit | Objection | NodeObjection | None:
    """Why a node may not announce a service; None when it may: whose turn it is, liveness tells."""
    if verdict.objection is not None and verdict.objection is not Objection.NO_CANDIDATE:
        return verdict.objection
    if node in verdict.candidates:
        return None
    return verdict.nodes.get(node, NodeObjection.NOT_SELECTED)


def election_order(
    address: Address, nodes: Iterable[str], scores: Mapping[str, int] = MappingProxyType({})
) -> tuple[str, ...]:
    """The nodes, best first: by score, the highest first, then by SHA-256 of `node#address`.

    Without scores this is MetalLB's order for the first address of a service (v0.16), with them that of
    its `preferredNodeSelectors`.  The address as Go prints it, which is RFC 5952 for IPv6.
    """
    text = f"#{address}"
    return tuple(
        sorted(nodes, key=lambda node: (-scores.get(node, 0), sha256((node + text).encode()).digest()))
    )


def plan(view: View, me: str, rules: Rules) -> Plan:
    """What follows from the view, for the node `me` (only the interfaces differ between nodes)."""
    return Planner(me, rules).plan(view)


class Planner:
    """`plan` with a memory: what was decided is decided again only if something it was made from changed.

    With ten thousand services and one that changes this is the difference between half a second and some tens
    of milliseconds.  The result is the same (property test).
    """

    def __init__(self, me: str, rules: Rules) -> None:
        self._me = me
        self._rules = rules
        self._nodes: Mapping[str, Node] = {}
        self._configuration: Configuration | None = None
        self._electorates: dict[tuple[L2Advertisement, ...], _Current] = {}
        self._decided: dict[str, _Decided] = {}
        self._planned: int | None = None
        """The number of the view planned last."""
        self._last = Plan()

    def plan(self, view: View) -> Plan:
        touched, self._planned = view.touched(self._planned), view.number
        if view.configuration is not self._configuration:
            touched = None
            self._configuration = view.configuration
            self._electorates.clear()
            self._decided.clear()
        if view.nodes != self._nodes:
            touched = None
            self._nodes = dict(view.nodes)
            for ads, current in self._electorates.items():
                current.renew(_Electorate.of(ads, self._nodes, self._me, self._rules))
        if touched is not None:
            self._last = self._amended(touched, view)
            return self._last
        decided = {key: self._look(key, view) for key in sorted(view.services)}
        if len(decided) == len(self._decided) and all(
            it is self._decided.get(key) for key, it in decided.items()
        ):
            return self._last
        self._decided = decided
        verdicts = {
            key: it.verdict for key, it in decided.items() if it.verdict.objection is not Unfit.OTHER_CLASS
        }
        self._last = Plan(_vips(verdicts.values()), verdicts)
        return self._last

    def _amended(self, touched: AbstractSet[str], view: View) -> Plan:
        """The last plan with only these services decided again."""
        verdicts = dict(self._last.verdicts)
        vips_differ = differs = False
        for key in touched:
            was = self._decided.get(key)
            now = self._look(key, view) if key in view.services else None
            if now is was:
                continue
            if now is None:
                del self._decided[key]
            else:
                self._decided[key] = now
            before, after = verdicts.pop(key, None), now.verdict if now is not None else None
            if after is not None and after.objection is Unfit.OTHER_CLASS:
                after = None
            if after is not None:
                verdicts[key] = after
            if before != after:
                differs = True
                vips_differ |= any(each is not None and each.candidates for each in (before, after))
        if not differs:
            return self._last
        return Plan(_vips(verdicts.values()) if vips_differ else self._last.vips, verdicts)

    def _look(self, key: str, view: View) -> _Decided:
        service, slices = view.services[key], view.slices.get(key, ())
        known = self._decided.get(key)
        if known is not None and known.holds(service, slices):
            return known
        verdict, current = self._decide(service, slices)
        return _Decided(service, slices, current, current.electorate if current else None, verdict)

    def _decide(self, service: Service, slices: tuple[EndpointSlice, ...]) -> tuple[Verdict, _Current | None]:
        """The verdict, and the electorate it came from if it came so far.

        In MetalLB's order, so that the first objection is the one MetalLB would log.
        """
        key, configuration = service.key, self._configuration
        found = placed(service, configuration, self._rules.lb_class)
        if isinstance(found, Unfit):
            known = addresses(service) if found is Unfit.NOT_IN_POOL else None
            return Verdict(key, _texts(known or ()), objection=found), None
        assert configuration is not None
        ips, pool = found
        texts = _texts(ips)
        if not any(_servable(each) for each in slices):
            return Verdict(key, texts, objection=Objection.NO_ENDPOINT), None
        ads = configuration.advertisements(pool, service)
        if not ads:
            return Verdict(key, texts, objection=Objection.NO_ADVERTISEMENT), None

        current = self._electorate(ads)
        electorate = current.electorate
        eligible, objections = electorate.nodes, electorate.objections
        # addresses of one service stay together, so one that is drained takes the others with it
        if drained := {name for name, node in electorate.draining if any(map(node.drains, texts))}:
            objections = {**objections, **dict.fromkeys(drained, NodeObjection.DRAINED)}
            eligible = tuple(name for name in eligible if name not in drained)
        if service.is_local:
            local = {name for each in slices for name in _serving_nodes(each)}
            objections = {
                **objections,
                **{name: NodeObjection.NO_LOCAL_ENDPOINT for name in eligible if name not in local},
            }
            eligible = tuple(name for name in eligible if name in local)
        if not eligible:
            return Verdict(key, texts, objection=Objection.NO_CANDIDATE, nodes=objections), current
        order = election_order(ips[0], eligible, electorate.scores)
        return Verdict(
            key, texts, order, electorate.interfaces, electorate.restriction, nodes=objections
        ), current

    def _electorate(self, ads: tuple[L2Advertisement, ...]) -> _Current:
        found = self._electorates.get(ads)
        if found is None:
            found = _Current(_Electorate.of(ads, self._nodes, self._me, self._rules))
            self._electorates[ads] = found
        return found


@dataclass(frozen=True, slots=True)
class _Electorate:
    """What a set of advertisements says about nodes; the same for every service with that set."""

    nodes: tuple[str, ...]
    scores: Mapping[str, int]
    objections: NodeObjections
    interfaces: tuple[str, ...] | None
    restriction: int
    draining: tuple[tuple[str, Node], ...]
    """Those of `nodes` that hand over addresses; which, they say themselves."""

    @classmethod
    def of(
        cls, ads: tuple[L2Advertisement, ...], nodes: Mapping[str, Node], me: str, rules: Rules
    ) -> _Electorate:
        eligible: list[str] = []
        scores: dict[str, int] = {}
        objections: dict[str, NodeObjection] = {}
        for name, node in sorted(nodes.items()):
            selecting = [ad for ad in ads if ad.selects_node(node.labels)]
            if node.network_unavailable:
                objections[name] = NodeObjection.NETWORK_UNAVAILABLE
            elif node.excluded and not rules.ignore_exclude_lb:
                objections[name] = NodeObjection.EXCLUDED
            elif not selecting:
                objections[name] = NodeObjection.NOT_SELECTED
            else:
                eligible.append(name)
                # an advertisement prefers only among the nodes it selects itself
                scores[name] = sum(_score(ad, node) for ad in selecting)
        mine = [ad for ad in ads if me in nodes and ad.selects_node(nodes[me].labels)]
        everywhere = not mine or any(not ad.interfaces for ad in mine)
        named = None if everywhere else tuple(sorted({name for ad in mine for name in ad.interfaces}))
        draining = tuple((name, nodes[name]) for name in eligible if nodes[name].drained)
        return cls(tuple(eligible), scores, objections, named, _restriction(ads), draining)


def _restriction(ads: Iterable[L2Advertisement]) -> int:
    """See `Vip.restriction`."""
    listing = sorted(f"{ad.name}={','.join(sorted(ad.interfaces))}" for ad in ads)
    return (zlib.crc32("\n".join(listing).encode()) or 1) if any(ad.interfaces for ad in ads) else 0


@dataclass(slots=True)
class _Current:
    """The electorate of a set of advertisements as the nodes are now.  Only a different one replaces it."""

    electorate: _Electorate

    def renew(self, electorate: _Electorate) -> None:
        if electorate != self.electorate:
            self.electorate = electorate


@dataclass(frozen=True, slots=True)
class _Decided:
    """A verdict and all that it was made from."""

    service: Service
    slices: tuple[EndpointSlice, ...]
    current: _Current | None
    electorate: _Electorate | None
    verdict: Verdict

    def holds(self, service: Service, slices: tuple[EndpointSlice, ...]) -> bool:
        # mirrors keep objects as they are while nothing changed, so identity answers most of the time
        return (
            _same(self.service, service)
            and _same(self.slices, slices)
            and (self.current is None or self.current.electorate is self.electorate)
        )


def _same(one: object, other: object) -> bool:
    return one is other or one == other


def _score(ad: L2Advertisement, node: Node) -> int:
    return sum(each.weight for each in ad.preferred if each.selector.matches(node.labels))


def _servable(each: EndpointSlice) -> bool:
    """Ready (or unknown), or at least serving: a terminating endpoint still counts while it serves."""
    return any(endpoint.ready or endpoint.serving for endpoint in each.endpoints)


def _serving_nodes(each: EndpointSlice) -> Iterable[str]:
    return (
        endpoint.node_name
        for endpoint in each.endpoints
        if endpoint.node_name and (endpoint.ready or endpoint.serving)
    )


def _texts(ips: Iterable[Address]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, ips)))


def _vips(verdicts: Iterable[Verdict]) -> tuple[Vip, ...]:
    """One entry per address and way of announcing it, sorted; services that agree share it."""
    by_address: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.candidates:
            for address in verdict.addresses:
                by_address.setdefault(address, []).append(verdict)
    vips: list[Vip] = []
    for address, sharers in sorted(by_address.items()):
        ways: dict[tuple[tuple[str, ...], tuple[str, ...] | None, int], list[str]] = {}
        for verdict in sharers:
            way = (verdict.candidates, verdict.interfaces, verdict.restriction)
            ways.setdefault(way, []).append(verdict.service)
        entries = [Vip(address, tuple(sorted(services)), *way) for way, services in ways.items()]
        vips += sorted(entries, key=lambda vip: vip.services)
    return tuple(vips)
