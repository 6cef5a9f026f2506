"""One suspicion and its clock (Lifeguard, dynamic suspicion timeouts)."""

from __future__ import annotations

from typing import Final

from . import timing

WARNINGS: Final = 2
"""Last words to the accused, against loss."""


class Suspicion:
    """Falls due at `due_at`; each new accuser brings that closer, down to `shortest` after the start.

    Before that the accused is warned, and has `notice` seconds to refute.  Others' word for an accusation may
    be our own coming back by push/pull: what is long overdue then would be a death before anybody who knows
    better has heard of it.
    """

    __slots__ = (
        *("_accusers", "_longest", "_notice", "_shortest", "_wanted", "_warned_at", "_warnings"),
        *("confirmed", "due_at", "started_at"),
    )

    def __init__(
        self,
        accuser: str,
        *,
        wanted: int,
        shortest: float,
        longest: float,
        now: float,
        notice: float = 0.0,
    ) -> None:
        self.started_at = now
        self.confirmed = 0
        self._notice, self._warnings, self._warned_at = notice, 0, now
        self._wanted, self._shortest, self._longest = wanted, shortest, longest
        self._accusers = {accuser}
        # With nobody left to confirm, waiting longer than the shortest time cannot bring news.
        self.due_at = now + (longest if wanted > 0 else shortest)

    def confirm(self, accuser: str, now: float) -> bool:
        """Whether the accuser is news.  Repeats, and more accusers than wanted, are not."""
        if self.confirmed >= self._wanted or accuser in self._accusers:
            return False
        self._accusers.add(accuser)
        self.confirmed += 1
        elapsed = now - self.started_at
        left = timing.remaining_suspicion(
            self.confirmed, self._wanted, elapsed, self._shortest, self._longest
        )
        self.due_at = now + max(0.0, left)
        return True

    def next_deadline(self) -> float:
        """When the accused is to be warned or, after that, is dead."""
        if self._warnings == 0:
            return self.due_at - self._notice
        answered_at = self._warned_at + self._notice / WARNINGS
        return answered_at if self._warnings < WARNINGS else max(self.due_at, answered_at)

    def warn(self, now: float) -> bool:
        """What is due at `next_deadline` is a warning; False when all were given: the accused is dead."""
        if not self._notice or self._warnings == WARNINGS:
            return False
        self._warned_at = now
        self._warnings += 1
        return True

    def delay(self, seconds: float) -> None:
        """We did not run for so long."""
        self.due_at += seconds
        self._warned_at += seconds
