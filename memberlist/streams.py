"""TCP: one message each way on every connection, within bounds of time, number and memory."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from . import stream
from .config import MAX_MEMBERS, Address
from .errors import CannotSendError, DecodeError
from .keyring import NONCE_SIZE
from .messages import Error, PushPull, StreamMessage, User
from .packet import Wire

log = logging.getLogger(__name__)

MAX_INBOUND: Final = 128
"""Connections served at one time; more are closed at once, as upstream does."""
MAX_BUFFERED: Final = 64 * 1024 * 1024
"""Octets all inbound connections together may have waiting, unproven, in our memory."""
CHUNK: Final = 65536
HEAVY: Final = 32 * 1024
"""Octets from which on a message is packed and unpacked in a thread: LZW takes 0.4 s for a mebibyte, and who
answers no ping for half as long is unreachable to the others.  One at a time, inbound: threads take turns of
5 ms with us, each of them."""
NODE_OCTETS: Final = 100
"""Of one member in a push/pull, more or less."""

Serve = Callable[[StreamMessage], StreamMessage | None]


class Listener:
    """Serves inbound connections; `serve` must not block."""

    def __init__(
        self, listening: trio.socket.SocketType, wire: Wire, *, timeout: float, serve: Serve
    ) -> None:
        self._listening, self._wire, self._timeout, self._serve = listening, wire, timeout, serve
        self._active = 0
        self._buffered = 0
        self._heavy = trio.CapacityLimiter(1)

    async def run(self) -> None:
        backoff = 0.005
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection, peer = await self._listening.accept()
                except OSError as problem:
                    if problem.errno == errno.EBADF:
                        raise
                    # Out of descriptors, or the peer was gone first: neither may spin nor end us.
                    log.warning("accept_failed", extra={"why": str(problem)})
                    await trio.sleep(backoff)
                    backoff = min(2 * backoff, 1.0)
                    continue
                backoff = 0.005
                if self._active >= MAX_INBOUND:
                    connection.close()
                    continue
                self._active += 1
                nursery.start_soon(self._handle, connection, peer)

    async def _handle(self, connection: trio.socket.SocketType, peer: object) -> None:
        with connection:
            try:
                message = await self._read(connection)
                answer = None if message is None else self._serve(message)
                if answer is not None:
                    await self._answer(connection, answer)
            except DecodeError as problem:
                log.warning("stream_dropped", extra={"peer": peer, "why": str(problem)})
            except (OSError, CannotSendError) as problem:
                log.info("stream_broken", extra={"peer": peer, "why": str(problem)})
            finally:
                self._active -= 1

    async def _read(self, connection: trio.socket.SocketType) -> StreamMessage | None:
        """None when there was none in time.  Raises DecodeError and OSError."""
        buffered = 0
        reader = stream.Reader(self._wire, accepted=True, max_nodes=MAX_MEMBERS)
        try:
            with trio.move_on_after(self._timeout):
                while data := await connection.recv(CHUNK):
                    buffered += len(data)
                    self._buffered += len(data)
                    if self._buffered > MAX_BUFFERED:
                        raise DecodeError("too much is waiting on all connections together")
                    if (message := await _feed(reader, data, buffered, self._heavy)) is not None:
                        return message
        except stream.Refused as problem:
            await self._answer(connection, Error(str(problem)))
            raise
        finally:
            self._buffered -= buffered
        return None

    async def _answer(self, connection: trio.socket.SocketType, answer: StreamMessage) -> None:
        with trio.move_on_after(self._timeout):
            await send_all(connection, await _encode(answer, self._wire, dialling=False, limiter=self._heavy))


async def exchange(
    to: Address, message: StreamMessage, wire: Wire, *, timeout: float, answered: bool = True
) -> StreamMessage | None:
    """Dial, send, and read the answer if there is to be one; `timeout` seconds for each of the three.

    Raises OSError (TimeoutError among them), DecodeError, and CannotSendError.
    """
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_STREAM) as connection:
        with _deadline(timeout, f"no connection in {timeout:g} s"):
            await connection.connect(to)
        with _deadline(timeout, f"not taken in {timeout:g} s"):
            await send_all(connection, await _encode(message, wire, dialling=True))
        if not answered:
            return None
        reader = stream.Reader(wire, accepted=False, max_nodes=MAX_MEMBERS)
        received = 0
        with _deadline(timeout, f"no answer in {timeout:g} s"):
            while True:
                data = await connection.recv(CHUNK)
                if not data:
                    raise ConnectionError("closed without an answer")
                received += len(data)
                if (answer := await _feed(reader, data, received)) is not None:
                    return answer


async def _feed(
    reader: stream.Reader, data: bytes, received: int, limiter: trio.CapacityLimiter | None = None
) -> StreamMessage | None:
    """`reader.feed`, where `received` is how much it has been given, with this."""
    if received <= HEAVY:
        return reader.feed(data)
    return await trio.to_thread.run_sync(reader.feed, data, abandon_on_cancel=True, limiter=limiter)


async def _encode(
    message: StreamMessage, wire: Wire, *, dialling: bool, limiter: trio.CapacityLimiter | None = None
) -> bytes:
    """Raises CannotSendError."""
    encode = partial(stream.encode, message, wire, dialling=dialling, nonce=os.urandom(NONCE_SIZE))
    try:
        if _weight(message) <= HEAVY:
            return encode()
        return await trio.to_thread.run_sync(encode, abandon_on_cancel=True, limiter=limiter)
    except ValueError as problem:
        raise CannotSendError(str(problem)) from None


def _weight(message: StreamMessage) -> int:
    """About how many octets."""
    match message:
        case PushPull():
            return len(message.user_state) + NODE_OCTETS * len(message.nodes)
        case User(payload):
            return len(payload)
    return 0


async def send_all(connection: trio.socket.SocketType, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await connection.send(rest) :]


@contextmanager
def _deadline(seconds: float, what: str) -> Iterator[None]:
    """Like `trio.fail_after`, but what it raises is an OSError that says what was waited for."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimeoutError(what)
