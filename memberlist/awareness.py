"""How healthy we believe ourselves to be (Lifeguard, local health multiplier)."""

from __future__ import annotations


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
