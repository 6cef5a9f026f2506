"""BGP sessions of our own: one `bgp_lite` session for each BGPPeer, in this process."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from bgp_lite.attributes import Path
from bgp_lite.config import PeerConfig
from bgp_lite.core import Changed, Counters, Session
from bgp_lite.driver import Driver
from bgp_lite.errors import Cease, UsageError
from bgp_lite.fsm import State
from bgp_lite.prefix import Family, Prefix
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from crier.kube.watch import backoff
from crier.ops import logs
from speaker.planner.bfd import News
from speaker.planner.routerid import router_id
from speaker.planner.routers import SessionView
from speaker.planner.routes import differences

log = logs.get(__name__)

RESTART_TIME: Final = 120
"""Seconds a router with graceful restart keeps our routes while no planner runs: FRR's default."""
GRACEFUL: Final = 0.4
"""Seconds between asking routers to prefer others and withdrawing; all of the end takes at most 1.5 s."""
GOODBYE: Final = 1.2
"""Seconds for the whole of `close`."""
REASON_LASTS: Final = 60.0
"""Seconds for which a reason is not replaced by "the peer closed the connection"."""
_VAGUE: Final = ("peer closed the connection", "connection lost")
LAST_WORDS: Final = 2.0
"""Seconds a session that is no longer wanted may take to say so."""

Told = Mapping[Prefix, Path]
_NOTHING: Final[Told] = {}


class NativeRouters:
    """See `Routers`.  Belongs to one trio task tree; `changed` is called when `sessions` has news."""

    def __init__(self, *, changed: Callable[[], None] = lambda: None, rng: random.Random) -> None:
        self._changed = changed
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        self._nursery: trio.Nursery | None = None
        self._closing = False

    def apply(self, peers: Sequence[BgpPeer], routes: Mapping[str, Told], node: Node) -> None:
        if self._closing:
            return
        wanted = {peer.name: peer for peer in peers}
        for name in self._peers.keys() - wanted.keys():
            self._end(self._peers.pop(name), Cease.DECONFIGURED)
        for name, peer in wanted.items():
            told = routes.get(name, _NOTHING)
            here = self._peers.get(name)
            if here is None:
                self._begin(_Peer(peer, told, node.name, self._rng, self._changed))
            elif here.peer != peer:
                log.info("bgp_peer_changed", peer=name)
                self._end(here, Cease.CONFIG_CHANGE)
                self._begin(here.successor(peer, told))
            else:
                here.tell(told)
        self._changed()

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            for peer in self._peers.values():
                self._nursery.start_soon(peer.run)
            await trio.sleep_forever()

    async def close(self) -> None:
        self._closing = True
        with trio.move_on_after(GOODBYE, shield=True):
            async with trio.open_nursery() as nursery:
                for peer in self._peers.values():
                    nursery.start_soon(peer.goodbye)
        log.info("bgp_closed", sessions=len(self._peers))

    def sessions(self) -> Sequence[SessionView]:
        return tuple(self._peers[name].view() for name in sorted(self._peers))

    def told(self) -> Mapping[str, Told]:
        return {name: peer.sent for name, peer in self._peers.items()}

    def note_bfd(self, news: News) -> None:
        """What BFD says of a peer's address."""
        peer = self._peers.get(news.peer)
        if peer is not None:
            peer.note_bfd(news)

    def neighbor(self, name: str) -> str:
        """Where an unnumbered peer is: its address with the interface, "" until its session was up."""
        peer = self._peers.get(name)
        return peer.neighbor if peer is not None else ""

    def _begin(self, peer: _Peer) -> None:
        self._peers[peer.peer.name] = peer
        if self._nursery is not None:
            self._nursery.start_soon(peer.run)

    def _end(self, peer: _Peer, cease: Cease) -> None:
        if self._nursery is None:
            peer.ended.set()
        else:
            self._nursery.start_soon(peer.end, cease)


@dataclass(slots=True, eq=False)
class _Peer:
    """One BGPPeer and its session, as soon as that can be had."""

    peer: BgpPeer
    told: Told
    node: str
    rng: random.Random
    changed: Callable[[], None]
    since: float = field(default_factory=time.time)
    bfd: str = ""
    bfd_counters: Mapping[str, int] = field(default_factory=dict)
    last_error: str = ""
    earlier: Counter[str] = field(default_factory=Counter)
    """What the sessions of this peer before this one counted."""
    restarted: bool = True
    """The router may hold routes of a process before this one: of another planner, or another pod."""
    before: _Peer | None = None
    """Whom we wait for: two connections of one pair of routers would collide."""
    ended: trio.Event = field(default_factory=trio.Event)
    _told_why_at: float = -math.inf
    _session: Session | None = None
    _driver: Driver | None = None
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def successor(self, peer: BgpPeer, told: Told) -> _Peer:
        after = _Peer(peer, told, self.node, self.rng, self.changed, restarted=False, before=self)
        after.last_error, after.earlier = self.last_error, self._counters()
        return after

    async def run(self) -> None:
        if self.before is not None:
            await self.before.ended.wait()
            self.before = None
        try:
            with self._scope:
                driver = await self._prepared()
                await driver.run()
        finally:
            self.ended.set()

    async def _prepared(self) -> Driver:
        """The session, once its identifier can be known: it may be that there is no way to the peer yet."""
        failures = 0
        while True:
            try:
                config = peer_config(self.peer, self.node, restarted=self.restarted)
            except (OSError, UsageError) as problem:
                failures += 1
                self._failed(f"cannot prepare the session: {problem}")
                await trio.sleep(min(backoff(failures, self.rng), 5.0))
                continue
            session = Session(config, rng=self.rng)
            session.rib.replace(self.told)
            driver = Driver(session, self._on_state, self.changed)
            self._session, self._driver = session, driver
            return driver

    def tell(self, told: Told) -> None:
        if told is self.told:
            return
        before, self.told = self.told, told
        if self._session is not None and self._driver is not None:
            rib = self._session.rib
            for prefix, path in differences(before, told).items():
                if path is None:
                    rib.withdraw(prefix)
                else:
                    rib.announce(prefix, path)
            self._driver.poke()

    def note_bfd(self, news: News) -> None:
        self.bfd_counters = news.counters
        if news.state != self.bfd:
            log.info("bfd_session", peer=self.peer.name, state=news.state, was=self.bfd or None)
            self.bfd = news.state
            self.changed()
        if news.failed and self._driver is not None:
            log.warning("bgp_session_ended_by_bfd", peer=self.peer.name)
            self._driver.bfd_down()

    async def end(self, cease: Cease) -> None:
        """This session is not wanted any more."""
        try:
            if self._driver is not None:
                with trio.move_on_after(LAST_WORDS):
                    await self._driver.stop(cease)
        finally:
            self._scope.cancel()
            self.ended.set()

    async def goodbye(self) -> None:
        """We go: first nobody shall prefer us, then all is withdrawn.

        With graceful restart not a word: a NOTIFICATION would end what the router is to keep until the next
        speaker of this node comes (RFC 4724 4).
        """
        if self._driver is not None and self.peer.graceful_restart:
            await self._driver.stop(None)
        elif self._driver is not None:
            await self._driver.stop(Cease.ADMIN_SHUTDOWN, "speaker stopped", graceful=GRACEFUL)
        self._scope.cancel()

    @property
    def neighbor(self) -> str:
        return (self._driver.peer_address or "") if self._driver is not None else ""

    @property
    def sent(self) -> Told:
        """What the router has from us by this session."""
        session = self._session
        return session.rib.sent if session is not None and session.state is State.ESTABLISHED else _NOTHING

    def view(self) -> SessionView:
        peer, session = self.peer, self._session
        return SessionView(
            peer=peer.name,
            address=str(peer.address) if peer.address is not None else peer.interface,
            port=peer.port,
            vrf=peer.vrf,
            state=_NAMES[session.state if session is not None else State.IDLE],
            since=self.since,
            last_error=self.last_error,
            wanted=len(self.told),
            sent=len(self.sent),
            bfd=(self.bfd or "Down") if peer.bfd is not None else "",
            counters={**self._counters(), **self.bfd_counters},
        )

    def _counters(self) -> Counter[str]:
        found = Counter(self.earlier)
        found.update(_by_name(self._session.counters if self._session is not None else Counters()))
        return found

    def _on_state(self, change: Changed) -> None:
        name, new = self.peer.name, _NAMES[change.new]
        self.since = time.time()
        if change.new is State.ESTABLISHED:
            log.info("bgp_session_up", peer=name, address=str(self.peer.address or self.peer.interface))
        elif change.old is State.ESTABLISHED:
            self.last_error = change.why
            log.warning("bgp_session_down", peer=name, why=change.why)
        elif change.new in (State.ACTIVE, State.IDLE):
            self._failed(change.why)
        log.debug("bgp_state", peer=name, old=_NAMES[change.old], new=new, why=change.why)
        self.changed()

    def _failed(self, why: str) -> None:
        now = trio.current_time()
        if why.startswith(_VAGUE):
            if self.last_error and now - self._told_why_at < REASON_LASTS:
                return  # after a refusal a router hangs up on us for a while; the reason was the one before
        else:
            self._told_why_at = now
        if why != self.last_error:  # said once, not with every attempt
            self.last_error = why
            log.warning("bgp_session_failed", peer=self.peer.name, why=why)
            self.changed()


_NAMES: Final = {
    State.IDLE: "Idle",
    State.CONNECT: "Connect",
    State.ACTIVE: "Active",
    State.OPEN_SENT: "OpenSent",
    State.OPEN_CONFIRM: "OpenConfirm",
    State.ESTABLISHED: "Established",
}


def peer_config(peer: BgpPeer, node: str, *, restarted: bool) -> PeerConfig:
    """What a checked BGPPeer means for `bgp_lite`.

    Raises OSError when our identifier cannot be told without a way to the peer, UsageError for what
    `bgp_lite` does not take.
    """
    return PeerConfig(
        peer=str(peer.address) if peer.address is not None else "",
        interface=peer.interface or None,
        local_as=peer.asn,
        peer_as=peer.peer_asn,
        router_id=router_id(peer, node),
        port=peer.port,
        source=str(peer.source) if peer.source is not None else None,
        device=peer.vrf or None,
        hold_time=peer.hold_time,
        keepalive_time=peer.keepalive_time,
        connect_time=peer.connect_time or 30.0,
        families=frozenset(Family.IPV4 if version == 4 else Family.IPV6 for version in peer.versions),
        password=peer.password,
        multihop=peer.multihop,
        restart_time=RESTART_TIME if peer.graceful_restart else None,
        restarted=restarted and peer.graceful_restart,
        hostname=node,
    )


def _by_name(counters: Counters) -> Counter[str]:
    """By the last part of MetalLB's metric's name."""
    sent = {
        "updates_total": counters.updates_sent,
        "opens_sent": counters.opens_sent,
        "notifications_sent": counters.notifications_sent,
        "keepalives_sent": counters.keepalives_sent,
        "route_refresh_sent": 0,
    }
    received = {
        "updates_total_received": counters.updates_received,
        "opens_received": counters.opens_received,
        "keepalives_received": counters.keepalives_received,
    }
    others = counters.notifications_received + counters.refreshes_received
    return Counter(
        {
            **sent,
            **received,
            "total_sent": sum(sent.values()),
            "total_received": sum(received.values()) + others,
        }
    )
