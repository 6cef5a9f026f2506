"""Who owns what, what we answer for, what we announce.  A core: orders, members, frames and the time go in,
effects come out.

*Ownership* is decided in `ownership`, what is said to others who announce the same in `strangers`, what is
asked before an address is answered for the first time in `probing`.

*Make before break.* Who gains a VIP announces it at once.  Who loses one to another owner keeps answering,
without announcing, until somebody else's announcement was heard on the wire or `HANDOVER_TIMEOUT` has
passed.  Who loses one to nobody stops at once.

*Who has just come back* may not answer yet: it answers our pings before it has joined, and until then it is
silent.  So whoever hands over to it does not stop unheard, but asks the wire, for as long as that may take.

*Better candidates.* A speaker that comes first and was thought dead is heard on the wire before gossip has
brought it back, which may take it seconds: who hears it announce hands over at once, and waits `DEFER` for
gossip to agree.

*In slices.* News may concern ten thousand addresses.  Each call decides at most `SLICE` of them; the others
wait for `tick`, which is due as long as any does, so that whoever drives this can serve others in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from speaker.orders import Orders, Vip
from speaker.reflex.agenda import Agenda, Queue
from speaker.reflex.effects import Announce, Answer, Ask, Effect, Happened, Silence, Yield
from speaker.reflex.ownership import Electorate, union
from speaker.reflex.probing import Probing
from speaker.reflex.strangers import Conflicts
from speaker.reflex.vip import NEVER, NOBODY, Address, Rival, State, View
from speaker.settings import ConflictPolicy

HANDOVER_TIMEOUT: Final = 1.0
"""Seconds a loser waits to hear its successor."""

JOIN_TIMEOUT: Final = 3.0
"""Seconds a starting speaker waits to reach another member before it answers for anything."""

RETURN_TIMEOUT: Final = JOIN_TIMEOUT + HANDOVER_TIMEOUT
"""Seconds a loser waits at most for a successor that has just come back."""
ASK_INTERVAL: Final = 0.25
"""Seconds between its questions who answers, after `HANDOVER_TIMEOUT`: the successor's announcements may all
have been lost, or it had no reason to announce."""

YIELD_QUIET: Final = 60.0
"""Seconds without the stranger until an address that was left to it is answered again."""

DEFER: Final = 3.0
"""Seconds after a better candidate was heard until it is believed to be away after all; its announcements
repeat more often than that."""

SLICE: Final = 32
"""Addresses decided in one go: with what follows from it (frames, tables) about a millisecond."""


@dataclass(frozen=True, slots=True)
class _News:
    """Why an address is to be decided anew."""

    why: str
    found: frozenset[str] = frozenset()
    """Members that came back."""


class Announcer:
    """The decisions of one speaker.

    `membership` False: there is no gossip, so every candidate counts as reachable and there is nobody to
    wait for.  `probe_time`: see `Probing`.
    """

    def __init__(
        self,
        me: str,
        *,
        membership: bool,
        policy: ConflictPolicy = ConflictPolicy.DEFEND,
        probe_time: float = 0.0,
    ) -> None:
        self.me = me
        self._electorate = Electorate(me, membership=membership)
        self._conflicts = Conflicts(policy)
        self._probing = Probing(probe_time)
        self._vips: dict[str, Address] = {}
        self._may_answer_at = float("inf") if membership else NEVER
        self._joined = not membership
        self._had_orders = False
        self._answering = 0
        self.decided = 0
        """Grows whenever an address is decided anew, be it that only its owner is another."""
        self._undecided: Queue[_News] = Queue()
        self._changes: Queue[tuple[Vip, ...]] = Queue()
        self._handovers = Agenda()
        self._deferred = Agenda()
        self._left = Agenda()
        """When those left to a stranger are looked at again."""

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
        changes = {address: tuple(found) for address, found in entries.items()}
        changes |= {address: () for address in self.addresses() if address not in entries}
        return self.change(changes, now)

    def change(
        self, changes: Mapping[str, tuple[Vip, ...]], now: float, *, more: bool = False
    ) -> list[Effect]:
        """What is different in the standing orders: all entries of an address, none when it is gone.

        `more`: the rest of these orders is still to come.
        """
        for address, entries in changes.items():
            if self.entries(address) != entries:
                self._changes.put(address, entries)
            if not self._had_orders:
                self._probing.note(address)
        self._had_orders = self._had_orders or not more
        return self._work(now)

    def members(
        self,
        reachable: AbstractSet[str],
        now: float,
        unable: Mapping[str, AbstractSet[int]] | None = None,
    ) -> list[Effect]:
        """See `Electorate.update`."""
        turn = self._electorate.update(reachable, unable or {})
        if not turn:
            return []
        news = _News(turn.why, frozenset(turn.found))
        self._redecide([vip.text for vip in self._vips.values() if turn.concerns(vip.owners)], news)
        return self._work(now)

    def heard(self, address: str, now: float, rival: Rival = NOBODY) -> list[Effect]:
        """Somebody else, by its hardware address, announced one of our VIPs, or what else `Rival` says."""
        effects: list[Effect] = []
        self._catch_up(address, now, effects)
        vip = self._vips.get(address)
        if vip is None or (rival.asks and (vip.state is not State.ASKING or not rival.stranger)):
            return effects
        if rival.stranger:
            vip.claimed_by, vip.claimed_at = rival.mac, now
            if vip.left_to_stranger:
                self._left.set(address, now + YIELD_QUIET)
        else:
            vip.heard_at, vip.heard_from = now, rival.speaker
        if vip.state is State.ASKING:
            self._found_in_use(vip, rival, now, effects)
        elif vip.state is State.YIELDING:
            if not rival.stranger:
                self._silence(vip, "handed_over", f"heard the successor {vip.owner}", effects)
        elif vip.state is State.OURS:
            if self._should_defer(vip, rival, now):
                self._defer(vip, rival, now, effects)
            else:
                self._conflicts.note(vip, rival, now)
        elif vip.deferred_to and vip.deferred_to == rival.speaker:
            self._deferred.set(address, now + DEFER)
        return effects

    def leave(self, now: float) -> list[Effect]:
        """We are about to go: hand over what somebody else can take, drop the rest."""
        self._electorate.leaving = True
        return self._decide_all(now, "leaving")

    def tick(self, now: float) -> list[Effect]:
        """Whatever is due.  Early and repeated calls change nothing."""
        if not self._joined and now >= self._may_answer_at:
            self._joined = True
            return self._decide_all(now, f"nobody was reached within {JOIN_TIMEOUT:g} s")
        effects = self._work(now)
        for address in self._handovers.due(now, SLICE):
            vip = self._vips[address]
            if now < vip.yields_until:
                effects.append(Ask(vip.text, vip.interfaces))
                self._handovers.set(vip.text, min(now + ASK_INTERVAL, vip.yields_until))
            else:
                why = f"waited in vain to hear {vip.owner}"
                self._silence(vip, "handed_over", why, effects)
        for address in self._deferred.due(now, SLICE):
            vip = self._vips[address]
            vip.deferred_to = ""
            self._decide(vip, now, "the better candidate is quiet, and gossip says that it is away", effects)
        for address in self._left.due(now, SLICE):
            vip = self._vips[address]
            vip.left_to_stranger = False
            vip.ask_first = self._probing.wanted
            self._decide(vip, now, "the other host is quiet", effects)
        for address in self._probing.due.due(now, SLICE):
            vip = self._vips[address]
            if not self._probing.ask(vip, now, effects):
                self._answer(vip, now, "nobody else has it", effects)
        for address in self._conflicts.due.due(now, SLICE):
            vip = self._vips[address]
            if self._conflicts.settle(vip, now, effects):
                self._leave_to_stranger(vip, now, effects)
        return effects

    def next_deadline(self) -> float:
        """When `tick` has something to do; infinity if never, in the past when it already has."""
        if self.busy:
            return NEVER
        agendas = (self._handovers, self._deferred, self._left, self._probing.due, self._conflicts.due)
        first = min(agenda.next() for agenda in agendas)
        return first if self._joined else min(first, self._may_answer_at)

    # ------------------------------------------------------------------------------------ what is known

    @property
    def may_answer(self) -> bool:
        """Joined, or waited long enough."""
        return self._joined

    @property
    def answering(self) -> bool:
        """Whether we answer for anything."""
        return self._answering > 0

    @property
    def changing(self) -> bool:
        """Whether some of the orders are not in force yet."""
        return bool(self._changes)

    @property
    def busy(self) -> bool:
        """Whether `tick` has addresses left to decide."""
        return bool(self._undecided or self._changes)

    def addresses(self) -> AbstractSet[str]:
        """All that are in the orders, or about to leave them."""
        return self._vips.keys() | self._changes.keys() if self._changes else self._vips.keys()

    def entries(self, address: str) -> tuple[Vip, ...]:
        """What the orders say about it; empty when it is not in them."""
        waiting = self._changes.get(address)
        if waiting is not None:
            return waiting
        vip = self._vips.get(address)
        return vip.entries if vip is not None else ()

    def owns(self, address: str) -> bool:
        vip = self._vips.get(address)
        return vip is not None and vip.state is State.OURS

    def view(self, address: str) -> View | None:
        vip = self._vips.get(address)
        if vip is None:
            return None
        conflicting = address in self._conflicts.due
        return View(
            address, vip.owner, vip.state, vip.interfaces, conflicting, vip.claimed_by, vip.claimed_at
        )

    # --------------------------------------------------------------------------------- work, in slices

    def _decide_all(self, now: float, why: str) -> list[Effect]:
        self._redecide(list(self._vips), _News(why))
        return self._work(now)

    def _redecide(self, addresses: Iterable[str], news: _News) -> None:
        if not self._undecided:
            self._undecided.put_all(addresses, news)
            return
        for address in addresses:
            before = self._undecided.get(address)
            found = before.found | news.found if before is not None else news.found
            self._undecided.put(address, news if found == news.found else _News(news.why, found))

    def _work(self, now: float) -> list[Effect]:
        """A slice: members' news first, for somebody may be without an answer."""
        effects: list[Effect] = []
        left = SLICE
        for address, news in self._undecided.take(left):
            left -= 1
            self._reconsider(self._vips[address], news, now, effects)
        for address, entries in self._changes.take(left):
            self._apply(address, entries, now, effects)
        return effects

    def _catch_up(self, address: str, now: float, effects: list[Effect]) -> None:
        """What waits for this address goes before what is heard about it."""
        if (news := self._undecided.pop(address)) is not None:
            self._reconsider(self._vips[address], news, now, effects)
        if (entries := self._changes.pop(address)) is not None:
            self._apply(address, entries, now, effects)

    def _reconsider(self, vip: Address, news: _News, now: float, effects: list[Effect]) -> None:
        was_ours = vip.state is State.OURS
        self._decide(vip, now, news.why, effects, news.found)
        if was_ours and vip.state is State.OURS and self._is_rival(vip, news.found):
            effects.append(Announce(vip.text, None))

    def _is_rival(self, vip: Address, found: AbstractSet[str]) -> bool:
        """Whether one that came back may have answered for it: it must hear us to stop, and so must its
        side.
        """
        return bool(found) and any(
            not found.isdisjoint(entry.candidates) for entry in vip.entries if self.me in entry.candidates
        )

    def _apply(self, address: str, entries: tuple[Vip, ...], now: float, effects: list[Effect]) -> None:
        vip = self._vips.get(address)
        if not entries:
            if vip is not None:
                self._drop(vip, effects)
            return
        if vip is None:
            vip = self._vips[address] = Address(address)
            vip.ask_first = self._probing.note(address) and self._joined and self._probing.wanted
        vip.entries = entries
        self._decide(vip, now, "orders", effects)
        if vip.state is not State.ASKING:
            vip.ask_first = False  # it was another's turn to ask; a take-over asks nobody

    # ---------------------------------------------------------------------------------------- decisions

    def _decide(
        self,
        vip: Address,
        now: float,
        why: str,
        effects: list[Effect],
        found: AbstractSet[str] = frozenset(),
    ) -> None:
        """`found`: members that came back with this news."""
        self.decided += 1
        vip.owners = tuple(self._electorate.owner(entry) for entry in vip.entries)
        ours = [entry for entry, owner in zip(vip.entries, vip.owners, strict=True) if owner == self.me]
        alone_and_leaving = self._electorate.leaving and not self._electorate.membership
        waits = vip.left_to_stranger or vip.deferred_to
        if ours and self._joined and not waits and not alone_and_leaving:
            self._gain(vip, ours, now, why, effects)
        else:
            if not ours:
                self._end_deferral(vip)
            self._lose(vip, now, why, effects, found)

    def _gain(self, vip: Address, ours: list[Vip], now: float, why: str, effects: list[Effect]) -> None:
        interfaces, before = union(entry.interfaces for entry in ours), vip.interfaces
        vip.interfaces = interfaces
        if vip.state is State.OURS:
            if before != interfaces:
                effects.append(Answer(vip.text, interfaces))
        elif vip.state is State.IDLE and vip.ask_first:
            vip.state = State.ASKING
            self._probing.begin(vip, now, effects)
        elif vip.state is not State.ASKING:
            self._answer(vip, now, why, effects)

    def _answer(self, vip: Address, now: float, why: str, effects: list[Effect]) -> None:
        vip.gained_at = now
        again = vip.state is State.YIELDING
        self._answering += not again
        self._handovers.drop(vip.text)
        self._probing.end(vip)
        vip.state = State.OURS
        effects.append(Answer(vip.text, vip.interfaces))
        if again:  # where we answered already nothing is new, yet others may have taken over meanwhile
            effects.append(Announce(vip.text, None))
        effects.append(Happened("took_over", vip.text, why))

    def _lose(
        self, vip: Address, now: float, why: str, effects: list[Effect], found: AbstractSet[str]
    ) -> None:
        successor = next((owner for owner in vip.owners if owner not in (None, self.me)), None)
        if vip.state is State.ASKING:
            self._forget(vip, effects)
        elif vip.state is State.YIELDING and successor is None:
            self._silence(vip, "withdrew", why, effects)
        elif vip.state is State.OURS:
            self._conflicts.forget(vip)
            can_wait = self._electorate.membership and not self._electorate.is_deaf(vip.entries)
            if successor is None or not can_wait:
                self._silence(vip, "withdrew", why, effects)
            elif self._has_heard(successor, vip, now) and not self._electorate.leaving:
                # Its announcement outran the news of its return.  When we leave it is another matter: whoever
                # announced meanwhile may have handed over to us again.
                self._silence(vip, "handed_over", f"heard the successor {vip.owner}", effects)
            else:
                vip.state = State.YIELDING
                vip.yields_until = now + (RETURN_TIMEOUT if successor in found else HANDOVER_TIMEOUT)
                self._handovers.set(vip.text, now + HANDOVER_TIMEOUT)
                effects.append(Yield(vip.text))

    def _has_heard(self, successor: str, vip: Address, now: float) -> bool:
        """Since the address became ours: what was heard before is a dead one's last word, and no return."""
        since = max(now - HANDOVER_TIMEOUT, vip.gained_at)
        return vip.heard_at > since and vip.heard_from in (None, successor)

    def _found_in_use(self, vip: Address, rival: Rival, now: float, effects: list[Effect]) -> None:
        """Asked for, and somebody has it: another speaker, whose orders came sooner, or a stranger."""
        if not rival.stranger:
            self._answer(vip, now, "another speaker has it", effects)
            if rival.speaker is None:
                self._conflicts.note(vip, rival, now)
            return
        how = "asks for it, too" if rival.asks else "has it already"
        told = f"a host that is no speaker, hardware address {rival.mac}, {how}"
        effects.append(Happened("conflict", vip.text, told, rival.mac))
        if self._conflicts.policy is ConflictPolicy.YIELD:
            self._leave_to_stranger(vip, now, effects)
        else:
            self._answer(vip, now, "against another host", effects)

    def _should_defer(self, vip: Address, rival: Rival, now: float) -> bool:
        """Whether another speaker comes before us wherever the address is ours.

        Not when it has only just become ours, by gossip's word: that may be the last word of one that left.
        """
        name, me = rival.speaker, self.me
        if not name or not self._electorate.membership:
            return False
        if name != vip.better and now - vip.gained_at < HANDOVER_TIMEOUT:
            return False
        return all(
            name in entry.candidates
            and entry.candidates.index(name) < entry.candidates.index(me)
            and self._electorate.is_able(name, entry)
            for entry, owner in zip(vip.entries, vip.owners, strict=True)
            if owner == me
        )

    def _defer(self, vip: Address, rival: Rival, now: float, effects: list[Effect]) -> None:
        assert rival.speaker
        vip.deferred_to = vip.better = rival.speaker
        self._deferred.set(vip.text, now + DEFER)
        self._silence(vip, "handed_over", f"heard {rival.speaker}, which comes first", effects)

    def _end_deferral(self, vip: Address) -> None:
        vip.deferred_to = vip.better = ""
        self._deferred.drop(vip.text)

    def _leave_to_stranger(self, vip: Address, now: float, effects: list[Effect]) -> None:
        vip.left_to_stranger = True
        self._left.set(vip.text, now + YIELD_QUIET)
        if vip.state is State.ASKING:
            self._forget(vip, effects)
        else:
            self._silence(vip, "withdrew", f"left to {vip.rival.mac}", effects)

    def _silence(self, vip: Address, what: str, why: str, effects: list[Effect]) -> None:
        self._answering -= 1
        self._forget(vip, effects)
        effects.append(Happened(what, vip.text, why))

    def _forget(self, vip: Address, effects: list[Effect]) -> None:
        vip.state, vip.interfaces = State.IDLE, None
        self._handovers.drop(vip.text)
        self._probing.end(vip)
        self._conflicts.forget(vip)
        effects.append(Silence(vip.text))

    def _drop(self, vip: Address, effects: list[Effect]) -> None:
        if vip.state.answering:
            self._silence(vip, "withdrew", "no longer in the standing orders", effects)
        elif vip.state is State.ASKING:
            self._forget(vip, effects)
        self.decided += 1
        self._left.drop(vip.text)
        self._deferred.drop(vip.text)
        self._undecided.pop(vip.text)
        del self._vips[vip.text]
