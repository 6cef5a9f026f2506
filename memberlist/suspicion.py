"""One suspicion and its clock (Lifeguard, dynamic suspicion timeouts)."""

from __future__ import annotations

from . import timing


class Suspicion:
    """Falls due at `due_at`; each new accuser brings that closer, down to `shortest` after the start."""

    __slots__ = ("_accusers", "_longest", "_shortest", "_wanted", "confirmed", "due_at", "started_at")

    def __init__(self, accuser: str, *, wanted: int, shortest: float, longest: float, now: float) -> None:
        self.started_at = now
        self.confirmed = 0
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
