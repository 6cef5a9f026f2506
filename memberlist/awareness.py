"""How healthy we believe ourselves to be (Lifeguard, local health multiplier)."""

from __future__ import annotations

from typing import Final


class Awareness:
    """A score from 0, healthy, to `limit - 1`; it stretches our probe interval, because a member that is slow
    itself should give others more time."""

    __slots__ = ("_limit", "score")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.score = 0

    def adjust(self, delta: int) -> None:
        self.score = min(max(self.score + delta, 0), self._limit - 1)

    def scale(self, interval: float) -> float:
        return interval * (self.score + 1)


MAX_EXCUSES: Final = 3
EXCUSE_INTERVAL: Final = 1.0
"""Seconds until there is one more."""


class Excuses:
    """How often we may hold ourselves, not others, for slow.

    Who is late at every turn must judge all the same, or nobody would notice a crash for as long as the load
    lasts; answers wait in the socket for however long it takes to read them.
    """

    def __init__(self, now: float) -> None:
        self._left, self._at = float(MAX_EXCUSES), now

    def take(self, now: float) -> bool:
        """One of them, if there is one."""
        self._left = min(self._left + (now - self._at) / EXCUSE_INTERVAL, MAX_EXCUSES)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
