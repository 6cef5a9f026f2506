"""The shell around the core: watches in, writes out, one turn after the other.

The watch tells of every version of a service in order, and a write is only ever made to the version it was
decided on.  From the decision until the watch has brought the outcome the service is *busy* and left alone;
so the core never decides on a view older than what we ourselves have written.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from allocator.bell import Bell
from allocator.notices import Notice
from allocator.reconcile import Allocator, Write
from allocator.writer import Done, Stale, write_services
from crier.kube.client import Api
from crier.kube.errors import ApiError, TooManyRequests
from crier.kube.events import Recorder, Reference
from crier.kube.model.errors import ConfigError
from crier.kube.model.namespace import Namespace
from crier.kube.model.pool import Pool, PoolObject, parse_pools
from crier.kube.model.service import Service
from crier.kube.resources import IP_ADDRESS_POOLS, NAMESPACES, SERVICES
from crier.kube.watch import Mirror, backoff, version_number, watch
from crier.ops import logs

log = logs.get(__name__)

WRITERS = 8
"""Writes under way at once."""
MOST_AT_A_TIME: Final = 16
"""Writes that one thread makes before it comes back."""
REMIND: Final = 1800.0
"""Seconds after which what is still amiss is told again: the API forgets an event after an hour."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    write: Write
    heard_at: float
    """When the watch brought what led to it, on `time.monotonic()`."""
    number: int = 0


class Controller:
    """Gives every service its address.  `run` never returns."""

    def __init__(self, api: Api, recorder: Recorder, *, namespace: str, lb_class: str = "") -> None:
        self.allocator = Allocator(lb_class=lb_class)
        self.services: Mirror[Service] = Mirror(Service.decode_whole, keep_changes=True)
        self.namespaces: Mirror[Namespace] = Mirror(Namespace.decode)
        self.pools: Mirror[PoolObject] = Mirror(PoolObject.decode)
        self.problems: tuple[str, ...] = ()
        """What is wrong with the newest pools; the last good ones are in force meanwhile."""
        self.reconciled = Bell()
        """Rings after each turn: the ledger, the pools or the problems may be different now."""
        self.turns = 0
        self.errors = 0
        """Configurations rejected and writes that failed."""
        self.writes = 0
        self._api = api
        self._recorder = recorder
        self._namespace = namespace
        self._rng = random.Random()
        self._bell = Bell()
        self._busy: set[str] = set()
        self._awaited: dict[str, str] = {}
        """Busy only until the watch has brought this resourceVersion; "" is any."""
        self._again: set[str] = set()
        self._pools_seen: tuple[object, ...] | None = None
        self._namespaces_seen: dict[str, Namespace] | None = None
        self._to_write, self._writes = trio.open_memory_channel[_Attempt](1_000_000)

    @property
    def synced(self) -> bool:
        """Everything was listed once and the first decisions are made."""
        return self.turns > 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watches, then turns, for ever.  Started when the first turn is done."""
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as first_lists:
                for start in (self._watch_services, self._watch_namespaces, self._watch_pools):
                    first_lists.start_soon(nursery.start, start)
            for _ in range(WRITERS):
                nursery.start_soon(self._write_out, nursery)
            await nursery.start(self._take_turns)
            nursery.start_soon(self._remind)
            task_status.started()

    async def _watch_services(self, task_status: trio.TaskStatus[None]) -> None:
        await watch(self._api, SERVICES, self.services, self._bell.ring, task_status=task_status)

    async def _watch_namespaces(self, task_status: trio.TaskStatus[None]) -> None:
        await watch(self._api, NAMESPACES, self.namespaces, self._bell.ring, task_status=task_status)

    async def _watch_pools(self, task_status: trio.TaskStatus[None]) -> None:
        await watch(
            self._api,
            IP_ADDRESS_POOLS,
            self.pools,
            self._bell.ring,
            namespace=self._namespace,
            task_status=task_status,
        )

    # ------------------------------------------------------------------------- a turn

    async def _take_turns(self, task_status: trio.TaskStatus[None]) -> None:
        while True:
            self._turn()
            if self.turns == 1:
                task_status.started()
            await self._bell.wait()

    async def _remind(self) -> None:
        while True:
            await trio.sleep(REMIND)
            for notice in self.allocator.amiss:
                self._tell(notice)

    def _turn(self) -> None:
        services = self.services.objects
        heard = self.services.take_news()
        for key in heard.keys() & self._awaited.keys():
            self._end_waiting(key)
        dirty = heard.keys() | self._again
        self._again = set()
        if self._read_pools() | self._read_namespaces():
            dirty |= services.keys() | self.allocator.ledger.claims.keys()
        self._again |= dirty & self._busy
        plan = self.allocator.reconcile(services, dirty, self._busy)
        for notice in plan.notices:
            self._tell(notice)
        now = time.monotonic()
        for write in plan.writes:
            self._busy.add(write.service)
            self._to_write.send_nowait(_Attempt(write, heard.get(write.service, now)))
        self.turns += 1
        self.reconciled.ring()

    def _end_waiting(self, key: str) -> bool:
        """A service may be decided on again once the watch has brought the version that is awaited."""
        service, version = self.services.objects.get(key), self._awaited[key]
        if version and service is not None and not is_at_least(service.resource_version, version):
            return False
        del self._awaited[key]
        self._busy.discard(key)
        self._again.add(key)
        return True

    def _read_pools(self) -> bool:
        """True when all services must be looked at again: other pools are in force, or still none."""
        errors = tuple(f"{key.partition('/')[2]}: {why}" for key, why in sorted(self.pools.errors.items()))
        objects = sorted(self.pools.objects.values(), key=lambda pool: pool.name)
        seen = (errors, *((pool.name, pool.labels, pool.spec) for pool in objects))
        if seen == self._pools_seen:
            return False
        self._pools_seen = seen
        try:
            pools = self._parse(objects, errors)
        except ConfigError as problem:
            self.problems = problem.problems
            self.errors += 1
            log.error("config_rejected", problems=self.problems)
            self.allocator.reject(sorted({text.partition(": ")[0] for text in self.problems}))
            return not self.allocator.configured
        self.problems = ()
        log.info("config_accepted", pools=[pool.name for pool in pools])
        self.allocator.configure(pools)
        return True

    @staticmethod
    def _parse(objects: Iterable[PoolObject], errors: tuple[str, ...]) -> tuple[Pool, ...]:
        problems = errors
        try:
            pools = parse_pools(objects)
        except ConfigError as problem:
            problems += problem.problems
        if problems:
            raise ConfigError(problems)
        return pools

    def _read_namespaces(self) -> bool:
        """True when labels of namespaces are different."""
        objects = dict(self.namespaces.objects)
        if objects == self._namespaces_seen:
            return False
        self._namespaces_seen = objects
        self.allocator.set_namespaces({name: each.labels for name, each in objects.items()})
        return True

    # ----------------------------------------------------------------------- writing

    async def _write_out(self, nursery: trio.Nursery) -> None:
        async for first in self._writes:
            attempts: list[_Attempt] = []
            for attempt in (first, *self._share()):
                if stale := self._known_stale(attempt.write):
                    self._take(attempt, stale, nursery)
                else:
                    attempts.append(attempt)
            if not attempts:
                continue
            writes = [attempt.write for attempt in attempts]
            outcomes = await self._api.in_thread(partial(write_services, self._api, writes))
            for attempt, outcome in zip(attempts, outcomes, strict=True):
                self._take(attempt, outcome, nursery)

    def _share(self) -> list[_Attempt]:
        """Of what waits to be written, what one writer takes at a time besides: nothing unless it is much."""
        waiting = self._writes.statistics().current_buffer_used
        return [self._writes.receive_nowait() for _ in range(min(waiting // WRITERS, MOST_AT_A_TIME - 1))]

    def _take(self, attempt: _Attempt, outcome: Done | Stale | ApiError, nursery: trio.Nursery) -> None:
        write = attempt.write
        if isinstance(outcome, ApiError):
            log.warning("service_not_written", service=write.service, error=outcome, attempt=attempt.number)
            nursery.start_soon(self._try_later, attempt, outcome)
            return
        freed = isinstance(outcome, Done) and self._written(attempt)
        # else the watch rings when it brings the version
        self._awaited[write.service] = outcome.resource_version
        if self._end_waiting(write.service) or freed:
            self._bell.ring()

    def _known_stale(self, write: Write) -> Stale | None:
        """The watch may have told already that the write cannot be done, or was done after all."""
        service = self.services.objects.get(write.service)
        if service is None:
            return Stale("")
        if (service.uid, service.resource_version) != (write.uid, write.resource_version):
            return Stale(service.resource_version)
        return None

    async def _try_later(self, attempt: _Attempt, problem: ApiError) -> None:
        """The same write again; to another version than the one decided on it does nothing."""
        wait = problem.retry_after if isinstance(problem, TooManyRequests) else 0.0
        await trio.sleep(max(wait, backoff(attempt.number + 1, self._rng)))
        self._to_write.send_nowait(replace(attempt, number=attempt.number + 1))

    def _written(self, attempt: _Attempt) -> bool:
        """True when it may let others go on."""
        write = attempt.write
        self.writes += 1
        log.info(
            "service_written",
            service=write.service,
            addresses=list(write.addresses),
            pool=write.pool,
            seconds=round(time.monotonic() - attempt.heard_at, 4),
        )
        for notice in write.notices:
            if notice.type == "Warning":
                self._log(notice)
            self._record(notice)
        return self.allocator.settle(write.service)

    def _tell(self, notice: Notice) -> None:
        self._log(notice)
        self._record(notice)

    @staticmethod
    def _log(notice: Notice) -> None:
        level = log.warning if notice.type == "Warning" else log.info
        level("notice", service=notice.service, reason=notice.reason, message=notice.message)

    def _record(self, notice: Notice) -> None:
        service = self.services.objects.get(notice.service)
        if service is not None:
            about = Reference("v1", "Service", service.namespace, service.name, service.uid)
            self._recorder.record(about, notice.type, notice.reason, notice.message)


def is_at_least(version: str, other: str) -> bool:
    """Whether a resourceVersion is not older than another of the same object."""
    one, two = version_number(version), version_number(other)
    return one >= two if one and two else version == other
