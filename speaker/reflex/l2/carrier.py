"""Whether anybody would hear us: which of the links we announce on have, or lost, their carrier.  A core.

A link that never existed here says nothing: MetalLB elects its node all the same, and so do we.  One that was
here and is gone, down or unplugged is a loss.  What comes back counts only when it stayed for `SETTLE`:
a loose plug must not move the addresses with every contact, and gossip comes back before them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from speaker.reflex.l2.links import Link

SETTLE: Final = 1.0
"""Seconds."""
MAX_KNOWN: Final = 1024
"""Names remembered; of those not there any more the oldest are forgotten first."""


class Carrier:
    def __init__(self) -> None:
        self._good_since: dict[str, float | None] = {}
        """By name of every link known; None while it cannot be used."""

    def update(self, links: Iterable[Link], now: float) -> None:
        """Every link that qualifies now."""
        usable = {link.name: link.carrier for link in links}
        for name, since in self._good_since.items():
            if since is not None and not usable.get(name, False):
                self._good_since[name] = None
        for name, carrier in usable.items():
            if name not in self._good_since:
                # new: no address was taken from it, so none has to wait for it
                self._good_since[name] = now - SETTLE if carrier else None
            elif carrier and self._good_since[name] is None:
                self._good_since[name] = now
        excess = len(self._good_since) - MAX_KNOWN
        for name in [name for name in self._good_since if name not in usable][: max(0, excess)]:
            del self._good_since[name]

    def lost(self, interfaces: frozenset[str] | None, now: float) -> bool:
        """Whether there are links of these names (None: any), and not one can be used."""
        known = [
            since for name, since in self._good_since.items() if interfaces is None or name in interfaces
        ]
        return bool(known) and not any(since is not None and now >= since + SETTLE for since in known)

    def next_deadline(self, now: float) -> float:
        """When `lost` may say otherwise without an update; infinity if never."""
        waiting = (since + SETTLE for since in self._good_since.values() if since is not None)
        return min((at for at in waiting if at > now), default=float("inf"))
