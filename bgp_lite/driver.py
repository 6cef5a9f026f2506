"""The trio shell around one session: a socket and a clock.  It decides nothing."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import trio

from bgp_lite import sock as options
from bgp_lite.config import PeerConfig
from bgp_lite.core import Changed, Close, Connect, Effect, Flush, Session
from bgp_lite.errors import Cease
from bgp_lite.fsm import State
from bgp_lite.prefix import Family

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a TCP connection to come up."""
READ: Final = 65536
LAST_WORDS: Final = 0.2
"""Seconds a closing NOTIFICATION may take to be handed to the kernel."""


class Driver:
    """Runs one `Session` until cancelled.  `poke` after changing its routes.

    `changed` is called at every change of state; `synced` each time everything wanted has been written.
    """

    def __init__(
        self,
        session: Session,
        changed: Callable[[Changed], None],
        synced: Callable[[], None] = lambda: None,
    ) -> None:
        self.session = session
        self._changed, self._synced = changed, synced
        self._stream: trio.SocketStream | None = None
        self._dialling = trio.CancelScope()
        self._flush = trio.Event()
        self._rearm = trio.Event()
        self._connect = trio.Event()
        self._closed = trio.Event()
        self._leaving = b""
        self._writing = False

    def poke(self) -> None:
        """Routes changed: write them at the next turn of the loop, however many changes come before it."""
        self._flush.set()

    async def stop(self, cease: Cease | None, text: str = "") -> None:
        """End the session; returns when the last words are said.  See `Session.stop`."""
        self.perform(self.session.stop(trio.current_time(), cease, text))
        while self._stream is not None:
            await self._closed.wait()

    def bfd_down(self) -> None:
        """The forwarding path is gone (RFC 9384): end the session, if there is one, and try again."""
        if self.session.state is State.IDLE:
            return
        self.perform(self.session.stop(trio.current_time(), Cease.BFD_DOWN))
        self.perform(self.session.start(trio.current_time()))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._keep_connected)
            self.perform(self.session.start(trio.current_time()))

    def perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Connect():
                    self._connect.set()
                case Flush():
                    self._flush.set()
                case Close(last):
                    self._leaving = last
                    self._dialling.cancel()
                case Changed():
                    self._changed(effect)
        self._rearm.set()

    async def _keep_time(self) -> None:
        while True:
            self._rearm = trio.Event()
            with trio.move_on_at(self.session.next_deadline()):
                await self._rearm.wait()
            self.perform(self.session.tick(trio.current_time()))

    async def _keep_connected(self) -> None:
        while True:
            await self._connect.wait()
            self._connect = trio.Event()
            self._leaving = b""
            with trio.CancelScope() as self._dialling:
                why = await self._one_connection()
                self.perform(self.session.failed(trio.current_time(), why))
            await self._say_goodbye()

    async def _one_connection(self) -> str:
        """Connect, carry octets both ways until the connection ends; why it ended."""
        config = self.session.config
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                stream = await dial(config)
        except (trio.TooSlowError, TimeoutError):
            # The kernel drops segments with a wrong signature without a word.
            hint = "; with a password, a wrong one on either side looks like this" if config.password else ""
            return f"no answer from {config.peer} port {config.port}{hint}"
        except OSError as problem:
            return f"cannot connect to {config.peer} port {config.port}: {problem.strerror or problem}"
        self._stream = stream
        self.perform(self.session.connected(trio.current_time(), local_addresses(stream)))
        why = ""
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                nonlocal why
                why = await self._read(stream)
                nursery.cancel_scope.cancel()

            async def write() -> None:
                nonlocal why
                why = await self._write(stream)
                nursery.cancel_scope.cancel()

            nursery.start_soon(read)
            nursery.start_soon(write)
        return why

    async def _read(self, stream: trio.SocketStream) -> str:
        while True:
            try:
                data = await stream.receive_some(READ)
            except trio.BrokenResourceError as problem:
                return f"connection lost: {problem.__cause__ or problem}"
            if not data:
                return "peer closed the connection"
            self.perform(self.session.received(bytes(data), trio.current_time()))

    async def _write(self, stream: trio.SocketStream) -> str:
        told = -1
        while True:
            data = self.session.take(trio.current_time())
            self._rearm.set()  # the send hold timer was started or stopped
            if not data and self.session.synced and told != self.session.counters.updates_sent:
                told = self.session.counters.updates_sent
                self._synced()
            if not data:
                await self._flush.wait()
                self._flush = trio.Event()
                continue
            self._writing = True
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError as problem:
                return f"connection lost: {problem.__cause__ or problem}"
            self._writing = False

    async def _say_goodbye(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        with trio.CancelScope(shield=True):
            # After a message that was cut off in the middle nothing can be said any more.
            if self._leaving and not self._writing:
                with trio.move_on_after(LAST_WORDS), suppress(trio.BrokenResourceError):
                    await stream.send_all(self._leaving)
                    await stream.send_eof()
                    # Closing with unread data would send RST, which can overtake the NOTIFICATION.
                    while await stream.receive_some(READ):
                        pass
            await trio.aclose_forcefully(stream)
        self._writing = False
        self._closed.set()
        self._closed = trio.Event()


async def dial(config: PeerConfig) -> trio.SocketStream:
    """A TCP connection with every option of the session set before the first segment.  Raises OSError."""
    family = options.family_of(config.peer)
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        options.prepare(sock, config)
        scope = 0
        if family is socket.AF_INET6 and config.device and ipaddress.ip_address(config.peer).is_link_local:
            scope = socket.if_nametoindex(config.device)
        if config.source is not None:
            await sock.bind((config.source, 0, 0, scope) if family is socket.AF_INET6 else (config.source, 0))
        await sock.connect(
            (config.peer, config.port, 0, scope) if family is socket.AF_INET6 else (config.peer, config.port)
        )
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def local_addresses(stream: trio.SocketStream) -> dict[Family, bytes]:
    """Next hop of the connection's own family: the address it was made from."""
    name = stream.socket.getsockname()[0].partition("%")[0]
    address = ipaddress.ip_address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return {Family.IPV4 if address.version == 4 else Family.IPV6: address.packed}
