"""The trio shell around layer 2: sockets on every interface that qualifies, netlink, one clock."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import trio

from crier.ops import logs
from speaker.reflex import fair
from speaker.reflex.l2 import netlink
from speaker.reflex.l2.carrier import Carrier
from speaker.reflex.l2.core import L2, Close, Effect, Interfaces, JoinGroup, LeaveGroup, Open, Send
from speaker.reflex.l2.ethernet import MAX_FRAME
from speaker.reflex.l2.links import Excluded, Follower, Link, Table
from speaker.reflex.l2.respond import Heard, Kind, Outcome, Reply, Station, respond_arp, respond_ndp
from speaker.reflex.l2.wire import Full, Heed, Wire

log = logs.get(__name__)

MAX_READS: Final = 64
"""Frames (or netlink datagrams) taken in one go, before everybody else has a turn."""

MAX_SENDS: Final = 32
"""Announcements made in one go."""

_IPV4: Final = 4
_FULL_PAUSE: Final = 0.01
_ERROR_PAUSE: Final = 0.1
_REOPEN_PAUSE: Final = 1.0
_NETLINK_OCTETS: Final = 65536

OnHeard = Callable[[bytes, bytes, Kind], None]
"""Somebody else has to do with this address, from this hardware address."""

OnLinks = Callable[[], None]
"""Which links there are, or whether they have a carrier, may have changed."""

OnLink = Callable[[str, Link], None]
"""`interface_added`, `interface_removed` or `interface_failed`."""


class Driver:
    """Call `run` in a nursery; the other methods any time, before or after, from the trio thread."""

    def __init__(self, excluded: Excluded, *, heard: OnHeard, on_link: OnLink, on_links: OnLinks) -> None:
        self.core = L2()
        self.carrier = Carrier()
        self.counted = 0
        """Grows whenever a counter does."""
        self._heard = heard
        self._on_link, self._on_links = on_link, on_links
        self._table = Table(excluded)
        self._wires: dict[int, Wire] = {}
        self._heed = Heed()
        self._failed: set[int] = set()
        self._unsent: deque[Send] = deque()
        self._nursery: trio.Nursery | None = None
        self._wake_clock = trio.Event()
        self._wake_repair = trio.Event()

    # -------------------------------------------------------------------------------- what is wanted

    def watch(self, addresses: Iterable[bytes]) -> None:
        self.core.watch(addresses)

    def heed(self, heed: Heed) -> None:
        """It covers all that may ever be answered; the kernel keeps what concerns others to itself."""
        if heed == self._heed:
            return
        self._heed = heed
        for wire in tuple(self._wires.values()):
            try:
                wire.heed(heed)
            except OSError as problem:  # deaf to what is new; a wire opened anew is not, if it can be
                log.warning("filter_not_set", interface=wire.link.name, error=problem)
                self._open(wire.link)

    def answer(self, address: bytes, interfaces: Interfaces) -> None:
        self._apply(self.core.answer(address, interfaces, trio.current_time()))
        self._wake_clock.set()

    def silence(self, address: bytes) -> None:
        self._apply(self.core.silence(address))

    def hush(self, address: bytes) -> None:
        self.core.hush(address)

    def announce(self, address: bytes, rounds: int | None) -> None:
        self.core.announce(address, rounds, trio.current_time())
        self._wake_clock.set()

    def probe(self, address: bytes, interfaces: Interfaces) -> None:
        """Ask whether anybody has it; `heard` tells who does, or asks the same."""
        effects, sends = self.core.probe(address, interfaces)
        self._apply(effects)
        self._send_once(sends)  # one that is lost is followed by another

    def question(self, address: bytes, interfaces: Interfaces) -> bool:
        """Ask who has it; `heard` tells who answers.  False when nobody could be asked."""
        return self._send_once(self.core.question(address, interfaces))

    def greet(self, address: bytes, macs: Iterable[bytes]) -> None:
        """Make a host on our network, which was away, and our kernel know each other's hardware address now.

        A kernel that waits for an answer to its own question asks again after a second at the soonest.  With
        IPv6 the answer to our question tells our kernel alone: the other side greets us as well.
        """
        if len(address) != _IPV4:
            self.question(address, None)
            return
        for wire in self._wires.values():
            for mac in macs:
                with contextlib.suppress(Full, OSError):  # it is tried again
                    wire.ask(address, mac)

    def _send_once(self, sends: Iterable[Send]) -> bool:
        sent = False
        for send in sends:
            wire = self._wires.get(send.link.index)
            if wire is not None and wire.link == send.link:
                for frame in send.frames:
                    sent = self._reply(wire, frame) or sent
        return sent

    def flush(self) -> int:
        """Send what is due, at most `MAX_SENDS` announcements, right now: a take-over waits for no task's
        turn.

        Returns how many were due.
        """
        now = trio.current_time()
        self._unsent.extend(self.core.due(now, MAX_SENDS - len(self._unsent)))
        count = len(self._unsent)
        while self._unsent:
            send = self._unsent[0]
            wire = self._wires.get(send.link.index)
            if wire is not None and wire.link == send.link:
                counters = self.core.counters.get(send.address)
                try:
                    for frame in send.frames:
                        wire.send(frame)
                        if counters is not None:
                            counters.gratuitous_sent += 1
                            self.counted += 1
                except Full:
                    break
                except OSError as problem:  # down or gone; netlink will tell, the next round may be heard
                    log.info("announcement_not_sent", interface=wire.link.name, error=problem)
            self._unsent.popleft()
        return count

    # ----------------------------------------------------------------------------------------- tasks

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """`started` once the interfaces are known and open.  Raises OSError when netlink or packet sockets
        are not to be had at all.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await nursery.start(self._follow_links)
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._repair)
                task_status.started()
        finally:
            self._nursery = None
            for wire in self._wires.values():
                wire.close()
            self._wires.clear()

    async def _follow_links(self, *, task_status: trio.TaskStatus[None]) -> None:
        follower = Follower(self._table)
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        ) as sock:
            sock.bind((0, netlink.RTMGRP_LINK | netlink.RTMGRP_IPV6_IFADDR))
            sock.send(follower.ask())
            ready = False
            while True:
                await trio.lowlevel.wait_readable(sock)
                began = trio.current_time()
                self._read_news(sock, follower)
                if follower.synced:
                    links = self._table.qualified()
                    self._apply(self.core.set_links(links, began))
                    self.carrier.update(links, began)
                    self._on_links()
                    self._wake_clock.set()
                    if not ready:
                        ready = True
                        task_status.started()
                await fair.rest(began)

    @staticmethod
    def _read_news(sock: socket.socket, follower: Follower) -> None:
        for _ in range(MAX_READS):
            try:
                request = follower.handle(sock.recv(_NETLINK_OCTETS))
            except BlockingIOError:
                return
            except (OSError, netlink.BadNetlink) as problem:
                # ENOBUFS: events were lost; anything else is as good a reason to start over
                if not isinstance(problem, OSError) or problem.errno != errno.ENOBUFS:
                    log.warning("netlink_restarted", error=problem)
                request = follower.ask()
            if request is not None:
                sock.send(request)

    async def _keep_time(self) -> None:
        while True:
            self._wake_clock = trio.Event()
            deadline = trio.current_time() + _FULL_PAUSE if self._unsent else self.core.next_deadline()
            with trio.move_on_at(deadline):
                await self._wake_clock.wait()
            began = trio.current_time()
            self.flush()
            await fair.rest(began)

    async def _repair(self) -> None:
        """An interface that could not be opened is tried again, without end and without hurry."""
        while True:
            self._wake_repair = trio.Event()
            if not self._failed:
                await self._wake_repair.wait()
            await trio.sleep(_REOPEN_PAUSE)
            for link in self.core.links:
                if link.index in self._failed:
                    self._open(link)

    async def _listen(
        self, wire: Wire, sock: socket.socket, respond: Callable[[bytes, Station], Outcome]
    ) -> None:
        station = self.core.station(wire.link.index)
        while sock.fileno() >= 0:  # closed while we rested
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                return
            began = trio.current_time()
            try:
                more = self._read_frames(wire, sock, station, respond)
            except OSError as problem:  # the interface went down; it tells so once, netlink tells the rest
                log.info("interface_error", interface=wire.link.name, error=problem)
                await trio.sleep(_ERROR_PAUSE)
                continue
            if more:
                await fair.rest(began)

    def _read_frames(
        self,
        wire: Wire,
        sock: socket.socket,
        station: Station,
        respond: Callable[[bytes, Station], Outcome],
    ) -> bool:
        """Take in and answer what has come; True when there may be more.  Raises OSError."""
        counters = self.core.counters
        for _ in range(MAX_READS):
            if sock.fileno() < 0:
                return False  # hearing something may end in this very interface being closed
            try:
                outcome = respond(sock.recv(MAX_FRAME), station)
            except BlockingIOError:
                return False
            if isinstance(outcome, Reply):
                counter = counters[outcome.address]
                counter.requests_received += 1
                self.counted += 1
                if self._reply(wire, outcome.frame):
                    counter.responses_sent += 1
            elif isinstance(outcome, Heard):
                if outcome.reply is not None:
                    self._reply(wire, outcome.reply)
                self._heard(outcome.address, outcome.mac, outcome.kind)
        return True

    @staticmethod
    def _reply(wire: Wire, frame: bytes) -> bool:
        try:
            wire.send(frame)
        except (Full, OSError):
            return False  # they will ask again
        return True

    # --------------------------------------------------------------------------------------- effects

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Open(link):
                    known = link.index in self._wires
                    if self._open(link) and not known:
                        self._on_link("interface_added", link)
                case Close(link):
                    self._close(link.index)
                    self._failed.discard(link.index)
                    self._on_link("interface_removed", link)
                case JoinGroup(index, group):
                    if index in self._wires:
                        self._join(self._wires[index], group)
                case LeaveGroup(index, group):
                    if index in self._wires:
                        self._wires[index].leave(group)

    def _open(self, link: Link) -> bool:
        self._close(link.index)
        try:
            wire = Wire(link, self._heed)
        except OSError as problem:
            if link.index not in self._failed:
                log.warning("interface_failed", interface=link.name, error=problem)
                self._on_link("interface_failed", link)
            self._failed.add(link.index)
            self._wake_repair.set()
            return False
        self._failed.discard(link.index)
        self._wires[link.index] = wire
        for group in self.core.groups(link.index):
            self._join(wire, group)
        assert self._nursery is not None, "links become known only while `run` runs"
        if wire.arp is not None:
            self._nursery.start_soon(self._listen, wire, wire.arp, respond_arp)
        if wire.ndp is not None:
            self._nursery.start_soon(self._listen, wire, wire.ndp, respond_ndp)
        return True

    def _close(self, index: int) -> None:
        wire = self._wires.pop(index, None)
        if wire is not None:
            wire.close()

    @staticmethod
    def _join(wire: Wire, group: bytes) -> None:
        try:
            wire.join(group)
        except OSError as problem:
            log.warning("group_not_joined", interface=wire.link.name, group=group.hex(), error=problem)
