"""What is wrong, or leads nowhere, in the kinds of configuration that speakers act upon; pure.

A speaker tells of the same faults in its own ConfigurationState.  The controller looks at all of it once for
the whole cluster, so that there is one place to look at, and an event on the very object.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from crier.kube import resources
from crier.kube.model.advertisement import L2AdvertisementObject, parse_l2_advertisements
from crier.kube.model.bfdprofile import BfdProfile, BfdProfileObject, parse_bfd_profiles
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject, parse_bgp_advertisements
from crier.kube.model.bgppeer import BgpPeerObject, parse_bgp_peers
from crier.kube.model.community import CommunityObject, CommunityValue, parse_communities
from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import Pool
from crier.kube.model.states import CONFIGURATION_ERROR, RECONCILED, Condition
from crier.kube.model.wire import SpecObject
from crier.kube.resources import Resource

CONDITION_TYPE: Final = "configurationReviewed"
UNKNOWN_REFERENCE: Final = "UnknownReference"
"""Reason of what does not make the configuration invalid: MetalLB takes such names without a word."""
MAX_MESSAGE: Final = 32768
"""Characters of a condition's message; the API refuses longer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The newest there are, all of our namespace."""

    l2_advertisements: tuple[L2AdvertisementObject, ...] = ()
    bgp_advertisements: tuple[BgpAdvertisementObject, ...] = ()
    peers: tuple[BgpPeerObject, ...] = ()
    profiles: tuple[BfdProfileObject, ...] = ()
    communities: tuple[CommunityObject, ...] = ()
    nodes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Their labels."""
    undecoded: Mapping[Resource, Mapping[str, str]] = field(default_factory=dict)
    """Why, by `namespace/name`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be told about one object."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    text: str
    """Begins with the path of the field."""
    fatal: bool
    """Speakers refuse the configuration for it."""

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.name}: {self.text}"

    @property
    def reason(self) -> str:
        return CONFIGURATION_ERROR if self.fatal else UNKNOWN_REFERENCE


def review(objects: Objects, pools: Collection[Pool], pool_names: Collection[str]) -> tuple[Finding, ...]:
    """Everything there is to tell, faults first.

    `pools`: those in force.  `pool_names`: of all there are, also of those with faults.
    """
    aliases, alias_names = _aliases(objects.communities)
    kinds: list[tuple[Resource, Sequence[SpecObject[Any]], Callable[[], object]]] = [
        (
            resources.L2_ADVERTISEMENTS,
            objects.l2_advertisements,
            lambda: parse_l2_advertisements(objects.l2_advertisements),
        ),
        (
            resources.BGP_ADVERTISEMENTS,
            objects.bgp_advertisements,
            lambda: parse_bgp_advertisements(objects.bgp_advertisements, pools, aliases, objects.nodes),
        ),
        (resources.BGP_PEERS, objects.peers, lambda: check_peers(objects.peers)),
        (resources.BFD_PROFILES, objects.profiles, lambda: parse_bfd_profiles(objects.profiles)),
        (resources.COMMUNITIES, objects.communities, lambda: parse_communities(objects.communities)),
    ]
    faults: list[Finding] = []
    for resource, things, parse in kinds:
        for key, why in sorted(objects.undecoded.get(resource, {}).items()):
            namespace, _, name = key.rpartition("/")
            uid = next((thing.uid for thing in things if thing.key == key), "")
            faults.append(Finding(resource, namespace, name, uid, why, fatal=True))
        faults.extend(_found(resource, things, _problems(parse)))
    return (*faults, *_dangling(objects, pool_names, alias_names))


def condition(findings: Iterable[Finding]) -> Condition:
    """Of the ConfigurationState.  Only faults make its result Invalid."""
    for reason, what in ((CONFIGURATION_ERROR, "configuration error: "), (UNKNOWN_REFERENCE, "")):
        texts = [str(finding) for finding in findings if finding.reason == reason]
        if texts:
            return Condition(CONDITION_TYPE, "False", reason, f"{what}{'; '.join(texts)}"[:MAX_MESSAGE])
    return Condition(CONDITION_TYPE, "True", RECONCILED)


def without_secret(peer: BgpPeerObject) -> BgpPeerObject:
    """Secrets are the speakers' to read, and may come later."""
    spec = msgspec.structs.replace(peer.spec, password_secret=None)
    return BgpPeerObject(
        namespace=peer.namespace, name=peer.name, uid=peer.uid, labels=peer.labels, spec=spec
    )


def check_peers(peers: Iterable[BgpPeerObject], profiles: Mapping[str, BfdProfile] | None = None) -> None:
    """Raises ConfigError."""
    # given together with a password a reference is a fault that needs no secret to be seen
    checked = [peer if peer.spec.password else without_secret(peer) for peer in peers]
    parse_bgp_peers(checked, profiles or {}, {})


def _problems(parse: Callable[[], object]) -> tuple[str, ...]:
    try:
        parse()
    except ConfigError as problem:
        return problem.problems
    return ()


def _found(
    resource: Resource, things: Iterable[SpecObject[Any]], problems: Iterable[str]
) -> Iterator[Finding]:
    by_name = {thing.name: thing for thing in things}
    for problem in problems:
        name, _, text = problem.partition(": ")
        if thing := by_name.get(name):
            yield Finding(resource, thing.namespace, thing.name, thing.uid, text, fatal=True)


def _aliases(communities: Iterable[CommunityObject]) -> tuple[dict[str, CommunityValue], set[str]]:
    """What can be used, and every name that somebody at least tried to define."""
    values: dict[str, CommunityValue] = {}
    names: set[str] = set()
    for thing in communities:
        names |= {entry.name for entry in thing.spec.communities or ()}
        try:
            values |= parse_communities([thing])
        except ConfigError:
            continue
    return values, names


def _dangling(
    objects: Objects, pool_names: Collection[str], alias_names: Collection[str]
) -> Iterator[Finding]:
    """References to what does not exist, or not yet."""
    l2, bgp = resources.L2_ADVERTISEMENTS, resources.BGP_ADVERTISEMENTS
    peer_names = {peer.name for peer in objects.peers}
    profile_names = {profile.name for profile in objects.profiles}

    def missing(
        resource: Resource, thing: SpecObject[Any], path: str, names: Iterable[str] | None,
        there: Collection[str], kind: str, but: str,
    ) -> Iterator[Finding]:  # fmt: skip
        for index, name in enumerate(names or ()):
            if name not in there:
                text = f"spec.{path}[{index}]: there is no {kind} {name!r}: {but}"
                yield Finding(resource, thing.namespace, thing.name, thing.uid, text, fatal=False)

    for l2_ad in objects.l2_advertisements:
        yield from missing(
            l2, l2_ad, "ipAddressPools", l2_ad.spec.ip_address_pools, pool_names,
            "IPAddressPool", "the name selects nothing",
        )  # fmt: skip
    for ad in objects.bgp_advertisements:
        yield from missing(
            bgp, ad, "ipAddressPools", ad.spec.ip_address_pools, pool_names,
            "IPAddressPool", "the name selects nothing",
        )  # fmt: skip
        yield from missing(
            bgp, ad, "peers", ad.spec.peers, peer_names, "BGPPeer", "nobody of that name is told"
        )
        named = [text if ":" not in text else None for text in ad.spec.communities or ()]
        for index, alias in enumerate(named):
            if alias is not None and alias not in alias_names:
                text = f"spec.communities[{index}]: no Community defines {alias!r}: it waits for one"
                yield Finding(bgp, ad.namespace, ad.name, ad.uid, text, fatal=False)
    for peer in objects.peers:
        profile = peer.spec.bfd_profile
        if profile and profile not in profile_names:
            text = f"spec.bfdProfile: there is no BFDProfile {profile!r}: the peer waits for it"
            yield Finding(resources.BGP_PEERS, peer.namespace, peer.name, peer.uid, text, fatal=False)
