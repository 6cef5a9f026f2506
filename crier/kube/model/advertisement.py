"""L2Advertisement: which addresses are announced by ARP and NDP, by which nodes, on which interfaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import Pool
from crier.kube.model.selector import (
    Selector,
    SelectorWire,
    any_matches,
    duplicates,
    parse_selector,
    parse_selectors,
)
from crier.kube.model.wire import SpecObject


class _PreferredWire(msgspec.Struct, frozen=True):
    weight: int = 0
    preference: SelectorWire | None = None


class _SpecWire(msgspec.Struct, frozen=True, rename="camel"):
    ip_address_pools: tuple[str, ...] | None = msgspec.field(default=None, name="ipAddressPools")
    ip_address_pool_selectors: tuple[SelectorWire, ...] | None = msgspec.field(
        default=None, name="ipAddressPoolSelectors"
    )
    node_selectors: tuple[SelectorWire, ...] | None = None
    preferred_node_selectors: tuple[_PreferredWire, ...] | None = None
    interfaces: tuple[str, ...] | None = None
    service_selectors: tuple[SelectorWire, ...] | None = None


class L2AdvertisementObject(SpecObject[_SpecWire], spec=_SpecWire):
    """An L2Advertisement as it stands in the API: of the right shape, but not checked yet."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Preference:
    """Nodes that should rather announce than others, if they can."""

    weight: int
    """1..100; the weights of all preferences a node meets are added."""
    selector: Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class L2Advertisement:
    """A checked L2Advertisement.  An empty list always means "all"."""

    name: str
    pools: tuple[str, ...] = ()
    """Names; a name of no pool selects nothing."""
    pool_selectors: tuple[Selector, ...] = ()
    node_selectors: tuple[Selector, ...] = ()
    interfaces: tuple[str, ...] = ()
    """Exact names."""
    service_selectors: tuple[Selector, ...] = ()
    preferred: tuple[Preference, ...] = ()
    """Only among the nodes the advertisement selects."""

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


def parse_l2_advertisements(objects: Iterable[L2AdvertisementObject]) -> tuple[L2Advertisement, ...]:
    """Check all L2Advertisements; the result is sorted by name.

    Raises:
        ConfigError: with every fault of every one.
    """
    problems: list[str] = []
    ordered = sorted(objects, key=lambda thing: thing.name)
    advertisements = tuple(_parse(thing, problems) for thing in ordered)
    if problems:
        raise ConfigError(problems)
    return advertisements


def _parse(thing: L2AdvertisementObject, problems: list[str]) -> L2Advertisement:
    spec, path = thing.spec, f"{thing.name}: spec"
    pools = spec.ip_address_pools or ()
    problems.extend(
        f"{path}.ipAddressPools: duplicate definition of ipAddressPools {twice!r}"
        for twice in duplicates(pools)
    )
    return L2Advertisement(
        name=thing.name,
        pools=pools,
        pool_selectors=parse_selectors(
            spec.ip_address_pool_selectors, f"{path}.ipAddressPoolSelectors", problems
        ),
        node_selectors=parse_selectors(spec.node_selectors, f"{path}.nodeSelectors", problems),
        interfaces=tuple(dict.fromkeys(spec.interfaces or ())),
        service_selectors=parse_selectors(spec.service_selectors, f"{path}.serviceSelectors", problems),
        preferred=tuple(
            _parse_preference(found, f"{path}.preferredNodeSelectors[{index}]", problems)
            for index, found in enumerate(spec.preferred_node_selectors or ())
        ),
    )


def _parse_preference(found: _PreferredWire, path: str, problems: list[str]) -> Preference:
    if not 1 <= found.weight <= 100:
        problems.append(f"{path}.weight: {found.weight} is not in 1..100")
    return Preference(
        found.weight, parse_selector(found.preference or SelectorWire(), f"{path}.preference", problems)
    )
