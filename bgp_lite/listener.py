"""Opt-in: take connections that peers make.  One listener serves any number of sessions.

Nobody needs it to announce: we connect ourselves.  It is for peers that will not be connected to.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from bgp_lite import sock as options
from bgp_lite.collision import Candidate
from bgp_lite.driver import READ, Driver, canonical
from bgp_lite.errors import Code, PeerError
from bgp_lite.messages import Notification
from bgp_lite.wire import encode

BACKLOG: Final = 128
LAST_WORDS: Final = 0.2
"""Seconds a refusal may take to be handed to the kernel."""
PAUSE: Final = 0.1
"""Seconds to wait when the process has no file descriptor left for a connection."""


@dataclass(slots=True, eq=False)
class _Served:
    driver: Driver
    pending: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of the connection whose OPEN is awaited: a peer has one at most, the newest."""


class Listener:
    """Accepts for the drivers that were added; everybody else is hung up on."""

    def __init__(self, *, port: int = 179, address: str | None = None) -> None:
        """All addresses of both families unless one is given.  Raises OSError when they cannot be had."""
        self._served: dict[str, _Served] = {}
        self._sockets: list[trio.socket.SocketType] = []
        wanted = [address] if address is not None else ["0.0.0.0", "::"]
        try:
            for each in wanted:
                self._sockets.append(_listen(each, port))
        except BaseException:
            self.close()
            raise

    @property
    def ports(self) -> list[int]:
        return [int(sock.getsockname()[1]) for sock in self._sockets]

    def add(self, driver: Driver) -> None:
        """Accept from this driver's peer, which must have an address.  Raises OSError on a bad key."""
        config = driver.session.config
        assert config.interface is None, "who is at an interface is not known before we have asked"
        if config.password is not None:
            self._set_key(config.peer, config.password)
        self._served[canonical(config.peer, config.scope)] = _Served(driver)

    def remove(self, driver: Driver) -> None:
        config = driver.session.config
        served = self._served.pop(canonical(config.peer, config.scope), None)
        if served is not None:
            served.pending.cancel()
            if config.password is not None:
                self._set_key(config.peer, b"")

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for sock in self._sockets:
                    nursery.start_soon(self._accept, sock, nursery)
                task_status.started()
        finally:
            self.close()

    def _set_key(self, peer: str, key: bytes) -> None:
        for sock in self._sockets:
            if sock.family is options.family_of(peer):
                options.set_key(sock, peer, key)

    async def _accept(self, sock: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                accepted, source = await sock.accept()
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    await trio.sleep(PAUSE)
                continue  # or the peer went away before we came: no reason to stop listening
            served = self._served.get(canonical(source[0], None))
            if served is None:
                accepted.close()
                continue
            served.pending.cancel()
            served.pending = trio.CancelScope()
            nursery.start_soon(self._meet, served.driver, served.pending, trio.SocketStream(accepted))

    async def _meet(self, driver: Driver, scope: trio.CancelScope, stream: trio.SocketStream) -> None:
        adopted = False
        try:
            with scope, suppress(trio.BrokenResourceError, OSError):
                adopted = await _hear_out(driver, stream)
        finally:
            if not adopted:
                await trio.aclose_forcefully(stream)


async def _hear_out(driver: Driver, stream: trio.SocketStream) -> bool:
    """Whether the driver took the connection."""
    config = driver.session.config
    options.tune(stream.socket, config, config.peer)
    refusal = Notification(Code.HOLD_TIMER, 0)
    try:
        candidate = Candidate(driver.session, trio.current_time())
        with trio.move_on_at(candidate.deadline):
            await stream.send_all(candidate.hello)
            while data := await stream.receive_some(READ):
                theirs = candidate.received(bytes(data))
                if theirs is not None:
                    driver.accept(stream, candidate.framer, theirs)
                    return True
            return False
    except PeerError as problem:
        refusal = Notification(problem.code, problem.subcode, problem.data)
    with trio.move_on_after(LAST_WORDS):
        await stream.send_all(encode(refusal))
        await stream.send_eof()
        # Closing with unread data would send RST, which can overtake the NOTIFICATION.
        while await stream.receive_some(READ):
            pass
    return False


def _listen(address: str, port: int) -> trio.socket.SocketType:
    family = options.family_of(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, options.TTL)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, options.TTL)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return trio.socket.from_stdlib_socket(sock)
