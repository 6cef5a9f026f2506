"""A small HTTP/1.1 server for probes, status and metrics: GET and HEAD, no bodies, everything bounded.

    routes = {"/healthz": lambda: Response.text("ok"), "/status": ...}
    await nursery.start(serve, routes, "127.0.0.1", 17472)

h11 speaks HTTP; this file holds the limits.  When there are too many connections the longest idle one goes,
so that a flood of silent ones cannot shut out the kubelet.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import h11
import msgspec
import trio

from crier.ops import logs

MAX_REQUEST: Final = 16 * 1024
"""Octets of a request line and its headers.  Probes send under 1 KiB; a bearer token has up to 4."""
MAX_CONNECTIONS: Final = 64
MAX_REQUESTS_PER_CONNECTION: Final = 1000
IDLE_TIMEOUT: Final = 75.0
"""Seconds a connection may wait between requests: longer than the usual scrape interval of 60."""
REQUEST_TIMEOUT: Final = 5.0
"""Seconds from the first octet of a request to the last of its answer."""

LINGER: Final = 1.0
MAX_LINGER: Final = 256 * 1024
"""Seconds and octets a client may go on sending after its last answer."""

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header the last."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    """Beside those of every answer."""

    @classmethod
    def text(cls, text: str, status: int = 200) -> Response:
        return cls(status, text.encode())

    @classmethod
    def json(cls, document: object, status: int = 200) -> Response:
        return cls(status, msgspec.json.encode(document), "application/json")


Handler: TypeAlias = Callable[[], Response | Awaitable[Response]]
"""One that takes longer than `REQUEST_TIMEOUT` is given up: status 503."""
Guard: TypeAlias = Callable[[Request], Awaitable[Response | None]]
"""Looks at a request first; what it returns is the answer, None lets the request pass."""


async def serve(
    routes: Mapping[str, Handler],
    host: str,
    port: int,
    *,
    guard: Guard | None = None,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled; `started` with the port listened on.  Raises OSError when it cannot listen.

    `host` "" means every address of the machine, IPv6 included where there is IPv6.
    """
    listeners = await _listen(host, port)
    server = _Server(routes, guard, tls)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(trio.serve_listeners, server.talk, [listener])
        task_status.started(int(listeners[0].socket.getsockname()[1]))


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    if host:
        return list(await trio.open_tcp_listeners(port, host=host, backlog=MAX_CONNECTIONS))
    # one dual-stack socket where the kernel has IPv6, so that an IPv4-only host needs no special case
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        await sock.bind(("", port))
        sock.listen(MAX_CONNECTIONS)
    except BaseException:
        sock.close()
        raise
    return [trio.SocketListener(sock)]


async def _linger(stream: trio.SocketStream) -> None:
    """Let the last answer arrive: closing with something unread resets the connection and may lose it."""
    await stream.send_eof()
    read = 0
    with trio.move_on_after(LINGER):
        while read < MAX_LINGER and (data := await stream.receive_some(MAX_REQUEST)):
            read += len(data)


class _Server:
    def __init__(
        self, routes: Mapping[str, Handler], guard: Guard | None, tls: ssl.SSLContext | None
    ) -> None:
        self._routes = routes
        self._guard = guard
        self._tls = tls
        self._waiting: dict[trio.CancelScope, None] = {}
        """Connections that wait for a request, the longest first."""
        self._open = 0

    async def talk(self, raw: trio.SocketStream) -> None:
        """One connection, to its end.  Nothing a client does gets out of here."""
        stream: trio.abc.Stream = raw
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS and not self._drop_one():
                return  # all of them are at work; this one may come back
            if self._tls is not None:
                stream = trio.SSLStream(raw, self._tls, server_side=True, https_compatible=True)
            if await self._converse(stream):
                await _linger(raw)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ssl.SSLError):
            pass  # gone; there is nobody left to tell
        finally:
            self._open -= 1
            await trio.aclose_forcefully(raw)

    def _drop_one(self) -> bool:
        for scope in self._waiting:
            del self._waiting[scope]
            scope.cancel()
            return True
        return False

    async def _converse(self, stream: trio.abc.Stream) -> bool:
        """Whether there may be something unread that was answered all the same."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST)
        for _ in range(MAX_REQUESTS_PER_CONNECTION):
            try:
                request = await self._next_request(connection, stream)
            except h11.RemoteProtocolError as problem:
                await self._refuse(
                    connection, stream, Response.text(f"{problem}\n", problem.error_status_hint)
                )
                return True
            if request is None:
                return False
            response = Response.text(f"there was no answer within {REQUEST_TIMEOUT:g} s\n", 503)
            with trio.move_on_after(REQUEST_TIMEOUT):
                response = await self._answer(request)
            with trio.move_on_after(REQUEST_TIMEOUT) as in_time:
                await self._send(connection, stream, response, request.method)
            if in_time.cancelled_caught or connection.our_state is not h11.DONE:
                return False
            if connection.their_state is not h11.DONE:  # a body we never asked for
                return True
            connection.start_next_cycle()
        return True

    async def _next_request(self, connection: h11.Connection, stream: trio.abc.Stream) -> Request | None:
        """None when the client is gone, idle for too long or too slow."""
        with trio.CancelScope() as idle:
            idle.deadline = trio.current_time() + IDLE_TIMEOUT
            self._waiting[idle] = None
            hurried = False
            try:
                while True:
                    event = connection.next_event()
                    if isinstance(event, h11.Request):
                        headers = {
                            name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers
                        }
                        path = event.target.decode("latin-1").partition("?")[0]
                        if "content-length" not in headers and "transfer-encoding" not in headers:
                            connection.next_event()  # EndOfMessage; an unread body ends the connection
                        return Request(event.method.decode("latin-1"), path, headers)
                    if event is not h11.NEED_DATA:
                        return None
                    data = await stream.receive_some(MAX_REQUEST)
                    if not hurried:
                        hurried = True
                        idle.deadline = min(idle.deadline, trio.current_time() + REQUEST_TIMEOUT)
                    connection.receive_data(bytes(data))
            finally:
                self._waiting.pop(idle, None)
        return None

    async def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response.text("only GET and HEAD\n", 405)
        handler = self._routes.get(request.path)
        if handler is None:
            return Response.text("not found\n", 404)
        try:
            if self._guard is not None and (refusal := await self._guard(request)) is not None:
                return refusal
            answer = handler()
            return answer if isinstance(answer, Response) else await answer
        except Exception as problem:  # noqa: BLE001 - one bad page must not end the program
            log.error("http_handler_failed", path=request.path, error=problem)
            return Response.text("internal error\n", 500)

    async def _refuse(self, connection: h11.Connection, stream: trio.abc.Stream, response: Response) -> None:
        if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with trio.move_on_after(REQUEST_TIMEOUT):
                await self._send(connection, stream, response, "GET")

    async def _send(
        self, connection: h11.Connection, stream: trio.abc.Stream, response: Response, method: str
    ) -> None:
        headers = [
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            ("cache-control", "no-store"),
            *response.headers,
        ]
        if response.status == 405:
            headers.append(("allow", "GET, HEAD"))
        if response.status == 401:
            headers.append(("www-authenticate", "Bearer"))
        if connection.their_state is not h11.DONE:
            headers.append(("connection", "close"))
        with suppress(h11.LocalProtocolError):
            data = connection.send(h11.Response(status_code=response.status, headers=headers))
            body = b"" if method == "HEAD" else response.body
            data = (data or b"") + (connection.send(h11.Data(data=body)) or b"")
            data += connection.send(h11.EndOfMessage()) or b""
            await stream.send_all(data)
