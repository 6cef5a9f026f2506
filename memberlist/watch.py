"""The watchers: who is unreachable, known in constant time whatever the cluster's size.

For each member the first W reachable others in rendezvous order watch it with ordinary pings.  One that
leaves a ping unanswered is pinged faster; after a few more it is in *doubt*, and others are asked to ping it
too.  Still silent at the end of that, it is *accused*: an ordinary suspect message goes to all directly.
Whoever holds accusations by at least half of a member's watchers takes it for unreachable.

A watcher that cannot show that its own packets come and go keeps its accusation to itself; one that hears
nobody at all knows that it is alone.  README, Watchers, has the times and the odds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from . import codec
from .config import Config
from .effects import Effect, Notify, SendPacket
from .entry import Entry
from .events import Reachable, Unreachable
from .messages import IndirectPing, Ping, State, Suspect
from .rendezvous import Rendezvous
from .table import Table
from .target import MISSED, Target

SPARE: Final = 1.15
"""A member that pings us need not be pinged before its next ping should have come; this is when."""
MAX_SPARED: Final = 4
"""Own pings left out in a row: one that sends but does not receive must be found out too."""
TOGETHER: Final = 0.2
"""Pings due so soon go now, with one that is due or after a packet that woke us: one awakening for all."""
FOLLOWING: Final = 1.05
"""Having pinged because a packet came, we wait a little longer than its sender, who will come again after one
interval.  So the rhythms of watchers fall in step, and stay."""
RETARGET_AFTER: Final = 0.25
"""A change of members settles for so long before we look again whom to watch."""
NEVER: Final = float("inf")

TELL_AGAIN: Final[tuple[float, ...]] = (1.0, 2.0, 4.0)
"""Intervals after which an accusation is repeated, against loss."""
TELL_INTERVAL: Final = 1.0
"""Seconds between later repetitions, for members that came since."""

ALONE_ROUNDS: Final = 3
"""Doubts in a row without a sound from anybody after which it is we who are cut off."""
VOTE_LIFETIME: Final = 2.5
"""Seconds an accusation counts; its author repeats it while it stands."""
MAX_VOTES: Final = 64
"""Accusers kept for one member."""
MAX_UNANSWERED: Final = 64
"""Pings remembered for one target."""


class Watch:
    """Our part as a watcher, and our opinion formed from all watchers' accusations."""

    def __init__(
        self,
        config: Config,
        table: Table,
        *,
        next_seq: Callable[[], int],
        accuse: Callable[[Suspect, float], list[Effect]],
        rng: random.Random,
        now: float,
    ) -> None:
        """`accuse` makes our own new accusation SWIM's news too."""
        self._config, self._table, self._rng = config, table, rng
        self._next_seq, self._accuse_too = next_seq, accuse
        self._name, self._interval = config.name, config.watch_interval
        self._due_at: float | None = None
        self._retarget_at = NEVER
        self._targets: dict[str, Target] = {}
        self._waiting: dict[int, Target] = {}
        self._checks: dict[int, float] = {}
        self._votes: dict[str, dict[str, tuple[int, float]]] = {}
        self._order = Rendezvous(config.name, config.watchers)
        self._generation = -1
        self._heard_at = now
        self._proved_at = now
        self._lonely: set[str] = set()
        self.alone = False
        """We hear nobody: to us, everybody else is unreachable."""

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self._targets)

    def opinions(self) -> dict[str, bool]:
        """By target: whether we accuse it."""
        return {name: target.accused for name, target in self._targets.items()}

    def next_deadline(self) -> float:
        if self._due_at is None:
            self._due_at = self._next_deadline()
        return self._due_at

    def _next_deadline(self) -> float:
        at = self._retarget_at
        for target in self._targets.values():
            if target.ping_at < at:
                at = target.ping_at
            if target.silent_since is not None:
                due_at = target.tell_at if target.accused else target.worried_at(self._interval)
                if due_at < at:
                    at = due_at
        return at

    def notice(self, now: float) -> None:
        """To be called after whatever may have changed who is a member."""
        if self._generation != self._table.generation and self._retarget_at == NEVER:
            self._retarget_at = now + RETARGET_AFTER * self._interval
            self._due_at = None

    def tick(self, now: float) -> list[Effect]:
        """Do whatever is due."""
        self._due_at = None
        effects: list[Effect] = []
        if now >= self._retarget_at:
            self._retarget_at = NEVER
            self._generation = self._table.generation
            self._retarget(now)
            effects += self._verdicts(now)
        horizon = now
        for target in self._targets.values():
            if target.ping_at <= now:
                horizon = now + TOGETHER * self._interval
                break
        for target in tuple(self._targets.values()):
            silent = target.silent_since is not None
            if target.ping_at <= horizon or (
                silent and not target.accused and now >= target.urgent_at(self._interval)
            ):
                effects.append(self._ping(target, now))
                target.ping_at = now + self._interval
            if not silent:
                continue
            if target.accused:
                if now >= target.tell_at:
                    effects += self._tell(target, now)
            elif now < target.verdict_at(self._interval):
                continue
            elif target.doubted_at is None:
                target.doubted_at = now
                effects += self._doubt(target, now)
                effects += self._verdicts(now)
            else:
                if target.missed >= MISSED and self._sound(target):
                    effects += self._accuse(target, now)
                    effects += self._verdicts(now)
                else:
                    target.rounds += 1
                    effects += self._doubt(target, now)
                    if target.rounds >= ALONE_ROUNDS and self._heard_at < target.doubted_at:
                        effects += self._be_alone()
        return effects

    # ------------------------------------------------------------------------------ what comes in

    def accompany(self, now: float) -> list[Effect]:
        """We are awake anyway, to read something: what would be due soon is done now.

        What is overdue is not: whoever is that late judges first how late it is.
        """
        early = now + TOGETHER * self._interval
        effects: list[Effect] = []
        if self.next_deadline() > early:
            return effects
        for target in self._targets.values():
            if now <= target.ping_at <= early:
                effects.append(self._ping(target, now))
                target.ping_at = now + FOLLOWING * self._interval
                self._due_at = None
        return effects

    def heard(self, now: float) -> list[Effect]:
        """A packet came from somebody."""
        self._heard_at = now
        if not self.alone:
            return []
        self.alone = False
        lonely, self._lonely = self._lonely, set()
        return [effect for name in sorted(lonely) for effect in self._trust_again(name)]

    def acked(self, seq_no: int, now: float) -> list[Effect] | None:
        """None when the answer belongs to no ping of ours."""
        target = self._waiting.pop(seq_no, None)
        if target is None:
            sent_at = self._checks.pop(seq_no, None)
            if sent_at is None:
                return None
            if sent_at > self._proved_at:
                self._proved_at = sent_at
            return []
        self._due_at = None
        sent_at = target.unanswered.pop(seq_no)
        if sent_at > self._proved_at:
            self._proved_at = sent_at
        target.sample(now - sent_at)
        target.answered = True
        if target.unanswered:
            for older in [seq for seq, at in target.unanswered.items() if at <= sent_at]:
                self._forget(target, older)
        accused = target.accused
        target.trust(now)
        if not accused:
            return []
        name = target.member.name
        if (votes := self._votes.get(name)) is not None:
            votes.pop(self._config.name, None)
        return self._trust_again(name)

    def pinged(self, by: str, now: float) -> None:
        """It pinged us, so our own ping can wait.  No answer to one that is under way, though."""
        target = self._targets.get(by)
        if target is not None and target.silent_since is None and target.spared < MAX_SPARED:
            target.spared += 1
            target.ping_at = max(target.ping_at, now + SPARE * self._interval)
            self._due_at = None

    def accused(self, message: Suspect, now: float) -> list[Effect]:
        """Somebody suspects somebody, in SWIM's terms or a watcher's: to us, a vote."""
        member = self._table.members.get(message.node)
        if (
            member is None
            or member.gone
            or message.node == self._config.name
            or message.incarnation < member.incarnation
            or message.sender not in self._table.members
        ):
            return []
        votes = self._votes.setdefault(message.node, {})
        votes.pop(message.sender, None)
        votes[message.sender] = (message.incarnation, now)
        if len(votes) > MAX_VOTES:
            del votes[next(iter(votes))]
        return self._verdicts(now)

    def refuted(self, name: str, now: float) -> list[Effect]:
        """It announced itself alive with a higher incarnation: every older accusation is void."""
        self._votes.pop(name, None)
        target = self._targets.get(name)
        if target is not None and target.silent_since is not None:
            for seq_no in tuple(target.unanswered):
                self._forget(target, seq_no)
            target.trust(now)
            self._due_at = None
        return self._trust_again(name)

    def delay(self, seconds: float, now: float) -> None:
        """We did not run for so long: the others' time did not pass either."""
        self._due_at = None
        # All that is compared moves together, or what proves us sound before a pause would not after it.
        self._heard_at = min(self._heard_at + seconds, now)
        self._proved_at += seconds
        self._checks = {seq_no: at + seconds for seq_no, at in self._checks.items()}
        for target in self._targets.values():
            target.delay(seconds)

    # ------------------------------------------------------------------------- watching one target

    def _ping(self, target: Target, now: float) -> SendPacket:
        member = target.member
        ping = self._new_ping(member)
        self._remember(target, ping.seq_no, now)
        target.pinged_at = now
        target.missed += 1
        target.spared = 0
        if target.accused or member.state is State.SUSPECT:
            # Like SWIM's own probe of a suspect: the answer and the refutation come back together.
            return SendPacket(member.to, (ping, self._accusation(target)))
        return SendPacket(member.to, (ping,))

    def _doubt(self, target: Target, now: float) -> list[Effect]:
        """Ask others to try, and at once whether those others hear us at all."""
        length = target.doubt_length(self._interval, now)
        target.judged_at = now + length
        member, me = target.member, self._table.me
        self._checks = {seq: at for seq, at in self._checks.items() if now - at < 2 * length}
        effects: list[Effect] = []
        for helper in self._table.sample(
            max(1, self._config.indirect_checks), lambda one: one.reachable and one is not member
        ):
            check = self._new_ping(helper)
            self._checks[check.seq_no] = now
            ask = IndirectPing(
                seq_no=self._next_seq(),
                target=member.addr,
                port=member.port,
                node=member.name,
                nack=False,
                source_addr=me.addr,
                source_port=me.port,
                source_node=me.name,
            )
            self._remember(target, ask.seq_no, now)
            effects.append(SendPacket(helper.to, (check, ask)))
        return effects

    def _sound(self, target: Target) -> bool:
        """Whether our word is worth something: somebody answered us since the doubt began, or there is nobody
        else who could."""
        assert target.doubted_at is not None
        if self._proved_at >= target.doubted_at:
            return True
        return not any(member.reachable for member in self._table.others() if member is not target.member)

    def _accuse(self, target: Target, now: float) -> list[Effect]:
        target.accused, target.accused_at = True, now
        target.told = 0
        told = self._tell(target, now)
        return told + self._accuse_too(self._accusation(target), now)

    def _accusation(self, target: Target) -> Suspect:
        return Suspect(target.member.incarnation, target.member.name, self._config.name)

    def _tell(self, target: Target, now: float) -> list[Effect]:
        """Everybody at once; gossip would take as long as everything up to here."""
        steps = TELL_AGAIN
        wait = steps[target.told] * self._interval if target.told < len(steps) else TELL_INTERVAL
        target.told += 1
        target.tell_at = now + wait
        member = target.member
        if member.gone:
            return []
        self._votes.setdefault(member.name, {})[self._config.name] = (member.incarnation, now)
        message = codec.encode(self._accusation(target))
        return [
            SendPacket(other.to, (message,))
            for other in self._table.others()
            if not other.gone and other is not member
        ]

    def _new_ping(self, member: Entry) -> Ping:
        me = self._table.me
        return Ping(self._next_seq(), member.name, me.addr, me.port, me.name)

    def _remember(self, target: Target, seq_no: int, now: float) -> None:
        target.unanswered[seq_no] = now
        self._waiting[seq_no] = target
        if target.silent_since is None:
            target.silent_since = now
        if len(target.unanswered) > MAX_UNANSWERED:
            self._forget(target, next(iter(target.unanswered)))

    def _forget(self, target: Target, seq_no: int) -> None:
        del target.unanswered[seq_no]
        del self._waiting[seq_no]

    # -------------------------------------------------------------------------------- the verdict

    def _verdicts(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for name in tuple(self._votes):
            member = self._table.members.get(name)
            if member is None or member.gone:
                del self._votes[name]
            elif not member.unreachable and self._condemned(name, now):
                effects.append(self._give_up(member))
        return effects

    def _condemned(self, name: str, now: float) -> bool:
        target = self._targets.get(name)
        if target is not None and target.answered and target.doubted_at is None:
            return False  # we hear it ourselves
        votes = self._standing(name, now)
        if not votes:
            return False
        watchers = self._watchers(name)
        # A watcher that is accused by its own watchers may have fallen together with this member: whoever is
        # likely dead has no vote, or two members that fall at once would wait for each other's word.
        able = [w for w in watchers if w == self._config.name or not self._doubtful(w, now)]
        voices = sum(1 for watcher in able if watcher in votes)
        return voices > 0 and 2 * voices >= len(able)

    def _doubtful(self, name: str, now: float) -> bool:
        if name not in self._votes:
            return False
        votes = self._standing(name, now)
        return bool(votes) and any(watcher in votes for watcher in self._watchers(name))

    def _standing(self, name: str, now: float) -> dict[str, tuple[int, float]]:
        votes = self._votes.get(name, {})
        incarnation = self._table.members[name].incarnation
        for accuser, (about, at) in tuple(votes.items()):
            if about < incarnation or now - at > VOTE_LIFETIME:
                del votes[accuser]
        return votes

    def _give_up(self, member: Entry) -> Effect:
        member.unreachable = True
        self._table.generation += 1
        return Notify(Unreachable(member.node()))

    def _trust_again(self, name: str) -> list[Effect]:
        member = self._table.members.get(name)
        if member is None or not member.unreachable or self.alone:
            return []
        member.unreachable = False
        self._table.generation += 1
        return [] if member.gone else [Notify(Reachable(member.node()))]

    def _be_alone(self) -> list[Effect]:
        if self.alone:
            return []
        self.alone = True
        lost = [m for m in self._table.others() if m.reachable]
        self._lonely = {member.name for member in lost}
        return [self._give_up(member) for member in lost]

    # ---------------------------------------------------------------------------- who watches whom

    def _watchers(self, name: str) -> list[str]:
        return self._order.watchers(name, self._table)

    def _retarget(self, now: float) -> None:
        if self._config.observe:
            return
        me, members = self._config.name, self._table.members
        reachable = [name for name, member in members.items() if member.reachable and name != me]
        present = (member.name for member in self._table.others() if not member.gone)
        wanted = [members[name] for name in self._order.watched(present, reachable)]
        if not wanted and reachable:
            # Everybody watches somebody, or we could not know that we are cut off.
            wanted = [members[self._order.favourite(reachable)]]
        for name in [n for n in self._targets if members.get(n) not in wanted]:
            target = self._targets.pop(name)
            for seq_no in tuple(target.unanswered):
                self._forget(target, seq_no)
        # In step with one another, to wake up once for all, but not with other watchers of the same member.
        rhythm = min((target.ping_at for target in self._targets.values()), default=None)
        ping_at = now + self._rng.random() * self._interval if rhythm is None else rhythm
        for member in wanted:
            if member.name not in self._targets:
                self._targets[member.name] = Target(member, ping_at=ping_at)
