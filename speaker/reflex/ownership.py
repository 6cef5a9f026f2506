"""Whose turn it is: the first candidate that is reachable and has not said that it cannot announce on any
of the VIP's interfaces.  Every speaker with the same orders and the same view of the members gets the same
owner, without a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from speaker.orders import Vip
from speaker.reflex.effects import Interfaces


@dataclass(frozen=True, slots=True)
class Turn:
    """What changed among the members, by name."""

    lost: AbstractSet[str]
    found: AbstractSet[str]
    turned: AbstractSet[str]
    """Other interfaces work there than before."""

    def __bool__(self) -> bool:
        return bool(self.lost or self.found or self.turned)

    @property
    def why(self) -> str:
        for what, names in (
            ("lost", self.lost),
            ("found", self.found),
            ("other interfaces work at", self.turned),
        ):
            if names:
                return f"{what} {', '.join(sorted(names))}"
        return ""

    def concerns(self, owners: Iterable[str | None]) -> bool:
        """Whether these may not be the owners any more; a bystander that goes moves nothing."""
        return bool(self.found or self.turned) or not self.lost.isdisjoint(owners)


class Electorate:
    """The members as the election sees them.

    `membership` False: there is no gossip, so every candidate counts as reachable.
    """

    def __init__(self, me: str, *, membership: bool) -> None:
        self.me = me
        self.membership = membership
        self.leaving = False
        """We are about to go, and so no owner."""
        self._reachable: frozenset[str] = frozenset({me})
        self._unable: Mapping[str, AbstractSet[int]] = {}

    def update(self, reachable: AbstractSet[str], unable: Mapping[str, AbstractSet[int]]) -> Turn:
        """Who is reachable now; ourselves always count.

        `unable`: the `Vip.restriction`s under which a member cannot announce anywhere, by its name.
        """
        before, self._reachable = self._reachable, frozenset(reachable) | {self.me}
        was, self._unable = self._unable, {name: which for name, which in unable.items() if which}
        turned = {
            name for name in was.keys() | self._unable.keys() if was.get(name) != self._unable.get(name)
        }
        return Turn(before - self._reachable, self._reachable - before, turned)

    def owner(self, vip: Vip) -> str | None:
        if not self.membership:
            return vip.candidates[0] if vip.candidates else None
        for name in vip.candidates:
            if name not in self._reachable or (self.leaving and name == self.me):
                continue
            if name not in self._unable or self.is_able(name, vip):
                return name
        return None

    def is_able(self, name: str, vip: Vip) -> bool:
        return vip.restriction not in self._unable.get(name, ())

    def is_deaf(self, entries: Iterable[Vip]) -> bool:
        """Whether none of the interfaces on which we might hear a successor works."""
        return not any(self.is_able(self.me, entry) for entry in entries)


def union(restrictions: Iterable[tuple[str, ...] | None]) -> Interfaces:
    names: set[str] = set()
    for restriction in restrictions:
        if restriction is None:
            return None
        names.update(restriction)
    return frozenset(names)
