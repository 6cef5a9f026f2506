"""Objects, revisions and what happened lately: the storage behind the API, without clock or socket.

As in etcd one counter numbers every change of everything; an object's `resourceVersion` is the number of its
last change.  Per resource the latest changes are kept, so that a watch may start in the past; how far back is
bounded, and a watch that asks for more is told so (410 in the shell).

A stored object is never changed in place: a reader may hold on to what it was given, and an encoding of it
stays right for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Object: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]
"""Namespace ("" where there is none) and name."""

DEFAULT_HISTORY: Final = 10_000
"""Changes kept per resource."""


class Forgotten(Exception):
    """The changes asked for are no longer (or were never) in the history."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one object."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object
    """As it is now; for DELETED as it was last, with the revision of the deletion."""
    previous: Object | None
    encoded: dict[Hashable, bytes] = field(default_factory=dict, compare=False, repr=False)
    """Encodings made for watchers, so that a hundred of them cost one: the watchers' own cache."""


class Log:
    """The latest changes of one resource, by position; positions only grow."""

    def __init__(self, limit: int, floor: int) -> None:
        self._limit = limit
        self._changes: list[Change] = []
        self._first = 0
        self.floor = floor
        """Revision of the newest change that is forgotten."""
        self.listeners: set[Callable[[], None]] = set()
        """Called after every change, at once; must not block."""

    @property
    def end(self) -> int:
        return self._first + len(self._changes)

    def append(self, change: Change) -> None:
        self._changes.append(change)
        if len(self._changes) > 2 * self._limit:  # in halves, so that dropping costs O(1) per change
            self._drop(len(self._changes) - self._limit)
        for listener in tuple(self.listeners):
            listener()

    def since(self, position: int) -> list[Change]:
        """What happened from `position` on.

        Raises:
            Forgotten: the position has been dropped.
        """
        if position < self._first:
            raise Forgotten
        return self._changes[position - self._first :]

    def position(self, revision: int) -> int:
        """Where to go on when everything up to `revision` has been seen.

        Raises:
            Forgotten: changes after `revision` have been dropped.
        """
        if revision < self.floor:
            raise Forgotten
        low, high = 0, len(self._changes)
        while low < high:
            middle = (low + high) // 2
            if self._changes[middle].revision <= revision:
                low = middle + 1
            else:
                high = middle
        return self._first + low

    def forget(self, revision: int) -> None:
        """Drop everything, as a compaction at `revision` does."""
        self._drop(len(self._changes))
        self.floor = revision

    def _drop(self, count: int) -> None:
        if count:
            self.floor = self._changes[count - 1].revision
        del self._changes[:count]
        self._first += count


class Store:
    """All objects of all resources; a resource is named `plural.group`, or `plural` in the core group."""

    def __init__(self, *, history: int = DEFAULT_HISTORY) -> None:
        self._history = history
        self._objects: dict[str, dict[Key, Object]] = {}
        self._logs: dict[str, Log] = {}
        self._compacted = 0
        self.uids: dict[str, tuple[str, Key]] = {}
        """Every living object by its uid."""
        self.dependents: dict[str, set[tuple[str, Key]]] = {}
        """Owner's uid to the objects whose ownerReferences name it."""
        self.revision = 1
        """Number of the last change."""

    def get(self, resource: str, key: Key) -> Object | None:
        return self._objects.get(resource, {}).get(key)

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        """Objects in the order of their keys; of all namespaces when none is given."""
        objects = self._objects.get(resource, {})
        keys = sorted(key for key in objects if not namespace or key[0] == namespace)
        return [objects[key] for key in keys]

    def resources(self) -> Iterator[str]:
        """Resources that have objects, sorted."""
        return iter(sorted(name for name, objects in self._objects.items() if objects))

    def log(self, resource: str) -> Log:
        if resource not in self._logs:
            self._logs[resource] = Log(self._history, self._compacted)
        return self._logs[resource]

    def put(self, resource: str, key: Key, new: Object) -> Object:
        """Store `new` under the next revision and return it as stored; the caller gives up `new`."""
        objects = self._objects.setdefault(resource, {})
        previous = objects.get(key)
        self.revision += 1
        new["metadata"]["resourceVersion"] = str(self.revision)
        objects[key] = new
        self._index(resource, key, previous, new)
        kind: Literal["ADDED", "MODIFIED"] = "MODIFIED" if previous else "ADDED"
        self.log(resource).append(Change(self.revision, kind, new, previous))
        return new

    def remove(self, resource: str, key: Key) -> Object:
        """Take an object out and return it as it was last.

        Raises:
            KeyError: there is none.
        """
        previous = self._objects[resource].pop(key)
        self.revision += 1
        metadata = {**previous["metadata"], "resourceVersion": str(self.revision)}
        gone = {**previous, "metadata": metadata}
        self._index(resource, key, previous, None)
        self.log(resource).append(Change(self.revision, "DELETED", gone, previous))
        return gone

    def forget(self) -> None:
        """Drop all history: every watch that asks for the past is refused (etcd's compaction)."""
        self._compacted = self.revision
        for log in self._logs.values():
            log.forget(self.revision)

    def _index(self, resource: str, key: Key, old: Object | None, new: Object | None) -> None:
        if old is not None:
            self.uids.pop(old["metadata"]["uid"], None)
            for owner in owners(old):
                holders = self.dependents.get(owner, set())
                holders.discard((resource, key))
                if not holders:
                    self.dependents.pop(owner, None)
        if new is not None:
            self.uids[new["metadata"]["uid"]] = (resource, key)
            for owner in owners(new):
                self.dependents.setdefault(owner, set()).add((resource, key))


def owners(thing: Object) -> list[str]:
    """The uids an object's ownerReferences name."""
    references = thing["metadata"].get("ownerReferences") or ()
    return [reference["uid"] for reference in references]
