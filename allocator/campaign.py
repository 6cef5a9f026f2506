"""The shell around the election: the lease in the API, and the fence that follows it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import trio

from allocator.election import LEASE, Effect, Elector, Lead, Lost, Read, Write
from allocator.fence import Fence, clock
from crier.kube.client import Api
from crier.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from crier.kube.model.errors import DecodeError
from crier.kube.model.lease import Lease
from crier.kube.resources import LEASES
from crier.ops import logs

log = logs.get(__name__)

NAME: Final = "crier-controller"
REQUEST: Final = 1.0
"""Seconds for one request about the lease: several must fit into the time a lease is valid."""
DRAIN: Final = 2.0
"""Seconds that writes under way may take when we stop; the lease is given back only after them."""


class Campaign:
    """Keeps standing for election.  `run` returns when leadership is lost, and never otherwise."""

    def __init__(
        self,
        api: Api,
        fence: Fence,
        *,
        namespace: str,
        identity: str,
        now: Callable[[], float] = clock,
    ) -> None:
        self.elector = Elector(identity, rng=random.Random(), now=now())
        self.elected = trio.Event()
        self._api = api
        self._fence = fence
        self._namespace = namespace
        self._now = now
        self._busy = trio.Lock()

    async def run(self) -> str:
        """Until leadership is lost; says why."""
        while True:
            await trio.sleep(max(0.0, self.elector.next_deadline() - self._now()))
            effects = self.elector.tick(self._now())
            while effects:
                for effect in effects:
                    if isinstance(effect, Lost):
                        self._fence.close()
                        return effect.why
                effects = await self._perform_all(effects)

    async def stop(self) -> None:
        """Stop writing, then give the lease back, so that the next one leads at once."""
        self._fence.close()
        if not self.elector.leading:
            return
        with trio.move_on_after(DRAIN):
            while self._fence.passing:  # noqa: ASYNC110 - it is threads that leave
                await trio.sleep(0.01)
        if self._fence.passing:
            log.warning("lease_not_given_back", reason="a write is still under way")
            return
        async with self._busy:
            write = self.elector.release()
            if write is None:
                return
            try:
                with trio.fail_after(REQUEST):
                    await self._write(write)
            except (ApiError, DecodeError, trio.TooSlowError) as problem:
                log.warning("lease_not_given_back", reason=str(problem) or "no answer in time")
            else:
                log.info("lease_given_back", identity=self.elector.identity)

    # ------------------------------------------------------------------------- effects

    async def _perform_all(self, effects: list[Effect]) -> list[Effect]:
        more: list[Effect] = []
        for effect in effects:
            match effect:
                case Read() | Write():
                    async with self._busy:
                        more += await self._ask(effect)
                case Lead():
                    log.info("leading", identity=self.elector.identity, lease=NAME)
                    self.elected.set()
                case Lost():
                    raise AssertionError("dealt with by run")
        return more

    async def _ask(self, effect: Read | Write) -> list[Effect]:
        elector = self.elector
        now = self._now()
        seconds = min(REQUEST, elector.valid_until - now) if elector.leading else REQUEST
        try:
            with trio.fail_after(max(0.0, seconds)):
                if isinstance(effect, Read):
                    return elector.found(await self._read(), self._now())
                lease = await self._write(effect)
        except (Conflict, AlreadyExists):
            return elector.refused(self._now())
        except (ApiError, DecodeError, trio.TooSlowError) as problem:
            if isinstance(problem, NotFound) and isinstance(effect, Write) and effect.resource_version:
                return elector.refused(
                    self._now()
                )  # deleted just now; without a version the namespace is away
            log.warning("lease_not_reached", lease=NAME, error=str(problem) or "no answer in time")
            return elector.failed(self._now())
        effects = elector.wrote(lease, self._now())
        if elector.leading:
            self._fence.open_until(elector.valid_until)
        return effects

    async def _read(self) -> Lease | None:
        try:
            return Lease.decode(await self._api.get(LEASES, NAME, namespace=self._namespace))
        except NotFound:
            return None

    async def _write(self, write: Write) -> Lease:
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata: dict[str, Any] = {"name": NAME, "namespace": self._namespace}
        if write.resource_version:
            metadata["resourceVersion"] = write.resource_version
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": write.holder,
                "leaseDurationSeconds": int(LEASE) if write.holder else 1,
                "acquireTime": write.acquired or now,
                "renewTime": now,
                "leaseTransitions": write.transitions,
            },
        }
        if write.resource_version:
            return Lease.decode(await self._api.replace(LEASES, NAME, body, namespace=self._namespace))
        return Lease.decode(await self._api.create(LEASES, body, namespace=self._namespace))
