"""Events on Services, with MetalLB's reasons and texts (component `metallb-speaker`).

The same event again raises a count instead of making another object; events that cannot be written are
dropped after a few tries, because nothing depends on them and newer ones matter more.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import trio

from crier.kube import resources
from crier.kube.client import Api, ApiError, NotFound
from crier.kube.model.service import Service
from crier.kube.watch import backoff
from crier.ops import logs

log = logs.get(__name__)

COMPONENT: Final = "metallb-speaker"
MAX_WAITING: Final = 1024
MAX_REMEMBERED: Final = 4096
MAX_TRIES: Final = 5
MAX_MESSAGE: Final = 1024
"""Characters; the API server takes no more."""


@dataclass(frozen=True, slots=True)
class Event:
    namespace: str
    service: str
    """Name, without the namespace."""
    uid: str
    kind: str
    """Normal or Warning."""
    reason: str
    message: str


def assigned(service: Service, node: str) -> Event:
    """MetalLB's tests find the leader by this event: the node's name is what stands between the first
    quotes."""
    return _event(service, "Normal", "nodeAssigned", f'announcing from node "{node}" with protocol "layer2"')


def no_interface(service: Service, address: str, node: str) -> Event:
    message = (
        f'the interfaces specified by LB IP "{address}" doesn\'t exist in assigned node "{node}" '
        'with protocol "layer2"'
    )
    return _event(service, "Warning", "announceFailed", message)


def conflict(service: Service, address: str, who: str) -> Event:
    """Somebody on the LAN who is none of us answers for the address too; MetalLB has no such event."""
    return _event(
        service, "Warning", "addressConflict", f'LB IP "{address}" is also in use by {who or "another host"}'
    )


def _event(service: Service, kind: str, reason: str, message: str) -> Event:
    return Event(service.namespace, service.name, service.uid, kind, reason, message[:MAX_MESSAGE])


class _Made(msgspec.Struct, frozen=True):
    name: str


class _MadeObject(msgspec.Struct, frozen=True):
    metadata: _Made


class Recorder:
    """Writes events one after the other.  `record` never waits; of too many the oldest are dropped."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._waiting: deque[Event] = deque(maxlen=MAX_WAITING)
        self._news = trio.Event()
        self._made: OrderedDict[Event, tuple[str, int]] = OrderedDict()
        """Name of the object of an event, and how often it happened."""
        self._rng = random.Random()

    def record(self, event: Event) -> None:
        self._waiting.append(event)
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._waiting:
                await self._deliver(self._waiting.popleft())

    async def _deliver(self, event: Event) -> None:
        for failures in range(1, MAX_TRIES + 1):
            try:
                await self._write(event, datetime.now(UTC))
            except ApiError as problem:
                if 400 <= problem.status < 500 and problem.status != 429:
                    log.warning("event_not_written", reason=event.reason, error=problem)
                    return
                await trio.sleep(backoff(failures, self._rng))
            else:
                return
        log.warning("event_not_written", reason=event.reason, why=f"{MAX_TRIES} tries failed")

    async def _write(self, event: Event, now: datetime) -> None:
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        known = self._made.get(event)
        if known is not None:
            name, count = known
            try:
                await self._api.patch(
                    resources.EVENTS,
                    name,
                    {"count": count + 1, "lastTimestamp": stamp},
                    namespace=event.namespace,
                )
            except NotFound:  # events live for an hour
                del self._made[event]
            else:
                self._remember(event, name, count + 1)
                return
        raw = await self._api.create(
            resources.EVENTS, _body(event, self._node, stamp), namespace=event.namespace
        )
        self._remember(event, msgspec.json.decode(raw, type=_MadeObject).metadata.name, 1)

    def _remember(self, event: Event, name: str, count: int) -> None:
        self._made[event] = (name, count)
        self._made.move_to_end(event)
        while len(self._made) > MAX_REMEMBERED:
            self._made.popitem(last=False)


def _body(event: Event, node: str, stamp: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{event.service[:200]}.", "namespace": event.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": event.namespace,
            "name": event.service,
            "uid": event.uid,
        },
        "type": event.kind,
        "reason": event.reason,
        "message": event.message,
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "count": 1,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
    }
