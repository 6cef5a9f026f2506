"""A whole cluster in one heap and in virtual time: the cores that ship, a network as bad as wanted, one seed.

    cluster = Simulation(seed=7, size=5, watch=True)
    cluster.run(2.0)
    cluster.crash("n3")
    cluster.run(1.0)
    assert {who for _, who, event in cluster.log if isinstance(event, Unreachable)} == set(cluster.running)

The same seed and the same calls give the same run, to the last packet.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

from . import codec
from .config import Address, Config
from .core import Core
from .delegate import Delegate
from .effects import Effect, Notify, SendPacket, StartPushPull, StartStreamPing
from .errors import JoinError
from .events import Event, Node
from .keyring import Keyring
from .messages import PacketMessage, PushPull, StreamMessage
from .packet import Wire

PORT: Final = 7946
HANDSHAKE: Final = 3
"""One-way delays before the first request octets are read on a new connection."""

_decode = lru_cache(maxsize=4096)(codec.decode)


@dataclass(slots=True)
class Network:
    """What happens to a datagram; each chance is independent."""

    latency: tuple[float, float] = (0.0001, 0.001)
    """Seconds one way, uniform; wide bounds reorder."""
    loss: float = 0.0
    duplicate: float = 0.0
    cut: set[tuple[str, str]] = field(default_factory=set)
    """Directed links that carry nothing, neither UDP nor TCP."""
    slow: dict[str, float] = field(default_factory=dict)
    """Seconds added to what is on the way to a host."""
    lossy: dict[tuple[str, str], float] = field(default_factory=dict)
    """Directed links with a loss of their own."""


@dataclass(slots=True, eq=False)
class _Datagram:
    """On its way."""

    to: str
    messages: Sequence[PacketMessage]
    source: Address


@dataclass(slots=True, eq=False)
class Host:
    """A member and the machine it runs on."""

    name: str
    core: Core
    address: Address
    clock: float
    """What its clock shows beyond ours."""
    wake_at: float = float("inf")
    frozen_until: float = 0.0
    inbox: list[_Datagram] = field(default_factory=list)
    running: bool = True


_Due: TypeAlias = tuple[float, int, _Datagram | Host | Callable[[], None]]
"""When, in which order of those that are due together, and what: arrives, wakes, happens."""


class Simulation:
    def __init__(
        self,
        *,
        seed: int,
        size: int,
        wire: Wire | None = None,
        lateness: float = 0.0,
        delegate: Callable[[str], Delegate | None] = lambda _: None,
        joined: bool = True,
        **settings: Any,
    ) -> None:
        """`size` members n0, n1, ... that know one another; `settings` are `Config.lan`'s.

        With `wire` every packet goes through octets.  `lateness`: each timer fires up to so many seconds
        late.
        """
        self.seed = seed
        self.now = 0.0
        self.network = Network()
        self.hosts: dict[str, Host] = {}
        self.log: list[tuple[float, str, Event]] = []
        """When, who noticed, what."""
        self.packets = 0
        self._rng = random.Random(seed)
        self._wire, self._lateness, self._delegate, self._settings = wire, lateness, delegate, settings
        self._random = self._rng.random
        self._agenda: list[_Due] = []
        self._number = 0
        self._by_address: dict[str, str] = {}
        for number in range(size):
            self.start(f"n{number}")
        if joined:
            everybody = PushPull(False, tuple(h.core.table.me.push_state() for h in self.hosts.values()))
            for host in self.hosts.values():
                now = self.now + host.clock
                self._perform(host, host.core.merge(everybody, join=False, now=now))
                # They have known one another for long: nothing of it is news.
                host.core.broadcasts.prune(0)

    # ---------------------------------------------------------------------------------- the actors

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(name for name, host in self.hosts.items() if host.running)

    def start(self, name: str, address: str | None = None, **settings: Any) -> Host:
        """A new process: it knows nobody.  A name that ran before gets its old address."""
        number = int(name[1:])
        address = address or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        config = Config.lan(name=name, bind=(address, PORT), **{**self._settings, **settings})
        clock = self._rng.uniform(1, 1e6)
        core = Core(
            config,
            address=address,
            port=PORT,
            now=self.now + clock,
            rng=random.Random(self._rng.getrandbits(64)),
            delegate=self._delegate(name),
        )
        host = Host(name, core, (address, PORT), clock)
        if (old := self.hosts.get(name)) is not None:
            old.running = False
        self.hosts[name] = host
        self._by_address[address] = name
        self._perform(host, core.start(self.now + clock))
        return host

    def crash(self, name: str) -> None:
        self.hosts[name].running = False

    def freeze(self, name: str, seconds: float) -> None:
        """The process stands still; its kernel goes on queueing packets."""
        host = self.hosts[name]
        host.frozen_until = max(host.frozen_until, self.now + seconds)
        self._wake_at(host.frozen_until, host)

    def jump(self, name: str, seconds: float) -> None:
        """Its clock goes forward, as after a suspended machine resumes."""
        host = self.hosts[name]
        host.clock += seconds
        self._rearm(host)

    def join(self, name: str, through: str) -> None:
        host = self.hosts[name]
        self._push_pull(host, self.hosts[through].core.table.me.to, join=True)

    def leave(self, name: str) -> None:
        host = self.hosts[name]
        self._perform(host, host.core.leave(self.now + host.clock)[1])

    def partition(self, *sides: Collection[str]) -> None:
        """Nothing passes between two sides; `heal` undoes it."""
        for side in sides:
            for other in sides:
                if other is not side:
                    self.network.cut |= {(a, b) for a in side for b in other}

    def heal(self) -> None:
        self.network.cut.clear()
        self.network.lossy.clear()

    # --------------------------------------------------------------------------------- the observer

    def view(self, name: str) -> dict[str, Node]:
        return {node.name: node for node in self.hosts[name].core.nodes()}

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            self.now, _, due = heapq.heappop(agenda)
            if isinstance(due, _Datagram):
                self._deliver(due)
            elif isinstance(due, Host):
                self._wake(due)
            else:
                due()
        self.now = until

    def run_until(self, condition: Callable[[], bool], *, limit: float, step: float = 0.05) -> bool:
        """Whether it came true within `limit` seconds."""
        until = self.now + limit
        while not condition():
            if self.now >= until:
                return False
            self.run(step)
        return True

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        self._at(self.now + seconds, action)

    # -------------------------------------------------------------------------------------- innards

    def _at(self, when: float, due: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (when, self._number, due))

    def _wake_at(self, when: float, host: Host) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (when, self._number, host))

    def _rearm(self, host: Host) -> None:
        deadline = host.core.next_deadline()
        at = deadline - host.clock
        if at + host.clock < deadline:  # rounded down: woken there, it would not find its deadline passed
            at = math.nextafter(at, math.inf)
        if at < host.wake_at:
            host.wake_at = at
            if self._lateness:
                at += self._random() * self._lateness
            self._wake_at(max(at, self.now), host)

    def _wake(self, host: Host) -> None:
        if not host.running or self.now < host.frozen_until:
            return
        now = self.now + host.clock
        inbox, host.inbox = host.inbox, []
        for waiting in inbox:
            self._perform(host, host.core.handle_packet(waiting.messages, waiting.source, now))
        if host.core.next_deadline() <= now:
            host.wake_at = float("inf")
            self._perform(host, host.core.tick(now))
        else:
            if host.wake_at <= self.now:
                host.wake_at = float("inf")
            self._rearm(host)

    def _perform(self, host: Host, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendPacket():
                    self._send(host, effect)
                case Notify():
                    self.log.append((self.now, host.name, effect.event))
                case StartPushPull():
                    self._push_pull(host, effect.to, join=False)
                case StartStreamPing():
                    self._stream_ping(host, effect)
        self._rearm(host)

    def _send(self, host: Host, effect: SendPacket) -> None:
        self.packets += 1
        network = self.network
        name = self._by_address.get(effect.to[0])
        if name is None or (network.cut and (host.name, name) in network.cut):
            return
        loss = network.lossy.get((host.name, name), network.loss) if network.lossy else network.loss
        copies = 2 if network.duplicate and self._random() < network.duplicate else 1
        messages: Sequence[PacketMessage] | None = None
        for _ in range(copies):
            if loss and self._random() < loss:
                continue
            if messages is None:
                messages = self._carry(effect)
            when = self.now + self._delay()
            if network.slow:
                when += network.slow.get(name, 0.0)
            self._number += 1
            datagram = _Datagram(name, messages, host.address)
            heapq.heappush(self._agenda, (when, self._number, datagram))

    def _carry(self, effect: SendPacket) -> Sequence[PacketMessage]:
        if self._wire is None:
            if len(effect.parts) == 1 and not isinstance(effect.parts[0], bytes):
                return (effect.parts[0],)  # nearly all
            return [_decode(part) if isinstance(part, bytes) else part for part in effect.parts]
        parts = [part if isinstance(part, bytes) else codec.encode(part) for part in effect.parts]
        return self._wire.open(self._wire.seal(parts, crc=effect.crc, nonce=self._rng.randbytes(12)))

    def _deliver(self, datagram: _Datagram) -> None:
        host = self.hosts[datagram.to]
        if not host.running:
            return
        if self.now < host.frozen_until:
            host.inbox.append(datagram)
            return
        now = self.now + host.clock
        self._perform(host, host.core.handle_packet(datagram.messages, datagram.source, now))

    # ------------------------------------------------------------------------------------- streams

    def _push_pull(self, host: Host, to: Address, *, join: bool) -> None:
        def answered(answer: StreamMessage | None) -> None:
            if isinstance(answer, PushPull):
                try:
                    now = self.now + host.clock
                    self._perform(host, host.core.merge(answer, join=join, now=now))
                except JoinError:
                    pass

        self._exchange(host, to, host.core.local_state(join=join), answered)

    def _stream_ping(self, host: Host, effect: StartStreamPing) -> None:
        def answered(answer: StreamMessage | None) -> None:
            if answer is not None and self.now + host.clock <= effect.deadline_at:
                host.core.stream_acked(effect.ping.seq_no)

        self._exchange(host, effect.to, effect.ping, answered)

    def _exchange(
        self,
        host: Host,
        to: Address,
        request: StreamMessage,
        answered: Callable[[StreamMessage | None], None],
    ) -> None:
        """TCP repairs loss; a cut link, a crash or a frozen peer ends in silence."""
        name = self._by_address.get(to[0], "")

        def passable() -> bool:
            peer = self.hosts.get(name)
            return (
                peer is not None
                and peer.running
                and host.running
                and not {(host.name, name), (name, host.name)} & self.network.cut
            )

        def serve() -> None:
            if not passable():
                return
            peer = self.hosts[name]
            if self.now < peer.frozen_until:
                self._at(peer.frozen_until, serve)
                return
            answer, effects = peer.core.serve(request, self.now + peer.clock)
            self._perform(peer, effects)
            if answer is not None:
                self._at(self.now + self._delay(), lambda: finish(answer))

        def finish(answer: StreamMessage) -> None:
            if passable() and self.now >= host.frozen_until:
                answered(answer)

        handshake = sum(self._delay() for _ in range(HANDSHAKE))
        self._at(self.now + handshake, serve)

    def _delay(self) -> float:
        """One way."""
        least, most = self.network.latency
        return least + (most - least) * self._random()


def secure_wire(key: bytes = bytes(32), label: str = "") -> Wire:
    """A wire with encryption and compression on, for runs through octets."""
    return Wire(keyring=Keyring([key]), label=label, compress=True)
