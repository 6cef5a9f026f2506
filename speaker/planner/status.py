"""Makes the objects in the API say what is so: ServiceL2Status, ServiceBGPStatus, ConfigurationState."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import trio

from crier.kube import resources
from crier.kube.client import AlreadyExists, Api, ApiError, Conflict, NotFound, PatchType
from crier.kube.model.errors import DecodeError
from crier.kube.model.pod import Pod
from crier.kube.model.states import Condition, ConfigurationState, ServiceBgpStatus, ServiceL2Status
from crier.kube.resources import Resource
from crier.kube.watch import Mirror, backoff
from crier.ops import logs
from speaker.planner import bgpstatus, configstate, l2status
from speaker.planner.l2status import Action, Amend, Create, Damper, Delete, Owner
from speaker.planner.wake import Wakeup
from speaker.settings import Settings

log = logs.get(__name__)

S = TypeVar("S", ServiceL2Status, ServiceBgpStatus)

ECHO_TIMEOUT: Final = 5.0
"""Seconds after which we no longer expect to see our own write come back in a watch: what we made may have
been deleted by another before we looked."""
LOST_RACE_PAUSE: Final = 0.2
"""Seconds until we look again after somebody was faster; most times the watch wakes us before."""

SLICE: Final = 100
"""Services that are looked at in one turn of the loop."""


class Writer(ABC):
    """What the writers share: who we are, and how a failed write is tried again."""

    kind: str

    def __init__(
        self,
        api: Api,
        settings: Settings,
        wakeup: Wakeup,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._me = settings.node_name
        self._namespace = settings.namespace
        self._wakeup = wakeup
        self._on_error = on_error
        self._rng = random.Random()
        self._failures = 0
        self.owner: Owner | None = None
        """Our Pod, when it is known."""

    async def run(self) -> None:
        """Writes for ever, when woken and something is to be written."""
        until = float("inf")
        while True:
            await self._wakeup.wait(until)
            try:
                until = await self.write()
                self._failures = 0
            except ApiError as problem:
                self._failures += 1
                self._on_error(self.kind)
                log.warning("status_not_written", kind=self.kind, error=problem, failures=self._failures)
                await trio.sleep(backoff(self._failures, self._rng))
                until = trio.current_time()

    @abstractmethod
    async def write(self) -> float:
        """Write what has to be written.  Returns when (trio time) to look again.  Raises ApiError."""


@dataclass(frozen=True, slots=True)
class Statuses(Generic[S]):
    """One kind of objects that say something of a service and a node."""

    kind: Resource
    decode: Callable[[bytes], S]
    reconcile: Callable[[Mapping[str, tuple[str, ...]], Iterable[S], str, Owner | None], list[Action]]
    new_object: Callable[[str, str, Owner | None], dict[str, Any]]
    status_patch: Callable[[str, str, tuple[str, ...]], dict[str, Any]]
    longest_pause: float
    """Seconds, between two objects made for one service."""


L2_STATUSES: Final = Statuses(
    resources.SERVICE_L2_STATUSES,
    ServiceL2Status.decode,
    l2status.reconcile,
    l2status.new_object,
    l2status.status_patch,
    l2status.PAUSE_MAX,
)
BGP_STATUSES: Final = Statuses(
    resources.SERVICE_BGP_STATUSES,
    ServiceBgpStatus.decode,
    bgpstatus.reconcile,
    bgpstatus.new_object,
    bgpstatus.status_patch,
    bgpstatus.PAUSE_MAX,
)


class ServiceStatusWriter(Writer, Generic[S]):
    def __init__(
        self,
        api: Api,
        settings: Settings,
        wakeup: Wakeup,
        statuses: Statuses[S],
        mirror: Mirror[S],
        wanted: Callable[[], Mapping[str, tuple[str, ...]] | None],
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`wanted`: services we announce and what is to be listed; None while that is not known yet."""
        super().__init__(api, settings, wakeup, on_error)
        self.kind = statuses.kind.kind
        self._statuses: Statuses[S] = statuses
        self._mirror: Mirror[S] = mirror
        self._wanted = wanted
        self._damper = Damper(statuses.longest_pause)
        self._echoes: _Echoes[S] = _Echoes()
        self._last: Mapping[str, tuple[str, ...]] = {}
        """What was wanted when we looked last."""
        self._services: dict[str, str] = {}
        """The service of each object in the mirror."""
        self._objects: dict[str, set[str]] = {}
        """The objects of each service."""
        self._due: set[str] = set()
        """Services that are to be looked at: there may be very many, with news of one."""

    async def write(self) -> float:
        wanted = self._wanted()
        if wanted is None or not self._mirror.synced:
            return float("inf")
        self._take_in(wanted)
        look_again = float("inf")
        for number, service in enumerate(sorted(self._due), 1):
            again = await self._settle(service, wanted)
            if again is None:
                self._due.discard(service)
            else:
                look_again = min(look_again, again)
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()  # the routers' turn, and everybody else's
        return min(look_again, self._echoes.next_expiry())

    def _take_in(self, wanted: Mapping[str, tuple[str, ...]]) -> None:
        """Find out which services there is news of."""
        now = trio.current_time()
        if wanted is not self._last:
            before, self._last = self._last, wanted
            self._due |= before.keys() - wanted.keys()
            self._due.update(service for service, listed in wanted.items() if before.get(service) != listed)
            self._damper.forget(wanted, now)
        for key in self._mirror.take_changes():
            found = self._mirror.objects.get(key)
            was, service = self._services.pop(key, ""), found.service_key if found is not None else ""
            if was:
                self._objects[was].discard(key)
            if service:
                self._services[key] = service
                self._objects.setdefault(service, set()).add(key)
            if was and not self._objects[was]:
                del self._objects[was]
            self._due |= {was, service} - {""}
        self._due |= self._echoes.expired(now)

    async def _settle(self, service: str, wanted: Mapping[str, tuple[str, ...]]) -> float | None:
        """Make the objects of one service right.  Returns when (trio time) to look again, None: no need."""
        again: float | None = None
        listed = {service: wanted[service]} if service in wanted else {}
        found = {key: self._mirror.objects[key] for key in self._objects.get(service, ())}
        existing = self._echoes.over(service, found, trio.current_time())
        for action in self._statuses.reconcile(listed, existing.values(), self._me, self.owner):
            ready_at = self._damper.ready_at(service)
            if isinstance(action, Create) and ready_at > trio.current_time():
                again = ready_at
            elif not await self._perform(action, service, wanted):
                again = trio.current_time() + LOST_RACE_PAUSE
        return again

    async def _perform(
        self, action: Create | Amend | Delete, service: str, wanted: Mapping[str, tuple[str, ...]]
    ) -> bool:
        """False when somebody else changed the object first, so that it has to be looked at again."""
        try:
            match action:
                case Create():
                    body = self._statuses.new_object(service, self._me, self.owner)
                    raw = await self._api.create(self._statuses.kind, body, namespace=self._namespace)
                    self._damper.made(service, trio.current_time())
                    made = self._statuses.decode(raw)
                    self._note(service, made.name, made)
                    await self._write_status(made.name, service, wanted[service])
                case Amend(name, _, listed):
                    await self._write_status(name, service, listed)
                case Delete(name, uid):
                    await self._api.delete(self._statuses.kind, name, namespace=self._namespace, uid=uid)
                    self._note(service, name, None)
        except (NotFound, Conflict, DecodeError) as problem:
            log.debug("status_changed_meanwhile", error=problem)
            return False
        return True

    async def _write_status(self, name: str, service: str, listed: tuple[str, ...]) -> None:
        kind = self._statuses.kind
        found = self._mirror.objects.get(f"{self._namespace}/{name}")
        if self.owner is not None and found is not None and self.owner.uid not in found.owner_uids:
            owned = {"metadata": {"ownerReferences": [self.owner.reference()]}}
            await self._api.patch(kind, name, owned, namespace=self._namespace)
        raw = await self._api.patch(
            kind,
            name,
            self._statuses.status_patch(service, self._me, listed),
            namespace=self._namespace,
            subresource="status",
        )
        self._note(service, name, self._statuses.decode(raw))

    def _note(self, service: str, name: str, now: S | None) -> None:
        key = f"{self._namespace}/{name}"
        self._echoes.note(service, key, self._mirror.objects.get(key), now, trio.current_time())


class _Echoes(Generic[S]):
    """Our own writes, until the watch brings them back: else we would do everything twice."""

    def __init__(self) -> None:
        self._written: dict[str, dict[str, tuple[S | None, S | None, float]]] = {}
        """By service, and by key of the object."""

    def note(self, service: str, key: str, before: S | None, after: S | None, now: float) -> None:
        """`before` is what the mirror shows now; as long as it shows that, `after` is the truth."""
        self._written.setdefault(service, {})[key] = (before, after, now + ECHO_TIMEOUT)

    def next_expiry(self) -> float:
        untils = (until for written in self._written.values() for _, _, until in written.values())
        return min(untils, default=float("inf"))

    def expired(self, now: float) -> set[str]:
        """The services of which something written has not come back in time."""
        return {
            service
            for service, written in self._written.items()
            if any(until <= now for _, _, until in written.values())
        }

    def over(self, service: str, mirrored: Mapping[str, S], now: float) -> dict[str, S]:
        """The objects of a service as they are by now; `mirrored` is what the mirror has of them."""
        found, written = dict(mirrored), self._written.get(service, {})
        for key, (before, after, until) in list(written.items()):
            if now >= until or mirrored.get(key) is not before:
                del written[key]
            elif after is None:
                found.pop(key, None)
            else:
                found[key] = after
        if not written:
            self._written.pop(service, None)
        return found


class ConfigurationStateWriter(Writer):
    kind = resources.CONFIGURATION_STATES.kind

    def __init__(
        self,
        api: Api,
        settings: Settings,
        wakeup: Wakeup,
        states: Mirror[ConfigurationState],
        condition: Callable[[], Condition | None],
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`condition`: what is to be said; None while nothing is known."""
        super().__init__(api, settings, wakeup, on_error)
        self._states = states
        self._condition = condition

    async def write(self) -> float:
        condition = self._condition()
        if condition is None or not self._states.synced:
            return float("inf")
        name = configstate.object_name(self._me)
        found = self._states.objects.get(f"{self._namespace}/{name}")
        if found is not None and configstate.is_current(found, condition):
            return float("inf")
        kind = resources.CONFIGURATION_STATES
        if found is None:
            try:
                await self._api.create(
                    kind, configstate.new_object(self._me, self.owner), namespace=self._namespace
                )
            except AlreadyExists:
                log.debug("configuration_state_exists_already")
        elif self.owner is not None and self.owner.uid not in found.owner_uids:
            owned = {"metadata": {"ownerReferences": [self.owner.reference()]}}
            await self._api.patch(kind, name, owned, namespace=self._namespace)
        await self._api.patch(
            kind,
            name,
            configstate.condition_apply(self._me, self._namespace, condition, datetime.now(UTC)),
            namespace=self._namespace,
            subresource="status",
            kind=PatchType.APPLY,
            field_manager=configstate.FIELD_MANAGER,
            force=True,
        )
        await self._api.patch(
            kind,
            name,
            configstate.result_patch(condition),
            namespace=self._namespace,
            subresource="status",
            field_manager=configstate.RESULT_FIELD_MANAGER,
        )
        # when the watch shows what we wrote this comes to rest; if it never does, we write again
        return trio.current_time() + ECHO_TIMEOUT


async def find_owner(api: Api, settings: Settings) -> Owner | None:
    """Our own Pod, however long the API takes.  None, with a line in the log, when there is no such Pod."""
    if not settings.pod_name:
        why = "--pod-name (METALLB_POD_NAME) is not given; statuses have no owner"
        log.warning("own_pod_unknown", why=why)
        return None
    failures = 0
    rng = random.Random()
    while True:
        try:
            raw = await api.get(resources.PODS, settings.pod_name, namespace=settings.namespace)
            pod = Pod.decode(raw)
            return Owner(pod.name, pod.uid)
        except NotFound as problem:
            log.warning("own_pod_unknown", why="there is no such Pod; statuses have no owner", error=problem)
            return None
        except (ApiError, DecodeError) as problem:
            failures += 1
            log.warning("own_pod_not_read", error=problem, failures=failures)
            await trio.sleep(backoff(failures, rng))
