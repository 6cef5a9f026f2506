"""How late the loop runs: what it costs everybody else that somebody works long in one go."""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

SAMPLE_INTERVAL: Final = 0.1
_WINDOW: Final = 600
"""Samples behind the percentile: a minute."""


class Lateness:
    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._worst = 0.0

    async def measure(self) -> None:
        """For ever: sleep to a set time, see when it really is."""
        while True:
            due = trio.current_time() + SAMPLE_INTERVAL
            await trio.sleep_until(due)
            self.note(trio.current_time() - due)

    def note(self, late: float) -> None:
        self._recent.append(late)
        self._worst = max(self._worst, late)

    def take_worst(self) -> float:
        """Seconds, since this was last asked."""
        worst, self._worst = self._worst, 0.0
        return worst

    def p99(self) -> float:
        """Seconds, of the last minute; 0 without samples."""
        ordered = sorted(self._recent)
        return ordered[(len(ordered) * 99) // 100] if ordered else 0.0
