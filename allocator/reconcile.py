"""From what the API says to what must be written there.

The state of record is each service's status; the ledger is what we made of it and of what we are about to
write.  `Allocator` holds no clock, socket or chance: the same services and pools, told in any order, end in
the same writes.

Two rules keep an address from ever standing in two statuses that may not share it:

- Every service first asserts what it has; only then does anybody get something new.  So neither a restart nor
  a change of many services at once can give away what is recorded.
- An address that is to leave a status is nobody else's until that was written (`settle`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from allocator import notices
from allocator.choose import (
    Choice,
    NamespaceLabels,
    Refusal,
    Why,
    choose,
    exhausted,
    objection,
    versions_of,
)
from allocator.ledger import Claim, Ledger
from allocator.notices import Notice
from allocator.request import Request, request_of
from crier.kube.model.addresses import Address, Family, family_of_all, parse_address
from crier.kube.model.annotations import ALLOCATED_FROM, deprecated
from crier.kube.model.pool import Pool
from crier.kube.model.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What a service's status and pool annotation should say."""

    service: str
    """`namespace/name`."""
    uid: str
    resource_version: str
    """Of the object this was decided on; to another it does not apply."""
    addresses: tuple[str, ...]
    pool: str
    """"" removes the annotation."""
    notices: tuple[Notice, ...] = ()
    """To tell once it is written."""
    document: bytes = field(default=b"", repr=False)
    """The service's JSON in that version, if it is at hand."""


@dataclass(frozen=True, slots=True)
class Plan:
    writes: tuple[Write, ...] = ()
    """In order: services that had addresses before come first."""
    notices: tuple[Notice, ...] = ()
    """To tell now."""


# What becomes of a service, after a look at what it has.


@dataclass(frozen=True, slots=True)
class _Keep:
    """It keeps what it has; the ledger says so too."""

    top_up: Request | None = None
    """Set when it should have an address of the other family as well."""


@dataclass(frozen=True, slots=True)
class _Vacant:
    """It has nothing (any more) and should get something."""

    request: Request


@dataclass(frozen=True, slots=True)
class _Blank:
    """It must not have anything."""


_FOR_LACK_OF_POOLS: Final = frozenset(
    {Why.EXHAUSTED, Why.UNKNOWN_POOL, Why.NOT_ALLOWED, Why.NOT_COMPATIBLE, Why.WRONG_POOL}
)
"""What other pools could mend."""

_Verdict: TypeAlias = _Keep | _Vacant | _Blank


@dataclass(slots=True)
class _Case:
    """One service in one pass."""

    service: Service
    recorded: tuple[Address, ...]
    """What its status says, as far as those are addresses."""
    verdict: _Verdict = field(default_factory=_Keep)
    refusal: Refusal | None = None
    deferred: bool = False
    """What it should get is about to leave another service's status."""
    notices: list[Notice] = field(default_factory=list)
    granted: list[Notice] = field(default_factory=list)
    """To tell once written."""


class Allocator:
    """Decides.  `reconcile` whenever something changed; `settle` for each of its writes that was done."""

    def __init__(self, *, lb_class: str = "") -> None:
        self.ledger = Ledger()
        self.configured = False
        """Pools were given at least once; before that nothing is decided, because nothing is known."""
        self._lb_class = lb_class
        self._namespaces: NamespaceLabels = {}
        self._unserved: set[str] = set()
        """Services that want more than they have: looked at again whenever something becomes free."""
        self._leaving = _Leaving()
        self._told: dict[str, frozenset[Notice]] = {}
        self._faulty: tuple[str, ...] = ()
        """Pools whose faults keep the newest pools out of force."""
        self._stirred = False
        """Something became free, or shareable, since the unserved were last looked at."""

    @property
    def unserved(self) -> Collection[str]:
        return frozenset(self._unserved)

    @property
    def amiss(self) -> list[Notice]:
        """The warnings of each service's last look: they still hold."""
        return [
            notice
            for _, said in sorted(self._told.items())
            for notice in sorted(said, key=str)
            if notice.type == "Warning"
        ]

    def configure(self, pools: Collection[Pool]) -> None:
        """New pools.  All services must be reconciled next."""
        self.ledger.configure(pools)
        self.configured = True
        self._faulty = ()
        self._stirred = True

    def reject(self, faulty: Collection[str]) -> None:
        """The newest pools are not in force, because of these; those who wait are told.

        All services must be reconciled next if none were ever in force.
        """
        self._stirred |= self._faulty != tuple(faulty)
        self._faulty = tuple(faulty)

    def set_namespaces(self, namespaces: NamespaceLabels) -> None:
        """New labels of namespaces.  All services must be reconciled next."""
        self._namespaces = namespaces

    def settle(self, service: str) -> bool:
        """What was to leave the service's status has left it.  True when that may let others go on."""
        freed = self._leaving.replace(service, ())
        self._stirred |= freed
        return freed

    def reconcile(
        self, services: Mapping[str, Service], dirty: Collection[str], busy: Collection[str] = ()
    ) -> Plan:
        """Look at the services named and at all that wait for something to become free.

        Args:
            services: all there are, as the API last said.
            dirty: those that changed or disappeared since the last call.
            busy: those with a write under way; they are left alone, and must be named again afterwards.
        """
        if not self.configured:
            return Plan(notices=tuple(self._explain_all(services, dirty)) if self._faulty else ())
        cases: dict[str, _Case] = {}
        self._assess_all(services, [key for key in dirty if key not in busy], cases)
        self._serve_all(cases)
        while self._stirred:
            self._stirred = False
            again = [key for key in self._unserved if key not in cases and key not in busy]
            self._assess_all(services, again, cases)
            self._serve_all(cases)
        return self._plan(cases)

    def _explain_all(self, services: Mapping[str, Service], keys: Collection[str]) -> Iterator[Notice]:
        """Why nobody gets anything while there is nothing to give from; what they have is not judged."""
        for key in sorted(keys):
            service = services.get(key)
            waits = service is not None and self._is_ours(service) and _wants_address(service)
            why = f"no available IPs (no pool is in force{self._because()})"
            yield from self._unheard(key, [notices.allocation_failed(key, why)] if waits else [])

    def _because(self) -> str:
        return f", because of faults in {', '.join(self._faulty)}" if self._faulty else ""

    # ---------------------------------------------------------- first, what everybody has

    def _assess_all(
        self, services: Mapping[str, Service], keys: Collection[str], cases: dict[str, _Case]
    ) -> None:
        present: list[Service] = []
        for key in keys:
            service = services.get(key)
            if service is None or not self._is_ours(service):
                self._forget(key)
            else:
                present.append(service)
        present.sort(key=_assigned_first)
        # All let go before any takes hold again: two that change together must not stumble over what the
        # other was before.
        held = [self.ledger.drop(service.key) for service in present]
        for service, before in zip(present, held, strict=True):
            case = _Case(service, addresses_in(service))
            case.verdict = self._assess(case)
            cases[service.key] = case
            gone = case.recorded if isinstance(case.verdict, (_Vacant, _Blank)) else ()
            self._stirred |= self._leaving.replace(service.key, gone)
            self._stir(before, self.ledger.get(service.key))

    def _stir(self, before: Claim | None, after: Claim | None) -> None:
        """Others wait for what a service gives up, and for what it offers to share."""
        if before != after and (before is not None or (after is not None and after.key.sharing)):
            self._stirred = True

    def _is_ours(self, service: Service) -> bool:
        """By its class.  What is no LoadBalancer has none, and is looked at only to tidy up after it."""
        return not service.is_load_balancer or (service.load_balancer_class or "") == self._lb_class

    def _forget(self, key: str) -> None:
        self._stir(self.ledger.drop(key), None)
        self.settle(key)
        self._unserved.discard(key)
        self._told.pop(key, None)

    def _assess(self, case: _Case) -> _Verdict:
        service, key = case.service, case.service.key
        if not service.is_load_balancer or not service.cluster_ips:
            return _Blank()
        if not self.ledger.pools.pools:
            case.notices.append(notices.allocation_failed(key, "no available IPs (no pool is configured)"))
            return _Blank()
        if service.ip_family_policy == "RequireDualStack" and len(service.cluster_ips) < 2:
            case.notices.append(notices.not_enough_cluster_ips(key, service.cluster_ips))
            return _Blank()
        try:
            request = request_of(service)
        except ValueError as problem:
            case.notices.append(notices.no_service_family(key, service.cluster_ips, str(problem)))
            return _Blank()
        current = self._assert_current(case, request)
        if not current:
            return _Vacant(request)
        if request.invalid:
            case.notices.append(notices.invalid_request(key, request.invalid))
            return _Keep()
        if self._is_elsewhere(request, current):
            self.ledger.drop(key)
            return _Vacant(request)
        wants_more = request.prefer_dual and len(current) == 1 and not request.addresses
        return _Keep(request if wants_more else None)

    def _assert_current(self, case: _Case, request: Request) -> tuple[Address, ...]:
        """The addresses in its status, claimed again; none when it may not have them (any more)."""
        texts = [text for text in case.service.ingress_ips if text]
        if not texts:
            return ()
        family, why = _family_of(texts)
        if family is None:
            case.notices.append(notices.no_ingress_family(request.service, texts, why))
            return ()
        if family is not request.family and not (request.prefer_dual and family is not Family.DUAL):
            return ()
        pool = objection(case.recorded, request, self.ledger, self._namespaces)
        if isinstance(pool, Refusal):
            case.notices.append(notices.cleared(request.service, str(pool)))
            return ()
        self._put(request, pool.name, case.recorded)
        return case.recorded

    def _is_elsewhere(self, request: Request, current: tuple[Address, ...]) -> bool:
        """Whether it has something, but not what it asks for."""
        if request.addresses and set(request.addresses) != set(current):
            return True
        claim = self.ledger.get(request.service)
        return bool(request.pool) and claim is not None and claim.pool != request.pool

    def _put(self, request: Request, pool: str, addresses: tuple[Address, ...]) -> Claim:
        claim = Claim(request.service, pool, addresses, request.ports, request.key)
        self.ledger.put(claim)
        return claim

    # ------------------------------------------------------------ then, what is missing

    def _serve_all(self, cases: Mapping[str, _Case]) -> None:
        for case in sorted(cases.values(), key=lambda case: _oldest_first(case.service)):
            match case.verdict:
                case _Vacant(request) if self.ledger.get(request.service) is None:
                    self._serve(case, request)
                case _Keep(Request() as request):
                    self._top_up(case, request)

    def _serve(self, case: _Case, request: Request) -> None:
        found = choose(request, self.ledger, self._namespaces)
        case.refusal = found if isinstance(found, Refusal) else None
        if isinstance(found, Choice):
            case.deferred = self._leaving.blocks(found.addresses, request.service)
            if not case.deferred:
                self._stir(None, self._put(request, found.pool, found.addresses))
                case.granted.append(notices.assigned(request.service, found.addresses))
                gone = tuple(address for address in case.recorded if address not in found.addresses)
                self._stirred |= self._leaving.replace(request.service, gone)

    def _top_up(self, case: _Case, request: Request) -> None:
        """An address of the missing family, from the pool of the one it has."""
        claim = self.ledger.get(request.service)
        if claim is None or len(claim.addresses) != 1:
            return
        missing = Family.IPV6 if claim.addresses[0].version == 4 else Family.IPV4
        (version,) = versions_of(missing)
        address = self.ledger.lowest(claim.pool, version, request.service, request.ports, request.key)
        if address is None:
            pool = self.ledger.pools.pools[claim.pool]
            case.refusal = exhausted(pool, missing)
            return
        case.refusal = None
        case.deferred = self._leaving.blocks((address,), request.service)
        if not case.deferred:
            self._stir(claim, self._put(request, claim.pool, (*claim.addresses, address)))
            case.granted.append(notices.assigned_additional(request.service, address))

    # ---------------------------------------------------------------- last, what to write

    def _plan(self, cases: Mapping[str, _Case]) -> Plan:
        writes: list[Write] = []
        tell: list[Notice] = []
        for case in sorted(cases.values(), key=lambda case: _assigned_first(case.service)):
            key = case.service.key
            if write := self._write(case):
                writes.append(write)
            if case.refusal is not None or case.deferred:
                self._unserved.add(key)
            else:
                self._unserved.discard(key)
            self._complain(case)
            tell.extend(self._unheard(key, case.notices))
        return Plan(tuple(writes), tuple(tell))

    def _unheard(self, key: str, said: Collection[Notice]) -> list[Notice]:
        """What was not told already when the service was last looked at."""
        before = self._told.pop(key, frozenset())
        if said:
            self._told[key] = frozenset(said)
        return [notice for notice in said if notice not in before]

    def _complain(self, case: _Case) -> None:
        """Say why it is not served, unless that may be different as soon as others have left."""
        if case.refusal is None or (self._leaving and case.refusal.why in (Why.EXHAUSTED, Why.IN_USE)):
            return
        make = notices.additional_failed if isinstance(case.verdict, _Keep) else notices.allocation_failed
        more = ""
        if self._faulty and case.refusal.why in _FOR_LACK_OF_POOLS:
            more = f"; the newest pools are not in force{self._because()}"
        case.notices.append(make(case.service.key, case.refusal.explain(more)))

    def _write(self, case: _Case) -> Write | None:
        service = case.service
        claim = self.ledger.get(service.key)
        wanted = claim.addresses if claim is not None else ()
        pool = claim.pool if claim is not None else ""
        # Compared as addresses: how a text spells one, or what else the API put beside it, is no difference.
        same = wanted == case.recorded and len(case.recorded) == len(service.ingress_ips)
        if same and service.annotations.get(ALLOCATED_FROM, "") == pool:
            return None
        old = (
            []
            if same
            else [
                notices.deprecated_annotation(service.key, name) for name in deprecated(service.annotations)
            ]
        )
        return Write(
            service=service.key,
            uid=service.uid,
            resource_version=service.resource_version,
            addresses=service.ingress_ips if same else tuple(str(address) for address in wanted),
            pool=pool,
            notices=(*case.granted, *old),
            document=service.document,
        )


class _Leaving:
    """Addresses that are still in a status they must leave, and whose it is."""

    def __init__(self) -> None:
        self._by_service: dict[str, tuple[Address, ...]] = {}
        self._by_address: dict[Address, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_service)

    def blocks(self, addresses: Collection[Address], service: str) -> bool:
        """Whether one of them has yet to leave another service."""
        return any(self._by_address.get(address, set()) - {service} for address in addresses)

    def replace(self, service: str, addresses: tuple[Address, ...]) -> bool:
        """Those, and no others, are leaving the service.  True when some are not leaving any more."""
        before = self._by_service.pop(service, ())
        for address in before:
            self._by_address[address].discard(service)
            if not self._by_address[address]:
                del self._by_address[address]
        if addresses:
            self._by_service[service] = addresses
            for address in addresses:
                self._by_address.setdefault(address, set()).add(service)
        return not set(before) <= set(addresses)


def _family_of(texts: Collection[str]) -> tuple[Family | None, str]:
    """The family, or None and why there is none."""
    try:
        return family_of_all([parse_address(text) for text in texts]), ""
    except ValueError as problem:
        return None, str(problem)


def addresses_in(service: Service) -> tuple[Address, ...]:
    """What of its status are addresses."""
    found: list[Address] = []
    for text in service.ingress_ips:
        try:
            found.append(parse_address(text))
        except ValueError:
            continue  # a hostname's entry, or nonsense; `_assert_current` sees that one is missing
    return tuple(found)


def _wants_address(service: Service) -> bool:
    return service.is_load_balancer and bool(service.cluster_ips) and not service.ingress_ips


def _assigned_first(service: Service) -> tuple[int, str, str]:
    return (-sum(1 for text in service.ingress_ips if text), service.created, service.key)


def _oldest_first(service: Service) -> tuple[str, str]:
    return (service.created, service.key)
