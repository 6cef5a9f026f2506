"""HTTPS for one client, the API server: POST, JSON there and back, everything bounded."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import h11
import trio

from allocator.webhook.wire import MAX_BODY, BadReview
from crier.ops import logs

log = logs.get(__name__)

MAX_CONNECTIONS: Final = 64
REQUEST_TIMEOUT: Final = 15.0
"""Seconds for one request and its answer, the handshake included; the API server waits for ten."""
IDLE_TIMEOUT: Final = 120.0
MAX_HEAD: Final = 64 * 1024
_CHUNK: Final = 64 * 1024

Answer: TypeAlias = Callable[[str, bytes], Awaitable[bytes | None]]
"""From a path and a body to the body of the answer; None where nothing is at that path.  Raises BadReview."""


class _TooLarge(Exception):
    pass


class Server:
    def __init__(self, answer: Answer, tls: ssl.SSLContext) -> None:
        self._answer = answer
        self._tls = tls
        self._open = 0

    async def serve(
        self, host: str, port: int, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled; started with the port.  Raises OSError when it cannot listen."""
        listeners = await trio.open_tcp_listeners(port, host=host or None)
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._talk, listeners)

    async def _talk(self, raw: trio.SocketStream) -> None:
        """One connection, to its end.  Nothing that comes in gets out of here."""
        self._open += 1
        stream = trio.SSLStream(raw, self._tls, server_side=True, https_compatible=True)
        try:
            if self._open <= MAX_CONNECTIONS:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ssl.SSLError):
            pass  # gone; there is nobody left to tell
        except Exception as problem:  # noqa: BLE001 - one connection must not end the program
            log.error("webhook_connection_failed", error=problem)
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        with trio.move_on_after(REQUEST_TIMEOUT) as in_time:
            await stream.do_handshake()
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        while not in_time.cancelled_caught:
            with trio.move_on_after(IDLE_TIMEOUT) as idle:
                first = await stream.receive_some(_CHUNK)
            if idle.cancelled_caught or not first:
                return
            connection.receive_data(bytes(first))
            with trio.move_on_after(REQUEST_TIMEOUT) as in_time:
                if not await self._one(connection, stream):
                    return
                connection.start_next_cycle()

    async def _one(self, connection: h11.Connection, stream: trio.SSLStream[trio.SocketStream]) -> bool:
        """One request.  False when the connection is of no more use."""
        try:
            head, body = await _receive(connection, stream)
        except h11.RemoteProtocolError as problem:
            await _send(connection, stream, problem.error_status_hint, f"{problem}\n".encode())
            return False
        except _TooLarge:
            await _send(connection, stream, 413, f"at most {MAX_BODY} octets\n".encode())
            return False
        if head is None:
            return False
        path = head.target.decode("latin-1").partition("?")[0]
        if head.method != b"POST":
            await _send(connection, stream, 405, b"only POST\n")
            return connection.our_state is h11.DONE
        try:
            answer = await self._answer(path, body)
        except BadReview as problem:
            await _send(connection, stream, 400, f"{problem}\n".encode())
        except Exception as problem:  # noqa: BLE001 - what it cannot judge it does not let pass
            log.error("webhook_failed", path=path, error=problem)
            await _send(connection, stream, 500, b"internal error\n")
        else:
            if answer is None:
                await _send(connection, stream, 404, b"not found\n")
            else:
                await _send(connection, stream, 200, answer, "application/json")
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def _receive(connection: h11.Connection, stream: trio.abc.Stream) -> tuple[h11.Request | None, bytes]:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        match event:
            case h11.Request():
                head = event
                if connection.they_are_waiting_for_100_continue:
                    proceed = h11.InformationalResponse(status_code=100, headers=[])
                    await stream.send_all(connection.send(proceed) or b"")
            case h11.Data():
                body += event.data
                if len(body) > MAX_BODY:
                    raise _TooLarge
            case h11.EndOfMessage():
                return head, bytes(body)
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(_CHUNK)))
            case _:
                return None, b""


async def _send(
    connection: h11.Connection, stream: trio.abc.Stream, status: int, body: bytes, kind: str = "text/plain"
) -> None:
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = [("content-type", kind), ("content-length", str(len(body)))]
    with suppress(h11.LocalProtocolError):
        data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        data += connection.send(h11.Data(data=body)) or b""
        await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
