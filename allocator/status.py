"""What the controller tells about pools and about itself; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from allocator.ledger import Ledger, Usage
from allocator.review import Finding
from crier.kube.model.pool import Counters, Pool, PoolObject
from crier.kube.model.service import Service
from crier.kube.model.states import CONFIGURATION_ERROR, RECONCILED, Condition
from crier.kube.resources import IP_ADDRESS_POOLS

MAX_INT64: Final = 2**63 - 1
_HUGE: Final = 62
"""Host bits from which MetalLB counts a network as `MAX_INT64`."""

CONDITION_TYPE: Final = "poolReconcilerValid"
MAX_MESSAGE: Final = 32768
"""Characters of a condition's message; the API refuses longer ones."""
OTHER_POOL: Final = re.compile(r'overlaps with already defined CIDR "[^"]*" in pool "([^"]*)"')
"""Who else is named when two pools overlap."""


def capacity(pool: Pool) -> Usage:
    """Addresses the pool can give, by family; each at most `MAX_INT64`.

    A sum never wraps, so the order of the networks does not matter.
    """
    totals = {4: 0, 6: 0}
    for network in pool.networks:
        bits = network.max_prefixlen - network.prefixlen
        count = MAX_INT64 if bits >= _HUGE else 1 << bits
        if pool.avoid_buggy_ips and network.version == 4:
            if network.prefixlen <= 24:
                count -= 2 << (24 - network.prefixlen)
            else:
                ends = {int(network.network_address), int(network.broadcast_address)}
                count -= sum(1 for end in ends if end & 0xFF in (0x00, 0xFF))
        totals[network.version] = min(MAX_INT64, totals[network.version] + count)
    return Usage(totals[4], totals[6])


def counters(pool: Pool, ledger: Ledger) -> Counters:
    """The status of an IPAddressPool."""
    total, used = capacity(pool), ledger.usage(pool.name)
    return Counters(used.ipv4, used.ipv6, total.ipv4 - used.ipv4, total.ipv6 - used.ipv6)


def counters_json(found: Counters) -> dict[str, int]:
    return {
        "assignedIPv4": found.assigned_ipv4,
        "assignedIPv6": found.assigned_ipv6,
        "availableIPv4": found.available_ipv4,
        "availableIPv6": found.available_ipv6,
    }


def condition(problems: Iterable[str]) -> Condition:
    """Of the ConfigurationState: whether the newest configuration is the one in force."""
    text = "; ".join(problems)
    if not text:
        return Condition(CONDITION_TYPE, "True", RECONCILED)
    return Condition(
        CONDITION_TYPE, "False", CONFIGURATION_ERROR, f"configuration error: {text}"[:MAX_MESSAGE]
    )


def by_pool(problems: Iterable[str], pools: Iterable[PoolObject]) -> list[Finding]:
    """All that is wrong with the pools, each told about the pool at fault.

    Of two that overlap, about both: nobody knows which is to be changed.
    """
    objects = {pool.name: pool for pool in pools}
    found: list[Finding] = []
    for problem in problems:
        name, _, text = problem.partition(": ")
        names = {name, *OTHER_POOL.findall(text)}
        about = [objects[each] for each in sorted(names) if each in objects]
        found += [
            Finding(IP_ADDRESS_POOLS, pool.namespace, pool.name, pool.uid, text, fatal=True) for pool in about
        ]
    return found


def document(
    ledger: Ledger,
    services: Mapping[str, Service],
    unserved: Iterable[str],
    problems: Iterable[str],
    *,
    synced: bool,
    version: str,
    leading: bool = True,
    leader: str = "",
) -> dict[str, Any]:
    """The `/status` document (docs/architecture.md)."""
    pools = []
    for name, pool in sorted(ledger.pools.pools.items()):
        counted = counters(pool, ledger)
        pools.append(
            {
                "name": name,
                "assigned": counted.assigned_ipv4 + counted.assigned_ipv6,
                "available": min(MAX_INT64, counted.available_ipv4 + counted.available_ipv6),
            }
        )
    return {
        "version": version,
        "synced": synced,
        "leading": leading,
        "leader": leader,
        "pools": pools,
        "services": [
            {"name": key, "addresses": [str(address) for address in claim.addresses], "pool": claim.pool}
            for key, claim in sorted(ledger.claims.items())
            if key in services
        ],
        "pending": sorted(set(unserved) - ledger.claims.keys()),
        "problems": list(problems),
    }
