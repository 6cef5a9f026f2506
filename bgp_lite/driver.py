"""The trio shell around one session: a socket and a clock.  It decides nothing."""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import trio

from bgp_lite import addresses
from bgp_lite import sock as options
from bgp_lite.config import PeerConfig
from bgp_lite.core import Adopt, Changed, Close, Connect, Effect, Flush, Session
from bgp_lite.errors import Cease
from bgp_lite.fsm import State
from bgp_lite.messages import Open
from bgp_lite.neighbour import Neighbour
from bgp_lite.prefix import Family
from bgp_lite.wire import Framer

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a TCP connection to come up."""
READ: Final = 65536
LAST_WORDS: Final = 0.2
"""Seconds a closing NOTIFICATION may take to be handed to the kernel."""
WRITTEN: Final = 1.0
"""Seconds the announcements or the withdrawals of a planned end may take, each."""


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
        self.peer_address: str | None = None
        """Of the connection at hand, else of the last one; with its interface where it is link-local."""
        self._neighbour: Neighbour | None = None
        if session.config.interface is not None:
            self._neighbour = Neighbour(session.config.interface, rng=random.SystemRandom())
        self._stream: trio.SocketStream | None = None
        self._adopted: trio.SocketStream | None = None
        self._dialling = trio.CancelScope()
        self._flush = trio.Event()
        self._rearm = trio.Event()
        self._connect = trio.Event()
        self._closed = trio.Event()
        self._settled = trio.Event()
        self._leaving = b""
        self._writing = False

    def poke(self) -> None:
        """Routes changed: write them at the next turn of the loop, however many changes come before it."""
        self._flush.set()

    async def stop(self, cease: Cease | None, text: str = "", *, graceful: float = 0.0) -> None:
        """End the session; returns when the last words are said.  See `Session.stop`.

        With `graceful`, a planned end: for so many seconds the peer is asked to prefer every other path
        (RFC 8326), then all is withdrawn, then the session ends.  The wanted routes outlive it.
        """
        if graceful > 0 and cease is not None and self.session.state is State.ESTABLISHED:
            await self._drain(graceful)
        self.perform(self.session.stop(trio.current_time(), cease, text))
        while self._stream is not None or self._adopted is not None:
            await self._closed.wait()

    async def _drain(self, seconds: float) -> None:
        rib = self.session.rib
        wanted = dict(rib.wanted)
        try:
            rib.drain()
            await self._written()
            await self._while_established(seconds)
            rib.replace({})
            await self._written()
        finally:
            rib.replace(wanted)

    async def _written(self) -> None:
        """Until everything wanted has been handed to the kernel, or the session or our patience ends."""
        self.poke()
        with trio.move_on_after(WRITTEN):
            while self.session.state is State.ESTABLISHED and not self._is_settled:
                await self._settled.wait()

    async def _while_established(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while self.session.state is State.ESTABLISHED:
                await self._settled.wait()

    @property
    def _is_settled(self) -> bool:
        return self.session.synced and not self._writing

    def accept(self, stream: trio.SocketStream, framer: Framer, theirs: Open) -> None:
        """A connection the peer made takes the place of ours: see `Session.accepted`."""
        self._adopted = stream
        self.perform(self.session.accepted(trio.current_time(), local_addresses(stream), framer, theirs))

    def bfd_down(self) -> None:
        """The forwarding path is gone (RFC 9384): end the session, if there is one, and try again."""
        if self.session.state is State.IDLE:
            return
        self.perform(self.session.stop(trio.current_time(), Cease.BFD_DOWN))
        self.perform(self.session.start(trio.current_time()))

    async def run(self) -> None:
        """Until cancelled; a connection that is up then is closed without a word, as by a crash."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._keep_connected)
                if self._neighbour is not None:
                    nursery.start_soon(self._neighbour.run)
                self.perform(self.session.start(trio.current_time()))
        finally:
            for stream in (self._stream, self._adopted):
                if stream is not None:
                    stream.socket.close()

    def perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Connect() | Adopt():
                    self._connect.set()
                case Flush():
                    self._flush.set()
                case Close(last):
                    self._leaving = last
                    self._dialling.cancel()
                case Changed():
                    self._news()
                    self._changed(effect)
        self._rearm.set()

    def _news(self) -> None:
        self._settled.set()
        self._settled = trio.Event()

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
            if self.session.state is State.IDLE:
                # Stopped before we came to it.
                self._stream, self._adopted = self._adopted, None
                await self._say_goodbye()
                continue
            if self._adopted is None and self.session.state is not State.CONNECT:
                continue
            self._leaving = b""
            try:
                with trio.CancelScope() as self._dialling:
                    why = await self._one_connection()
                    self.perform(self.session.failed(trio.current_time(), why))
                await self._say_goodbye()
            except BaseException:
                # Cancelled from outside: the connection ends without a word, as graceful restart wants it.
                for stream in (self._stream, self._adopted):
                    if stream is not None:
                        stream.socket.close()
                raise

    async def _one_connection(self) -> str:
        """Have a connection, carry octets both ways until it ends; why it ended."""
        if self._adopted is not None:
            self._stream, self._adopted = self._adopted, None
        else:
            problem = await self._dial()
            if self._stream is None:
                return problem
            now = trio.current_time()
            self.perform(self.session.connected(now, local_addresses(self._stream)))
        stream = self._stream
        self.peer_address = peer_address(stream)
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

    async def _dial(self) -> str:
        """Set `_stream`; or why there is none."""
        config = self.session.config
        peer = config.peer
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                if self._neighbour is not None:
                    peer = await self._neighbour.wait()
                self._stream = await dial(config, peer)
        except (trio.TooSlowError, TimeoutError):
            if not peer:
                assert self._neighbour is not None
                return self._neighbour.problem or f"no router advertisement heard at {config.interface}"
            if self._neighbour is not None:
                self._neighbour.lost()
            # The kernel drops segments with a wrong signature without a word.
            hint = "; with a password, a wrong one on either side looks like this" if config.password else ""
            return f"no answer from {_spelled(config, peer)} port {config.port}{hint}"
        except OSError as problem:
            if self._neighbour is not None and problem.errno == errno.EHOSTUNREACH:
                self._neighbour.lost()
            why = problem.strerror or problem
            return f"cannot connect to {_spelled(config, peer)} port {config.port}: {why}"
        return ""

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
                self._news()
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


async def dial(config: PeerConfig, peer: str) -> trio.SocketStream:
    """A TCP connection with every option of the session set before the first segment.  Raises OSError."""
    address = peer.partition("%")[0]
    family = options.family_of(address)
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        options.prepare(sock, config, address)
        scope = 0
        if family is socket.AF_INET6 and config.scope and ipaddress.ip_address(address).is_link_local:
            scope = socket.if_nametoindex(config.scope)
        if config.source is not None:
            await sock.bind((config.source, 0, 0, scope) if family is socket.AF_INET6 else (config.source, 0))
        await sock.connect(
            (address, config.port, 0, scope) if family is socket.AF_INET6 else (address, config.port)
        )
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def canonical(address: str, interface: str | None) -> str:
    """One spelling an address; the interface counts, and is needed, where it is link-local."""
    text, _, scope = address.partition("%")
    ip = ipaddress.ip_address(text)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        if ip.is_link_local and (scope or interface):
            return f"{ip}%{scope or interface}"
    return str(ip)


def peer_address(stream: trio.SocketStream) -> str:
    name = stream.socket.getpeername()
    interface = socket.if_indextoname(name[3]) if len(name) == 4 and name[3] else None
    return canonical(name[0], interface)


def local_addresses(stream: trio.SocketStream) -> dict[Family, bytes]:
    """Next hop per family: the address the connection was made from, and for the other family one of the
    interface that has it, where there is one."""
    address = ipaddress.ip_address(stream.socket.getsockname()[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    try:
        known = addresses.addresses()
    except OSError:
        known = []  # the session still has its own family
    return addresses.next_hops(address, known)


def _spelled(config: PeerConfig, peer: str) -> str:
    return peer if config.interface is None else f"{peer} at {config.interface}"
