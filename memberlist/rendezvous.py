"""Who watches whom: every member computes the same order without a message.

For each member all others are ranked by a hash of both names, and the first W that are reachable watch it.
One that comes or goes moves only its own watches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Final

from .table import Table

MAX_RANKS: Final = 16384
"""Ranks remembered.  Some 3 MiB at most."""
MAX_RANKED: Final = 1 << 22
"""Places in all rankings kept together, 8 octets each: enough for all members of a cluster of 2000."""


@lru_cache(maxsize=MAX_RANKS)
def rank(watched: str, watcher: str) -> bytes:
    """The weight of a watcher; the greater comes first.  Peers of other versions compute the same."""
    text = f"{watched}\0{watcher}".encode("utf-8", "surrogateescape")
    return blake2b(text, digest_size=8).digest()


@dataclass(slots=True)
class _Ahead:
    """What one of us knows of those that come before it as watchers of one member."""

    names: set[str] = field(default_factory=set)
    """Reachable, and W of them at most: more need not be known to know that it is not our turn."""
    all: bool = False
    """There are no others."""


class Rendezvous:
    """The order as one member sees it; remembers what would be dear to compute anew."""

    def __init__(self, me: str, watchers: int) -> None:
        """`watchers` is the W of the order, at least 1."""
        self._me, self._count = me, watchers
        self._ahead: dict[str, _Ahead] = {}
        self._reachable: frozenset[str] = frozenset()
        self._rankings: dict[str, tuple[str, ...]] = {}
        self._population = -1

    def watchers(self, name: str, table: Table) -> list[str]:
        """The first W reachable members in the order of `name`."""
        if self._population != table.population:
            self._population = table.population
            self._rankings.clear()
        ranking = self._rankings.get(name)
        if ranking is None:
            names = (other for other in table.members if other != name)
            ranking = tuple(sorted(names, key=lambda other: rank(name, other), reverse=True))
            if len(ranking) * len(self._rankings) >= MAX_RANKED:
                self._rankings.clear()
            self._rankings[name] = ranking
        members = table.members
        reachable = (one for one in ranking if one in members and members[one].reachable)
        return list(islice(reachable, self._count))

    def watched(self, names: Iterable[str], reachable: Sequence[str]) -> list[str]:
        """Those of `names` of which we are a watcher, when these others are reachable.

        Of each it is known from the last call who comes before us, W of them if there are so many: what one
        that goes or comes changes is found with some fifty hashes, where all anew takes twenty for each name.
        """
        now = frozenset(reachable)
        came, went = tuple(now - self._reachable), self._reachable - now
        self._reachable = now
        before, self._ahead = self._ahead, {}
        ours = []
        for name in names:
            ahead = self._ahead[name] = before.get(name) or _Ahead()
            ahead.names -= went
            if ahead.all:
                ahead.all = self._look(name, came, ahead)
            elif len(ahead.names) < self._count:
                ahead.all = self._look(name, reachable, ahead)
            if len(ahead.names) < self._count:
                ours.append(name)
        return ours

    def favourite(self, reachable: Sequence[str]) -> str:
        """The first in our own order."""
        return max(reachable, key=lambda name: rank(self._me, name))

    def _look(self, name: str, among: Sequence[str], ahead: _Ahead) -> bool:
        """Find more of those ahead of us; False when it ended at the W-th, mostly after a few steps.

        Each name's search begins elsewhere, or all would find the same few, and who of them goes would have
        to be replaced for all.
        """
        mine = rank(name, self._me)
        start = int.from_bytes(mine, "big") % len(among) if among else 0
        for place in range(start - len(among), start):
            other = among[place]
            if other != name and rank(name, other) > mine:
                ahead.names.add(other)
                if len(ahead.names) == self._count:
                    return False
        return True
