"""Announcers to play with: one alone, or several on an imagined wire in virtual time."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from speaker.orders import Orders, Vip
from speaker.reflex.announce import Announcer
from speaker.reflex.effects import Announce, Answer, Effect, Happened, Silence, Yield
from speaker.reflex.l2.gratuitous import ROUNDS, Schedule
from speaker.reflex.vip import Rival, State

VIP = "192.0.2.1"
MAC = "02:00:00:00:00:99"
STRANGER, PEER, UNKNOWN = Rival(MAC, ""), Rival(MAC, "b"), Rival(MAC, None)


def orders(*candidates: str, interfaces: tuple[str, ...] | None = None, generation: int = 1) -> Orders:
    return Orders(generation, (Vip(VIP, ("ns/svc",), candidates, interfaces),))


def member(me: str = "a", *candidates: str, others: Iterable[str] = (), now: float = 0.0) -> Announcer:
    """Joined, with these orders, in a cluster of these others."""
    announcer = Announcer(me, membership=True)
    announcer.open(now)
    announcer.members(set(others), now)
    announcer.joined(now)
    announcer.orders(orders(*(candidates or (me,))), now)
    return announcer


def acts(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Happened)]


def state(announcer: Announcer) -> State:
    view = announcer.view(VIP)
    assert view is not None
    return view.state


@dataclass
class Speaker:
    announcer: Announcer
    alive: bool = True
    answering: bool = False
    announcements: Schedule[str] = field(default_factory=Schedule)
    left: bool = False
    """It has told everybody that it goes."""
    missed: int = 0
    """Announcements of others that wait in the socket of one that is frozen."""


class Wire:
    """Announcers of one VIP on a LAN in virtual time; who hears whom is up to the test.  News of members
    takes a while, different for each.
    """

    def __init__(self, seed: int, names: str) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.groups = [set(names)]
        self.speakers = {name: Speaker(Announcer(name, membership=True)) for name in names}
        self.news: list[tuple[float, str]] = []
        self.last_heard: dict[str, str] = {}
        """Whom each believes to have the VIP: a switch or a neighbour beside it."""
        self.names = names
        self.last = ""
        """Who announced last."""
        for name in names:
            self.join(name)

    def join(self, name: str) -> None:
        announcer = self.speakers[name].announcer
        announcer.open(self.now)
        announcer.members(set(self.names), self.now)
        announcer.joined(self.now)
        self.perform(name, announcer.orders(orders(*self.names), self.now))

    def side(self, name: str) -> set[str]:
        return next(group for group in self.groups if name in group)

    def perform(self, name: str, effects: list[Effect]) -> None:
        speaker = self.speakers[name]
        for effect in effects:
            match effect:
                case Answer():
                    if not speaker.answering:
                        speaker.announcements.start(VIP, self.now)
                    speaker.answering = True
                case Yield():
                    speaker.announcements.stop(VIP)
                case Silence():
                    speaker.answering = False
                    speaker.announcements.stop(VIP)
                case Announce(_, rounds):
                    speaker.announcements.start(VIP, self.now, rounds or ROUNDS)

    def cut(self, *groups: set[str]) -> None:
        self.groups = list(groups)
        self.spread()

    def kill(self, name: str) -> None:
        self.speakers[name].alive = self.speakers[name].answering = False
        self.spread()

    def revive(self, name: str) -> None:
        """A new process in the place of a dead one."""
        self.speakers[name] = Speaker(Announcer(name, membership=True))
        self.join(name)
        self.spread()

    def stop(self, name: str) -> None:
        """SIGTERM: it hands over, and tells everybody that it goes."""
        self.perform(name, self.speakers[name].announcer.leave(self.now))
        self.speakers[name].left = True
        self.spread()
        self.news = [(at, other) for at, other in self.news if other != name]

    def freeze(self, name: str) -> None:
        self.kill(name)

    def thaw(self, name: str) -> None:
        """It goes on where it was, and reads what has come meanwhile."""
        speaker = self.speakers[name]
        speaker.alive = True
        speaker.answering = speaker.announcer.answering
        for _ in range(speaker.missed):
            self.perform(name, speaker.announcer.heard(VIP, self.now, Rival(self.last, self.last)))
        speaker.missed = 0
        self.spread()

    def spread(self) -> None:
        self.news = [(self.now + self.rng.uniform(0.0, 1.0), name) for name in self.speakers]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            for due, name in list(self.news):
                if due <= self.now:
                    self.news.remove((due, name))
                    alive = {
                        other
                        for other in self.side(name)
                        if self.speakers[other].alive and not self.speakers[other].left
                    }
                    self.perform(name, self.speakers[name].announcer.members(alive, self.now))
            for name, speaker in self.speakers.items():
                if not speaker.alive:
                    continue
                if speaker.announcer.next_deadline() <= self.now:
                    self.perform(name, speaker.announcer.tick(self.now))
                if speaker.announcements.due(self.now, 1):
                    for other in self.side(name):
                        self.last_heard[other] = self.last = name
                        self.speakers[other].missed += not self.speakers[other].alive
                        if other != name and self.speakers[other].alive:
                            hearer = self.speakers[other].announcer
                            self.perform(other, hearer.heard(VIP, self.now, Rival(name, name)))

    def answering(self, group: Iterable[str]) -> list[str]:
        return [name for name in sorted(group) if self.speakers[name].answering]
