"""One watched member: what is unanswered, since when, and what is due next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .entry import Entry

# In units of the watch interval, counted from the first unanswered ping.
UNEASY_AFTER: Final = 0.5
"""Unanswered for so long (40 ms), a ping counts as missed; more follow quickly."""
URGENT_INTERVAL: Final = 0.25
"""Between those: independent loss must hit all of them."""
DOUBT_AFTER: Final = 1.0
"""Two or three are missed: others are asked."""
ACCUSE_AFTER: Final = 2.0
"""160 ms.  A node that stands still for 150 ms answers in time."""
MISSED: Final = 4
"""Pings in a row that must be missed all the same; in 160 ms there are seven, unless we are late for them."""
MAX_STRETCH: Final = 4.0
"""A round trip longer than `UNEASY_AFTER` stretches all of these, at most so much."""
WRONG_WITHIN: Final = 0.5
"""Seconds from an accusation to a sign of life that make it wrong; later, the member was away for once."""
MAX_PATIENCE: Final = 8.0
PATIENCE_HALVES_AFTER: Final = 10.0
"""A target that refutes our accusation gets twice the doubt next time, for a while: a member that is slow
rather than gone must not flap."""


@dataclass(slots=True, eq=False)
class Target:
    """One member we watch."""

    member: Entry
    unanswered: dict[int, float] = field(default_factory=dict)
    """Sequence numbers and when each left, oldest first; an answer settles all that are not newer."""
    answered: bool = False
    silent_since: float | None = None
    """When the oldest unanswered ping left."""
    doubted_at: float | None = None
    judged_at: float = 0.0
    """End of the doubt."""
    missed: int = 0
    """Our own pings that left since it was heard last."""
    rounds: int = 0
    ping_at: float = 0.0
    pinged_at: float = 0.0
    spared: int = 0
    accused: bool = False
    accused_at: float = 0.0
    tell_at: float = 0.0
    told: int = 0
    patience: float = 1.0
    patience_at: float = 0.0
    rtt: float = 0.0
    rtt_deviation: float = 0.0

    def sample(self, rtt: float) -> None:
        """RFC 6298's smoothing."""
        if not self.rtt:
            self.rtt, self.rtt_deviation = rtt, rtt / 2
        else:
            self.rtt_deviation += (abs(self.rtt - rtt) - self.rtt_deviation) / 4
            self.rtt += (rtt - self.rtt) / 8

    def trust(self, now: float) -> None:
        """It was heard.  Pings still unanswered are counted from here: they may be answered next."""
        self._learn(now)
        self.silent_since = now if self.unanswered else None
        self.doubted_at = None
        self.missed = self.rounds = 0
        self.accused = False

    def delay(self, seconds: float) -> None:
        """We did not run for so long."""
        self.unanswered = {seq: at + seconds for seq, at in self.unanswered.items()}
        if self.silent_since is not None:
            self.silent_since += seconds
        if self.doubted_at is not None:
            self.doubted_at += seconds
        self.judged_at += seconds
        self.tell_at += seconds
        self.pinged_at += seconds

    def urgent_at(self, interval: float) -> float:
        """While it is silent: when it is pinged out of turn."""
        assert self.silent_since is not None
        uneasy_at = self.silent_since + UNEASY_AFTER * self._pace(interval)
        return max(uneasy_at, self.pinged_at + URGENT_INTERVAL * interval)

    def verdict_at(self, interval: float) -> float:
        """While it is silent: when it is doubted, or, once it is, when it is judged."""
        if self.doubted_at is not None:
            return self.judged_at
        assert self.silent_since is not None
        return self.silent_since + DOUBT_AFTER * self._pace(interval)

    def worried_at(self, interval: float) -> float:
        """The earlier of `urgent_at` and `verdict_at`: asked after every packet."""
        assert self.silent_since is not None
        pace = self._pace(interval)
        urgent_at = self.silent_since + UNEASY_AFTER * pace
        again_at = self.pinged_at + URGENT_INTERVAL * interval
        if again_at > urgent_at:
            urgent_at = again_at
        doubted = self.doubted_at is not None
        return min(urgent_at, self.judged_at if doubted else self.silent_since + DOUBT_AFTER * pace)

    def doubt_length(self, interval: float, now: float) -> float:
        """Seconds from the doubt to the judgement."""
        while self.patience > 1 and now - self.patience_at > PATIENCE_HALVES_AFTER:
            self.patience /= 2
            self.patience_at += PATIENCE_HALVES_AFTER
        return (ACCUSE_AFTER - DOUBT_AFTER) * self._pace(interval) * self.patience

    def _learn(self, now: float) -> None:
        """It showed a sign of life; if we had just accused it, be slower to do so again."""
        if self.accused and now - self.accused_at < WRONG_WITHIN:
            self.patience = min(self.patience * 2, MAX_PATIENCE)
            self.patience_at = now

    def _pace(self, interval: float) -> float:
        """The interval, stretched where the round trip is long."""
        expected = self.rtt + 4 * self.rtt_deviation
        if expected <= UNEASY_AFTER * interval:
            return interval
        return interval * min(max(1.0, expected / (UNEASY_AFTER * interval)), MAX_STRETCH)
