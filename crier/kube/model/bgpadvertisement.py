"""BGPAdvertisement: which addresses are announced by BGP, as which prefixes, by whom and to whom."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crier.kube.model.community import CommunityValue, parse_value
from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import Pool
from crier.kube.model.selector import Selector, SelectorWire, any_matches, duplicates, parse_selectors
from crier.kube.model.wire import SpecObject

MAX_COMMUNITIES: Final = 63
"""Of one advertisement; MetalLB's native mode takes no more on a prefix."""


class _SpecWire(msgspec.Struct, frozen=True, rename="camel"):
    aggregation_length: int | None = None
    aggregation_length_v6: int | None = msgspec.field(default=None, name="aggregationLengthV6")
    local_pref: int | None = None
    communities: tuple[str, ...] | None = None
    ip_address_pools: tuple[str, ...] | None = msgspec.field(default=None, name="ipAddressPools")
    ip_address_pool_selectors: tuple[SelectorWire, ...] | None = msgspec.field(
        default=None, name="ipAddressPoolSelectors"
    )
    node_selectors: tuple[SelectorWire, ...] | None = None
    peers: tuple[str, ...] | None = None
    service_selectors: tuple[SelectorWire, ...] | None = None


class BgpAdvertisementObject(SpecObject[_SpecWire], spec=_SpecWire):
    """A BGPAdvertisement as it stands in the API: of the right shape, but not checked yet."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BgpAdvertisement:
    """A checked BGPAdvertisement.  An empty list always means "all"."""

    name: str
    length_v4: int = 32
    """Bits of the prefixes that IPv4 addresses are announced as, 1..32."""
    length_v6: int = 128
    """Likewise for IPv6, 1..128."""
    local_pref: int = 0
    """0..4294967295; 0 leaves it to the router's custom."""
    communities: frozenset[CommunityValue] = frozenset()
    unknown: tuple[str, ...] = ()
    """Aliases that no Community object defines yet.  The advertisement waits for them."""
    pools: tuple[str, ...] = ()
    """Names; a name of no pool selects nothing."""
    pool_selectors: tuple[Selector, ...] = ()
    node_selectors: tuple[Selector, ...] = ()
    peers: tuple[str, ...] = field(default=())
    """Names of BGPPeers."""
    service_selectors: tuple[Selector, ...] = ()

    def selects_pool(self, pool: Pool) -> bool:
        """By name or by label; naming neither selects every pool."""
        if not self.pools and not self.pool_selectors:
            return True
        return pool.name in self.pools or any(
            selector.matches(pool.labels) for selector in self.pool_selectors
        )

    def selects_node(self, labels: Mapping[str, str]) -> bool:
        return any_matches(self.node_selectors, labels)

    def selects_service(self, labels: Mapping[str, str]) -> bool:
        return any_matches(self.service_selectors, labels)

    def selects_peer(self, name: str) -> bool:
        return not self.peers or name in self.peers

    def length(self, version: int) -> int:
        """Bits of a prefix of the IP version, 4 or 6."""
        return self.length_v4 if version == 4 else self.length_v6


def conflicting(one: BgpAdvertisement, other: BgpAdvertisement, versions: frozenset[int]) -> bool:
    """Whether a peer could be told the same prefix with two local preferences.

    `versions`: the IP versions of what both announce.  The nodes are the caller's matter.
    """
    if one.local_pref == other.local_pref:
        return False
    if one.peers and other.peers and not set(one.peers) & set(other.peers):
        return False
    return any(one.length(version) == other.length(version) for version in versions)


def parse_bgp_advertisements(
    objects: Iterable[BgpAdvertisementObject],
    pools: Iterable[Pool],
    aliases: Mapping[str, CommunityValue],
    nodes: Mapping[str, Mapping[str, str]],
) -> tuple[BgpAdvertisement, ...]:
    """Check all BGPAdvertisements, by themselves and against the pools; the result is sorted by name.

    `aliases`: what the Community objects define.  `nodes`: the labels of each node, by its name.

    Raises:
        ConfigError: with every fault of every one.
    """
    problems: list[str] = []
    ordered = sorted(objects, key=lambda thing: thing.name)
    for one, other in itertools.pairwise(ordered):
        if one.key == other.key:
            problems.append(f"{other.name}: metadata.name: duplicate definition of bgpadvertisement")
    ads = tuple(_parse(thing, aliases, problems) for thing in ordered)
    for pool in pools:
        attached = [ad for ad in ads if ad.selects_pool(pool)]
        for ad in attached:
            _check_lengths(ad, pool, problems)
        _find_conflicts(attached, pool, nodes, problems)
    if problems:
        raise ConfigError(problems)
    return ads


def _parse(
    thing: BgpAdvertisementObject, aliases: Mapping[str, CommunityValue], problems: list[str]
) -> BgpAdvertisement:
    spec, path = thing.spec, f"{thing.name}: spec"
    for name, names in (
        ("ipAddressPools", spec.ip_address_pools),
        ("peers", spec.peers),
        ("communities", spec.communities),
    ):
        what = "community" if name == "communities" else name
        problems.extend(
            f"{path}.{name}: duplicate definition of {what} {twice!r}" for twice in duplicates(names or ())
        )
    v4 = _length("aggregationLength", spec.aggregation_length, 32, path, problems)
    v6 = _length("aggregationLengthV6", spec.aggregation_length_v6, 128, path, problems)
    if spec.service_selectors and (v4, v6) != (32, 128):
        problems.append(
            f"{path}: serviceSelectors and aggregationLength are mutually exclusive, can only be used "
            "together with default aggregationLength (32) and aggregationLengthV6 (128)"
        )
    local_pref = spec.local_pref or 0
    if not 0 <= local_pref <= 0xFFFFFFFF:
        problems.append(f"{path}.localPref: {local_pref} is not in 0..4294967295")
    communities, unknown = _communities(spec.communities or (), aliases, f"{path}.communities", problems)
    return BgpAdvertisement(
        name=thing.name,
        length_v4=v4,
        length_v6=v6,
        local_pref=local_pref,
        communities=communities,
        unknown=unknown,
        pools=spec.ip_address_pools or (),
        pool_selectors=parse_selectors(
            spec.ip_address_pool_selectors, f"{path}.ipAddressPoolSelectors", problems
        ),
        node_selectors=parse_selectors(spec.node_selectors, f"{path}.nodeSelectors", problems),
        peers=spec.peers or (),
        service_selectors=parse_selectors(spec.service_selectors, f"{path}.serviceSelectors", problems),
    )


def _length(name: str, found: int | None, bits: int, path: str, problems: list[str]) -> int:
    if found is None:
        return bits
    if not 1 <= found <= bits:
        problems.append(f"{path}.{name}: invalid aggregation length {found}: it is not in 1..{bits}")
        return bits
    return found


def _communities(
    texts: Sequence[str], aliases: Mapping[str, CommunityValue], path: str, problems: list[str]
) -> tuple[frozenset[CommunityValue], tuple[str, ...]]:
    """The values, and the aliases that nobody has defined."""
    values: set[CommunityValue] = set()
    unknown: list[str] = []
    for index, text in enumerate(texts):
        if text in aliases:
            values.add(aliases[text])
        elif ":" not in text:
            unknown.append(text)
        else:
            try:
                values.add(parse_value(text))
            except ValueError as problem:
                problems.append(f"{path}[{index}]: {problem}")
    if len(values) > MAX_COMMUNITIES:
        problems.append(f"{path}: more than {MAX_COMMUNITIES} communities")
    return frozenset(values), tuple(unknown)


def _check_lengths(ad: BgpAdvertisement, pool: Pool, problems: list[str]) -> None:
    """A prefix must not be wider than what the pool has: it would draw in traffic for others' addresses."""
    for networks in pool.items:
        shortest = min(network.prefixlen for network in networks)
        version = networks[0].version
        if ad.length(version) < shortest:
            name = "aggregationLength" if version == 4 else "aggregationLengthV6"
            problems.append(
                f"{ad.name}: spec.{name}: invalid aggregation length {ad.length(version)}: prefix {shortest} "
                f"in this pool is more specific than the aggregation length for addresses {networks[0]} "
                f"of pool {pool.name!r}"
            )


def _find_conflicts(
    attached: Sequence[BgpAdvertisement],
    pool: Pool,
    nodes: Mapping[str, Mapping[str, str]],
    problems: list[str],
) -> None:
    """Advertisements with service selectors are compared when a service is announced, not here."""
    versions = frozenset(network.version for network in pool.networks)
    for one, other in itertools.combinations([ad for ad in attached if not ad.service_selectors], 2):
        if conflicting(one, other, versions) and any(
            one.selects_node(labels) and other.selects_node(labels) for labels in nodes.values()
        ):
            problems.append(
                f"{other.name}: spec.localPref: invalid local preference {other.local_pref}: {one.name} has "
                f"{one.local_pref} for pool {pool.name!r}, with the same aggregation length, peers and nodes"
            )
