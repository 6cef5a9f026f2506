"""One watch: a place in a resource's log, a filter and a format.

Pure as the rest: the shell asks `take` for what is due, sends it, and sleeps until `wake_at` or the log's
listener calls.  Encodings are shared between watchers through the changes themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from crier.lab.api.errors import ApiError, expired
from crier.lab.api.kinds import Kind
from crier.lab.api.selectors import Predicate
from crier.lab.api.store import Change, Forgotten, Object, Store

BOOKMARK_INTERVAL: Final = 60.0

MAX_BATCH: Final = 512
"""Events encoded in one go, so that a watch with much to say shares the loop with the others."""


class Format(Protocol):
    """How objects are written to a client: plain JSON or a Table."""

    @property
    def name(self) -> tuple[str, ...]:
        """Equal names mean equal octets."""

    def event(self, thing: Object, now: float, *, first: bool) -> Object: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or watch asks for."""

    namespace: str = ""
    labels: Predicate | None = None
    fields: Predicate | None = None

    @property
    def is_everything(self) -> bool:
        return self.labels is None and self.fields is None

    def matches(self, thing: Object) -> bool:
        if self.namespace and thing["metadata"].get("namespace") != self.namespace:
            return False
        return (self.labels is None or self.labels(thing)) and (self.fields is None or self.fields(thing))


class Watch:
    """A running watch.  It is over when `take` has said so with None."""

    def __init__(
        self,
        store: Store,
        kind: Kind,
        selection: Selection,
        form: Format,
        *,
        version: str,
        revision: int | None,
        initial: bool,
        mark_initial: bool,
        bookmarks: bool,
        now: float,
        timeout: float,
    ) -> None:
        """Start after `revision`, or with everything there is (`initial`).

        Raises:
            ApiError: 410, `revision` is too old.
        """
        self._store = store
        self._kind = kind
        self._selection = selection
        self._form = form
        self._version = version
        self._bookmarks = bookmarks
        self._ends_at = now + timeout
        self._bookmark_at = now + BOOKMARK_INTERVAL
        self._first = True
        self._over = False
        self._seen = revision or 0
        self._start = 0 if initial else self._seen
        self.log = store.log(kind.stored_as)
        self._backlog: list[Object] = []
        self._mark_initial = mark_initial
        if initial:
            self._position = self.log.end
            self._backlog = [thing for thing in store.list(kind.stored_as) if selection.matches(thing)]
            self._backlog.reverse()
            self._snapshot = store.revision
        else:
            try:
                self._position = self.log.position(self._seen)
            except Forgotten:
                raise expired(f"too old resource version: {self._seen} ({self.log.floor})") from None

    @property
    def wake_at(self) -> float:
        """When `take` has something to do even if nothing happens."""
        return min(self._ends_at, self._bookmark_at) if self._bookmarks else self._ends_at

    def listen(self, wake: Callable[[], None]) -> None:
        self.log.listeners.add(wake)

    def close(self, wake: Callable[[], None]) -> None:
        self.log.listeners.discard(wake)

    def take(self, now: float) -> bytes | None:
        """What is due as newline-delimited JSON, perhaps nothing; None when the watch is over."""
        if self._over:
            return None
        parts = [
            self._event("ADDED", self._backlog.pop(), now) for _ in range(min(MAX_BATCH, len(self._backlog)))
        ]
        if self._backlog:
            return b"".join(parts)
        if self._mark_initial:
            self._mark_initial = False
            parts.append(self._bookmark(self._snapshot, {"k8s.io/initial-events-end": "true"}))
        try:
            changes = self.log.since(self._position)[:MAX_BATCH]
        except Forgotten:
            self._over = True
            gone = expired(f"too old resource version: {self._seen} ({self.log.floor})")
            return b"".join(parts) + error_event(gone)
        self._position += len(changes)
        parts.extend(encoded for change in changes if (encoded := self._change(change, now)))
        if changes:
            self._seen = changes[-1].revision
        behind = self._position < self.log.end
        if not behind and (now >= self._ends_at or (self._bookmarks and now >= self._bookmark_at)):
            self._bookmark_at = now + BOOKMARK_INTERVAL
            self._over = now >= self._ends_at
            if self._bookmarks:
                parts.append(self._bookmark(self._store.revision, {}))
        if not parts and self._over:
            return None
        return b"".join(parts)

    @property
    def has_more(self) -> bool:
        """Whether `take` would have something right now."""
        return self._over or bool(self._backlog) or self._position < self.log.end

    def _change(self, change: Change, now: float) -> bytes:
        """The event this watcher sees: what comes to match is ADDED, what ceases to is DELETED."""
        if change.revision <= self._start:  # it asked to begin at a revision still to come
            return b""
        is_in = change.type != "DELETED" and self._selection.matches(change.object)
        was_in = change.previous is not None and self._selection.matches(change.previous)
        thing = change.object
        if is_in:
            event = "MODIFIED" if was_in else "ADDED"
        elif was_in:
            event = "DELETED"
            if change.type != "DELETED" and change.previous is not None:
                # it lives on, outside of the selection: shown as it was last seen inside
                metadata = {**change.previous["metadata"], "resourceVersion": str(change.revision)}
                thing = {**change.previous, "metadata": metadata}
        else:
            return b""
        if self._first and self._form.name[0] != "json":
            return self._event(event, thing, now)  # the first of a Table has the column heads
        cache = (event, self._version, self._kind.group, *self._form.name)
        encoded = change.encoded.get(cache)
        if encoded is None:
            encoded = change.encoded[cache] = self._event(event, thing, now)
        self._first = False
        return encoded

    def _event(self, event: str, thing: Object, now: float) -> bytes:
        shown = self._form.event(thing, now, first=self._first)
        self._first = False
        return encode_event(event, shown)

    def _bookmark(self, revision: int, annotations: dict[str, str]) -> bytes:
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        shown = {
            "kind": self._kind.kind,
            "apiVersion": self._kind.api_version(self._version),
            "metadata": metadata,
        }
        return encode_event("BOOKMARK", shown)


def encode_event(event: str, thing: Object) -> bytes:
    return msgspec.json.encode({"type": event, "object": thing}) + b"\n"


def error_event(error: ApiError) -> bytes:
    return encode_event("ERROR", error.body())
