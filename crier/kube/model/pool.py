"""IPAddressPool: the addresses services may have, and which services may have them."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_network, summarize_address_range
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.addresses import Address, Network, parse_address
from crier.kube.model.errors import ConfigError
from crier.kube.model.selector import Selector, SelectorWire, any_matches, duplicates, parse_selectors
from crier.kube.model.wire import NO_LABELS, MetaWire

_FORMS: Final = "must be ADDRESS/BITS or FIRST-LAST"
MAX_NETWORKS: Final = 65536
"""Networks of one pool, ranges taken apart (an IPv6 range makes at most 254)."""


class _AllocationWire(msgspec.Struct, frozen=True, rename="camel"):
    priority: int | None = None
    namespaces: tuple[str, ...] | None = None
    namespace_selectors: tuple[SelectorWire, ...] | None = None
    service_selectors: tuple[SelectorWire, ...] | None = None


class _SpecWire(msgspec.Struct, frozen=True, rename="camel"):
    addresses: tuple[str, ...] | None = None
    auto_assign: bool | None = None
    avoid_buggy_ips: bool | None = msgspec.field(default=None, name="avoidBuggyIPs")
    service_allocation: _AllocationWire | None = None


class _CountersWire(msgspec.Struct, frozen=True, gc=False):
    assigned_ipv4: int | None = msgspec.field(default=None, name="assignedIPv4")
    assigned_ipv6: int | None = msgspec.field(default=None, name="assignedIPv6")
    available_ipv4: int | None = msgspec.field(default=None, name="availableIPv4")
    available_ipv6: int | None = msgspec.field(default=None, name="availableIPv6")


class _PoolWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    spec: _SpecWire | None = None
    status: _CountersWire | None = None


_DECODER: Final = msgspec.json.Decoder(_PoolWire)


@dataclass(frozen=True, slots=True)
class Counters:
    """status of an IPAddressPool: distinct addresses; at most 2^63 - 1 each."""

    assigned_ipv4: int
    assigned_ipv6: int
    available_ipv4: int
    available_ipv6: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolObject:
    """An IPAddressPool as it stands in the API: of the right shape, but not checked yet."""

    namespace: str
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default=NO_LABELS)
    resource_version: str = ""
    spec: _SpecWire
    counters: Counters | None = None
    document: bytes = field(default=b"", compare=False, repr=False)
    """The JSON it was decoded from, for who will replace its status."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def decode(cls, data: bytes) -> PoolObject:
        """Raises `DecodeError`."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        counters = None
        if found.status is not None:
            status = found.status
            numbers = (
                status.assigned_ipv4,
                status.assigned_ipv6,
                status.available_ipv4,
                status.available_ipv6,
            )
            counters = Counters(*(-1 if number is None else number for number in numbers))
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            uid=meta.uid or "",
            labels=meta.labels or NO_LABELS,
            resource_version=meta.resource_version or "",
            spec=found.spec or _SpecWire(),
            counters=counters,
            document=data,
        )


@dataclass(frozen=True, slots=True)
class Allocation:
    """Which services a pool is for (`spec.serviceAllocation`)."""

    priority: int = 0
    """Lower is preferred; 0 is last."""
    namespaces: frozenset[str] = frozenset()
    namespace_selectors: tuple[Selector, ...] = ()
    service_selectors: tuple[Selector, ...] = ()

    def objection(
        self, namespace: str, namespace_labels: Mapping[str, str], service_labels: Mapping[str, str]
    ) -> str:
        """Why a service may not draw from the pool; "" when its namespace and its labels are both right.

        Naming namespaces or namespace selectors restricts, also when no namespace fits them now.
        """
        if (self.namespaces or self.namespace_selectors) and not (
            namespace in self.namespaces
            or any(selector.matches(namespace_labels) for selector in self.namespace_selectors)
        ):
            return f'is not for namespace "{namespace}"'
        if not any_matches(self.service_selectors, service_labels):
            return "no serviceSelector matches the service's labels"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A checked IPAddressPool."""

    name: str
    networks: tuple[Network, ...]
    """In the order of the spec, ranges taken apart into the fewest networks; none overlaps another."""
    auto_assign: bool = True
    """Whether services that name no pool and no address may draw from this one."""
    avoid_buggy_ips: bool = False
    """Never give out an IPv4 address that ends in .0 or .255."""
    allocation: Allocation | None = None
    labels: Mapping[str, str] = field(default=NO_LABELS)
    items: tuple[tuple[Network, ...], ...] = ()
    """The networks of each entry of `spec.addresses` (aggregation of BGP routes is checked per entry)."""

    def allows(self, address: Address) -> bool:
        """Whether the address is one of ours to give.  Linear in the networks; see `PoolIndex`."""
        return not (self.avoid_buggy_ips and is_buggy(address)) and any(
            address.version == network.version and address in network for network in self.networks
        )


def is_buggy(address: Address) -> bool:
    """Whether some old routers take the address for a network's or a broadcast's."""
    return isinstance(address, IPv4Address) and int(address) & 0xFF in (0x00, 0xFF)


class PoolIndex:
    """Which pool holds an address, in logarithmic time.  Pools never overlap, so there is at most one."""

    __slots__ = ("_ends", "_pools", "_starts", "pools")

    def __init__(self, pools: Iterable[Pool]) -> None:
        self.pools: Mapping[str, Pool] = {pool.name: pool for pool in pools}
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        self._pools: dict[int, list[Pool]] = {4: [], 6: []}
        spans = sorted(
            (network.version, int(network.network_address), int(network.broadcast_address), pool.name)
            for pool in self.pools.values()
            for network in pool.networks
        )
        for version, start, end, name in spans:
            self._starts[version].append(start)
            self._ends[version].append(end)
            self._pools[version].append(self.pools[name])

    def containing(self, address: Address) -> Pool | None:
        """The pool that has the address in its networks, whether it may give it out or not."""
        version, number = address.version, int(address)
        at = bisect.bisect_right(self._starts[version], number) - 1
        if at < 0 or number > self._ends[version][at]:
            return None
        return self._pools[version][at]

    def locate(self, address: Address) -> Pool | None:
        """The pool that may give out the address."""
        pool = self.containing(address)
        return None if pool is None or (pool.avoid_buggy_ips and is_buggy(address)) else pool

    def locate_all(self, addresses: Sequence[Address]) -> Pool | None:
        """The one pool that may give out all the addresses; None also when there are none."""
        found = [self.locate(address) for address in addresses]
        if not found or any(pool is None or pool is not found[0] for pool in found):
            return None
        return found[0]


def parse_pools(objects: Iterable[PoolObject]) -> tuple[Pool, ...]:
    """Check all pools together; the result is sorted by name.

    Raises:
        ConfigError: with every fault of every pool.
    """
    ordered = sorted(objects, key=lambda thing: thing.name)
    problems: list[str] = []
    pools = tuple(_parse_pool(thing, problems) for thing in ordered)
    for one, other in itertools.pairwise(pools):
        if one.name == other.name:
            problems.append(f"{other.name}: metadata.name: duplicate definition of pool {other.name!r}")
    _find_overlaps(pools, problems)
    if problems:
        raise ConfigError(problems)
    return pools


def _parse_pool(thing: PoolObject, problems: list[str]) -> Pool:
    name, spec = thing.name, thing.spec
    items: list[tuple[Network, ...]] = []
    total = 0
    if not name:
        problems.append("metadata.name: missing pool name")
    if not spec.addresses:
        problems.append(f"{name}: spec.addresses: pool has no prefixes defined: {_FORMS}")
    for index, text in enumerate(spec.addresses or ()):
        try:
            items.append(parse_networks(text))
        except ValueError as problem:
            problems.append(f"{name}: spec.addresses[{index}]: {problem}")
            continue
        total += len(items[-1])
        if total > MAX_NETWORKS:
            problems.append(f"{name}: spec.addresses: more than {MAX_NETWORKS} networks")
            break
    return Pool(
        name=name,
        networks=tuple(itertools.chain.from_iterable(items)),
        auto_assign=spec.auto_assign is not False,
        avoid_buggy_ips=spec.avoid_buggy_ips is True,
        allocation=_parse_allocation(name, spec.service_allocation, problems),
        labels=thing.labels,
        items=tuple(items),
    )


def _parse_allocation(name: str, found: _AllocationWire | None, problems: list[str]) -> Allocation | None:
    if found is None:
        return None
    path = f"{name}: spec.serviceAllocation"
    namespaces = found.namespaces or ()
    problems.extend(
        f"{path}.namespaces: duplicate definition in namespaces field: {twice!r}"
        for twice in duplicates(namespaces)
    )
    return Allocation(
        priority=found.priority or 0,
        namespaces=frozenset(namespaces),
        namespace_selectors=parse_selectors(
            found.namespace_selectors, f"{path}.namespaceSelectors", problems
        ),
        service_selectors=parse_selectors(found.service_selectors, f"{path}.serviceSelectors", problems),
    )


def parse_networks(text: str) -> tuple[Network, ...]:
    """One entry of `spec.addresses`: `address/bits` (host bits are masked off) or `first-last`.

    Raises:
        ValueError: it is neither.
    """
    if "-" not in text:
        return (_parse_cidr(text),)
    first, _, last = text.partition("-")
    try:
        start = parse_address(first.strip())
    except ValueError:
        raise ValueError(f"invalid IP range {text!r}: invalid start IP {first.strip()!r}: {_FORMS}") from None
    try:
        end = parse_address(last.strip())
    except ValueError:
        raise ValueError(f"invalid IP range {text!r}: invalid end IP {last.strip()!r}: {_FORMS}") from None
    if start.version != end.version:
        raise ValueError(f"invalid IP range {text!r}: start IP and end IP are of different families")
    if int(start) > int(end):
        raise ValueError(f"invalid IP range {text!r}: start IP {start} is after the end IP {end}")
    return tuple(summarize_address_range(start, end))


def _parse_cidr(text: str) -> Network:
    address, slash, bits = text.partition("/")
    # ip_network() would also take a bare address and a netmask in dots.
    if not slash or not (bits.isascii() and bits.isdigit()) or "%" in address:
        raise ValueError(f"invalid CIDR {text!r}: {_FORMS}")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"invalid CIDR {text!r}: {_FORMS}") from None
    if network.version == 6 and network.network_address.ipv4_mapped is not None and network.prefixlen >= 96:
        raise ValueError(f"invalid CIDR {text!r}: write IPv4 addresses as IPv4")
    return network


def _find_overlaps(pools: Sequence[Pool], problems: list[str]) -> None:
    """Networks nest or are disjoint, so after sorting only the enclosing one can overlap the next."""
    order = itertools.count()
    spans = sorted(
        (network.version, int(network.network_address), network.prefixlen, next(order), pool.name, network)
        for pool in pools
        for network in pool.networks
    )
    enclosing: tuple[int, str, Network] | None = None
    for _, _, _, when, name, network in spans:
        if enclosing is not None:
            earlier, owner, around = enclosing
            if around.version == network.version and network.network_address in around:
                first, second = sorted(((earlier, owner, around), (when, name, network)), key=lambda t: t[0])
                problems.append(
                    f'{second[1]}: spec.addresses: CIDR "{second[2]}" in pool "{second[1]}" '
                    f'overlaps with already defined CIDR "{first[2]}" in pool "{first[1]}"'
                )
                continue
        enclosing = (when, name, network)
