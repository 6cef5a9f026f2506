"""Makes the objects in the API say what is so: ServiceL2Status and ConfigurationState."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import trio

from crier.kube import resources
from crier.kube.client import AlreadyExists, Api, ApiError, Conflict, NotFound, PatchType
from crier.kube.model.errors import DecodeError
from crier.kube.model.pod import Pod
from crier.kube.model.states import Condition, ServiceL2Status
from crier.kube.watch import backoff
from crier.ops import logs
from speaker.planner import configstate, l2status
from speaker.planner.l2status import Amend, Create, Damper, Delete, Owner
from speaker.planner.sources import Sources
from speaker.planner.wake import Wakeup
from speaker.settings import Settings

log = logs.get(__name__)

ECHO_TIMEOUT: Final = 5.0
"""Seconds after which we no longer expect to see our own write come back in a watch: what we made may have
been deleted by another before we looked."""
LOST_RACE_PAUSE: Final = 0.2
"""Seconds until we look again after somebody was faster; most times the watch wakes us before."""


class Writer(ABC):
    """What both writers share: who we are, and how a failed write is tried again."""

    kind: str

    def __init__(
        self,
        api: Api,
        settings: Settings,
        sources: Sources,
        wakeup: Wakeup,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._api = api
        self._me = settings.node_name
        self._namespace = settings.namespace
        self._sources = sources
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


class L2StatusWriter(Writer):
    kind = resources.SERVICE_L2_STATUSES.kind

    def __init__(
        self,
        api: Api,
        settings: Settings,
        sources: Sources,
        wakeup: Wakeup,
        wanted: Callable[[], Mapping[str, tuple[str, ...]] | None],
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`wanted`: services we announce and the interfaces they name; None while that is not known yet."""
        super().__init__(api, settings, sources, wakeup, on_error)
        self._wanted = wanted
        self._damper = Damper()
        self._echoes = _Echoes()

    async def write(self) -> float:
        wanted = self._wanted()
        if wanted is None or not self._sources.statuses.synced:
            return float("inf")
        now = trio.current_time()
        look_again = float("inf")
        self._damper.forget(wanted, now)
        existing = self._echoes.over(self._sources.statuses.objects, now)
        for action in l2status.reconcile(wanted, existing.values(), self._me, self.owner):
            if isinstance(action, Create) and (ready_at := self._damper.ready_at(action.service)) > now:
                look_again = min(look_again, ready_at)
                continue
            if not await self._perform(action, wanted):
                look_again = min(look_again, trio.current_time() + LOST_RACE_PAUSE)
        return min(look_again, self._echoes.next_expiry())

    async def _perform(self, action: Create | Amend | Delete, wanted: Mapping[str, tuple[str, ...]]) -> bool:
        """False when somebody else changed the object first, so that it has to be looked at again."""
        try:
            match action:
                case Create(service):
                    body = l2status.new_object(service, self._me, self.owner)
                    raw = await self._api.create(
                        resources.SERVICE_L2_STATUSES, body, namespace=self._namespace
                    )
                    self._damper.made(service, trio.current_time())
                    made = ServiceL2Status.decode(raw)
                    self._note(made.name, made)
                    await self._write_status(made.name, service, wanted[service])
                case Amend(name, service, interfaces):
                    await self._write_status(name, service, interfaces)
                case Delete(name, uid):
                    await self._api.delete(
                        resources.SERVICE_L2_STATUSES, name, namespace=self._namespace, uid=uid
                    )
                    self._note(name, None)
        except (NotFound, Conflict, DecodeError) as problem:
            log.debug("status_changed_meanwhile", error=problem)
            return False
        return True

    async def _write_status(self, name: str, service: str, interfaces: tuple[str, ...]) -> None:
        kind = resources.SERVICE_L2_STATUSES
        found = self._sources.statuses.objects.get(f"{self._namespace}/{name}")
        if self.owner is not None and found is not None and self.owner.uid not in found.owner_uids:
            owned = {"metadata": {"ownerReferences": [self.owner.reference()]}}
            await self._api.patch(kind, name, owned, namespace=self._namespace)
        raw = await self._api.patch(
            kind,
            name,
            l2status.status_patch(service, self._me, interfaces),
            namespace=self._namespace,
            subresource="status",
        )
        self._note(name, ServiceL2Status.decode(raw))

    def _note(self, name: str, now: ServiceL2Status | None) -> None:
        key = f"{self._namespace}/{name}"
        self._echoes.note(key, self._sources.statuses.objects.get(key), now, trio.current_time())


class _Echoes:
    """Our own writes, until the watch brings them back: else we would do everything twice."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[ServiceL2Status | None, ServiceL2Status | None, float]] = {}

    def note(
        self, key: str, before: ServiceL2Status | None, after: ServiceL2Status | None, now: float
    ) -> None:
        """`before` is what the mirror shows now; as long as it shows that, `after` is the truth."""
        self._written[key] = (before, after, now + ECHO_TIMEOUT)

    def next_expiry(self) -> float:
        return min((until for _, _, until in self._written.values()), default=float("inf"))

    def over(self, mirror: Mapping[str, ServiceL2Status], now: float) -> dict[str, ServiceL2Status]:
        found = dict(mirror)
        for key, (before, after, until) in list(self._written.items()):
            if now >= until or mirror.get(key) is not before:
                del self._written[key]
            elif after is None:
                found.pop(key, None)
            else:
                found[key] = after
        return found


class ConfigurationStateWriter(Writer):
    kind = resources.CONFIGURATION_STATES.kind

    def __init__(
        self,
        api: Api,
        settings: Settings,
        sources: Sources,
        wakeup: Wakeup,
        condition: Callable[[], Condition | None],
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`condition`: what is to be said; None while nothing is known."""
        super().__init__(api, settings, sources, wakeup, on_error)
        self._condition = condition

    async def write(self) -> float:
        condition = self._condition()
        if condition is None or not self._sources.states.synced:
            return float("inf")
        name = configstate.object_name(self._me)
        found = self._sources.states.objects.get(f"{self._namespace}/{name}")
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
