"""The arithmetic behind the client's figures: attempts, outages, who served when.  Pure; times are in
seconds.

An *attempt* is one probe, one HTTP request, or one question on the wire; it fails when no answer came within
its deadline, however late one comes.  An *outage* begins with the sending of the first failed attempt and
ends with the answer to the first attempt after it that succeeded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

MAX_ATTEMPTS: Final = 1 << 16
"""Attempts one log remembers: 327 s of probes each 5 ms."""
MAX_SEGMENTS: Final = 20_000


@dataclass(slots=True)
class Attempt:
    sent_at: float
    answered_at: float | None = None
    """When the first answer in time came."""
    answerers: tuple[str, ...] = ()
    """Who answered in time, each once, in order of arrival."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A time during which the same one (or nobody, or the same several) answered."""

    start: float
    end: float
    answerers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened to the attempts sent in a window."""

    sent: int
    lost: int
    outage: float
    """The longest outage; 0 when nothing was lost."""
    outage_at: float | None
    """When it began."""
    recovered: bool
    """The last decided attempt succeeded."""
    shared: float
    """The longest time in which attempts were answered by more than one."""
    answerers: tuple[str, ...]
    """Everybody who answered, sorted."""


def summarize(attempts: Iterable[Attempt], until: float) -> Summary:
    """Figures for attempts in sending order; an outage still open is counted up to `until`."""
    sent = lost = 0
    outage = shared = 0.0
    outage_at: float | None = None
    down_since: float | None = None
    shared_since: float | None = None
    seen: set[str] = set()
    for attempt in attempts:
        sent += 1
        seen.update(attempt.answerers)
        if attempt.answered_at is None:
            lost += 1
            down_since = attempt.sent_at if down_since is None else down_since
        elif down_since is not None:
            if attempt.answered_at - down_since > outage:
                outage, outage_at = attempt.answered_at - down_since, down_since
            down_since = None
        if len(attempt.answerers) > 1:
            shared_since = attempt.sent_at if shared_since is None else shared_since
        elif shared_since is not None:
            shared, shared_since = max(shared, attempt.sent_at - shared_since), None
    if down_since is not None and until - down_since > outage:
        outage, outage_at = until - down_since, down_since
    if shared_since is not None:
        shared = max(shared, until - shared_since)
    return Summary(
        sent=sent,
        lost=lost,
        outage=outage,
        outage_at=outage_at,
        recovered=sent > 0 and down_since is None,
        shared=shared,
        answerers=tuple(sorted(seen)),
    )


class Log:
    """Attempts of one kind at one address, in the order of their numbers."""

    def __init__(self, deadline: float, *, several: bool = False, capacity: int = MAX_ATTEMPTS) -> None:
        self.deadline = deadline
        self._several = several  # more than one may answer, so an attempt stays open until its deadline
        self._attempts: deque[Attempt] = deque(maxlen=capacity)
        self._next = 0
        self._decided = 0  # number of the first attempt not yet decided
        self.segments: deque[Segment] = deque(maxlen=MAX_SEGMENTS)
        self.late = 0
        """Answers that came after their deadline."""
        self.good_since: float | None = None
        """Since when every decided attempt succeeded; None while the last one failed."""

    def send(self, at: float) -> int:
        """Note an attempt.  Returns its number."""
        self._attempts.append(Attempt(at))
        self._next += 1
        return self._next - 1

    def answer(self, number: int, at: float, who: str) -> bool:
        """Note an answer.  False when it came too late, or to a number we do not know."""
        index = number - (self._next - len(self._attempts))
        if number >= self._next or index < 0:
            return False
        attempt = self._attempts[index]
        if at - attempt.sent_at > self.deadline:
            self.late += 1
            return False
        if attempt.answered_at is None:
            attempt.answered_at = at
        if who not in attempt.answerers and (self._several or not attempt.answerers):
            attempt.answerers = (*attempt.answerers, who)
        return True

    def newest(self, modulo: int, rest: int) -> int | None:
        """The number of the newest attempt that leaves `rest` when divided by `modulo`."""
        number = self._next - 1 - (self._next - 1 - rest) % modulo
        return number if 0 <= number >= self._next - len(self._attempts) else None

    def decide(self, now: float) -> None:
        """Draw the conclusions from all attempts of which nothing more can come, oldest first."""
        first = self._next - len(self._attempts)
        self._decided = max(self._decided, first)
        while self._decided < self._next:
            attempt = self._attempts[self._decided - first]
            if now - attempt.sent_at <= self.deadline and (self._several or attempt.answered_at is None):
                return
            self._decided += 1
            self._extend(attempt)
            if attempt.answered_at is None:
                self.good_since = None
            elif self.good_since is None:
                self.good_since = attempt.sent_at

    def _extend(self, attempt: Attempt) -> None:
        who = tuple(sorted(attempt.answerers))
        if self.segments:
            last = self.segments.pop()
            self.segments.append(Segment(last.start, attempt.sent_at, last.answerers))
            if last.answerers == who:
                return
        self.segments.append(Segment(attempt.sent_at, attempt.sent_at, who))

    def window(self, since: float, until: float) -> Iterator[Attempt]:
        """Decided attempts sent from `since` to `until`."""
        first = self._next - len(self._attempts)
        decided = islice(self._attempts, max(0, self._decided - first))
        return (attempt for attempt in decided if since <= attempt.sent_at <= until)

    def summary(self, since: float, until: float) -> Summary:
        return summarize(self.window(since, until), until)
