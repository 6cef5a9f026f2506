"""Who leads when several controllers run: the lease, as a core without clock, socket or chance of its own.

One Lease object names the leader.  It renews the lease again and again; who sees it unchanged for as long as
it lasts may take it.  Only spans of each one's own clock are compared, never the times written in the lease.

Why there are never two writers: a leader counts its right from the moment it *asked* for the renewal, and
for `VALID`; the others count from the moment they *heard* of it, which is later, and for `LEASE`, which is
longer.  What remains between is for clocks that run at different rates and for a process that takes its time
to end.  Every write of the lease is made to the version that was read: of several who take it one succeeds.
What no lease can prevent is a request that is under way when a process stops for longer than the lease lasts:
it is made to the version of the service it was decided on, and the next leader asserts what it finds.

As client-go's leaderelection, with two differences: validity counts from the request, not from its answer,
and a lease that is deleted is made again only when it would have run out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, TypeAlias

from crier.kube.model.lease import Lease

LEASE: Final = 6.0
"""Seconds for which the others leave a lease alone that they see unchanged."""
VALID: Final = 4.0
"""Seconds from the request that renewed it for which the leader may write."""
RENEW: Final = 1.5
"""Seconds from one renewal to the next."""
POLL: Final = 0.5
"""Seconds between two looks of who waits: how soon it notices that the lease was given back."""
RETRY: Final = 0.25
"""Seconds until the leader tries again after a failure."""
STEP: Final = 1.0
"""Seconds of waiting that one look may count for: a clock that jumps is not patience."""
MOMENT: Final = 0.01
"""Seconds between two looks, at least."""
LONGEST: Final = 60.0
"""Seconds; what somebody writes into the lease by hand is believed up to this."""


@dataclass(frozen=True, slots=True)
class Read:
    """Get the lease; then `found` or `failed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Write the lease; then `wrote`, `refused` or `failed`."""

    resource_version: str
    """The version this applies to; "" makes a new object."""
    holder: str
    """"" gives it back."""
    transitions: int
    acquired: str
    """Text of the acquire time to keep; "" for now."""


@dataclass(frozen=True, slots=True)
class Lead:
    """We lead from now on, while `is_valid`."""


@dataclass(frozen=True, slots=True)
class Lost:
    """We led, and do not any more.  The last effect there is."""

    why: str


Effect: TypeAlias = Read | Write | Lead | Lost


class Elector:
    """One candidate.  At most one request is under way: each Read and Write is answered by one call."""

    def __init__(self, identity: str, *, rng: random.Random, now: float) -> None:
        """`identity` is of this very process: two who share one would both lead."""
        self.identity = identity
        self.leading = False
        self.valid_until = now
        """By our clock; means something only while `leading`."""
        self._rng = rng
        self._over = False
        self._stale = True
        """What we know of the lease is not what is there; read it before it is written."""
        self._asking = False
        self._asked_at = now
        self._next_at = now
        self._seen: Lease | None = None
        self._patience = 0.0
        """Seconds for which the lease must still be seen unchanged before we take it."""
        self._looked_at = now

    @property
    def holder(self) -> str:
        """Who has the lease, as far as we know."""
        return self._seen.holder if self._seen is not None else ""

    def is_valid(self, now: float) -> bool:
        """Whether we may write."""
        return self.leading and now < self.valid_until

    def next_deadline(self) -> float:
        if self._over:
            return float("inf")
        at = float("inf") if self._asking else self._next_at
        return min(at, self.valid_until) if self.leading else at

    # --------------------------------------------------------------------------- inputs

    def tick(self, now: float) -> list[Effect]:
        """Do whatever is due.  Early and repeated calls change nothing."""
        if self._over:
            return []
        if self.leading and now >= self.valid_until:
            return self._lose("the lease could not be renewed in time")
        if self._asking or now < self._next_at:
            return []
        if self.leading and self._seen is not None and not self._stale:
            return self._ask(self._renewal(self._seen), now)
        return self._ask(Read(), now)

    def found(self, lease: Lease | None, now: float) -> list[Effect]:
        """What a Read brought; None when there is no such lease."""
        if not self._answered():
            return []
        self._stale = False
        if self.leading:
            return self._found_as_leader(lease, now)
        self._patience -= min(max(now - self._looked_at, 0.0), STEP)
        self._looked_at = now
        if lease is None:
            self._seen = None
            if self._patience > 0:
                return self._wait(now)  # deleted by hand: its holder does not know yet
            return self._ask(self._first(), now)
        if self._seen is None or self._seen.resource_version != lease.resource_version:
            self._patience = min(max(float(lease.duration), LEASE), LONGEST)
        self._seen = lease
        if lease.holder in ("", self.identity) or self._patience <= 0:
            return self._ask(self._renewal(lease), now)
        return self._wait(now)

    def wrote(self, lease: Lease, now: float) -> list[Effect]:
        """A Write was done; the lease as it is now."""
        if not self._answered():
            return []
        self._seen, self._stale = lease, False
        self._next_at = self._asked_at + RENEW
        valid_until = self._asked_at + VALID
        if now >= valid_until:  # the answer took too long to be worth anything
            self._next_at = now
            return self.tick(now)
        self.valid_until = valid_until
        if self.leading:
            return []
        self.leading = True
        return [Lead()]

    def refused(self, now: float) -> list[Effect]:
        """A Write met another version than it was made for.  Nothing was written."""
        if self._answered():
            self._stale = True
            self._next_at = now + RETRY * self._rng.random()
        return []

    def failed(self, now: float) -> list[Effect]:
        """No answer, or a useless one.  Whether a Write was done is not known; trying again tells."""
        if self._answered():
            self._next_at = now + (RETRY if self.leading else POLL) * (0.5 + self._rng.random())
        return []

    def release(self) -> Write | None:
        """Give the lease back, once nothing of ours is written any more and no request is under way."""
        was_leading, self.leading, self._over = self.leading, False, True
        if not was_leading or self._seen is None:
            return None
        return Write(
            resource_version=self._seen.resource_version,
            holder="",
            transitions=self._seen.transitions,
            acquired=self._seen.acquired,
        )

    # -------------------------------------------------------------------------- helpers

    def _found_as_leader(self, lease: Lease | None, now: float) -> list[Effect]:
        if lease is None:
            return self._ask(self._first(), now)
        self._seen = lease
        if lease.holder != self.identity:
            return self._lose(f"{lease.holder or 'nobody'} has the lease")
        return self._ask(self._renewal(lease), now)

    def _first(self) -> Write:
        return Write(resource_version="", holder=self.identity, transitions=0, acquired="")

    def _renewal(self, lease: Lease) -> Write:
        ours = lease.holder == self.identity
        return Write(
            resource_version=lease.resource_version,
            holder=self.identity,
            transitions=lease.transitions if ours else lease.transitions + 1,
            acquired=lease.acquired if ours else "",
        )

    def _ask(self, effect: Read | Write, now: float) -> list[Effect]:
        self._asking = True
        self._asked_at = now
        return [effect]

    def _answered(self) -> bool:
        """False when nobody wants to know any more."""
        self._asking = False
        return not self._over

    def _wait(self, now: float) -> list[Effect]:
        # Not all at once, and not later than needed.
        self._next_at = now + min(POLL * (0.5 + self._rng.random()), max(self._patience, MOMENT))
        return []

    def _lose(self, why: str) -> list[Effect]:
        self.leading, self._over = False, True
        return [Lost(why)]
