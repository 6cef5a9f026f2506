"""Kubernetes Events: what happened, told beside the object it happened to.

`Aggregator` decides, without I/O: the same news again only counts up the event that is there, and no object
gets more than a burst of them.  `Recorder` sends, from a bounded queue: whoever records never waits.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import trio

from crier.kube.client import Api, PatchType
from crier.kube.errors import ApiError, NotFound, TooManyRequests, Unavailable
from crier.kube.resources import EVENTS
from crier.kube.watch import backoff

log = logging.getLogger(__name__)

BURST: Final = 25
"""Events an object may have at once; as client-go's correlator."""
REFILL: Final = 300.0
"""Seconds until it may have one more."""
MAX_REMEMBERED: Final = 4096
"""Events, and objects, that are remembered for counting up and holding back; the oldest are forgotten."""
FORGET_AFTER: Final = 600.0
"""Seconds after which the same news is a new event: the API keeps one for an hour."""
MAX_QUEUED: Final = 10_000
"""Events that wait: what keeps each Service of a large cluster waiting must be told, and is told once."""
MAX_MESSAGE: Final = 1024
"""Characters; the API refuses longer ones."""

MOST_AT_A_TIME: Final = 16
"""Events that are sent one after the other before anybody hears of it."""
_MERGE: Final = PatchType.MERGE.value

EventType: TypeAlias = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class Reference:
    """The object an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    """A new event."""

    name: str
    about: Reference
    type: EventType
    reason: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class CountUp:
    """One more of an event that is there."""

    name: str
    namespace: str
    count: int
    at: float
    otherwise: Create
    """For when it is not there any more."""


@dataclass(slots=True)
class _Known:
    name: str
    count: int
    at: float


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


_Same: TypeAlias = tuple[Reference, str, str, str]


class Aggregator:
    """One event a message, counted; `BURST` an object, then one per `REFILL` seconds."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Same, _Known] = OrderedDict()
        self._buckets: OrderedDict[Reference, _Bucket] = OrderedDict()
        self._serial = 0

    def offer(
        self, about: Reference, kind: EventType, reason: str, message: str, now: float
    ) -> Create | CountUp | None:
        """What to send, or None when the object has had enough.  `now` is Unix time."""
        about = Reference(about.api_version, about.kind, about.namespace, about.name, about.uid)
        if not self._admit(about, now):
            return None
        message = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 3] + "..."
        same = (about, kind, reason, message)
        known = self._known.get(same)
        if known is not None and now - known.at < FORGET_AFTER:
            known.count += 1
            known.at = now
            self._known.move_to_end(same)
            again = Create(known.name, about, kind, reason, message, now)
            return CountUp(known.name, about.namespace, known.count, now, again)
        self._serial += 1
        # Unique among our own by the serial, among other processes' by the time.
        name = f"{about.name[:200]}.{int(now * 1e6):x}{self._serial:x}"
        self._known[same] = _Known(name, 1, now)
        self._known.move_to_end(same)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return Create(name, about, kind, reason, message, now)

    def _admit(self, about: Reference, now: float) -> bool:
        bucket = self._buckets.get(about)
        if bucket is None:
            bucket = self._buckets[about] = _Bucket(float(BURST), now)
            if len(self._buckets) > MAX_REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(about)
        bucket.left = min(float(BURST), bucket.left + max(0.0, now - bucket.at) / REFILL)
        bucket.at = now
        if bucket.left < 1.0:
            return False
        bucket.left -= 1.0
        return True


class Recorder:
    """Sends events.  `record` never waits and never fails; `run` does the work."""

    def __init__(
        self, api: Api, component: str, *, host: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.dropped = 0
        """Events that were held back, lost from a full queue or refused."""
        self._api = api
        self._component = component
        self._host = host
        self._clock = clock
        self._rng = random.Random()
        self._aggregator = Aggregator()
        self._queue: deque[Create | CountUp] = deque()
        self._rung = trio.Event()

    def record(self, about: Reference, kind: EventType, reason: str, message: str) -> None:
        send = self._aggregator.offer(about, kind, reason, message, self._clock())
        if send is None:
            self.dropped += 1
            return
        if len(self._queue) >= MAX_QUEUED:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(send)
        self._rung.set()

    async def run(self) -> None:
        """Send for ever; while the API is away the newest `MAX_QUEUED` are kept."""
        failures = 0
        while True:
            if not self._queue:
                self._rung = trio.Event()
                await self._rung.wait()
            effects = list(itertools.islice(self._queue, MOST_AT_A_TIME))
            done, problem = await self._api.in_thread(partial(self._send_all, effects))
            for effect in effects[:done]:
                if self._queue and self._queue[0] is effect:  # else it was pushed out of the full queue
                    self._queue.popleft()
            if problem is None:
                failures = 0
                continue
            failures = 1 if done else failures + 1
            wait = problem.retry_after if isinstance(problem, TooManyRequests) else 0.0
            await trio.sleep(max(wait, backoff(failures, self._rng)))

    def _send_all(self, effects: Sequence[Create | CountUp]) -> tuple[int, ApiError | None]:
        """How many are dealt with, and what keeps the rest from being sent now.  Blocks."""
        for done, effect in enumerate(effects):
            try:
                self._send(effect)
            except (Unavailable, TooManyRequests) as problem:
                return done, problem
            except ApiError as problem:
                self.dropped += 1
                log.warning("event_refused", extra={"object": _about(effect).name, "error": str(problem)})
        return len(effects), None

    def _send(self, effect: Create | CountUp) -> None:
        if isinstance(effect, CountUp):
            body = {"count": effect.count, "lastTimestamp": _text(effect.at)}
            try:
                self._api.call(
                    "PATCH", EVENTS.path(effect.namespace, effect.name), body=body, content_type=_MERGE
                )
            except NotFound:
                self._create(effect.otherwise)
            return
        self._create(effect)

    def _create(self, effect: Create) -> None:
        about, when = effect.about, _text(effect.at)
        namespace = about.namespace or "default"
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": effect.name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": effect.type,
            "reason": effect.reason,
            "message": effect.message,
            "source": {"component": self._component, **({"host": self._host} if self._host else {})},
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": when,
            "lastTimestamp": when,
            "count": 1,
        }
        self._api.call("POST", EVENTS.path(namespace), body=body)


def _about(effect: Create | CountUp) -> Reference:
    return effect.about if isinstance(effect, Create) else effect.otherwise.about


def _text(at: float) -> str:
    """RFC 3339 in whole seconds, as metav1.Time is written."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
