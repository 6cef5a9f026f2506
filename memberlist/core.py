"""One member of a cluster, without sockets, clock or chance of its own.

In come messages and the time, out come effects.  Early and repeated ticks change nothing; late ones are
noticed, and count as time in which nobody else's time passed either.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Final

from . import codec, timing
from .awareness import Awareness, Excuses
from .config import Address, Config
from .delegate import Delegate
from .effects import (
    BroadcastFinished,
    Effect,
    Notify,
    PingAnswered,
    SendPacket,
    StartPushPull,
    StartStreamPing,
)
from .entry import Entry, address_octets, address_text, remote_node
from .errors import JoinError
from .events import Node, UserMessage
from .flood import Flood
from .hooks import Hooks
from .messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Nack,
    PacketMessage,
    Ping,
    PushPull,
    State,
    StreamMessage,
    Suspect,
    User,
)
from .news import News
from .probe import Probe
from .relay import Relays
from .table import Consequence, LastWord, Refutation, Spread, Table
from .versions import incompatible
from .watch import Watch

log = logging.getLogger(__name__)

NEVER: Final = float("inf")
LATE: Final = 0.025
"""Seconds behind a deadline from which on we hold ourselves, not others, for slow."""


class Core:
    def __init__(
        self,
        config: Config,
        *,
        address: str,
        port: int,
        now: float,
        rng: random.Random,
        delegate: Delegate | None = None,
    ) -> None:
        """`address` and `port` are what others are told to send to."""
        self.config = config
        self.health = Awareness(config.awareness_max)
        self._hooks = Hooks(delegate)
        self.table = Table(config, port=port, rng=rng, refuse_alive=self._hooks.veto)
        self._address = address
        self._rng = rng
        self._news = News(config, self.table, self._hooks)
        self.broadcasts = self._news.queue
        self._seq_no = rng.getrandbits(16)
        self._tokens = 0
        self._probe: Probe | None = None
        self._relays = Relays(config.probe_timeout)
        self._pings: dict[int, float] = {}
        self.probes = self.probes_failed = 0
        """Rounds begun, and those that nobody answered in any way."""
        self._flood = Flood()
        self._probe_at = self._stagger(0 if config.observe else config.probe_interval, now)
        self._gossip_at = self._stagger(config.gossip_interval if config.gossip_nodes else 0, now)
        # Within the first interval, where upstream lets one pass: whom gossip of a join missed learns now.
        self._push_pull_at = self._stagger(config.push_pull_interval, now)
        self.watch: Watch | None = None
        if config.watch:
            self.watch = Watch(
                config, self.table, next_seq=self._next_seq, accuse=self._accuse, rng=rng, now=now
            )
        self._ticked_at = now
        self._swim_at: float | None = None
        self.late_count = 0
        """How often we ran late enough to doubt ourselves."""
        self._excuses = Excuses(now)

    # ------------------------------------------------------------------------------------ commands

    def start(self, now: float) -> list[Effect]:
        """Become a member.  Raises MemberlistError when the delegate's metadata is too large."""
        return self._follow(self.table.start(address_octets(self._address), self._hooks.meta(), now), now)

    def update(self, now: float) -> tuple[int, list[Effect]]:
        """Announce fresh metadata.  The token comes back in BroadcastFinished.  Raises MemberlistError."""
        consequences = self.table.update(self._hooks.meta(), now)
        if consequences and self.watch is not None:
            self._flood.tell(codec.encode(self.table.me.alive()), now)  # who watches wants to know at once
        return self._announce(consequences, now)

    def leave(self, now: float) -> tuple[int, list[Effect]]:
        """Say goodbye; the token comes back in BroadcastFinished.  We go on answering until closed."""
        return self._announce(self.table.leave(now), now)

    def send_user(self, to: Entry, payload: bytes) -> list[Effect]:
        """Best effort, one datagram."""
        return [SendPacket(to.to, (User(payload),), to.speaks(5))]

    def ping(self, to: Entry, now: float) -> tuple[int, list[Effect]]:
        """One ping outside of all rounds; its number comes back in PingAnswered.  Changes nobody's state."""
        me, seq_no = self.table.me, self._next_seq()
        self._pings[seq_no] = now
        return seq_no, [SendPacket(to.to, (Ping(seq_no, to.name, me.addr, me.port, me.name),))]

    def give_up_ping(self, seq_no: int) -> None:
        """Nobody waits for the answer any more."""
        self._pings.pop(seq_no, None)

    def members(self) -> tuple[Node, ...]:
        """Everybody not dead or left, ourselves included, by name."""
        return tuple(node for node in self.nodes() if node.state in (State.ALIVE, State.SUSPECT))

    def nodes(self) -> tuple[Node, ...]:
        """Everybody still remembered, the dead and those who left too, by name."""
        return tuple(self.table.members[name].node() for name in sorted(self.table.members))

    def local_state(self, *, join: bool) -> PushPull:
        """Our side of a push/pull."""
        states = tuple(member.push_state() for member in self.table.members.values())
        user_state = self._hooks.local_state(join)
        return PushPull(join, states, user_state)

    # ------------------------------------------------------------------------------ what comes in

    def handle_packet(self, messages: Iterable[PacketMessage], source: Address, now: float) -> list[Effect]:
        """The messages of one datagram, in their order."""
        watch = self.watch
        effects: list[Effect] = [] if watch is None else watch.heard(now)
        for message in messages:
            effects.extend(self._handle(message, source, now))
        if watch is not None:
            effects.extend(watch.accompany(now))
            watch.notice(now)
        return effects

    def serve(self, message: StreamMessage, now: float) -> tuple[StreamMessage | None, list[Effect]]:
        """A request on a stream: the answer, if there is one, and what follows from the request.

        The answer to a push/pull is what we knew before it, and goes out even when the merge is refused.
        """
        match message:
            case Ping() if message.node in ("", self.config.name):
                return Ack(message.seq_no), []
            case PushPull():
                answer = self.local_state(join=message.join)
                try:
                    return answer, self.merge(message, join=message.join, now=now)
                except JoinError as problem:
                    log.warning("push_pull_refused", extra={"why": str(problem)})
                    return answer, []
            case User() if message.payload:
                return None, self._deliver(message)
        return None, []

    def merge(self, theirs: PushPull, *, join: bool, now: float) -> list[Effect]:
        """Somebody's list, after a push/pull.  Raises JoinError when it is refused; nothing changed then."""
        claims = [(state.name, state.state, state.vsn) for state in theirs.nodes]
        claims += [(m.name, int(m.state), m.vsn) for m in self.table.members.values()]
        if (clash := incompatible(claims)) is not None:
            raise JoinError(clash)
        if join:
            nodes = tuple(remote_node(state) for state in theirs.nodes if len(state.addr) in (4, 16))
            refusal = self._hooks.refuse_merge(nodes)
            if refusal is not None:
                raise JoinError(f"merge refused: {refusal}")
        effects: list[Effect] = []
        for state in theirs.nodes:
            effects += self._follow(self.table.merge(state, now), now)
        if theirs.user_state:
            self._hooks.merge_remote_state(theirs.user_state, join)
        if self.watch is not None:
            self.watch.notice(now)
        return effects

    def stream_acked(self, seq_no: int) -> None:
        """The TCP ping came back: the member lives, only its UDP is blocked."""
        probe = self._probe
        if probe is not None and probe.seq_no == seq_no:
            probe.stream_contact = True

    # -------------------------------------------------------------------------------------- time

    def next_deadline(self) -> float:
        # A round that takes longer than the interval is followed by the next at once: upstream drops the tick
        # it overlaps, which a round that fails at health 0 does whenever its timer is a little late.
        if (at := self._swim_at) is None:
            at = self._swim_at = self._next_swim()
        return at if self.watch is None else min(at, self.watch.next_deadline())

    def _next_swim(self) -> float:
        """All but the watchers; asked anew after whatever may bring it forward, and after each tick."""
        at = self._probe_at if self._probe is None else self._probe.next_deadline()
        at = min(at, self._push_pull_at, self.table.next_deadline(), self._flood.next_deadline())
        if self._news.waiting:
            at = min(at, self._gossip_at)
        if self._relays:
            at = min(at, self._relays.next_deadline())
        return at

    def tick(self, now: float, *, drained: bool = True) -> list[Effect]:
        """Do whatever is due.

        `drained` False: answers may wait unread, so the watchers' time stands still.  Slow SWIM goes on:
        a flood of UDP that lasts must not keep the dead alive, and its TCP pings pass it.
        """
        late = now - self.next_deadline()
        if drained and late > LATE:
            self.late_count += 1
            if self._excuses.take(now):
                self._forgive(late, now)
        elif not drained and self.watch is not None:
            self.watch.delay(now - self._ticked_at, now)
        self._ticked_at = now
        self._swim_at = None
        effects: list[Effect] = []
        if self.watch is not None and now >= self.watch.next_deadline():
            effects += self.watch.tick(now)
        if (flood := self._flood.tick(now)) is not None:
            effects += [SendPacket(m.to, (flood,)) for m in self.table.others() if not m.gone]
        if self._relays:
            effects += [self._news.along(asker, nack) for asker, nack in self._relays.tick(now)]
        if self._probe is not None and now >= self._probe.next_deadline():
            effects += self._tick_probe(self._probe, now)
        if now >= self._probe_at and self._probe is None:
            self._probe_at = max(self._probe_at + self.config.probe_interval, now)
            effects += self._start_probe(now)
        if now >= self.table.next_deadline():
            effects += self._follow(self.table.tick(now), now)
        if now >= self._gossip_at and self._news.waiting:
            self._gossip_at = max(self._gossip_at + self.config.gossip_interval, now)
            effects += self._news.gossip(now)
            effects += self._finished()
        if now >= self._push_pull_at:
            interval = self.config.push_pull_interval
            self._push_pull_at = now + timing.push_pull_interval(interval, len(self.table.members))
            effects += [
                StartPushPull(m.to) for m in self.table.sample(1, lambda member: member.state is State.ALIVE)
            ]
        if self.watch is not None:
            self.watch.notice(now)
        return effects

    def _forgive(self, seconds: float, now: float) -> None:
        self.table.delay_suspicions(seconds)
        if self.watch is not None:
            self.watch.delay(seconds, now)
        if self._probe is not None:
            self._probe.delay(seconds)

    # ---------------------------------------------------------------------------------- messages

    def _handle(self, message: PacketMessage, source: Address, now: float) -> list[Effect]:
        match message:
            case Ack():
                return self._on_ack(message, now)
            case Ping():
                return self._on_ping(message, source, now)
            case Alive():
                return self._follow(self.table.alive(message, now), now)
            case Suspect():
                return self._on_suspect(message, now)
            case Dead():
                return self._on_dead(message, now)
            case IndirectPing():
                return self._on_indirect_ping(message, source, now)
            case Nack():
                if self._probe is not None and message.seq_no == self._probe.seq_no:
                    self._probe.nacks += 1
                return []
            case User():
                return self._deliver(message)

    def _on_ping(self, ping: Ping, source: Address, now: float) -> list[Effect]:
        if ping.node not in ("", self.config.name):
            return []
        ack = Ack(ping.seq_no, self._hooks.ack_payload() if self._hooks.answering else None)
        # A watcher pings so often that its answers would use up every piece of news on one reader.
        if self.watch is not None:
            self.watch.pinged(ping.source_node, now)
        member = self.table.members.get(ping.source_node)
        if member is None or ping.source_addr != member.addr or ping.source_port != member.port:
            to = _return_address(ping, source)
        else:
            to = member.to
        if member is not None:
            if now - member.news_at < self.config.probe_interval / 2:
                return [SendPacket(to, (ack,))]
            member.news_at = now
            if member.gone and to == member.to and not self.config.observe:
                # It does not know, and others may hold it for a member; upstream answers and stays silent.
                return [SendPacket(to, (ack, Dead(member.incarnation, member.name, self.config.name)))]
        return [self._news.along(to, ack)]

    def _on_ack(self, ack: Ack, now: float) -> list[Effect]:
        if self.watch is not None:
            effects = self.watch.acked(ack.seq_no, now)
            if effects is not None:
                return effects
        self._swim_at = None
        if (relayed := self._relays.acked(ack.seq_no)) is not None:
            asker, answer = relayed
            return [SendPacket(asker, (answer,))]
        if (sent_at := self._pings.pop(ack.seq_no, None)) is not None:
            return [PingAnswered(ack.seq_no, now - sent_at)]
        probe = self._probe
        if probe is None or ack.seq_no != probe.seq_no:
            return []
        self._probe = None
        self.health.adjust(-1)
        member = self.table.members.get(probe.target)
        if member is not None and not probe.indirect:
            node = member.node()
            rtt = now - probe.started_at
            member.sample(rtt)
            self._hooks.ping_complete(node, rtt, ack.payload)
        return []

    def _on_suspect(self, message: Suspect, now: float) -> list[Effect]:
        effects = self._answer_old_news(message) + self._follow(self.table.suspect(message, now), now)
        if self.watch is not None and message.sender != self.config.name:
            effects += self.watch.accused(message, now)
        return effects

    def _on_dead(self, message: Dead, now: float) -> list[Effect]:
        """What nobody's suspicion preceded is a suspicion first, where the watchers know better.

        One that was cut off holds everybody for dead and says so the moment it is back; upstream believes it
        until the refutation, and each would take over from the other meanwhile.
        """
        effects = self._answer_old_news(message)
        member = self.table.members.get(message.node)
        if (
            self.watch is not None
            and member is not None
            and member is not self.table.me
            and message.sender != message.node
            and member.state is State.ALIVE
            and not member.unreachable
        ):
            doubt = Suspect(message.incarnation, message.node, message.sender)
            return effects + self._follow(self.table.suspect(doubt, now), now)
        return effects + self._follow(self.table.dead(message, now), now)

    def _answer_old_news(self, message: Suspect | Dead) -> list[Effect]:
        """Whoever still accuses us of something we have refuted missed the refutation; send it again.

        Upstream stays silent, and the accuser learns the truth by luck or by push/pull.
        """
        me = self.table.me
        if message.node != me.name or message.incarnation >= me.incarnation or me.gone:
            return []
        accuser = self.table.members.get(message.sender)
        return [] if accuser is None or accuser is me else [SendPacket(accuser.to, (me.alive(),))]

    def _on_indirect_ping(self, ask: IndirectPing, source: Address, now: float) -> list[Effect]:
        if len(ask.target) not in (4, 16):
            return []
        me, ours = self.table.me, self._next_seq()
        if not self._relays.carry(ours, ask.seq_no, _return_address(ask, source), nack=ask.nack, now=now):
            return []
        self._swim_at = None
        to = (address_text(ask.target), ask.port or me.port)
        return [self._news.along(to, Ping(ours, ask.node, me.addr, me.port, me.name))]

    def _deliver(self, message: User) -> list[Effect]:
        self._hooks.notify_message(message.payload)
        return [Notify(UserMessage(message.payload))]

    # ----------------------------------------------------------------------------------- probing

    def _start_probe(self, now: float) -> list[Effect]:
        member = self.table.next_to_probe(now)
        if member is None:
            return []
        me = self.table.me
        self.probes += 1
        probe = self._probe = Probe(
            target=member.name,
            incarnation=member.incarnation,
            seq_no=self._next_seq(),
            started_at=now,
            indirect_at=now + self.config.probe_timeout,
            deadline_at=now + self.health.scale(self.config.probe_interval),
        )
        ping = Ping(probe.seq_no, member.name, me.addr, me.port, me.name)
        if member.state is State.SUSPECT:
            # It gets the accusation together with the ping, so that it can refute at once.
            suspect = Suspect(member.incarnation, member.name, me.name)
            return [SendPacket(member.to, (ping, suspect), member.speaks(5))]
        return [self._news.along(member.to, ping)]

    def _tick_probe(self, probe: Probe, now: float) -> list[Effect]:
        member = self.table.members.get(probe.target)
        if member is None or member.gone:
            self._probe = None
            return []
        if not probe.indirect:
            return self._ask_others(probe, member)
        self._probe = None
        if probe.stream_contact:
            log.info("udp_blocked", extra={"member": member.name, "address": member.to[0]})
            self.health.adjust(-1)
            return []
        self.probes_failed += 1
        self.health.adjust(probe.blame())
        return self._accuse(Suspect(probe.incarnation, member.name, self.config.name), now)

    def _accuse(self, accusation: Suspect, now: float) -> list[Effect]:
        return self._follow(self.table.suspect(accusation, now), now)

    def _ask_others(self, probe: Probe, member: Entry) -> list[Effect]:
        probe.indirect = True
        me = self.table.me
        effects: list[Effect] = []
        for helper in self.table.sample(
            self.config.indirect_checks, lambda one: one.state is State.ALIVE and one is not member
        ):
            nack = helper.speaks(4)
            probe.nacks_wanted += nack
            ask = IndirectPing(
                probe.seq_no, member.addr, member.port, member.name, nack, me.addr, me.port, me.name
            )
            effects.append(self._news.along(helper.to, ask))
        if self.config.tcp_pings and member.speaks(3):
            ping = Ping(probe.seq_no, member.name, me.addr, me.port, me.name)
            effects.append(StartStreamPing(member.to, ping, probe.deadline_at))
        return effects

    # --------------------------------------------------------------------------------- consequences

    def _follow(
        self, consequences: Sequence[Consequence], now: float, token: int | None = None
    ) -> list[Effect]:
        effects: list[Effect] = []
        self._swim_at = None
        if not self.broadcasts:
            self._gossip_at = max(self._gossip_at, now)  # it rested while there was nothing to say
        for told in consequences:
            match told:
                case Spread() if not self._mere_opinion(told):
                    self.broadcasts.queue(told.name, codec.encode(told.message), token)
                case Refutation():
                    self.health.adjust(1)
                    self.broadcasts.queue(self.config.name, codec.encode(told.message))
                    if self.watch is not None:
                        self._flood.tell(codec.encode(told.message), now)
                case Spread():
                    pass
                case LastWord(member, message):
                    if not self.config.observe:
                        effects.append(SendPacket(member.to, (message,), member.speaks(5)))
                case _:
                    effects.append(Notify(told))
            if isinstance(told, Spread) and isinstance(told.message, Alive) and self.watch is not None:
                effects += self.watch.refuted(told.name, now)
        return effects + self._finished()

    def _mere_opinion(self, told: Spread) -> bool:
        """An observer's own word against another member."""
        message, name = told.message, self.config.name
        return (
            self.config.observe
            and isinstance(message, Suspect | Dead)
            and message.sender == name
            and message.node != name
        )

    def _announce(self, consequences: Sequence[Consequence], now: float) -> tuple[int, list[Effect]]:
        self._tokens += 1
        token = self._tokens
        effects = self._follow(consequences, now, token)
        if self.table.me.gone and consequences and self.watch is not None:
            me = self.table.me
            self._flood.tell(codec.encode(Dead(me.incarnation, me.name, me.name)), now)
        if not consequences or all(member.gone for member in self.table.others()):
            effects.append(BroadcastFinished(token))  # nobody to tell, or said before
        return token, effects

    def _finished(self) -> list[Effect]:
        return [BroadcastFinished(token) for token in self.broadcasts.finished()]

    # -------------------------------------------------------------------------------------- details

    def _stagger(self, interval: float, now: float) -> float:
        # Real chance: nodes that boot together must not probe and gossip in step.
        return now + self._rng.random() * interval if interval else NEVER

    def _next_seq(self) -> int:
        self._seq_no = (self._seq_no + 1) & 0xFFFFFFFF
        return self._seq_no


def _return_address(message: Ping | IndirectPing, source: Address) -> Address:
    """Where the answer goes: what the asker says about itself, because of address translation."""
    if len(message.source_addr) in (4, 16) and message.source_port:
        return (address_text(message.source_addr), message.source_port)
    return source
