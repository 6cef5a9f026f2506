"""Who holds which address and which port of it.

Claims are the only truth; everything else here is an index over them that `put` and `drop` keep, and they are
the only ways in.  No claim gets in that a rule forbids, so no address is ever given to two services that may
not share it.

Finding an address does not depend on how many are in use: each stretch of a pool knows its lowest free
address, and each sharing key the addresses it is good for.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from allocator.span import Span
from crier.kube.model.addresses import Address, family_of_all, quoted
from crier.kube.model.pool import Pool, PoolIndex


class ClaimError(ValueError):
    """The claim breaks a rule; the ledger is as it was."""


@dataclass(frozen=True, slots=True)
class Key:
    """What two services must have in common to share an address."""

    sharing: str = ""
    """The annotation's value; "" shares with nobody."""
    backend: str = ""
    """Which pods serve, where it matters (externalTrafficPolicy Local); else ""."""


NO_KEY: Final = Key()
"""Of a service that shares with nobody."""


@dataclass(frozen=True, slots=True, order=True)
class Port:
    protocol: str
    number: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.number}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one service holds."""

    service: str
    """`namespace/name`."""
    pool: str
    addresses: tuple[Address, ...]
    """One, or one of each family, in the order in which they are written to the service."""
    ports: frozenset[Port] = frozenset()
    key: Key = NO_KEY


@dataclass(frozen=True, slots=True)
class Usage:
    """Distinct addresses of a pool in use."""

    ipv4: int = 0
    ipv6: int = 0


class Ledger:
    def __init__(self, pools: Iterable[Pool] = ()) -> None:
        self._claims: dict[str, Claim] = {}
        self._holders: dict[Address, dict[str, Claim]] = {}
        self._ports: dict[Address, dict[Port, str]] = {}
        self._shareable: dict[tuple[Key, int], list[int]] = {}
        self._spans: dict[str, list[Span]] = {}
        self._starts: dict[int, list[tuple[int, Span]]] = {4: [], 6: []}
        self._index = PoolIndex(())
        self.configure(pools)

    # ---------------------------------------------------------------------- reading

    @property
    def pools(self) -> PoolIndex:
        return self._index

    @property
    def claims(self) -> Mapping[str, Claim]:
        """By service.  A live view; don't change it."""
        return self._claims

    def get(self, service: str) -> Claim | None:
        return self._claims.get(service)

    def holders(self, address: Address) -> tuple[str, ...]:
        return tuple(sorted(self._holders.get(address, ())))

    def usage(self, pool: str) -> Usage:
        counts = {4: 0, 6: 0}
        for span in self._spans.get(pool, ()):
            counts[span.version] += span.in_use
        return Usage(counts[4], counts[6])

    def objection(self, address: Address, service: str, ports: Iterable[Port], key: Key) -> str | None:
        """Why the service may not have the address beside those who hold it; None when it may."""
        others = [name for name in self._holders.get(address, ()) if name != service]
        if not others:
            return None
        held = self._holders[address][others[0]].key
        if not key.sharing or key != held:
            names = ",".join(sorted(others))
            return f'can\'t change sharing key for "{service}", address also in use by {names}'
        taken = self._ports.get(address, {})
        for port in sorted(ports):
            if (user := taken.get(port, service)) != service:
                return f'port {port} is already in use on "{address}" by {user}'
        return None

    def lowest(
        self, pool: str, version: int, service: str, ports: frozenset[Port], key: Key
    ) -> Address | None:
        """The lowest address of the pool, in the order of its networks, that is free or can be shared."""
        for span in self._spans.get(pool, ()):
            if span.version != version:
                continue
            free = span.lowest_free()
            best = span.end + 1 if free is None else free
            if key.sharing:
                best = self._lowest_shareable(span, best, service, ports, key)
            if best <= span.end:
                return _address(version, best)
        return None

    def _lowest_shareable(
        self, span: Span, below: int, service: str, ports: frozenset[Port], key: Key
    ) -> int:
        """The lowest address in the span that others with the key hold and that has the ports left."""
        candidates = self._shareable.get((key, span.version), [])
        at = bisect.bisect_left(candidates, span.start)
        for number in itertools.islice(candidates, at, None):
            if number >= below:
                break
            if self.objection(_address(span.version, number), service, ports, key) is None:
                return number
        return below

    # ---------------------------------------------------------------------- writing

    def put(self, claim: Claim) -> None:
        """Take a claim in, in place of what the service held.

        Raises:
            ClaimError: the addresses are not one of each family at most, not all the pool's to give, or not
                to be shared like this.
        """
        try:
            family_of_all(claim.addresses)
        except ValueError as problem:
            raise ClaimError(str(problem)) from None
        pool = self._index.locate_all(claim.addresses)
        if pool is None or pool.name != claim.pool:
            raise ClaimError(f"{quoted(claim.addresses)} is not allowed in config")
        for address in claim.addresses:
            if why := self.objection(address, claim.service, claim.ports, claim.key):
                raise ClaimError(why)
        self.drop(claim.service)
        self._claims[claim.service] = claim
        for address in claim.addresses:
            self._enter(address, claim)

    def drop(self, service: str) -> Claim | None:
        """Forget what the service held; None when it held nothing."""
        claim = self._claims.pop(service, None)
        if claim is not None:
            for address in claim.addresses:
                self._leave(address, claim)
        return claim

    def configure(self, pools: Iterable[Pool]) -> tuple[Claim, ...]:
        """New pools.  A claim whose addresses are still one pool's to give moves to that pool.

        Returns:
            The claims that had to go.
        """
        self._index = PoolIndex(pools)
        claims = self._claims
        self._claims, self._holders, self._ports, self._shareable = {}, {}, {}, {}
        self._spans = {name: make_spans(pool) for name, pool in self._index.pools.items()}
        for version in (4, 6):
            self._starts[version] = sorted(
                (
                    (span.start, span)
                    for spans in self._spans.values()
                    for span in spans
                    if span.version == version
                ),
                key=lambda pair: pair[0],
            )
        lost: list[Claim] = []
        for claim in claims.values():
            pool = self._index.locate_all(claim.addresses)
            if pool is None:
                lost.append(claim)
            else:
                self.put(replace(claim, pool=pool.name))
        return tuple(lost)

    def _enter(self, address: Address, claim: Claim) -> None:
        holders = self._holders.setdefault(address, {})
        if not holders:
            self._span_of(address).take(int(address))
            if claim.key.sharing:
                bisect.insort(self._shareable.setdefault((claim.key, address.version), []), int(address))
        holders[claim.service] = claim
        ports = self._ports.setdefault(address, {})
        for port in claim.ports:
            ports[port] = claim.service

    def _leave(self, address: Address, claim: Claim) -> None:
        holders = self._holders[address]
        del holders[claim.service]
        ports = self._ports[address]
        for port in claim.ports:
            del ports[port]
        if not holders:
            del self._holders[address], self._ports[address]
            self._span_of(address).free(int(address))
            if claim.key.sharing:
                shareable = self._shareable[claim.key, address.version]
                del shareable[bisect.bisect_left(shareable, int(address))]
                if not shareable:
                    del self._shareable[claim.key, address.version]

    def _span_of(self, address: Address) -> Span:
        starts = self._starts[address.version]
        at = bisect.bisect_right(starts, int(address), key=lambda pair: pair[0]) - 1
        return starts[at][1]


def make_spans(pool: Pool) -> list[Span]:
    """The stretches of addresses a pool gives from, in the order of its spec: adjacent networks as one."""
    return [
        Span(version, first, last, skip_buggy=pool.avoid_buggy_ips and version == 4)
        for version, first, last in _runs(pool)
    ]


def _runs(pool: Pool) -> Iterable[tuple[int, int, int]]:
    run: tuple[int, int, int] | None = None
    for network in pool.networks:
        first, last = int(network.network_address), int(network.broadcast_address)
        if run is not None and (network.version, first) == (run[0], run[2] + 1):
            run = (run[0], run[1], last)
            continue
        if run is not None:
            yield run
        run = (network.version, first, last)
    if run is not None:
        yield run


def _address(version: int, number: int) -> Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)
