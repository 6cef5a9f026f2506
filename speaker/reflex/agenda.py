"""What is due when, and what waits for its turn: bounded work for ten thousand addresses at once."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Agenda:
    """One time for each key; the earliest first, among equals the smaller key."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __contains__(self, key: str) -> bool:
        return key in self._times

    def __len__(self) -> int:
        return len(self._times)

    def set(self, key: str, at: float) -> None:
        if self._times.get(key) != at:
            self._times[key] = at
            heapq.heappush(self._heap, (at, key))

    def drop(self, key: str) -> None:
        self._times.pop(key, None)

    def next(self) -> float:
        """The earliest time; infinity if there is none."""
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def due(self, now: float, limit: int) -> Iterator[str]:
        """At most `limit` keys whose time has come; each is taken off."""
        while limit > 0 and self.next() <= now:
            limit -= 1
            key = heapq.heappop(self._heap)[1]
            del self._times[key]
            yield key


class Queue(Generic[Value]):
    """One value for each key, in the order in which the keys came."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._order: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def keys(self) -> AbstractSet[str]:
        return self._values.keys()

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def put(self, key: str, value: Value) -> None:
        if key not in self._values:
            self._order.append(key)
        self._values[key] = value

    def put_all(self, keys: Iterable[str], value: Value) -> None:
        """The same for all of them, none of which may be waiting already."""
        fresh = dict.fromkeys(keys, value)
        self._values.update(fresh)
        self._order.extend(fresh)

    def pop(self, key: str) -> Value | None:
        """Take this one out of turn."""
        return self._values.pop(key, None)  # its place in the order stays, and is passed over

    def take(self, limit: int) -> Iterator[tuple[str, Value]]:
        """At most `limit` of those that came first."""
        while self._values and limit > 0:
            key = self._order.popleft()
            if key in self._values:
                limit -= 1
                yield key, self._values.pop(key)
        if not self._values:
            self._order.clear()
