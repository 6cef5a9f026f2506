"""A stretch of addresses that knows its lowest free one."""

from __future__ import annotations

import heapq


class Span:
    """The addresses `start` to `end` of one family, as numbers.

    Everything below the frontier is in use or on the heap of what was given back; so the lowest free address
    is the top of the heap, else the frontier.  Each address is passed by the frontier once and put on the
    heap once per time it is given back: the cost of an allocation does not grow with the addresses in use,
    nor with the size of the network.
    """

    __slots__ = ("_frontier", "_heap", "_on_heap", "_used", "end", "skip_buggy", "start", "version")

    def __init__(self, version: int, start: int, end: int, *, skip_buggy: bool = False) -> None:
        self.version = version
        self.start = start
        self.end = end
        self.skip_buggy = skip_buggy
        """Leave out addresses that end in .0 or .255."""
        self._frontier = start
        self._heap: list[int] = []
        self._on_heap: set[int] = set()
        self._used: set[int] = set()

    @property
    def in_use(self) -> int:
        return len(self._used)

    def take(self, number: int) -> None:
        self._used.add(number)

    def free(self, number: int) -> None:
        self._used.remove(number)
        if number < self._frontier and number not in self._on_heap:
            self._on_heap.add(number)
            heapq.heappush(self._heap, number)

    def lowest_free(self) -> int | None:
        """None when the span is full."""
        while self._heap:
            if self._heap[0] not in self._used:
                return self._heap[0]
            self._on_heap.remove(heapq.heappop(self._heap))
        while self._frontier <= self.end:
            if self._frontier not in self._used and not (
                self.skip_buggy and self._frontier & 0xFF in (0x00, 0xFF)
            ):
                return self._frontier
            self._frontier += 1
        return None
