"""One task sleeps, many wake it: what happens while it works is one more turn, never a queue."""

from __future__ import annotations

import math

import trio


class Wakeup:
    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, until: float = math.inf) -> None:
        """Returns after the next `set`, or one since the last return; at trio time `until` at the latest."""
        with trio.move_on_at(until):
            await self._event.wait()
        self._event = trio.Event()
