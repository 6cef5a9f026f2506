"""BFD in the reflex: the sessions of the standing orders outlive every planner.

Nothing is decided here.  `bgp_lite.bfd` keeps the sessions; what the planner ordered is compared with what
runs, and each change of state is told at once.
"""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import trio

from bgp_lite.bfd.core import Changed, Profile
from bgp_lite.bfd.driver import Driver, Peer, Running
from bgp_lite.bfd.packet import Diagnostic, State
from crier.ops import logs
from speaker.orders import REMOTE_ADMIN_DOWN, BadOrder, Bfd, BfdPeer, BfdState

log = logs.get(__name__)

MAX_PEERS: Final = 256
MAX_NAME: Final = 15
"""Octets of an interface's name."""
RETRY: Final = 1.0
"""Seconds until sockets that could not be had are tried again: an interface or an address may come."""

Key: TypeAlias = tuple[str, str, bool]
Told: TypeAlias = Callable[[str, str, str], None]
"""What happened, to which address, why."""

_STATES: Final = {
    State.ADMIN_DOWN: "AdminDown",
    State.DOWN: "Down",
    State.INIT: "Init",
    State.UP: "Up",
}
_DIAGNOSTICS: Final = {
    Diagnostic.NONE: "No Diagnostic",
    Diagnostic.DETECTION_TIME_EXPIRED: "Control Detection Time Expired",
    Diagnostic.ECHO_FAILED: "Echo Function Failed",
    Diagnostic.NEIGHBOR_DOWN: "Neighbor Signaled Session Down",
    Diagnostic.FORWARDING_RESET: "Forwarding Plane Reset",
    Diagnostic.PATH_DOWN: "Path Down",
    Diagnostic.CONCATENATED_PATH_DOWN: "Concatenated Path Down",
    Diagnostic.ADMIN_DOWN: "Administratively Down",
    Diagnostic.REVERSE_CONCATENATED_PATH_DOWN: "Reverse Concatenated Path Down",
}


@dataclass(slots=True, eq=False)
class _Watched:
    order: BfdPeer
    running: Running | None = None
    problem: str = ""
    """Why there is no session."""
    why: str = _DIAGNOSTICS[Diagnostic.NONE]
    since: float = field(default_factory=time.time)
    ups: int = 0
    downs: int = 0


class Sessions:
    """`changed` is called when the snapshot has news, `happened` when a session came up or went down."""

    def __init__(self, *, changed: Callable[[], None], happened: Told, rng: random.Random) -> None:
        self._changed = changed
        self._happened = happened
        self._driver = Driver(rng=rng)
        self._watched: dict[Key, _Watched] = {}

    def __bool__(self) -> bool:
        return bool(self._watched)

    def order(self, peers: tuple[BfdPeer, ...]) -> None:
        """Make these the sessions.  Those that stay the same are not touched."""
        wanted = {_key(peer): peer for peer in peers}
        for key in [
            key for key, one in self._watched.items() if not _same_socket(one.order, wanted.get(key))
        ]:
            self._end(self._watched.pop(key))
        for key, peer in wanted.items():
            one = self._watched.get(key)
            if one is None:
                self._watched[key] = one = _Watched(peer)
                self._begin(one)
            elif one.order != peer:
                one.order = peer
                if one.running is not None:
                    one.running.session.change(_profile(peer), trio.current_time())
        self._changed()

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._driver.run)
            while True:
                await trio.sleep(RETRY)
                for one in self._watched.values():
                    if one.running is None:
                        self._begin(one)

    def leave(self) -> None:
        """Tell every peer that we end on purpose."""
        for one in self._watched.values():
            if one.running is not None:
                self._driver.say_goodbye(one.running)

    async def snapshot(self) -> Bfd:
        return Bfd(tuple(_state(self._watched[key]) for key in sorted(self._watched)))

    def _begin(self, one: _Watched) -> None:
        peer = one.order
        where = Peer(peer.address, peer.local or None, peer.device or None, peer.multihop)
        try:
            one.running = self._driver.add(where, _profile(peer), lambda change: self._on_change(one, change))
        except (OSError, ValueError) as problem:
            if str(problem) != one.problem:
                log.warning("bfd_not_started", address=peer.address, why=problem)
            one.problem = str(problem)
        else:
            one.problem = ""

    def _end(self, one: _Watched) -> None:
        if one.running is not None:
            self._driver.say_goodbye(one.running)
            self._driver.remove(one.running)

    def _on_change(self, one: _Watched, change: Changed) -> None:
        one.since = time.time()
        one.why = _DIAGNOSTICS[change.diagnostic]
        if change.new is State.UP:
            one.ups += 1
            self._happened("bfd_up", one.order.address, "")
        elif change.old is State.UP:
            one.downs += 1
            remote = one.running.session.remote_state if one.running is not None else State.DOWN
            if change.diagnostic is Diagnostic.NEIGHBOR_DOWN and remote is State.ADMIN_DOWN:
                one.why = REMOTE_ADMIN_DOWN
            self._happened("bfd_down", one.order.address, one.why)
        self._changed()


def check(peers: tuple[BfdPeer, ...]) -> None:
    """Raises BadOrder unless the orders make sense."""
    if len(peers) > MAX_PEERS:
        raise BadOrder(f"bfd: {len(peers)} sessions, at most {MAX_PEERS} are kept")
    seen: set[Key] = set()
    for peer in peers:
        for name, text in (("address", peer.address), ("local", peer.local)):
            try:
                if text or name == "address":
                    ipaddress.ip_address(text)
            except ValueError:
                raise BadOrder(f"bfd: {name} {text[:64]!r} is not an IP address") from None
        if len(peer.device.encode()) > MAX_NAME or "\0" in peer.device:
            raise BadOrder(f"bfd: {peer.address}: {peer.device[:64]!r} is no interface")
        try:
            _profile(peer)
        except ValueError as problem:
            raise BadOrder(f"bfd: {peer.address}: {problem}") from None
        if _key(peer) in seen:
            raise BadOrder(f"bfd: {peer.address} stands there twice")
        seen.add(_key(peer))


def _key(peer: BfdPeer) -> Key:
    return peer.address, peer.device, peer.multihop


def _same_socket(one: BfdPeer, other: BfdPeer | None) -> bool:
    return other is not None and one.local == other.local


def _profile(peer: BfdPeer) -> Profile:
    return Profile(
        transmit_interval=peer.transmit / 1000,
        receive_interval=peer.receive / 1000,
        detect_multiplier=peer.multiplier,
        passive=peer.passive,
        minimum_ttl=peer.minimum_ttl,
    )


def _state(one: _Watched) -> BfdState:
    running = one.running
    return BfdState(
        address=one.order.address,
        device=one.order.device,
        multihop=one.order.multihop,
        state=_STATES[running.session.state] if running is not None else "Down",
        diagnostic=one.problem or one.why,
        since=one.since,
        ups=one.ups,
        downs=one.downs,
        sent=running.sent if running is not None else 0,
        received=running.received if running is not None else 0,
    )
