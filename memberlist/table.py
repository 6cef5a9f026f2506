"""Who is a member: SWIM's rules for alive, suspect and dead, and which of two stories is the newer.

Pure but for its own memory.  Every rule answers with what follows from it: news to spread, events to report,
and, when the news was about ourselves and wrong, a refutation.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from . import timing
from .config import MAX_MEMBERS, MAX_META, Config
from .entry import Entry, address_text
from .events import Conflict, Died, Joined, Left, MemberEvent, Node, Refuted, Suspected, Updated
from .messages import Alive, Dead, PushNodeState, State, Suspect
from .suspicion import Suspicion

MAX_INCARNATION: Final = 2**32 - 1
CONFLICT_INTERVAL: Final = 1.0
"""Seconds between two reports of the same conflict; gossip repeats it with every push/pull."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Queue for gossip; replaces older news about the same name."""

    name: str
    message: Alive | Suspect | Dead


@dataclass(frozen=True, slots=True)
class Refutation:
    """Somebody spoke ill of us: spread that we are alive, and wonder why they did."""

    message: Alive


@dataclass(frozen=True, slots=True)
class LastWord:
    """Tell the accused itself, which may have heard nothing of it: soon it will be dead."""

    member: Entry
    message: Suspect


Consequence: TypeAlias = Spread | Refutation | LastWord | MemberEvent


class Table:
    """All members by name, ourselves among them once `start` was called."""

    def __init__(
        self,
        config: Config,
        *,
        port: int,
        rng: random.Random,
        refuse_alive: Callable[[Node], str | None] | None = None,
    ) -> None:
        self._config, self._port, self._rng = config, port, rng
        self._refuse_alive = refuse_alive
        self.members: dict[str, Entry] = {}
        self._order: list[str] = []
        self._next = 0
        self._suspects: dict[str, Suspicion] = {}
        self.leaving = False
        self.generation = 0
        """Grows with every change of who is reachable."""
        self.population = 0
        """Grows with every new name."""

    # ------------------------------------------------------------------------------------- reading

    @property
    def me(self) -> Entry:
        return self.members[self._config.name]

    def others(self) -> Iterable[Entry]:
        mine = self._config.name
        return (member for member in self.members.values() if member.name != mine)

    def next_deadline(self) -> float:
        if not self._suspects:  # asked after every packet
            return float("inf")
        return min(suspicion.next_deadline() for suspicion in self._suspects.values())

    # ------------------------------------------------------------------------------------- the rules

    def start(self, addr: bytes, meta: bytes | None, now: float) -> list[Consequence]:
        """Become a member ourselves, incarnation 1."""
        message = Alive(1, self._config.name, addr, self._port, meta, self._config.vsn)
        return self.alive(message, now, ours=True)

    def update(self, meta: bytes | None, now: float) -> list[Consequence]:
        """Announce other metadata of our own."""
        me = self.me
        incarnation = min(me.incarnation + 1, MAX_INCARNATION)
        message = Alive(incarnation, me.name, me.addr, me.port, meta, me.vsn)
        return self.alive(message, now, ours=True)

    def alive(self, message: Alive, now: float, *, ours: bool = False) -> list[Consequence]:
        """`ours` marks what we say about ourselves, as opposed to what we hear about ourselves."""
        mine = message.node == self._config.name
        if mine and self.leaving:
            return []
        if not _acceptable(message) or not message.node:
            return []
        if message.port == 0:
            message = _with_port(message, self._port)
        member = self.members.get(message.node)
        same_place = member is not None and (member.addr, member.port) == (message.addr, message.port)
        if member is not None and same_place and not mine and message.incarnation <= member.incarnation:
            return []  # most of what gossip brings; decided before anything is built
        candidate = _member(message, now)
        if self._refuse_alive is not None and self._refuse_alive(candidate.node()) is not None:
            return []
        moved = False
        if member is None:
            if not self._allowed(message.addr) or len(self.members) >= MAX_MEMBERS:
                return []
            if message.incarnation == 0:
                return []  # upstream keeps a phantom here: listed, dead, and never announced
            member = candidate
            member.state, member.incarnation = State.DEAD, 0
            self._insert(member)
        elif not same_place:
            if not self._allowed(message.addr):
                return []
            reclaim = self._config.dead_node_reclaim_time
            moved = member.state is State.LEFT or (
                member.state is State.DEAD and reclaim > 0 and now - member.changed_at > reclaim
            )
            if not moved:
                return _conflict(member, message, now)
        if not mine and not moved and message.incarnation <= member.incarnation:
            return []
        if mine and not ours and message.incarnation < member.incarnation:
            return []
        self._clear_suspicion(member)
        if mine and not ours:
            if message.incarnation == member.incarnation and (message.meta, message.vsn) == (
                member.meta,
                member.vsn,
            ):
                return []
            return self._refute(message.incarnation)
        return self._take_over(member, message, now)

    def suspect(self, message: Suspect, now: float) -> list[Consequence]:
        member = self.members.get(message.node)
        if member is None or message.incarnation < member.incarnation:
            return []
        if member.suspicion is not None:
            if member.suspicion.confirm(message.sender, now):
                return [Spread(message.node, message)]
            return []
        if member.state is not State.ALIVE:
            return []
        if message.node == self._config.name:
            return [] if self.leaving else self._refute(message.incarnation)
        member.incarnation, member.state, member.changed_at = message.incarnation, State.SUSPECT, now
        member.suspicion = self._suspicion(message.sender, now)
        self._suspects[member.name] = member.suspicion
        return [Spread(message.node, message), Suspected(member.node(), message.sender)]

    def dead(self, message: Dead, now: float) -> list[Consequence]:
        """Also a leave, when the sender is the member itself."""
        member = self.members.get(message.node)
        if member is None or message.incarnation < member.incarnation:
            return []
        self._clear_suspicion(member)
        if member.gone:
            return []
        if message.node == self._config.name and not self.leaving:
            return self._refute(message.incarnation)
        member.incarnation, member.changed_at = message.incarnation, now
        member.state = State.LEFT if message.sender == message.node else State.DEAD
        member.unreachable = False
        self.generation += 1
        event = Left(member.node()) if member.state is State.LEFT else Died(member.node())
        return [Spread(message.node, message), event]

    def leave(self, now: float) -> list[Consequence]:
        """Say goodbye; from here on whatever is said about us is ignored."""
        self.leaving = True
        return self.dead(Dead(self.me.incarnation, self._config.name, self._config.name), now)

    def merge(self, state: PushNodeState, now: float) -> list[Consequence]:
        """One entry of somebody's list.  What they hold for dead we only suspect, so that it may refute."""
        match state.state:
            case State.ALIVE:
                return self.alive(
                    Alive(state.incarnation, state.name, state.addr, state.port, state.meta, state.vsn), now
                )
            case State.LEFT:
                return self.dead(Dead(state.incarnation, state.name, state.name), now)
            case State.DEAD | State.SUSPECT:
                return self.suspect(Suspect(state.incarnation, state.name, self._config.name), now)
        return []

    def tick(self, now: float) -> list[Consequence]:
        """Suspects whose time is nearly up are warned; those whose time is up are dead."""
        due = [(name, one) for name, one in self._suspects.items() if one.next_deadline() <= now]
        told: list[Consequence] = []
        for name, suspicion in due:
            member, me = self.members[name], self._config.name
            if suspicion.warn(now):
                told.append(LastWord(member, Suspect(member.incarnation, name, me)))
            else:
                told += self.dead(Dead(member.incarnation, name, me), now)
        return told

    def delay_suspicions(self, seconds: float) -> None:
        """We did not run for so long, and heard no refutation either: nobody's time may have passed."""
        for suspicion in self._suspects.values():
            suspicion.delay(seconds)

    # ------------------------------------------------------------------------------- choosing members

    def next_to_probe(self, now: float) -> Entry | None:
        """Round robin in random order; at the end of a round the long dead are forgotten and all shuffled.

        One round is walked whole, so that a member is found whenever there is one to probe.  (Upstream counts
        the turn of the list as a member, and in a cluster of two every other probe is lost.)
        """
        for _ in range(2):
            while self._next < len(self._order):
                member = self.members[self._order[self._next]]
                self._next += 1
                if member.name != self._config.name and not member.gone:
                    return member
            self._reap(now)
            self._rng.shuffle(self._order)
            self._next = 0
        return None

    def sample(self, count: int, eligible: Callable[[Entry], bool]) -> list[Entry]:
        """Up to `count` different members other than ourselves."""
        chosen = [member for member in self.others() if eligible(member)]
        return chosen if len(chosen) <= count else self._rng.sample(chosen, count)

    # -------------------------------------------------------------------------------------- innards

    def _take_over(self, member: Entry, message: Alive, now: float) -> list[Consequence]:
        before, meta, address = member.state, member.meta, member.to
        if message.vsn:
            member.vsn = message.vsn
        member.incarnation, member.meta = message.incarnation, message.meta
        member.move(message.addr, message.port)
        if before is not State.ALIVE:
            member.state, member.changed_at = State.ALIVE, now
        told: list[Consequence] = [Spread(message.node, message)]
        if before in (State.DEAD, State.LEFT):
            member.unreachable = False
            self.generation += 1
            told.append(Joined(member.node()))
        elif before is State.SUSPECT:
            told.append(Refuted(member.node()))
        if before in (State.ALIVE, State.SUSPECT) and (meta, address) != (message.meta, member.to):
            told.append(Updated(member.node()))
        return told

    def _refute(self, accused: int) -> list[Consequence]:
        # 32 bits on the wire.  Upstream lets it wrap to 0, older than any story; ours stays at the end.
        me = self.me
        me.incarnation = min(max(me.incarnation, accused) + 1, MAX_INCARNATION)
        return [Refutation(me.alive())]

    def _suspicion(self, accuser: str, now: float) -> Suspicion:
        config, count = self._config, len(self.members)
        interval = config.probe_interval or 1.0
        shortest = timing.suspicion_timeout(count, mult=config.suspicion_mult, probe_interval=interval)
        return Suspicion(
            accuser,
            wanted=timing.confirmations_wanted(count, mult=config.suspicion_mult),
            shortest=shortest,
            longest=shortest * config.suspicion_max_timeout_mult,
            now=now,
            notice=min(config.probe_timeout, shortest),
        )

    def _clear_suspicion(self, member: Entry) -> None:
        if member.suspicion is not None:
            member.suspicion = None
            del self._suspects[member.name]

    def _insert(self, member: Entry) -> None:
        self.members[member.name] = member
        self.population += 1
        place = self._rng.randint(0, len(self._order))
        self._order.insert(place, member.name)
        if place < self._next:
            self._next += 1

    def _reap(self, now: float) -> None:
        patience = self._config.gossip_to_the_dead_time
        old = [m.name for m in self.others() if m.gone and now - m.changed_at > patience]
        for name in old:
            del self.members[name]
            self._order.remove(name)

    def _allowed(self, addr: bytes) -> bool:
        networks = self._config.cidrs_allowed
        if not networks:
            return True
        address = ipaddress.ip_address(address_text(addr))
        return any(address in network for network in networks)


def _acceptable(message: Alive) -> bool:
    if len(message.addr) not in (4, 16) or len(message.meta or b"") > MAX_META:
        return False
    if not message.vsn:
        return True
    if len(message.vsn) < 6:  # upstream needs 3 and crashes on fewer
        return False
    low, high = message.vsn[0], message.vsn[1]
    return 0 < low <= high


def _with_port(message: Alive, port: int) -> Alive:
    return Alive(message.incarnation, message.node, message.addr, port, message.meta, message.vsn)


def _member(message: Alive, now: float) -> Entry:
    return Entry(
        name=message.node,
        addr=message.addr,
        port=message.port,
        meta=message.meta,
        vsn=message.vsn,
        incarnation=message.incarnation,
        state=State.ALIVE,
        changed_at=now,
    )


def _conflict(member: Entry, message: Alive, now: float) -> list[Consequence]:
    addr, port, at = member.conflict
    if (addr, port) == (message.addr, message.port) and now - at < CONFLICT_INTERVAL:
        return []
    member.conflict = (message.addr, message.port, now)
    return [Conflict(member.node(), address_text(message.addr), message.port)]
