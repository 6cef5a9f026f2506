"""Garbage collection: what nobody owns any more is deleted, in the background.

The core only keeps the list of what to look at; `collect` does one round and the shell calls it soon after
every write, as the real controller does a little later.
"""

from __future__ import annotations

from collections.abc import Callable

from crier.lab.api.store import Key, Object, Store, owners


class Garbage:
    """Objects whose owners may all be gone."""

    def __init__(self, store: Store, remove: Callable[[str, Key, float], Object]) -> None:
        self._store = store
        self._remove = remove
        self._suspects: dict[tuple[str, Key], None] = {}  # a dict, because its order is the same every run
        self._namespaces: dict[str, None] = {}

    @property
    def pending(self) -> bool:
        return bool(self._suspects or self._namespaces)

    def owner_gone(self, uid: str) -> None:
        for dependent in sorted(self._store.dependents.get(uid, ())):
            self._suspects[dependent] = None

    def check(self, resource: str, key: Key) -> None:
        """Look at an object that was just written."""
        thing = self._store.get(resource, key)
        if thing is None:
            return
        if owners(thing):
            self._suspects[resource, key] = None
        if resource == "namespaces" and thing["metadata"].get("deletionTimestamp"):
            self._namespaces[key[1]] = None

    def orphan(self, uid: str) -> None:
        """Take an owner's name off its dependents."""
        for resource, key in sorted(self._store.dependents.get(uid, ())):
            thing = self._store.get(resource, key)
            assert thing is not None, "the index names living objects only"
            kept = [one for one in thing["metadata"]["ownerReferences"] if one["uid"] != uid]
            metadata = {**thing["metadata"], "ownerReferences": kept}
            if not kept:
                del metadata["ownerReferences"]
            self._store.put(resource, key, {**thing, "metadata": metadata})

    def collect_now(self, uid: str, now: float) -> None:
        """Delete an owner's dependents before itself (foreground)."""
        for resource, key in sorted(self._store.dependents.get(uid, ())):
            if self._store.get(resource, key) is not None:
                self._remove(resource, key, now)

    def collect(self, now: float) -> None:
        """Delete what is found ownerless, its dependents too, and the contents of dying namespaces."""
        for name in list(self._namespaces):
            self._empty(name, now)
        while self._suspects:  # a removal may add to them
            resource, key = next(iter(self._suspects))
            del self._suspects[resource, key]
            thing = self._store.get(resource, key)
            if (
                thing is not None
                and owners(thing)
                and not any(uid in self._store.uids for uid in owners(thing))
            ):
                self._remove(resource, key, now)

    def _empty(self, name: str, now: float) -> None:
        namespace = self._store.get("namespaces", ("", name))
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            del self._namespaces[name]
            return
        left = False
        for resource in list(self._store.resources()):
            for thing in self._store.list(resource, name):
                self._remove(resource, (name, thing["metadata"]["name"]), now)
            left = left or bool(self._store.list(resource, name))
        if left:
            return
        del self._namespaces[name]
        spec = {key: value for key, value in (namespace.get("spec") or {}).items() if key != "finalizers"}
        self._store.put(
            "namespaces", ("", name), {**namespace, "metadata": dict(namespace["metadata"]), "spec": spec}
        )
        self._remove("namespaces", ("", name), now)
