"""The cluster as one immutable value: what the plan is made from, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from crier.kube.model.addresses import Address, parse_address
from crier.kube.model.advertisement import (
    L2Advertisement,
    L2AdvertisementObject,
    parse_l2_advertisements,
)
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.errors import ConfigError
from crier.kube.model.node import Node
from crier.kube.model.pool import Pool, PoolIndex, PoolObject, parse_pools
from crier.kube.model.service import Service

NO_ADVERTISEMENTS: Final[tuple[L2Advertisement, ...]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """Pools and advertisements that were checked together.  Compared by identity: a new one is a new one."""

    pools: PoolIndex
    attached: Mapping[str, tuple[L2Advertisement, ...]]
    """Pool name to the advertisements that select it, by name of the advertisement."""

    @classmethod
    def of(cls, pools: Iterable[Pool], advertisements: Iterable[L2Advertisement]) -> Configuration:
        index, ads = PoolIndex(pools), tuple(advertisements)
        return cls(
            index,
            {name: tuple(ad for ad in ads if ad.selects_pool(pool)) for name, pool in index.pools.items()},
        )

    @classmethod
    def parse(
        cls, pools: Iterable[PoolObject], advertisements: Iterable[L2AdvertisementObject]
    ) -> Configuration:
        """Raises ConfigError with every problem of every object."""
        problems: list[str] = []
        checked: tuple[Pool, ...] = ()
        ads = NO_ADVERTISEMENTS
        try:
            checked = parse_pools(pools)
        except ConfigError as problem:
            problems += problem.problems
        try:
            ads = parse_l2_advertisements(advertisements)
        except ConfigError as problem:
            problems += problem.problems
        if problems:
            raise ConfigError(problems)
        return cls.of(checked, ads)

    def advertisements(self, pool: Pool, service: Service) -> tuple[L2Advertisement, ...]:
        """Those that are attached to the pool and select the service."""
        return tuple(ad for ad in self.attached.get(pool.name, ()) if ad.selects_service(service.labels))


@dataclass(frozen=True, slots=True)
class Since:
    """What is new in a view: whoever planned the view before need look at nothing else."""

    number: int
    """Of the view; the one before has the number before."""
    services: AbstractSet[str]
    """The services, by `namespace/name`, that came, changed or went, or whose slices did."""


@dataclass(frozen=True, slots=True)
class View:
    services: Mapping[str, Service]
    """By `namespace/name`."""
    slices: Mapping[str, tuple[EndpointSlice, ...]]
    """By `namespace/name` of the service."""
    nodes: Mapping[str, Node]
    configuration: Configuration | None = field(default=None)
    """None until there was one that could be used."""
    since: Since | None = field(default=None, compare=False)
    """None: nobody kept count, and everything has to be looked at."""

    def touched(self, planned: int | None) -> AbstractSet[str] | None:
        """The services that may differ from the view with the number `planned`; None: any of them."""
        if self.since is None or planned is None or self.since.number != planned + 1:
            return None
        return self.since.services

    @property
    def number(self) -> int | None:
        return self.since.number if self.since is not None else None


class SliceIndex:
    """`by_service`, kept up to date slice by slice: a cluster has as many as it has services."""

    def __init__(self) -> None:
        self.groups: Mapping[str, tuple[EndpointSlice, ...]] = {}
        self._owners: dict[str, str] = {}
        """Slice to its service, both by `namespace/name`."""
        self._members: dict[str, set[str]] = {}

    def update(self, changed: Iterable[str], objects: Mapping[str, EndpointSlice]) -> set[str]:
        """Take in which slices came, changed or went.  Returns the services they belonged or belong to."""
        touched: set[str] = set()
        for key in changed:
            found = objects.get(key)
            before, owner = self._owners.pop(key, ""), found.service_key if found is not None else ""
            if before != owner and before:
                self._members[before].discard(key)
            if owner:
                self._owners[key] = owner
                self._members.setdefault(owner, set()).add(key)
            touched |= {before, owner} - {""}
        groups = dict(self.groups)
        for owner in touched:
            some = [objects[key] for key in self._members[owner]]
            if some:
                groups[owner] = tuple(sorted(some, key=lambda each: each.name))
            else:
                groups.pop(owner, None)
                del self._members[owner]
        self.groups = groups
        return touched


def by_service(slices: Iterable[EndpointSlice]) -> dict[str, tuple[EndpointSlice, ...]]:
    """The slices of each service, by name of the slice."""
    grouped: dict[str, list[EndpointSlice]] = {}
    for each in slices:
        if each.service_key:
            grouped.setdefault(each.service_key, []).append(each)
    return {key: tuple(sorted(some, key=lambda each: each.name)) for key, some in grouped.items()}


def addresses(service: Service) -> tuple[Address, ...] | None:
    """The service's addresses, in the order of its status.  None when one of them is no address."""
    try:
        return tuple(parse_address(text) for text in service.ingress_ips)
    except ValueError:
        return None
