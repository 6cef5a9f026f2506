"""A mirror of the API's objects of one kind, kept up to date for ever.

List, then watch from there.  When the API is away the mirror keeps what it has: a stale view is better than
an empty one, because whoever reads it would take addresses away from services that still exist.
"""

from __future__ import annotations

import functools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, TypeVar

import msgspec
import trio

from crier.kube.client import PAGE, Api, decode_page, page_query
from crier.kube.errors import ApiError, Forbidden, Gone, StatusWire, TooManyRequests, status_error
from crier.kube.model.errors import DecodeError
from crier.kube.model.wire import MetaWire, decode_meta, object_key
from crier.kube.resources import Resource
from crier.kube.transport import Stream

log = logging.getLogger(__name__)

T = TypeVar("T")

BACKOFF_FIRST: Final = 0.1
BACKOFF_MAX: Final = 30.0
WATCH_SECONDS: Final = (300, 600)
"""How long one watch lasts until the server ends it; drawn anew each time: clients must not march in step."""
READ_TIMEOUT: Final = 100.0
"""Silence that means the connection is dead: the API server sends a bookmark about every 60 s."""
LIST_TIMEOUT: Final = 30.0
_SHORT_WATCH: Final = 1.0
MAX_GONE: Final = 4096
"""Objects that went, and must not come back by an event that is late."""


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """News of one object, decoded."""

    key: str
    object: T | None
    """None when it is gone, or when `error` says why it could not be decoded."""
    error: str = ""
    version: int = 0
    """Of the object; 0 is unknown."""


class Mirror(Generic[T]):
    """The objects of one kind as last heard of.  Belongs to the trio thread."""

    def __init__(self, decode: Callable[[bytes], T], *, keep_changes: bool = False) -> None:
        """`keep_changes` makes `take_changes` work, for readers that look only at what is new."""
        self.decode = decode
        self.synced = False
        """The first list is in.  Never becomes False again."""
        self.connected = False
        """The watch runs; when it does not, `objects` may be old."""
        self.resource_version = ""
        self._objects: dict[str, T] = {}
        self._errors: dict[str, str] = {}
        self._changes: dict[str, float] | None = {} if keep_changes else None
        self._versions: dict[str, int] = {}
        """The newest heard of, also of the last objects that went."""
        self._gone: deque[str] = deque()

    @property
    def objects(self) -> Mapping[str, T]:
        """By `namespace/name`, or `name` for what lives in no namespace.  A live, read-only view."""
        return MappingProxyType(self._objects)

    @property
    def errors(self) -> Mapping[str, str]:
        """Objects whose newest version could not be decoded, and why; their last good state is kept."""
        return MappingProxyType(self._errors)

    def take_changes(self) -> set[str]:
        """The keys of all objects that came, changed or went since the last call."""
        return set(self.take_news())

    def take_news(self) -> dict[str, float]:
        """The same, and when we heard of each, on `time.monotonic()`: as the octets came in."""
        if self._changes is None:
            raise RuntimeError("this Mirror was not asked to keep changes")
        taken, self._changes = self._changes, {}
        return taken

    def apply(self, change: Change[T], *, listed: bool = False, heard_at: float = 0.0) -> bool:
        """Take one piece of news in; False when it changed nothing we look at.

        What a watch tells again, or too late, is no news: it could bring back what is gone.  A list is the
        truth, whatever was heard before.
        """
        key = change.key
        if change.version:
            known = self._versions.get(key, 0)
            # the event of an end may carry the last version the object had
            late = change.version < known or (change.version == known and change.object is not None)
            if late and not listed:
                return False
            self._versions[key] = change.version
        if change.object is None and not change.error:
            self._bury(key)
        if change.error:
            if self._errors.get(key) == change.error:
                return False
            self._errors[key] = change.error
            log.warning("object_not_decoded", extra={"object": key, "error": change.error})
            return True
        had_error = self._errors.pop(key, None) is not None
        if change.object is None:
            if self._objects.pop(key, None) is None:
                return had_error
        elif self._objects.get(key) == change.object:
            return had_error
        else:
            self._objects[key] = change.object
        if self._changes is not None:
            self._changes.setdefault(key, heard_at)
        return True

    def _bury(self, key: str) -> None:
        self._gone.append(key)
        if len(self._gone) > MAX_GONE:
            oldest = self._gone.popleft()
            if oldest not in self._objects and oldest not in self._errors:
                self._versions.pop(oldest, None)

    def keep_only(self, keys: set[str], *, heard_at: float = 0.0) -> bool:
        """After a new list: what is not on it is gone."""
        gone = [key for key in (self._objects.keys() | self._errors.keys()) if key not in keys]
        news = sum(self.apply(Change(key, None), heard_at=heard_at) for key in gone) > 0
        self._gone.clear()
        self._versions = {key: version for key, version in self._versions.items() if key in keys}
        return news


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which objects of a kind."""

    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""


async def watch(
    api: Api,
    resource: Resource,
    mirror: Mirror[T],
    changed: Callable[[], None],
    *,
    namespace: str | None = None,
    label_selector: str = "",
    field_selector: str = "",
    rng: random.Random | None = None,
    read_timeout: float = READ_TIMEOUT,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep `mirror` like the API for ever; `changed()` is called in the trio thread after each difference.

    Started with `nursery.start` it returns when the first list is in, however long the API takes; `changed`
    is not called before.  Failures are logged and retried after 0.1 s, doubling to 30 s, with jitter.
    """
    scope = Scope(namespace=namespace, label_selector=label_selector, field_selector=field_selector)
    watcher = _Watcher(api, resource, scope, mirror, changed, rng or random.Random(), read_timeout)
    failures = 0
    started = False
    while True:
        try:
            if not mirror.resource_version:
                await watcher.list_all()
                if not started:  # it is listed again after each `Gone`
                    started = True
                    task_status.started()
            if await watcher.follow():
                failures = 0
            else:
                failures += 1
        except Gone as problem:
            # The history between then and now is lost; the objects are not.
            mirror.resource_version = ""
            failures = failures + 1 if watcher.fruitless else 0
            log.info("relist", extra={"kind": resource.kind, "reason": problem.reason})
        except ApiError as problem:
            failures = failures + 1 if watcher.fruitless else 1
            wait = problem.retry_after if isinstance(problem, TooManyRequests) else 0.0
            if isinstance(problem, Forbidden):
                # who may list but not watch (MetalLB's rules for Pods) sees what is new by listing again
                mirror.resource_version = ""
            log.warning(
                "watch_failed", extra={"kind": resource.kind, "error": str(problem), "failures": failures}
            )
            await trio.sleep(wait)
        mirror.connected = False
        if failures:
            await trio.sleep(backoff(failures, watcher.rng))


def backoff(failures: int, rng: random.Random) -> float:
    """Seconds to wait after that many failures in a row: 0.1 doubling to 30, the upper half by chance."""
    ceiling = min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(failures - 1, 16))
    return ceiling * (0.5 + rng.random() / 2)


class _Watcher(Generic[T]):
    def __init__(
        self,
        api: Api,
        resource: Resource,
        scope: Scope,
        mirror: Mirror[T],
        changed: Callable[[], None],
        rng: random.Random,
        read_timeout: float,
    ) -> None:
        self.rng = rng
        self.fruitless = True
        """Nothing has come of the newest attempt."""
        self._transport = api.transport
        self._resource = resource
        self._scope = scope
        self._mirror = mirror
        self._changed = changed
        self._read_timeout = read_timeout
        self._decoder = EventDecoder(mirror.decode)
        self._limiter = trio.CapacityLimiter(1)

    # ------------------------------------------------------------------------ listing

    async def list_all(self) -> None:
        self.fruitless = True
        seen: set[str] = set()
        news = False
        token = ""
        while True:
            fetch = functools.partial(self._fetch_page, token)
            page_changes, version, token = await trio.to_thread.run_sync(
                fetch, abandon_on_cancel=True, limiter=self._limiter
            )
            seen.update(change.key for change in page_changes)
            news |= self._take(page_changes, time.monotonic(), listed=True)
            if not token:
                break
        news |= self._mirror.keep_only(seen, heard_at=time.monotonic())
        self._mirror.resource_version = version
        self.fruitless = False
        first, self._mirror.synced = not self._mirror.synced, True
        if news or first:
            self._changed()

    def _fetch_page(self, token: str) -> tuple[list[Change[T]], str, str]:
        query = page_query(PAGE, token, self._scope.label_selector, self._scope.field_selector)
        path = self._resource.path(self._scope.namespace)
        page = decode_page(self._transport.request("GET", path, query=query, timeout=LIST_TIMEOUT))
        changes = [change for item in page.items if (change := self._decoder.decode_object(item))]
        return changes, page.resource_version, page.next_page

    # ----------------------------------------------------------------------- watching

    async def follow(self) -> bool:
        """One watch to its end.  False when it ended at once with nothing in it."""
        self.fruitless = True
        began = time.monotonic()
        handle = _Handle()
        try:
            await trio.to_thread.run_sync(
                self._pump,
                handle,
                thread_name=f"watch {self._resource.plural}",
                abandon_on_cancel=True,
                limiter=trio.CapacityLimiter(1),
            )
        finally:
            handle.abort()
        return not self.fruitless or time.monotonic() - began >= _SHORT_WATCH

    def _pump(self, handle: _Handle) -> None:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._mirror.resource_version,
            "timeoutSeconds": str(self.rng.randint(*WATCH_SECONDS)),
        }
        if self._scope.label_selector:
            query["labelSelector"] = self._scope.label_selector
        if self._scope.field_selector:
            query["fieldSelector"] = self._scope.field_selector
        path = self._resource.path(self._scope.namespace)
        stream = self._transport.stream(path, query=query, timeout=self._read_timeout)
        try:
            if not handle.attach(stream):
                return
            trio.from_thread.run_sync(self._opened)
            for lines in stream.batches():
                heard_at = time.monotonic()
                changes, version, error = self._decoder.decode_events(lines)
                # The thread waits until its news is taken in: nothing can pile up in between.
                if changes or version:
                    trio.from_thread.run_sync(self._arrived, changes, version, heard_at)
                if error is not None:
                    raise error
        finally:
            stream.close()

    def _opened(self) -> None:
        self._mirror.connected = True

    def _arrived(self, changes: list[Change[T]], version: str, heard_at: float) -> None:
        self.fruitless = False
        news = self._take(changes, heard_at)
        if version:
            self._mirror.resource_version = version
        if news:
            self._changed()

    def _take(self, changes: list[Change[T]], heard_at: float, *, listed: bool = False) -> bool:
        apply = self._mirror.apply
        return sum(apply(change, listed=listed, heard_at=heard_at) for change in changes) > 0


class _Handle:
    """The stream a thread reads, for those who want to end it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._over = False

    def attach(self, stream: Stream) -> bool:
        """False when nobody wants the stream any more."""
        with self._lock:
            self._stream = stream
            return not self._over

    def abort(self) -> None:
        with self._lock:
            self._over = True
            if self._stream is not None:
                self._stream.abort()


class _EventWire(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


_EVENT: Final = msgspec.json.Decoder(_EventWire)
_STATUS: Final = msgspec.json.Decoder(StatusWire)


class EventDecoder(Generic[T]):
    """Watch events and list items to changes.  No octets can make it raise anything."""

    def __init__(self, decode: Callable[[bytes], T]) -> None:
        self._decode = decode

    def decode_events(self, lines: list[bytes]) -> tuple[list[Change[T]], str, ApiError | None]:
        """The changes, the newest resourceVersion ("" if none is new), and the error that ends the watch."""
        changes: list[Change[T]] = []
        version = ""
        for line in lines:
            try:
                event = _EVENT.decode(line)
                if event.type == "ERROR":
                    return changes, version, status_error(_STATUS.decode(event.object))
                if event.type == "BOOKMARK":
                    version = _bookmark(event.object) or version
                    continue
                meta = decode_meta(event.object)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, DecodeError) as problem:
                log.warning("event_not_decoded", extra={"error": str(problem)})
                continue
            version = meta.resource_version or version
            if event.type == "DELETED":
                key = object_key(meta.namespace, meta.name)
                changes.append(Change(key, None, version=version_number(meta.resource_version)))
            elif event.type in ("ADDED", "MODIFIED"):
                changes.append(self._decode_named(event.object, meta))
        return changes, version, None

    def decode_object(self, raw: msgspec.Raw) -> Change[T] | None:
        """None when the object has not even a name."""
        try:
            meta = decode_meta(raw)
        except DecodeError as problem:
            log.warning("object_without_name", extra={"error": str(problem)})
            return None
        return self._decode_named(raw, meta)

    def _decode_named(self, raw: msgspec.Raw, meta: MetaWire) -> Change[T]:
        key = object_key(meta.namespace, meta.name)
        version = version_number(meta.resource_version)
        try:
            return Change(key, self._decode(bytes(raw)), version=version)
        except DecodeError as problem:
            return Change(key, None, str(problem), version)


def version_number(text: str | None) -> int:
    """Of a resourceVersion, to compare it with another of the same object; 0 when it is none.

    They are numbers that grow: Kubernetes guarantees that since 1.35, and it has always been so.
    """
    return int(text) if text and len(text) < 20 and text.isascii() and text.isdigit() else 0


class _BookmarkMetaWire(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str | None = None


class _BookmarkWire(msgspec.Struct, frozen=True):
    metadata: _BookmarkMetaWire


_BOOKMARK: Final = msgspec.json.Decoder(_BookmarkWire)


def _bookmark(raw: msgspec.Raw) -> str:
    return _BOOKMARK.decode(raw).metadata.resource_version or ""
