"""Whole speakers but for their sockets: each node's core of gossip and its announcer, on one imagined LAN in
virtual time.  The same seed is the same history.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from memberlist import Node
from memberlist.config import Address
from memberlist.effects import Effect as GossipEffect
from memberlist.effects import Notify
from memberlist.messages import PushPull, StreamMessage
from memberlist.testing import Host, Simulation
from speaker.orders import Orders, Vip
from speaker.reflex import member
from speaker.reflex.announce import Announcer
from speaker.reflex.effects import Announce, Answer, Ask, Effect, Silence, Yield
from speaker.reflex.l2.gratuitous import ROUNDS, Schedule
from speaker.reflex.vip import Rival

SYN_TIMEOUT: Final = 1.0
"""Seconds until Linux repeats a SYN, the first time; then it doubles."""
RETRANSMIT: Final = 0.2
"""The same for what follows on a LAN."""
SEGMENTS: Final = 4
"""Of an exchange of two lists."""


@dataclass(eq=False)
class Speaker:
    """One process."""

    host: Host
    announcer: Announcer
    reached: bool = False
    answering: set[str] = field(default_factory=set)
    announcements: Schedule[str] = field(default_factory=Schedule)
    frames: list[tuple[str, str]] = field(default_factory=list)
    """Announcements, and whose, that wait for a process that stands still."""
    wake_at: float = float("inf")


class Lan(Simulation):
    """Every node is a candidate for every VIP; `orders` says in which order."""

    def __init__(self, *, seed: int, size: int, vips: int, **settings: Any) -> None:
        self.speakers: dict[str, Speaker] = {}
        self.outages: list[tuple[str, float, float]] = []
        """VIP, since when nobody answered for it, until when."""
        self.streams_take = 0.0
        """Seconds more for an exchange over TCP."""
        self._silent: dict[str, float] = {}
        self._loaded: set[str] = set()
        self._chance = random.Random(f"lan {seed}")
        self._names = [f"n{number}" for number in range(size)]
        addresses = [f"192.0.2.{number}" for number in range(1, vips + 1)]
        self.orders = Orders(
            1,
            tuple(
                Vip(vip, ("ns/svc",), tuple(self._chance.sample(self._names, size)), None)
                for vip in addresses
            ),
        )
        super().__init__(seed=seed, size=size, watch=True, **settings)
        for speaker in self.speakers.values():
            self._reach(speaker)

    def start(self, name: str, address: str | None = None, **settings: Any) -> Host:
        host = super().start(name, address, **settings)
        speaker = self.speakers[name] = Speaker(host, Announcer(name, membership=True))
        self._act(speaker, speaker.announcer.orders(self.orders, self.now))
        speaker.announcer.open(self.now)
        self._view(speaker)
        if self.now:
            self._keep_joined(speaker, member.JOIN_RETRY_MIN)
        self._keep_knocking(speaker)
        return host

    def crash(self, name: str) -> None:
        super().crash(name)
        self._look()

    def load(self, name: str, pause: Callable[[], float], work: Callable[[], float]) -> None:
        """Others take the processor: `pause` seconds after each `work`, until `relieve`."""
        self._loaded.add(name)

        def take() -> None:
            if name in self._loaded:
                stands = pause()
                self.freeze(name, stands)
                self.at(stands + work(), take)

        self.at(work(), take)

    def relieve(self) -> None:
        self._loaded.clear()

    # ------------------------------------------------------------------------------ what is observed

    def answering(self, vip: str) -> list[str]:
        return [name for name, one in self.speakers.items() if one.host.running and vip in one.answering]

    def _look(self) -> None:
        for entry in self.orders.vips:
            if self.answering(entry.address):
                since = self._silent.pop(entry.address, None)
                if since is not None and self.now > since:
                    self.outages.append((entry.address, since, self.now))
            else:
                self._silent.setdefault(entry.address, self.now)

    # ----------------------------------------------------------------------------- the reflex's part

    def _perform(self, host: Host, effects: Sequence[GossipEffect]) -> None:
        super()._perform(host, effects)
        speaker = self.speakers.get(host.name)
        if speaker is None or speaker.host is not host:
            return
        if any(isinstance(effect, Notify) for effect in effects):
            self._view(speaker)
            if not speaker.reached and any(
                n.reachable and n.name != host.name for n in self._members(speaker)
            ):
                self._reach(speaker)

    def _members(self, speaker: Speaker) -> tuple[Node, ...]:
        return speaker.host.core.members()

    def _view(self, speaker: Speaker) -> None:
        reachable = {node.name for node in speaker.host.core.nodes() if node.reachable}
        self._act(speaker, speaker.announcer.members(reachable, self.now))

    def _reach(self, speaker: Speaker) -> None:
        if not speaker.reached:
            speaker.reached = True
            self._act(speaker, speaker.announcer.joined(self.now))

    def _act(self, speaker: Speaker, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Answer(vip):
                    if vip not in speaker.answering:
                        speaker.announcements.start(vip, self.now)
                    speaker.answering.add(vip)
                case Yield(vip):
                    speaker.announcements.stop(vip)
                case Silence(vip):
                    speaker.answering.discard(vip)
                    speaker.announcements.stop(vip)
                case Ask(vip):
                    self._ask(speaker, vip)
                case Announce(vip, rounds):
                    speaker.announcements.start(vip, self.now, rounds or ROUNDS)
        self._announce(speaker)
        self._look()
        self._arm(speaker)

    def _announce(self, speaker: Speaker) -> None:
        sender = speaker.host.name
        for vip in speaker.announcements.due(self.now, 64):
            for name in self._names:
                lost = self._chance.random() < self.network.loss
                if name != sender and not lost and (sender, name) not in self.network.cut:
                    self._at(self.now + self._delay(), partial(self._frame, name, vip, sender))

    def _ask(self, speaker: Speaker, vip: str) -> None:
        """Those who answer for it do so, and the asker hears them."""
        asker = speaker.host.name
        for name, other in self.speakers.items():
            heard = self._chance.random() >= self.network.loss and self._chance.random() >= self.network.loss
            cut = {(asker, name), (name, asker)} & self.network.cut
            awake = other.host.running and self.now >= other.host.frozen_until
            if other is not speaker and vip in other.answering and awake and heard and not cut:
                self._at(self.now + self._delay(), partial(self._frame, asker, vip, name))

    def _frame(self, name: str, vip: str, sender: str) -> None:
        speaker = self.speakers[name]
        if not speaker.host.running:
            return
        if self.now < speaker.host.frozen_until:
            speaker.frames.append((vip, sender))
            self._arm(speaker)
            return
        self._act(speaker, speaker.announcer.heard(vip, self.now, Rival(sender, sender)))

    def _arm(self, speaker: Speaker) -> None:
        due_at = min(speaker.announcer.next_deadline(), speaker.announcements.next_deadline())
        if speaker.frames:
            due_at = self.now
        at = max(due_at, self.now, speaker.host.frozen_until)
        if at < speaker.wake_at:
            speaker.wake_at = at
            self._at(at, lambda: self._turn(speaker))

    def _turn(self, speaker: Speaker) -> None:
        speaker.wake_at = float("inf")
        if not speaker.host.running:
            return
        if self.now >= speaker.host.frozen_until:
            frames, speaker.frames = speaker.frames, []
            for vip, sender in frames:
                self._act(speaker, speaker.announcer.heard(vip, self.now, Rival(sender, sender)))
            self._act(speaker, speaker.announcer.tick(self.now))
        self._arm(speaker)

    # ----------------------------------------------------------------- finding others, as member.py does

    def _keep_joined(self, speaker: Speaker, retry: float) -> None:
        if not speaker.host.running or speaker.reached:
            return
        for name in self._strangers(speaker):
            self._join(speaker, name)
        self.at(retry, lambda: self._keep_joined(speaker, min(2 * retry, member.JOIN_RETRY_MAX)))

    def _keep_knocking(self, speaker: Speaker) -> None:
        if not speaker.host.running:
            return
        if speaker.reached and self.now >= speaker.host.frozen_until:
            members = len(self._members(speaker))
            for name in member.knocked(self._strangers(speaker), members, self._chance):
                self._join(speaker, name)
        self.at(self._chance.uniform(0.8, 1.2) * member.KNOCK_PAUSE, lambda: self._keep_knocking(speaker))

    def _strangers(self, speaker: Speaker) -> list[str]:
        known = {node.name for node in self._members(speaker)}
        return [name for name in self._names if name not in known]

    def _join(self, speaker: Speaker, name: str) -> None:
        def dial() -> None:
            if speaker.host.running:
                self._push_pull(speaker.host, self.hosts[name].address, join=True)

        self._at(max(self.now, speaker.host.frozen_until), dial)

    def _exchange(
        self,
        host: Host,
        to: Address,
        request: StreamMessage,
        answered: Callable[[StreamMessage | None], None],
    ) -> None:
        def told(answer: StreamMessage | None) -> None:
            answered(answer)
            speaker = self.speakers[host.name]
            if isinstance(request, PushPull) and request.join and answer is not None and speaker.host is host:
                self._reach(speaker)

        plain = super()._exchange
        self._at(self.now + self._repeats(), lambda: plain(host, to, request, told))

    def _repeats(self) -> float:
        """What the losses of a TCP exchange cost."""
        loss, late, timeout = self.network.loss, self.streams_take, SYN_TIMEOUT
        while self._chance.random() < loss:
            late, timeout = late + timeout, 2 * timeout
        for _ in range(SEGMENTS):
            late += RETRANSMIT if self._chance.random() < loss else 0.0
        return late
