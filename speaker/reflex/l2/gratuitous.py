"""When to announce what: MetalLB's cadence and two rounds more, without its triggers.

A round is due at once and then every 1.1 s, five in all.  The odd interval is deliberate: receivers that
take one update of a neighbour per second (Linux' `locktime`) take each of ours.  Two more follow closely on
the first: where it got lost, traffic would go to a dead node for another second.

Who is asked to announce again has a reason, such as another owner that has to hear it: that is at once,
too, though not more often than every `CLOSEST`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

INTERVAL: Final = 1.1
EARLY: Final = (0.05, 0.2)
"""Seconds after the first."""
ROUNDS: Final = 5 + len(EARLY)
CLOSEST: Final = 0.05
"""Seconds: ten members that come back together are no reason for ten frames."""

_GAPS: Final = {
    left: until - since
    for left, since, until in zip(range(ROUNDS - 1, 0, -1), (0.0, *EARLY), (*EARLY, INTERVAL), strict=False)
}
"""Seconds to the next round, by how many are left, where it is not the usual interval."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Run:
    left: int
    """Rounds still to send."""
    due_at: float
    ticket: int
    """Which entry of the agenda is the valid one."""
    sent_at: float = -float("inf")


class Schedule(Generic[Key]):
    """Announcements under way.  What was just gained goes before what is repeated."""

    def __init__(self) -> None:
        self._runs: dict[Key, _Run] = {}
        self._fresh: deque[tuple[int, Key]] = deque()
        self._repeats: list[tuple[float, int, Key]] = []
        self._tickets = itertools.count()

    def __contains__(self, key: Key) -> bool:
        return key in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def start(self, key: Key, now: float, rounds: int = ROUNDS) -> None:
        """Announce `key`, first at once.  One that is under way has no fewer rounds left than asked."""
        run = self._runs.get(key)
        if run is not None:
            run.left = max(run.left, rounds)
            if max(now, run.sent_at + CLOSEST) < run.due_at:
                run.due_at, run.ticket = max(now, run.sent_at + CLOSEST), next(self._tickets)
                heapq.heappush(self._repeats, (run.due_at, run.ticket, key))
            return
        run = self._runs[key] = _Run(rounds, now, next(self._tickets))
        self._fresh.append((run.ticket, key))

    def stop(self, key: Key) -> None:
        self._runs.pop(key, None)

    def due(self, now: float, limit: int) -> list[Key]:
        """Whose round is to be sent now, at most `limit`; each is counted as sent."""
        found: list[Key] = []
        while self._fresh and len(found) < limit:
            ticket, key = self._fresh.popleft()
            self._take(key, ticket, now, found)
        while self._repeats and self._repeats[0][0] <= now and len(found) < limit:
            _, ticket, key = heapq.heappop(self._repeats)
            self._take(key, ticket, now, found)
        return found

    def _take(self, key: Key, ticket: int, now: float, found: list[Key]) -> None:
        run = self._runs.get(key)
        if run is None or run.ticket != ticket:
            return  # stopped, or started anew since
        found.append(key)
        run.sent_at = now
        run.left -= 1
        if run.left <= 0:
            del self._runs[key]
            return
        # from the round's own time: a late wake-up must not drift, yet never two rounds closer than asked
        gap = _GAPS.get(run.left, INTERVAL)
        run.due_at = max(run.due_at + gap, now + gap / 2)
        heapq.heappush(self._repeats, (run.due_at, ticket, key))

    def next_deadline(self) -> float:
        """When `due` next has something, infinity if never; in the past when it already has."""
        while self._fresh and not self._valid(*self._fresh[0]):
            self._fresh.popleft()
        if self._fresh:
            return -float("inf")
        while self._repeats and not self._valid(self._repeats[0][1], self._repeats[0][2]):
            heapq.heappop(self._repeats)
        return self._repeats[0][0] if self._repeats else float("inf")

    def _valid(self, ticket: int, key: Key) -> bool:
        run = self._runs.get(key)
        return run is not None and run.ticket == ticket
