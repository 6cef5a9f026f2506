"""The trio shell around the core: one UDP socket, one TCP listener, one clock, one nursery.

Decides nothing.  Everything but TCP happens in synchronous calls, so a cancellation can fall only between two
of them, and what a TCP peer does or does not do cannot make us late for a ping.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import ipaddress
import logging
import os
import random
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from . import codec, streams
from .addresses import advertised, parse_join, resolve
from .alarm import Alarm, alarm
from .config import Address, Config
from .core import Core
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
from .entry import Entry
from .errors import CannotSendError, ConfigError, DecodeError, JoinError, MemberlistError, Timeout, reason
from .events import Event, Lagged, Node
from .keyring import nonces
from .messages import Ack, Error, PushPull, State, StreamMessage, User
from .packet import MAX_PACKET, MAX_PAYLOAD, Wire
from .statistics import Statistics

log = logging.getLogger(__name__)

RECEIVE_BUFFER: Final = 2 * 1024 * 1024
MAX_DRAIN: Final = 512
"""Packets read in one go.  More waiting means a flood: time is then not believed (see `Core.tick`)."""
WORTH_COMPRESSING: Final = 200
"""Octets below which packets go as they are: pings and acks never get smaller, and trying costs more than all
else about them."""
BIND_TRIES: Final = 10
IN_USE: Final = "; another program has it: end that, or choose another port"
MAX_PUSH_PULLS: Final = 4
"""Exchanges we have started and not finished; a peer that stalls one must not collect them."""


class Member:
    """Our membership of a cluster; made by `open_member`."""

    def __init__(
        self,
        config: Config,
        core: Core,
        wire: Wire,
        udp: socket.socket,
        alarm: Alarm,
        nursery: trio.Nursery,
    ) -> None:
        self._config, self._core, self._wire, self._udp, self._nursery = config, core, wire, udp, nursery
        self._bare = dataclasses.replace(wire, compress=False)
        self._ipv6 = udp.family == socket.AF_INET6
        self._alarm = alarm
        self._nonces = nonces()
        self._observers: list[Callable[[Event], None]] = []
        self._streams: list[Events] = []
        self._finished: dict[int, trio.Event] = {}
        self._push_pulls = 0
        self._pinged: dict[int, tuple[trio.Event, list[float]]] = {}
        self._received = self._dropped = self._sent = self._unsent = 0
        self._messages: Counter[type] = Counter()
        self._late_max = 0.0

    # ------------------------------------------------------------------------------------- public

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def address(self) -> Address:
        """What others were told to send to."""
        return self._core.table.me.to

    @property
    def health(self) -> int:
        """0 is healthy; grows while others have reason to complain about us."""
        return self._core.health.score

    @property
    def alone(self) -> bool:
        """The watchers hear nobody: for all we know we are cut off."""
        return self._core.watch is not None and self._core.watch.alone

    def members(self) -> tuple[Node, ...]:
        """Everybody not dead or left, suspects and ourselves included, by name."""
        return self._core.members()

    def nodes(self) -> tuple[Node, ...]:
        """Like `members`, with the dead and those who left for as long as they are remembered."""
        return self._core.nodes()

    async def join(self, addresses: Iterable[str]) -> int:
        """Exchange members with each of `[name/]host[:port]`, one after the other; how many answered.

        The default port is our own.  Raises JoinError, with the reason for each, when none did.
        """
        joined, failures = 0, []
        for text in addresses:
            try:
                host, port = parse_join(text, self.address[1], name_required=self._config.require_node_names)
                found = await resolve(host, port)
            except JoinError as problem:
                failures.append(str(problem))
                continue
            for to in found:
                if to == self.address:
                    continue
                try:
                    await self._push_pull(to, join=True)
                except (OSError, MemberlistError) as problem:
                    failures.append(f"{to[0]}:{to[1]}: {reason(problem)}")
                else:
                    joined += 1
        if failures and not joined:
            raise JoinError("; ".join(failures))
        return joined

    async def leave(self, timeout: float = 1.0) -> None:
        """Say goodbye and wait until it was gossiped.  Raises Timeout; most will know all the same.

        We go on answering until the `async with` ends.
        """
        await self._wait(self._core.leave(trio.current_time()), timeout)

    async def update(self, timeout: float = 1.0) -> None:
        """Announce fresh metadata from the delegate.  Raises Timeout like `leave`, MemberlistError."""
        await self._wait(self._core.update(trio.current_time()), timeout)

    async def ping(self, name: str, timeout: float | None = None) -> float:
        """Seconds a member takes to answer one UDP ping; no state of anybody's changes.

        `timeout` is in seconds, None takes the configured `probe_timeout`.  Raises Timeout, and
        MemberlistError for a name not known.
        """
        timeout = self._config.probe_timeout if timeout is None else timeout
        entry = self._entry(name)
        seq_no, effects = self._core.ping(entry, trio.current_time())
        answered, rtts = self._pinged[seq_no] = (trio.Event(), [])
        try:
            self._perform(effects)
            with trio.move_on_after(timeout):
                await answered.wait()
        finally:
            del self._pinged[seq_no]
            self._core.give_up_ping(seq_no)
        if not rtts:
            raise Timeout(f"{name} ({entry.to[0]} port {entry.to[1]}): no answer to a ping in {timeout:g} s")
        return rtts[0]

    def statistics(self) -> Statistics:
        """How we are doing, now."""
        core = self._core
        others = core.table.others()
        return Statistics(
            members=sum(entry.state in (State.ALIVE, State.SUSPECT) for entry in core.table.members.values()),
            health=core.health.score,
            queued=len(core.broadcasts),
            probes=core.probes,
            probes_failed=core.probes_failed,
            rtts={entry.name: entry.rtt for entry in others if entry.rtt},
            watched=core.watch.opinions() if core.watch is not None else {},
            alone=self.alone,
            late_max=self._late_max,
            late_count=core.late_count,
            packets_received=self._received,
            packets_dropped=self._dropped,
            packets_sent=self._sent,
            packets_unsent=self._unsent,
            messages={kind.__name__: count for kind, count in self._messages.items()},
        )

    def send(self, name: str, payload: bytes) -> None:
        """A user message in one datagram: may be lost.

        Raises MemberlistError for a name not known, and for more than some 65,000 octets.
        """
        if len(payload) > MAX_PAYLOAD:
            raise CannotSendError(f"{len(payload)} octets; at most {MAX_PAYLOAD} fit one datagram")
        self._perform(self._core.send_user(self._entry(name), payload))

    async def send_reliable(self, name: str, payload: bytes) -> None:
        """A user message over TCP.  Raises MemberlistError and OSError."""
        to = self._entry(name)
        timeout = self._config.tcp_timeout
        await streams.exchange(to.to, User(payload), self._wire, timeout=timeout, answered=False)

    def observe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call at once, synchronously, with every event; returns what ends it.

        For those who must know before anything else happens.  It must not block.  An exception is logged.
        """
        self._observers.append(callback)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._observers.remove(callback)

        return stop

    def events(self, capacity: int = 1024) -> Events:
        """Events from now on.  A slow reader loses the newest, and is told so by one `Lagged`."""
        events = Events(capacity, self._streams.remove)
        self._streams.append(events)
        return events

    # -------------------------------------------------------------------------------------- tasks

    async def _run(self) -> None:
        while True:
            await self._alarm.wait()
            self._turn()

    def _turn(self) -> None:
        now = trio.current_time()
        core = self._core
        late = now - core.next_deadline()
        if late > self._late_max:
            self._late_max = late
        # What came in while we were late must be read before anybody is blamed for silence.
        drained = self._drain(now)
        due_at = core.next_deadline()
        if due_at <= now:
            self._carry_out(core.tick(now, drained=drained))
            due_at = core.next_deadline()
        self._alarm.set(due_at)

    def _drain(self, now: float) -> bool:
        """Read what waits; False when there is more than is good to read in one go."""
        allowed, readable, receive = self._config.cidrs_allowed, self._alarm.readable, self._udp.recvfrom
        for _ in range(MAX_DRAIN):
            if not readable():
                return True
            try:
                datagram, sender = receive(MAX_PACKET)
            except BlockingIOError:
                return True
            except OSError as problem:
                log.info("receive_failed", extra={"why": str(problem)})
                return True
            host = sender[0]
            if self._ipv6 and host.startswith("::ffff:") and "." in host:
                host = host[7:]
            source = (host, sender[1])
            if allowed and not any(ipaddress.ip_address(source[0]) in network for network in allowed):
                continue
            try:
                messages = self._wire.open(datagram)
            except DecodeError as problem:
                self._dropped += 1
                log.debug("packet_dropped", extra={"sender": source, "why": str(problem)})
                continue
            self._received += 1
            for message in messages:
                self._messages[type(message)] += 1
            self._carry_out(self._core.handle_packet(messages, source, now))
        return False

    def _perform(self, effects: Sequence[Effect]) -> None:
        self._carry_out(effects)
        self._alarm.set(self._core.next_deadline())

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendPacket():
                    self._send(effect)
                case Notify():
                    self._notify(effect.event)
                case StartPushPull():
                    if self._push_pulls < MAX_PUSH_PULLS:
                        self._nursery.start_soon(self._push_pull_quietly, effect.to)
                case StartStreamPing():
                    self._nursery.start_soon(self._stream_ping, effect)
                case BroadcastFinished():
                    if (waiting := self._finished.get(effect.token)) is not None:
                        waiting.set()
                case PingAnswered():
                    if (pinged := self._pinged.get(effect.seq_no)) is not None:
                        pinged[1].append(effect.rtt)
                        pinged[0].set()

    def _send(self, effect: SendPacket) -> None:
        parts = [part if isinstance(part, bytes) else codec.encode(part) for part in effect.parts]
        small = sum(map(len, parts)) < WORTH_COMPRESSING
        wire = self._bare if small else self._wire
        host, port = effect.to
        if (":" in host) != self._ipv6:
            if not self._ipv6:
                return  # it has an IPv6 address and we have none
            host = "::ffff:" + host
        try:
            self._udp.sendto(wire.seal(parts, crc=effect.crc, nonce=next(self._nonces)), (host, port))
        except OSError as problem:
            # Unreachable now, or the buffer is full: like a lost packet, and the protocol expects those.
            self._unsent += 1
            log.debug("packet_not_sent", extra={"to": effect.to, "why": str(problem)})
        else:
            self._sent += 1

    def _notify(self, event: Event) -> None:
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                log.exception("observer_failed")
        for events in self._streams:
            events.push(event)

    def _serve(self, message: StreamMessage) -> StreamMessage | None:
        answer, effects = self._core.serve(message, trio.current_time())
        self._perform(effects)
        return answer

    async def _push_pull(self, to: Address, *, join: bool) -> None:
        state = self._core.local_state(join=join)
        answer = await streams.exchange(to, state, self._wire, timeout=self._config.tcp_timeout)
        match answer:
            case PushPull():
                self._perform(self._core.merge(answer, join=join, now=trio.current_time()))
            case Error():
                raise JoinError(f"remote error: {answer.error}")
            case _:
                raise JoinError("the answer is no member list")

    async def _push_pull_quietly(self, to: Address) -> None:
        self._push_pulls += 1
        try:
            await self._push_pull(to, join=False)
        except (OSError, MemberlistError) as problem:
            log.info("push_pull_failed", extra={"to": to, "why": str(problem)})
        finally:
            self._push_pulls -= 1

    async def _stream_ping(self, effect: StartStreamPing) -> None:
        with trio.move_on_at(effect.deadline_at):
            try:
                answer = await streams.exchange(
                    effect.to, effect.ping, self._wire, timeout=self._config.tcp_timeout
                )
            except (OSError, DecodeError) as problem:
                log.debug("stream_ping_failed", extra={"to": effect.to, "why": str(problem)})
                return
            if isinstance(answer, Ack) and answer.seq_no == effect.ping.seq_no:
                self._core.stream_acked(answer.seq_no)

    async def _wait(self, command: tuple[int, list[Effect]], timeout: float) -> None:
        token, effects = command
        finished = self._finished[token] = trio.Event()
        try:
            self._perform(effects)
            with trio.move_on_after(timeout) as scope:
                await finished.wait()
            if scope.cancelled_caught:
                raise Timeout(f"the broadcast was not finished in {timeout:g} s")
        finally:
            del self._finished[token]

    def _entry(self, name: str) -> Entry:
        entry = self._core.table.members.get(name)
        if entry is None:
            raise MemberlistError(f"{name}: no such member")
        return entry


class Events:
    """An async iterator over events; ends with the membership.  `close` it, or leave it to the end."""

    def __init__(self, capacity: int, forget: Callable[[Events], None]) -> None:
        self._waiting: deque[Event] = deque()
        self._capacity, self._forget = capacity, forget
        self._lost = 0
        self._closed = False
        self._news = trio.lowlevel.ParkingLot()

    def push(self, event: Event) -> None:
        if len(self._waiting) >= self._capacity:
            self._lost += 1
        else:
            if self._lost:
                self._waiting.append(Lagged(self._lost))
                self._lost = 0
            self._waiting.append(event)
        self._news.unpark_all()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._forget(self)
            self._news.unpark_all()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._lost:
                lost, self._lost = self._lost, 0
                return Lagged(lost)
            if self._closed:
                raise StopAsyncIteration
            await self._news.park()
        return self._waiting.popleft()


@asynccontextmanager
async def open_member(
    config: Config, *, delegate: Delegate | None = None, rng: random.Random | None = None
) -> AsyncIterator[Member]:
    """Bind, become a member of our own cluster of one, and run until the block ends; then fall silent.

    `Member.join` finds others, `Member.leave` says goodbye.  Raises ConfigError when the address cannot be
    bound, MemberlistError when the delegate's metadata is too large, and what the block raises, as it is.
    """
    rng = rng or random.Random()
    udp, tcp = _bind(config.bind)
    failure: BaseException | None = None
    with udp, tcp, contextlib.closing(alarm(udp)) as until:
        address, port = advertised(config.bind, config.advertise, udp.getsockname()[1])
        wire = Wire(
            keyring=config.keyring,
            label=config.label,
            compress=config.compress,
            verify_incoming=config.verify_incoming,
            verify_outgoing=config.verify_outgoing,
            skip_label=config.skip_inbound_label_check,
            encryption_version=0 if config.protocol_version == 1 else 1,
        )
        now = trio.current_time()
        core = Core(config, address=address, port=port, now=now, rng=rng, delegate=delegate)
        effects = core.start(now)
        async with trio.open_nursery() as nursery:
            member = Member(config, core, wire, udp, until, nursery)
            member._perform(effects)
            listener = streams.Listener(tcp, wire, timeout=config.tcp_timeout, serve=member._serve)
            nursery.start_soon(member._run)
            nursery.start_soon(listener.run)
            try:
                yield member
            except trio.Cancelled:
                raise
            except BaseException as problem:  # noqa: BLE001 - leaves as it is, not wrapped in a group
                failure = problem
            for events in tuple(member._streams):
                events.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _bind(bind: Address) -> tuple[socket.socket, trio.socket.SocketType]:
    """UDP and TCP on one port, free on both when it is ours to choose."""
    family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    for attempt in range(BIND_TRIES):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for one in (tcp, udp):
                one.setblocking(False)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            tcp.bind(bind)
            udp.bind((bind[0], tcp.getsockname()[1]))
            tcp.listen(streams.MAX_INBOUND)
        except OSError as problem:
            tcp.close()
            udp.close()
            if problem.errno == errno.EADDRINUSE and bind[1] == 0 and attempt + 1 < BIND_TRIES:
                continue
            advice = IN_USE if problem.errno == errno.EADDRINUSE else ""
            raise ConfigError(
                f"bind: {bind[0]} port {bind[1]}: {os.strerror(problem.errno or 0)}{advice}"
            ) from None
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return udp, trio.socket.from_stdlib_socket(tcp)
    raise AssertionError
