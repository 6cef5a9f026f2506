"""Asking first: whether anybody has an address that none of us ever announced (RFC 5227 section 2.1.1,
RFC 4862 section 5.4).

RFC 5227 takes 4 to 9 seconds for it, because of spanning trees that are learning and wireless links that
sleep.  Our links have been up for long when a new address comes, a host on a LAN answers within
milliseconds, and the one who made the Service waits for it.  So the same three questions are asked within
600 ms (`--probe-time`): a host may take 200 ms to answer the last of them, and the nodes' proxies take
about a second to learn of a new Service anyway.

Nothing is asked where it would prolong an outage: not on a take-over, not on a hand-over, and not of what
our first orders hold, for that may have been announced for years.
"""

from __future__ import annotations

from typing import Final

from speaker.reflex.agenda import Agenda
from speaker.reflex.effects import Effect, Probe
from speaker.reflex.vip import Address

PROBES: Final = 3
"""PROBE_NUM of RFC 5227."""
MAX_KNOWN: Final = 65536
"""Addresses remembered as seen before.  More than that are not asked for."""

_GROUP: Final = 64
_GROUP_PAUSE: Final = 0.02
"""Seconds between two groups of addresses that came at once, each asked for three times."""


class Probing:
    """`time` in seconds; 0: nothing is asked.  `due` holds the times of the next questions."""

    def __init__(self, time: float) -> None:
        self._interval = time / PROBES
        self._known: set[str] = set()
        """Addresses that were ever in our orders."""
        self.due = Agenda()

    def note(self, address: str) -> bool:
        """An address that is in our orders now; True when it never was before."""
        if address in self._known or len(self._known) >= MAX_KNOWN:
            return False
        self._known.add(address)
        return True

    @property
    def wanted(self) -> bool:
        return self._interval > 0

    def begin(self, vip: Address, now: float, effects: list[Effect]) -> None:
        vip.probes_left = PROBES
        wait = len(self.due) // _GROUP * _GROUP_PAUSE
        if wait:
            self.due.set(vip.text, now + wait)
        else:
            self.ask(vip, now, effects)

    def ask(self, vip: Address, now: float, effects: list[Effect]) -> bool:
        """Once more; False when it was asked often enough, and nobody has it."""
        if vip.probes_left == 0:
            return False
        vip.probes_left -= 1
        self.due.set(vip.text, now + self._interval)
        effects.append(Probe(vip.text, vip.interfaces))
        return True

    def end(self, vip: Address) -> None:
        vip.ask_first = False
        self.due.drop(vip.text)
