"""What everybody is told directly, because gossip would take too long: that we live after all, or leave."""

from __future__ import annotations

from typing import Final

AGAIN: Final[tuple[float, ...]] = (0.1, 0.25)
"""Seconds after which it is repeated, against loss."""
GAP: Final = 0.2
"""Seconds between two floods: bounds what a liar who keeps accusing us can make us send."""
NEVER: Final = float("inf")


class Flood:
    def __init__(self) -> None:
        self._message = b""
        self._due_at: list[float] = []
        self._begun_at = -NEVER

    def tell(self, message: bytes, now: float) -> None:
        """From the next tick on; replaces what was told before."""
        self._message = message
        if len(self._due_at) <= len(AGAIN):  # else one is about to begin, and will say this instead
            first = max(now, self._begun_at + GAP)
            self._due_at = [first, *(first + again for again in AGAIN)]

    def next_deadline(self) -> float:
        return self._due_at[0] if self._due_at else NEVER

    def tick(self, now: float) -> bytes | None:
        """The message, when it is to be sent to everybody now."""
        if now < self.next_deadline():
            return None
        if len(self._due_at) > len(AGAIN):
            self._begun_at = now
        del self._due_at[0]
        return self._message
