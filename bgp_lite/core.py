"""One BGP session: timers and messages in, effects out.  No socket, no clock, no chance of its own.

The driver calls `connected`, `received`, `failed` and `tick`, performs the effects, and calls `take` whenever
the socket can be written.  Routes are put into `rib` at any time, session or not; `take` turns what changed
into messages at the last moment.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from bgp_lite.attributes import Dialect
from bgp_lite.config import PeerConfig
from bgp_lite.errors import Cease, Code, PeerError
from bgp_lite.fsm import TRANSITIONS, UNEXPECTED_SUBCODE, Action, Event, State
from bgp_lite.messages import (
    AS_TRANS,
    Capabilities,
    GracefulRestart,
    Keepalive,
    Notification,
    Open,
    RouteRefresh,
    Type,
)
from bgp_lite.prefix import UNICAST, Family
from bgp_lite.rib import REFRESH_BEGINS, AdjRibOut, Outlet, session_next_hops
from bgp_lite.wire import KEEPALIVE, MAX_EXTENDED, MAX_MESSAGE, Framer, decode, encode, split_update

OPEN_HOLD: Final = 30.0
"""Seconds a peer has for its OPEN and the KEEPALIVE after it (RFC 4271 suggests 240: too long to find out
that a router accepts connections and says nothing)."""
FIRST_RETRY: Final = 0.2
"""Seconds until the second attempt.  Routers refuse for about a second after a reset."""
RETRY_GROWTH: Final = 1.6
RETRY_EARLY_CAP: Final = 5.0
"""Seconds; the cap on pauses during the first minute."""
RETRY_EARLY: Final = 60.0
RETRY_REJECTED: Final = 30.0
"""Seconds to wait at least after the peer said it does not want us (cease 1, 2, 3, 5)."""
MIN_SEND_HOLD: Final = 30.0
"""Seconds a write may block (RFC 9687), or twice the hold time where that is longer."""
BATCH: Final = 64
"""UPDATEs in one write."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a TCP connection; answer with `connected` or `failed`."""


@dataclass(frozen=True, slots=True)
class Flush:
    """There is something to `take`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Write `last` as far as it goes at once, then close the connection."""

    last: bytes = b""


@dataclass(frozen=True, slots=True)
class Adopt:
    """From now on the session's connection is the one that was given to `accepted`."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The session went from one state to another."""

    old: State
    new: State
    why: str


Effect: TypeAlias = Connect | Flush | Close | Adopt | Changed


@dataclass(slots=True)
class Counters:
    """Messages of this session's life, all connections together."""

    opens_sent: int = 0
    opens_received: int = 0
    updates_sent: int = 0
    updates_received: int = 0
    keepalives_sent: int = 0
    keepalives_received: int = 0
    notifications_sent: int = 0
    notifications_received: int = 0
    refreshes_received: int = 0
    established: int = 0


class Session:
    """The whole of one peer but its socket."""

    def __init__(self, config: PeerConfig, *, rng: random.Random) -> None:
        self.config = config
        self.state = State.IDLE
        self.rib = AdjRibOut()
        self.counters = Counters()
        self.peer_open: Open | None = None
        self.hold_time = 0
        """Negotiated, seconds; 0 means none."""
        self.last_error = ""
        self._rng = rng
        self._framer = Framer()
        self._out = bytearray()
        self._batches: Iterator[bytes] | None = None
        self._outlet: Outlet | None = None
        self._local: Mapping[Family, bytes] = {}
        self._retry_at = self._hold_at = self._keepalive_at = self._send_hold_at = math.inf
        self._failures = 0
        self._trying_since: float | None = None
        self._established_at: float | None = None
        self._first_open = True
        self._peer_opened = False
        """The connection at hand is one the peer made."""

    # -- what the driver and the user call ------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        if self.config.passive and self.state is State.IDLE:
            return self._enter(State.ACTIVE, "waiting for the peer to connect")
        return self._fire(Event.START, now, "started")

    def stop(self, now: float, cease: Cease | None = Cease.ADMIN_SHUTDOWN, text: str = "") -> list[Effect]:
        """End the session.  `cease` None closes without NOTIFICATION, so that a peer with graceful restart
        keeps our routes; `text` is shown to the peer's operator (RFC 9003), 255 octets at most."""
        if cease is None:
            return self._leave(State.IDLE, "closed for restart", b"", now)
        data = b""
        if text and cease in (Cease.ADMIN_SHUTDOWN, Cease.ADMIN_RESET):
            message = text.encode()[:255].decode(errors="ignore").encode()
            data = bytes((len(message),)) + message
        return self._fire(Event.STOP, now, text or "stopped", Notification(Code.CEASE, cease, data))

    def connected(self, now: float, local: Mapping[Family, bytes]) -> list[Effect]:
        """TCP is up.  `local` has this end's next hop per family: 4, 16 or 32 octets."""
        self._local = local
        return self._fire(Event.CONNECTED, now, "connected")

    def failed(self, now: float, why: str) -> list[Effect]:
        return self._fire(Event.FAILED, now, why)

    def prefers(self, theirs: Open) -> bool:
        """Whether a connection the peer made, on which it sent `theirs`, is to be kept rather than the one at
        hand, if there is one (RFC 4271 §6.8)."""
        match self.state:
            case State.IDLE:
                return False
            case State.CONNECT | State.ACTIVE:
                return True
            case State.ESTABLISHED:
                # RFC 4724 §4.2: who can restart and opens another connection has lost the first.
                had = self.peer_open.capabilities.graceful_restart if self.peer_open else None
                return self.config.restart_time is not None and had is not None
            case _ if self._peer_opened:
                return True  # it made both, so it has given up the first
            case _:
                # Equal identifiers may meet between two ASes: the higher AS wins (RFC 6286 §2.3).
                return (theirs.router_id, theirs.real_asn) > (self._router_id, self.config.local_as)

    def accepted(
        self, now: float, local: Mapping[Family, bytes], framer: Framer, theirs: Open
    ) -> list[Effect]:
        """A connection the peer made replaces whatever there is: see `prefers`.

        Our OPEN (`hello`) was sent on it, `theirs` received and checked; `framer` has what came after it.
        """
        last = b""
        if self.state in (State.OPEN_SENT, State.OPEN_CONFIRM):
            last = encode(Notification(Code.CEASE, Cease.COLLISION))
            self.counters.notifications_sent += 1
        # An Established one that the peer has forgotten ends without a word, so that routes are kept.
        effects = self._drop(last, now)
        self._local, self._framer, self._peer_opened = local, framer, True
        self.peer_open = theirs
        self.counters.opens_sent += 1
        self.counters.opens_received += 1
        effects += [Adopt(), *self._fire(Event.ACCEPTED, now, "connected by the peer")]
        return effects + self.received(b"", now)

    def received(self, data: bytes, now: float) -> list[Effect]:
        """Octets from the peer.  Whatever they are, the answer is effects, never an exception."""
        effects: list[Effect] = []
        self._framer.feed(data)
        try:
            while self.state >= State.OPEN_SENT and (frame := self._framer.next_frame()):
                effects += self._message(*frame, now)
        except PeerError as problem:
            notification = Notification(problem.code, problem.subcode, problem.data)
            effects += self._fire(Event.BROKEN, now, str(problem), notification)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Do whatever is due.  Early and repeated calls change nothing."""
        effects: list[Effect] = []
        if self._retry_at <= now:
            self._retry_at = math.inf
            effects += self._fire(Event.RETRY, now, "retry")
        if self._hold_at <= now:
            effects += self._fire(
                Event.HOLD_EXPIRED, now, "hold timer expired", Notification(Code.HOLD_TIMER, 0)
            )
        if self._send_hold_at <= now:
            # Nothing can be said to a peer that does not read (RFC 9687 §3.2).
            effects += self._leave(State.ACTIVE, "send hold timer expired", b"", now)
        if self._keepalive_at <= now:
            self._keepalive_at = now + self._keepalive_interval()
            self._send_keepalive()
            effects.append(Flush())
        return effects

    def next_deadline(self) -> float:
        return min(self._retry_at, self._hold_at, self._keepalive_at, self._send_hold_at)

    def take(self, now: float) -> bytes:
        """What to write next, or nothing.  Calling it says that what was taken before has been written."""
        self._send_hold_at = math.inf
        data = bytes(self._out)
        self._out.clear()
        if not data and self.state is State.ESTABLISHED:
            data = self._next_batch()
        if data:
            self._send_hold_at = now + max(MIN_SEND_HOLD, 2 * self.hold_time)
        return data

    @property
    def synced(self) -> bool:
        """Everything wanted has been taken for writing."""
        return self.state is State.ESTABLISHED and self._batches is None and not self.rib.pending

    # -- messages -------------------------------------------------------------------------------------

    def _message(self, kind: Type, body: bytes, now: float) -> list[Effect]:
        if kind is Type.UPDATE:
            # A full table is counted and forgotten: its lengths are checked, its routes never built.
            split_update(body)
            self.counters.updates_received += 1
            return self._fire(Event.UPDATE, now, "")
        match decode(kind, body):
            case Open() as message:
                self.counters.opens_received += 1
                if self.state is State.OPEN_SENT:
                    self.check(message)
                    self.peer_open = message
                return self._fire(Event.OPEN, now, "OPEN received")
            case Keepalive():
                self.counters.keepalives_received += 1
                return self._fire(Event.KEEPALIVE, now, "session up")
            case Notification() as message:
                self.counters.notifications_received += 1
                if message.code == Code.CEASE and message.subcode in (1, 2, 3, 5):
                    self._failures = max(self._failures, 1)
                    self._retry_at = now + RETRY_REJECTED
                return self._fire(Event.NOTIFICATION, now, f"peer said: {describe(message)}")
            case RouteRefresh(afi, safi, subtype):
                self.counters.refreshes_received += 1
                effects = self._fire(Event.REFRESH, now, "")
                families = self._outlet.families if self._outlet else frozenset()
                if self.state is State.ESTABLISHED and subtype == 0 and safi == UNICAST and afi in families:
                    self._refresh(Family(afi))
                    effects.append(Flush())
                return effects
            case _:
                raise AssertionError(kind)

    def check(self, message: Open) -> None:
        """RFC 4271 §6.2, in its order.  Raises PeerError."""
        asn = message.real_asn
        if asn == 0 or not self.config.accepts_as(asn):
            raise PeerError(Code.OPEN, 2, f"peer is AS {asn}, expected {self.config.peer_as}")
        if asn == self.config.local_as and message.router_id == self._router_id:
            raise PeerError(Code.OPEN, 3, f"peer has our own BGP identifier {self.config.router_id}")

    def _fire(
        self, event: Event, now: float, why: str, notification: Notification | None = None
    ) -> list[Effect]:
        action, new = TRANSITIONS[self.state][event]
        match action:
            case Action.NOTHING:
                return []
            case Action.CONNECT:
                return [*self._enter(new, why), Connect()]
            case Action.SEND_OPEN:
                self._framer, self._peer_opened = Framer(), False
                self._hold_at = now + OPEN_HOLD
                self._out += encode(self.hello())
                self.counters.opens_sent += 1
                return [*self._enter(new, why), Flush()]
            case Action.CONFIRM | Action.ADOPT:
                self._retry_at = math.inf
                self._negotiate(now)
                self._send_keepalive()
                return [*self._enter(new, why), Flush()]
            case Action.ESTABLISH:
                return [*self._establish(now), Flush()]
            case Action.ALIVE:
                self._restart_hold(now)
                return []
            case Action.GO_IDLE | Action.RETRY_LATER:
                return self._leave(new, why, b"", now)
            case Action.UNEXPECTED:
                notification = Notification(Code.FSM, UNEXPECTED_SUBCODE[self.state])
                why = f"{event.value} in state {self.state.name}"
            case Action.CEASE | Action.HOLD | Action.REJECT:
                pass
        assert notification is not None
        self.counters.notifications_sent += 1
        return self._leave(new, why, encode(notification), now)

    # -- entering and leaving states --------------------------------------------------------------------

    def _enter(self, new: State, why: str) -> list[Effect]:
        if new is self.state:
            return []
        old, self.state = self.state, new
        return [Changed(old, new, why)]

    def _leave(self, new: State, why: str, last: bytes, now: float) -> list[Effect]:
        """Close and go to IDLE, or to ACTIVE with the retry timer set."""
        effects = self._drop(last, now)
        self.last_error = why
        if new is State.IDLE:
            self._retry_at, self._failures, self._trying_since = math.inf, 0, None
        else:
            self._set_retry(now)
        return effects + self._enter(new, why)

    def _drop(self, last: bytes, now: float) -> list[Effect]:
        """Forget the connection at hand, if there is one, and all that was agreed on it."""
        had_connection = self.state >= State.CONNECT and self.state is not State.ACTIVE
        if self._established_at is not None and self.hold_time <= now - self._established_at:
            self._failures, self._trying_since = 0, None  # it was a good session: start over gently
        self._established_at = None
        self._hold_at = self._keepalive_at = self._send_hold_at = math.inf
        # A write under way may have ended in the middle of a message: then nothing can follow it.
        self._out.clear()
        self._batches, self._outlet, self.peer_open, self.hold_time = None, None, None, 0
        return [Close(last)] if had_connection else []

    def _set_retry(self, now: float) -> None:
        if self.config.passive:
            return
        if self._trying_since is None:
            self._trying_since = now
        early = now - self._trying_since < RETRY_EARLY
        cap = min(RETRY_EARLY_CAP, self.config.connect_time) if early else self.config.connect_time
        pause = min(cap, FIRST_RETRY * RETRY_GROWTH ** min(self._failures, 32))
        self._failures += 1
        # RFC 4271 §10: jitter of 0.75 to 1.
        at = now + pause * self._rng.uniform(0.75, 1.0)
        self._retry_at = at if self._retry_at == math.inf else max(at, self._retry_at)

    def _negotiate(self, now: float) -> None:
        assert self.peer_open is not None
        theirs = self.peer_open.capabilities
        self.hold_time = min(self.config.hold_time, self.peer_open.hold_time)
        self._hold_at = now + OPEN_HOLD
        extended = theirs.extended_message
        self._framer.max_message = MAX_EXTENDED if extended else MAX_MESSAGE
        # A peer without capability 1 speaks IPv4 unicast (RFC 4760 §8).
        families = self.config.families & (theirs.families or {Family.IPV4})
        next_hops = session_next_hops(self._local, self.config.next_hops, theirs, six=self._over_ipv6)
        dialect = Dialect(self.config.local_as, self.peer_open.real_asn, theirs.asn is not None)
        self._outlet = Outlet(dialect, next_hops, frozenset(families))

    def _establish(self, now: float) -> list[Effect]:
        assert self._outlet is not None
        self.counters.established += 1
        self._established_at = now
        self._first_open = False
        self._restart_hold(now)
        self._keepalive_at = now + self._keepalive_interval() if self.hold_time else math.inf
        self.rib.session_up(self._outlet.families)
        self.last_error = ""
        return self._enter(State.ESTABLISHED, "session up")

    def _restart_hold(self, now: float) -> None:
        self._hold_at = now + self.hold_time if self.hold_time else math.inf

    def _keepalive_interval(self) -> float:
        interval = min(self.config.keepalive_time or math.inf, self.hold_time / 3)
        return interval * self._rng.uniform(0.75, 1.0)

    # -- what is written ---------------------------------------------------------------------------------

    @property
    def _router_id(self) -> int:
        return int(IPv4Address(self.config.router_id))

    @property
    def _over_ipv6(self) -> bool:
        return self.config.interface is not None or ":" in self.config.peer

    def hello(self) -> Open:
        """Our OPEN."""
        config = self.config
        restart = None
        if config.restart_time is not None:
            restart = GracefulRestart(
                restart_time=config.restart_time,
                restarting=config.restarted and self._first_open,
                forwarding=config.families,
            )
        capabilities = Capabilities(
            families=config.families,
            asn=config.local_as,
            route_refresh=True,
            enhanced_refresh=True,
            extended_message=True,
            extended_next_hop=Family.IPV4 in config.families
            and (self._over_ipv6 or len(config.next_hops.get(Family.IPV4, b"")) > 4),
            graceful_restart=restart,
            hostname=config.hostname,
        )
        asn = config.local_as if config.local_as <= 0xFFFF else AS_TRANS
        return Open(asn, config.hold_time, self._router_id, capabilities)

    def _send_keepalive(self) -> None:
        self._out += KEEPALIVE
        self.counters.keepalives_sent += 1

    def _refresh(self, family: Family) -> None:
        if self._batches is not None:
            self._batches = None  # closes the generator: what it had not given goes back into the RIB
        theirs = self.peer_open.capabilities if self.peer_open else None
        enhanced = theirs is not None and theirs.enhanced_refresh
        if enhanced:
            self._out += encode(RouteRefresh(family, UNICAST, REFRESH_BEGINS))
        self.rib.refresh(family, enhanced=enhanced)

    def _next_batch(self) -> bytes:
        assert self._outlet is not None
        if self._batches is None:
            if not self.rib.pending:
                return b""
            self._batches = self.rib.messages(self._outlet)
        out = bytearray()
        for _ in range(BATCH):
            update = next(self._batches, None)
            if update is None:
                self._batches = None
                break
            out += update
            self.counters.updates_sent += update[18] == Type.UPDATE
        return bytes(out)


def describe(notification: Notification) -> str:
    """For logs and status: code, subcode and the peer's words (RFC 9003), control characters removed."""
    try:
        name = Code(notification.code).name.lower().replace("_", " ")
    except ValueError:
        name = "unknown code"
    text = f"{name} ({notification.code}/{notification.subcode})"
    if notification.code == Code.CEASE and notification.subcode in (2, 4) and notification.data:
        words = notification.data[1 : 1 + notification.data[0]].decode(errors="replace")
        text += f": {''.join(c for c in words if c.isprintable())}"
    return text
