"""What waits to be told to the planner.  Bounded, whatever the planner does.

Of a snapshot only the newest matters, so what is kept is that one is due and how to make it; it is made
when the planner takes it.  Of happenings each matters, so they are kept in a ring.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import trio

from speaker.orders import MAX_HAPPENINGS, Happened, UpSealed

Snapshot: TypeAlias = Callable[[], Awaitable[UpSealed]]


class Outbox:
    """`snapshots` are told to every new planner first, in their order, and again when marked."""

    def __init__(self, snapshots: Mapping[str, Snapshot]) -> None:
        self._snapshots = dict(snapshots)
        self._due: dict[str, None] = {}
        self._happenings: deque[Happened] = deque(maxlen=MAX_HAPPENINGS)
        self._wake = trio.Event()
        self.lost = 0
        """Happenings that had to make room."""

    def mark(self, name: str) -> None:
        """This snapshot has news."""
        assert name in self._snapshots
        self._due[name] = None
        self._wake.set()

    def mark_all(self) -> None:
        """A new planner knows nothing."""
        self._due = dict.fromkeys(self._snapshots)
        self._wake.set()

    def happened(self, event: Happened) -> None:
        if len(self._happenings) == MAX_HAPPENINGS:
            self.lost += 1
        self._happenings.append(event)
        self._wake.set()

    async def next(self) -> UpSealed:
        """Wait for something to tell, and take it.  What is taken and not delivered is lost with its planner;
        the next one gets every snapshot anew.
        """
        while True:
            for name in self._due:
                del self._due[name]
                return await self._snapshots[name]()
            if self._happenings:
                return self._happenings.popleft()
            self._wake = trio.Event()
            await self._wake.wait()
