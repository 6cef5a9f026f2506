"""Which configuration is in force, and what is to be said about the newest one.

Configuration that cannot be used is refused as a whole and the last good one stays, so a typing error
never takes an address away.  Configuration that would strand an announced service waits until the
controller has moved it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import PoolObject
from crier.kube.model.service import Service
from crier.kube.model.states import Condition
from speaker.planner import configstate
from speaker.planner.view import Configuration, addresses


class Keeper:
    """A core: give it what the API has, read what is in force."""

    def __init__(self) -> None:
        self.in_force: Configuration | None = None
        self.condition: Condition | None = None
        """What the ConfigurationState should say; None until something was considered."""
        self._seen: object = None
        self._newest: Configuration | None = None
        self._problems = ""

    @property
    def stale(self) -> bool:
        """The newest configuration is not the one in force."""
        return self.condition is not None and self.condition.status != "True"

    def consider(
        self,
        pools: Iterable[PoolObject],
        advertisements: Iterable[L2AdvertisementObject],
        errors: Mapping[str, str],
        announced: Iterable[Service],
    ) -> None:
        """Take the newest objects, and use them if that can be done.

        `errors`: objects that could not even be decoded, and why.  `announced`: the services that are
        announced now, by this node or another.
        """
        pools, advertisements = tuple(pools), tuple(advertisements)
        # the counters in a pool's status change with every allocation and are none of our business
        seen = ([(each.name, each.labels, each.spec) for each in pools], advertisements, dict(errors))
        if self._seen != seen:
            self._seen = seen
            self._newest, self._problems = _check(pools, advertisements, errors)
        if self._newest is None:
            self.condition = configstate.rejected(self._problems)
            return
        if self._newest is not self.in_force:
            why = stranded(self._newest, announced) if self.in_force is not None else ""
            if why:
                self.condition = configstate.waiting(why)
                return
            self.in_force = self._newest
        self.condition = configstate.reconciled()


def _check(
    pools: Sequence[PoolObject], advertisements: Sequence[L2AdvertisementObject], errors: Mapping[str, str]
) -> tuple[Configuration | None, str]:
    problems = [f"{key}: {text}" for key, text in sorted(errors.items())]
    try:
        found = Configuration.parse(pools, advertisements)
    except ConfigError as problem:
        problems += problem.problems
    if problems:
        return None, "; ".join(problems)
    return found, ""


def stranded(newest: Configuration, announced: Iterable[Service]) -> str:
    """Why a configuration must wait; "" when nothing stands in its way.

    MetalLB's rule: an announced service with addresses outside of the new pools keeps them until the
    controller has moved it.
    """
    for service in sorted(announced, key=lambda each: each.key):
        ips = addresses(service)
        if ips and newest.pools.locate_all(ips) is None:
            shown = ", ".join(str(ip) for ip in ips)
            return (
                f"service {service.key!r} has not moved yet: {shown} is in no pool of the new configuration"
            )
    return ""
