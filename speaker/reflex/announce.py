"""Who owns what, what we answer for, what we announce.  A core: orders, members, frames and the time go in,
effects come out.

*Ownership.* The owner of a VIP is its first candidate that is reachable and has not said that it cannot
announce on any of the VIP's interfaces.  Every speaker with the same orders and the same view of the members
gets the same owner, without a message.

*Make before break.* Who gains a VIP announces it at once.  Who loses one to another owner keeps answering,
without announcing, until somebody else's announcement was heard on the wire or `HANDOVER_TIMEOUT` has
passed.  Who loses one to nobody stops at once.

*Speaking last.* Switches and neighbours believe who spoke last, so whoever believes to be the owner and
hears another announce its VIP repeats its own announcement: this ends what a healed partition or a false
alarm left behind.  Two that go on disagreeing (their orders differ, or it is no speaker at all) do so ever
more rarely.

*Strangers.* What a host that is no speaker announces is reported with its hardware address, and met by
policy: defended, left to it, or neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from speaker.orders import Orders, Vip
from speaker.settings import ConflictPolicy

HANDOVER_TIMEOUT: Final = 1.0
"""Seconds a loser waits to hear its successor."""

JOIN_TIMEOUT: Final = 3.0
"""Seconds a starting speaker waits to reach another member before it answers for anything."""

CONFLICT_SETTLE: Final = 0.2
"""Seconds between hearing another's announcement and answering it.  A member that comes back announces in the
same millisecond in which we learn of it; answering at once would take the VIP back from its owner."""
CONFLICT_ROUNDS: Final = 2
"""Announcements after hearing another's: the second for receivers that ignore a change within a second."""
CONFLICT_INTERVAL_MIN: Final = 2.2
CONFLICT_INTERVAL_MAX: Final = 64.0
YIELD_QUIET: Final = 60.0
"""Seconds without the stranger until an address that was left to it is answered again."""
"""Seconds between two such answers; each time without peace in between doubles it."""

Interfaces: TypeAlias = frozenset[str] | None
"""Names; None is all that qualify."""


@dataclass(frozen=True, slots=True)
class Answer:
    """From now on answer for it on these interfaces, and announce it wherever that is new."""

    address: str
    interfaces: Interfaces


@dataclass(frozen=True, slots=True)
class Yield:
    """Go on answering, but announce no more: another is about to."""

    address: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Stop answering."""

    address: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce again what we answer for."""

    address: str
    rounds: int | None
    """None: as many as after a take-over."""


@dataclass(frozen=True, slots=True)
class Happened:
    what: str
    subject: str
    why: str
    mac: str = ""


Effect: TypeAlias = Answer | Yield | Silence | Announce | Happened


class State(Enum):
    IDLE = "not ours"
    OURS = "ours"
    YIELDING = "another's, but we answer until it is heard"


@dataclass(frozen=True, slots=True)
class Rival:
    """Another station that announced a VIP, by its hardware address."""

    mac: str = ""
    speaker: str | None = None
    """A speaker's name; "" when it is none, None when that cannot be told."""

    @property
    def stranger(self) -> bool:
        return self.speaker == ""


NOBODY: Final = Rival()


@dataclass(slots=True)
class _Vip:
    """What we know of one address."""

    entries: tuple[Vip, ...]
    owners: tuple[str | None, ...] = ()
    """Of each entry."""
    state: State = State.IDLE
    interfaces: Interfaces = None
    """Where we answer, unless idle."""
    yield_until: float = 0.0
    conflict_quiet_until: float = -float("inf")
    """We have spoken; another's announcement is answered no earlier."""
    conflict_interval: float = CONFLICT_INTERVAL_MIN
    conflict_pending: bool = False
    """Another was heard since; to be answered at `conflict_answer_at`."""
    conflict_answer_at: float = 0.0
    heard_at: float = -float("inf")
    """When another speaker announced it last."""
    rival: Rival = NOBODY
    """Whom the pending conflict is with."""
    claimed_by: str = ""
    """Hardware address of the last stranger that used it."""
    claimed_at: float = -float("inf")
    yielded_until: float = -float("inf")
    """Left to a stranger."""

    @property
    def owner(self) -> str | None:
        return next((owner for owner in self.owners if owner is not None), None)


@dataclass(frozen=True, slots=True)
class View:
    """One address, for reports."""

    address: str
    owner: str | None
    state: State
    interfaces: Interfaces
    conflicting: bool
    claimed_by: str = ""
    claimed_at: float = -float("inf")


class Announcer:
    """The decisions of one speaker.

    `membership` False: there is no gossip, so every candidate counts as reachable and there is nobody to
    wait for.
    """

    def __init__(self, me: str, *, membership: bool, policy: ConflictPolicy = ConflictPolicy.DEFEND) -> None:
        self.me = me
        self._membership = membership
        self._vips: dict[str, _Vip] = {}
        self._reachable: frozenset[str] = frozenset({me})
        self._unable: Mapping[str, AbstractSet[int]] = {}
        self._may_answer_at = float("inf") if membership else -float("inf")
        self._joined = not membership
        self._leaving = False
        self._yielding: set[str] = set()
        self._conflicts: set[str] = set()
        self._policy = policy
        self._yielded: set[str] = set()

    # ------------------------------------------------------------------------------------ what comes in

    def open(self, now: float) -> None:
        """Gossip is open.  From now on at most `JOIN_TIMEOUT` is waited for somebody."""
        if self._may_answer_at == float("inf"):
            self._may_answer_at = now + JOIN_TIMEOUT

    def joined(self, now: float) -> list[Effect]:
        """Another member was reached: the view is as good as anybody's."""
        if self._joined:
            return []
        self._joined = True
        return self._decide_all(now, "joined")

    def orders(self, orders: Orders, now: float) -> list[Effect]:
        """New standing orders, whole; the same again changes nothing."""
        entries: dict[str, list[Vip]] = {}
        for entry in orders.vips:
            entries.setdefault(entry.address, []).append(entry)
        effects: list[Effect] = []
        for address in [address for address in self._vips if address not in entries]:
            self._drop(address, "no longer in the standing orders", effects)
        for address, found in entries.items():
            vip = self._vips.get(address)
            if vip is None:
                vip = self._vips[address] = _Vip(tuple(found))
            elif vip.entries == tuple(found):
                continue
            else:
                vip.entries = tuple(found)
            self._decide(address, vip, now, "orders", effects)
        return effects

    def members(
        self,
        reachable: AbstractSet[str],
        now: float,
        unable: Mapping[str, AbstractSet[int]] | None = None,
    ) -> list[Effect]:
        """Who is reachable now; ourselves always count.

        `unable`: the `Vip.restriction`s under which a member cannot announce anywhere, by its name.
        """
        before, self._reachable = self._reachable, frozenset(reachable) | {self.me}
        lost, found = before - self._reachable, self._reachable - before
        was, self._unable = self._unable, {name: which for name, which in (unable or {}).items() if which}
        turned = {
            name for name in was.keys() | self._unable.keys() if was.get(name) != self._unable.get(name)
        }
        if not lost and not found and not turned:
            return []
        effects: list[Effect] = []
        why = _why(lost, found, turned)
        for address, vip in self._vips.items():
            if not found and not turned and lost.isdisjoint(vip.owners):
                continue  # a bystander went: nothing moves
            was_ours = vip.state is State.OURS
            self._decide(address, vip, now, why, effects)
            if was_ours and vip.state is State.OURS and self._is_rival(vip, found):
                effects.append(Announce(address, None))
        return effects

    def heard(self, address: str, now: float, rival: Rival = NOBODY) -> list[Effect]:
        """Somebody else, by its hardware address, announced one of our VIPs."""
        vip = self._vips.get(address)
        if vip is None:
            return []
        if rival.stranger:
            vip.claimed_by, vip.claimed_at = rival.mac, now
            if address in self._yielded:
                vip.yielded_until = now + YIELD_QUIET
        else:
            vip.heard_at = now
        effects: list[Effect] = []
        if vip.state is State.IDLE:
            return effects
        if vip.state is State.YIELDING:
            if not rival.stranger:
                self._silence(address, vip, "handed_over", f"heard the successor {vip.owner}", effects)
        elif vip.conflict_pending:
            if rival.stranger:
                vip.rival = rival
        else:
            vip.conflict_pending = True
            vip.rival = rival
            vip.conflict_answer_at = max(now + CONFLICT_SETTLE, vip.conflict_quiet_until)
            self._conflicts.add(address)
        return effects

    def leave(self, now: float) -> list[Effect]:
        """We are about to go: hand over what somebody else can take, drop the rest."""
        self._leaving = True
        return self._decide_all(now, "leaving")

    def tick(self, now: float) -> list[Effect]:
        """Whatever is due.  Early and repeated calls change nothing."""
        effects: list[Effect] = []
        if not self._joined and now >= self._may_answer_at:
            self._joined = True
            effects += self._decide_all(now, f"nobody was reached within {JOIN_TIMEOUT:g} s")
        for address in sorted(self._yielding):
            vip = self._vips[address]
            if now >= vip.yield_until:
                why = f"did not hear {vip.owner} within {HANDOVER_TIMEOUT:g} s"
                self._silence(address, vip, "handed_over", why, effects)
        for address in sorted(self._yielded):
            vip = self._vips[address]
            if now >= vip.yielded_until:
                self._yielded.discard(address)
                self._decide(address, vip, now, "the other host is quiet", effects)
        for address in sorted(self._conflicts):
            self._settle(address, self._vips[address], now, effects)
        return effects

    def next_deadline(self) -> float:
        """When `tick` has something to do; infinity if never."""
        deadlines = [self._vips[address].yield_until for address in self._yielding]
        deadlines += [self._vips[address].conflict_answer_at for address in self._conflicts]
        deadlines += [self._vips[address].yielded_until for address in self._yielded]
        if not self._joined:
            deadlines.append(self._may_answer_at)
        return min(deadlines, default=float("inf"))

    # ------------------------------------------------------------------------------------ what is known

    @property
    def may_answer(self) -> bool:
        """Joined, or waited long enough."""
        return self._joined

    @property
    def answering(self) -> bool:
        """Whether we answer for anything."""
        return any(vip.state is not State.IDLE for vip in self._vips.values())

    def addresses(self) -> Iterable[str]:
        return self._vips.keys()

    def view(self, address: str) -> View | None:
        vip = self._vips.get(address)
        if vip is None:
            return None
        return View(
            address,
            vip.owner,
            vip.state,
            vip.interfaces,
            vip.conflict_pending,
            vip.claimed_by,
            vip.claimed_at,
        )

    # ---------------------------------------------------------------------------------------- decisions

    def _owner(self, vip: Vip) -> str | None:
        """First reachable candidate that can; who leaves is none."""
        if not self._membership:
            return vip.candidates[0] if vip.candidates else None
        for name in vip.candidates:
            if name not in self._reachable or (self._leaving and name == self.me):
                continue
            if name not in self._unable or self._is_able(name, vip):
                return name
        return None

    def _is_able(self, name: str, vip: Vip) -> bool:
        return vip.restriction not in self._unable.get(name, ())

    def _decide_all(self, now: float, why: str) -> list[Effect]:
        effects: list[Effect] = []
        for address, vip in self._vips.items():
            self._decide(address, vip, now, why, effects)
        return effects

    def _decide(self, address: str, vip: _Vip, now: float, why: str, effects: list[Effect]) -> None:
        vip.owners = tuple(self._owner(entry) for entry in vip.entries)
        ours = [entry for entry, owner in zip(vip.entries, vip.owners, strict=True) if owner == self.me]
        if (
            ours
            and self._joined
            and address not in self._yielded
            and not (self._leaving and not self._membership)
        ):
            interfaces = _union(entry.interfaces for entry in ours)
            if vip.state is not State.OURS:
                again = vip.state is State.YIELDING
                self._yielding.discard(address)
                vip.state = State.OURS
                vip.interfaces = interfaces
                effects.append(Answer(address, interfaces))
                if (
                    again
                ):  # where we answered already nothing is new, yet others may have taken over meanwhile
                    effects.append(Announce(address, None))
                effects.append(Happened("took_over", address, why))
            elif vip.interfaces != interfaces:
                vip.interfaces = interfaces
                effects.append(Answer(address, interfaces))
            return
        if vip.state is not State.OURS:
            if vip.state is State.YIELDING and self._successor(vip) is None:
                self._silence(address, vip, "withdrew", why, effects)
            return
        self._forget_conflict(address, vip)
        deaf = not any(self._is_able(self.me, entry) for entry in vip.entries)
        if self._successor(vip) is None or not self._membership or deaf:
            self._silence(address, vip, "withdrew", why, effects)
            return
        if now - vip.heard_at <= HANDOVER_TIMEOUT:
            # Its announcement outran the news of its return.
            self._silence(address, vip, "handed_over", f"heard the successor {vip.owner}", effects)
            return
        vip.state = State.YIELDING
        vip.yield_until = now + HANDOVER_TIMEOUT
        self._yielding.add(address)
        effects.append(Yield(address))

    def _successor(self, vip: _Vip) -> str | None:
        return next((owner for owner in vip.owners if owner is not None and owner != self.me), None)

    def _silence(self, address: str, vip: _Vip, what: str, why: str, effects: list[Effect]) -> None:
        vip.state = State.IDLE
        vip.interfaces = None
        self._yielding.discard(address)
        self._forget_conflict(address, vip)
        effects.append(Silence(address))
        effects.append(Happened(what, address, why))

    def _drop(self, address: str, why: str, effects: list[Effect]) -> None:
        vip = self._vips[address]
        if vip.state is not State.IDLE:
            self._silence(address, vip, "withdrew", why, effects)
        self._yielded.discard(address)
        del self._vips[address]

    def _is_rival(self, vip: _Vip, found: AbstractSet[str]) -> bool:
        """Whether one that came back may have answered for it: it must hear us to stop, and so must its
        side.
        """
        return any(
            not found.isdisjoint(entry.candidates) for entry in vip.entries if self.me in entry.candidates
        )

    # ---------------------------------------------------------------------------------------- conflicts

    def _settle(self, address: str, vip: _Vip, now: float, effects: list[Effect]) -> None:
        """Answer another's announcement with ours, once it is time."""
        if now < vip.conflict_answer_at:
            return
        calm = now - vip.conflict_quiet_until > CONFLICT_INTERVAL_MAX
        vip.conflict_interval = (
            CONFLICT_INTERVAL_MIN if calm else min(2 * vip.conflict_interval, CONFLICT_INTERVAL_MAX)
        )
        vip.conflict_quiet_until = now + vip.conflict_interval
        vip.conflict_pending = False
        self._conflicts.discard(address)
        rival = vip.rival
        if rival.speaker:
            effects.append(Announce(address, CONFLICT_ROUNDS))
            effects.append(Happened("contradicted", address, f"{rival.speaker} announced it too", rival.mac))
            return
        who = "a host that is no speaker" if rival.stranger else "another host"
        told = (
            f"{who}, hardware address {rival.mac}, announced it too"
            if rival.mac
            else f"{who} announced it too"
        )
        effects.append(Happened("conflict", address, told, rival.mac))
        if rival.stranger and self._policy is ConflictPolicy.YIELD:
            self._yielded.add(address)
            vip.yielded_until = now + YIELD_QUIET
            self._silence(address, vip, "withdrew", f"left to {rival.mac}", effects)
        elif not (rival.stranger and self._policy is ConflictPolicy.REPORT):
            effects.append(Announce(address, CONFLICT_ROUNDS))

    def _forget_conflict(self, address: str, vip: _Vip) -> None:
        vip.conflict_pending = False
        self._conflicts.discard(address)


def _why(lost: AbstractSet[str], found: AbstractSet[str], turned: AbstractSet[str]) -> str:
    for what, names in (("lost", lost), ("found", found), ("other interfaces work at", turned)):
        if names:
            return f"{what} {', '.join(sorted(names))}"
    return ""


def _union(restrictions: Iterable[tuple[str, ...] | None]) -> Interfaces:
    names: set[str] = set()
    for restriction in restrictions:
        if restriction is None:
            return None
        names.update(restriction)
    return frozenset(names)
