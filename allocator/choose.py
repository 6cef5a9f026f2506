"""Which addresses a service gets: a pure function of what it asks for, the pools and who holds what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from allocator.ledger import Ledger
from allocator.request import Request
from crier.kube.model.addresses import Address, Family, family_of_all, quoted
from crier.kube.model.pool import Pool


class Why(Enum):
    """Why there is no address.  The texts that go with them are MetalLB's."""

    EXHAUSTED = "no pool that would serve has an address left"
    UNKNOWN_POOL = "the pool asked for does not exist"
    NOT_ALLOWED = "no pool has the addresses asked for"
    NOT_COMPATIBLE = "the pool is not for this service"
    IN_USE = "somebody holds the address who does not share it like this"
    WRONG_FAMILY = "the addresses asked for are not of the service's family"
    INVALID = "what the service asks for makes no sense"
    WRONG_POOL = "the addresses asked for are not in the pool asked for"


@dataclass(frozen=True, slots=True)
class Choice:
    pool: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    why: Why
    text: str
    pools: tuple[tuple[str, str], ...] = ()
    """Each pool that was looked at, and why it did not serve."""

    def __str__(self) -> str:
        return self.explain()

    def explain(self, more: str = "") -> str:
        """The text, what else is to be known, and the pools last: they may be more than an event holds."""
        pools = "; ".join(f"{pool}: {why}" for pool, why in self.pools)
        return f"{self.text}{more}{f' ({pools})' if pools else ''}"


NamespaceLabels = Mapping[str, Mapping[str, str]]
"""The labels of every namespace, by its name."""


def exclusion(pool: Pool, namespace: str, labels: Mapping[str, str], namespaces: NamespaceLabels) -> str:
    """Why the pool's serviceAllocation keeps a service out; "" when it lets it in."""
    allocation = pool.allocation
    if allocation is None:
        return ""
    return allocation.objection(namespace, namespaces.get(namespace, {}), labels)


def _not_compatible(pool: Pool, request: Request, namespaces: NamespaceLabels) -> Refusal | None:
    why = exclusion(pool, request.namespace, request.labels, namespaces)
    if not why:
        return None
    return Refusal(Why.NOT_COMPATIBLE, f"pool {pool.name} not compatible for ip assignment: {why}")


def choose(request: Request, ledger: Ledger, namespaces: NamespaceLabels) -> Choice | Refusal:
    """The addresses a service that holds none should have, or why it cannot have any."""
    if request.invalid:
        return Refusal(Why.INVALID, request.invalid)
    if request.addresses:
        return _choose_named(request, ledger, namespaces)
    if request.pool:
        return _choose_from_named_pool(request, ledger, namespaces)
    return _choose_any(request, ledger, namespaces)


def objection(
    addresses: Sequence[Address], request: Request, ledger: Ledger, namespaces: NamespaceLabels
) -> Refusal | Pool:
    """The pool from which the service may hold exactly these addresses, or why it may not."""
    pool = ledger.pools.locate_all(addresses)
    if pool is None:
        lacks = tuple(_lacks(addresses, ledger))
        return Refusal(Why.NOT_ALLOWED, f"{quoted(addresses)} is not allowed in config", lacks)
    if refusal := _not_compatible(pool, request, namespaces):
        return refusal
    for address in addresses:
        if why := ledger.objection(address, request.service, request.ports, request.key):
            return Refusal(Why.IN_USE, why)
    return pool


def _lacks(addresses: Sequence[Address], ledger: Ledger) -> Iterable[tuple[str, str]]:
    """Why each pool cannot give all the addresses."""
    owners = [(address, ledger.pools.containing(address)) for address in addresses]
    for name in sorted(ledger.pools.pools):
        lacking = [str(address) for address, pool in owners if pool is None or pool.name != name]
        yield name, f"does not have {', '.join(lacking)}" if lacking else "avoidBuggyIPs keeps it back"


def _choose_named(request: Request, ledger: Ledger, namespaces: NamespaceLabels) -> Choice | Refusal:
    if family_of_all(request.addresses) is not request.family:
        return Refusal(
            Why.WRONG_FAMILY,
            f"requested loadBalancer IP(s) {quoted(request.addresses)} "
            f"does not match the ipFamily of the service, which is {request.family.value}",
        )
    found = objection(request.addresses, request, ledger, namespaces)
    if isinstance(found, Refusal):
        return found
    if request.pool and request.pool != found.name:
        return Refusal(
            Why.WRONG_POOL,
            f"requested loadBalancer IP(s) {quoted(request.addresses)} is not compatible with "
            f"requested address pool {request.pool}",
            ((found.name, "has what is requested"),),
        )
    return Choice(found.name, request.addresses)


def _choose_from_named_pool(
    request: Request, ledger: Ledger, namespaces: NamespaceLabels
) -> Choice | Refusal:
    pool = ledger.pools.pools.get(request.pool)
    if pool is None:
        others = tuple((name, "not requested") for name in sorted(ledger.pools.pools))
        return Refusal(Why.UNKNOWN_POOL, f'unknown pool "{request.pool}"', others)
    if refusal := _not_compatible(pool, request, namespaces):
        return refusal
    return _choose_among([pool], request, ledger) or exhausted(pool, request.family)


def _choose_any(request: Request, ledger: Ledger, namespaces: NamespaceLabels) -> Choice | Refusal:
    """Pools made for services like this one first, in order of priority; then those made for all."""
    pools = [ledger.pools.pools[name] for name in sorted(ledger.pools.pools)]
    considered: list[tuple[str, str]] = []
    pinned: list[tuple[tuple[bool, int], Pool]] = []
    common: list[Pool] = []
    for pool in pools:
        if why := exclusion(pool, request.namespace, request.labels, namespaces):
            considered.append((pool.name, why))
        elif not pool.auto_assign:
            considered.append((pool.name, "autoAssign is false"))
        elif pool.allocation is None:
            common.append(pool)
        else:
            # Priority 0 means none given, which comes last.
            pinned.append(((pool.allocation.priority == 0, pool.allocation.priority), pool))
    pinned.sort(key=lambda pair: pair[0])  # stable: pools of one priority stay in order of their names
    for stage in ([pool for _, pool in pinned], common):
        if choice := _choose_among(stage, request, ledger):
            return choice
        considered.extend((pool.name, _shortage(pool, request.family)) for pool in stage)
    return Refusal(Why.EXHAUSTED, "no available IPs", tuple(sorted(considered)))


def _choose_among(pools: Sequence[Pool], request: Request, ledger: Ledger) -> Choice | None:
    """The first pool that has all that is wanted; else, where one address is enough, the first that has one.

    Both addresses of a dual-stack service come from one pool, IPv4 first.
    """
    for pool in pools:
        if choice := _take(pool, request.family, request, ledger):
            return choice
    if request.family is Family.DUAL and request.prefer_dual:
        secondary = Family.IPV4 if request.primary is Family.IPV6 else Family.IPV6
        for family in (request.primary, secondary):
            for pool in pools:
                if choice := _take(pool, family, request, ledger):
                    return choice
    return None


def _take(pool: Pool, family: Family, request: Request, ledger: Ledger) -> Choice | None:
    addresses: list[Address] = []
    for version in versions_of(family):
        address = ledger.lowest(pool.name, version, request.service, request.ports, request.key)
        if address is None:
            return None
        addresses.append(address)
    return Choice(pool.name, tuple(addresses))


def versions_of(family: Family) -> Iterable[int]:
    match family:
        case Family.IPV4:
            return (4,)
        case Family.IPV6:
            return (6,)
        case Family.DUAL:
            return (4, 6)


def exhausted(pool: Pool, family: Family) -> Refusal:
    """Of a service that may draw from this pool only."""
    text, why = _no_available(pool, family), _shortage(pool, family)
    return Refusal(Why.EXHAUSTED, text, ((pool.name, why),) if why != text else ())


def _no_available(pool: Pool, family: Family) -> str:
    return f"no available IPs in pool {pool.name} for {family.value} IPFamily"


def _shortage(pool: Pool, family: Family) -> str:
    has = {network.version for network in pool.networks}
    if not has.issuperset(versions_of(family)):
        return f"has no {family.value} addresses" if family is not Family.DUAL else "is not dual-stack"
    return _no_available(pool, family)
