"""The controller's metrics: MetalLB's by MetalLB's names and labels, ours under `crier_`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from allocator import status
from allocator.controller import Controller
from allocator.ledger import Usage
from crier.ops import process
from crier.ops.metrics import Labels, Registry, Reported

_HELP_TOTAL = "Usable {family}addresses of the pool."
_HELP_USED = "Distinct {family}addresses of the pool in use."


def registry(
    controller: Controller, events_dropped: Callable[[], int], leading: Callable[[], bool] = lambda: True
) -> Registry:
    """Everything is read from the controller when somebody scrapes, so nothing can be out of step.

    Who does not lead knows nothing, and says nothing but that: MetalLB's alerts are about whoever works.
    """

    def per_pool(name: str, text: str, count: Callable[[str], float]) -> Reported:
        def read() -> Iterator[tuple[Labels, float]]:
            for pool in controller.allocator.ledger.pools.pools:
                yield (pool,), count(pool)

        return Reported(name, text, "gauge", read, ("pool",))

    def total(pool: str) -> Usage:
        return status.capacity(controller.allocator.ledger.pools.pools[pool])

    def used(pool: str) -> Usage:
        return controller.allocator.ledger.usage(pool)

    def one(name: str, text: str, kind: str, read: Callable[[], float]) -> Reported:
        def samples() -> Iterator[tuple[Labels, float]]:
            if leading():
                yield (), read()

        return Reported(name, text, "counter" if kind == "counter" else "gauge", samples)

    metallb = "metallb_allocator"
    return Registry(
        per_pool(
            f"{metallb}_addresses_total",
            _HELP_TOTAL.format(family=""),
            lambda pool: min(status.MAX_INT64, total(pool).ipv4 + total(pool).ipv6),
        ),
        per_pool(
            f"{metallb}_addresses_in_use_total",
            _HELP_USED.format(family=""),
            lambda pool: used(pool).ipv4 + used(pool).ipv6,
        ),
        per_pool(
            f"{metallb}_ipv4_addresses_total",
            _HELP_TOTAL.format(family="IPv4 "),
            lambda pool: total(pool).ipv4,
        ),
        per_pool(
            f"{metallb}_ipv6_addresses_total",
            _HELP_TOTAL.format(family="IPv6 "),
            lambda pool: total(pool).ipv6,
        ),
        per_pool(
            f"{metallb}_ipv4_addresses_in_use_total",
            _HELP_USED.format(family="IPv4 "),
            lambda pool: used(pool).ipv4,
        ),
        per_pool(
            f"{metallb}_ipv6_addresses_in_use_total",
            _HELP_USED.format(family="IPv6 "),
            lambda pool: used(pool).ipv6,
        ),
        one(
            "metallb_k8s_client_updates_total",
            "Looks at what changed in the Kubernetes API.",
            "counter",
            lambda: controller.turns,
        ),
        one(
            "metallb_k8s_client_update_errors_total",
            "Changes that could not be acted upon: pools that make no sense, statuses not written.",
            "counter",
            lambda: controller.errors,
        ),
        one(
            "metallb_k8s_client_config_loaded_bool",
            "1 once a configuration was in force.",
            "gauge",
            lambda: int(controller.allocator.configured),
        ),
        one(
            "metallb_k8s_client_config_stale_bool",
            "1 while the newest configuration is not in force.",
            "gauge",
            lambda: int(bool(controller.problems)),
        ),
        Reported(
            "crier_controller_leading",
            "1 in the controller that gives addresses, 0 in those that stand by.",
            "gauge",
            lambda: [((), float(leading()))],
        ),
        one(
            "crier_controller_services_pending",
            "Services that want more addresses than they have.",
            "gauge",
            lambda: len(controller.allocator.unserved),
        ),
        one(
            "crier_controller_writes_total",
            "Statuses of Services written.",
            "counter",
            lambda: controller.writes,
        ),
        one(
            "crier_controller_events_dropped_total",
            "Events held back, lost from a full queue, or refused.",
            "counter",
            events_dropped,
        ),
        *process.families(),
    )
