"""The trio shell: HTTP/1.1 over sockets, watches that stream, faults that are acted on.

One task per connection.  A watch has two: one writes, one reads, because only reading tells that the client
is gone.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import h11
import trio

from crier.lab import netns
from crier.lab.api import podproxy
from crier.lab.api.body import MAX_BODY, too_large
from crier.lab.api.calls import Request
from crier.lab.api.errors import ApiError, bad_request
from crier.lab.api.faults import Death, Faults
from crier.lab.api.handler import Handler, Plan, Response, WatchResponse, refusal
from crier.lab.api.podproxy import Visit
from crier.lab.api.watches import Watch

MAX_HEAD: Final = 64 * 1024
"""Octets of a request line and its headers."""

MAX_DISCARDED: Final = 64 * 1024 * 1024
"""Octets of a body that are read at most; a client that is cut off while it writes reads no answer."""

LINGER: Final = 1.0
"""Seconds to hear out a client whose request was cut off."""

MAX_CONNECTIONS: Final = 4096

RECEIVE: Final = 64 * 1024

Clock = Callable[[], float]


class _Reset(Exception):
    """The way out of a connection that is to be reset."""


class _Broken(Exception):
    """The client is gone."""


class Server:
    """Serves one `Handler` on any number of listening sockets."""

    def __init__(self, handler: Handler, faults: Faults, *, clock: Clock) -> None:
        self._handler = handler
        self._faults = faults
        self._clock = clock
        self._connections: set[_Connection] = set()
        self._watches: set[trio.CancelScope] = set()
        self.pod_network = ""
        """Name of the network namespace from which pods are reached; "" is our own."""
        self.on_death: Callable[[], None] | None = None
        """Called when a `Death` with `exit` has come; without it the death is an outage."""
        faults.on_outage = self._reset_all
        faults.on_drop_watches = self._drop_watches
        faults.on_forget = handler.forget

    async def serve(self, sockets: Sequence[trio.socket.SocketType]) -> None:
        """Accept on all of them, for ever."""
        async with trio.open_nursery() as nursery:
            for listener in sockets:
                nursery.start_soon(self._accept, listener, nursery)

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                sock, _ = await listener.accept()
            except OSError as error:
                if error.errno in _ACCEPT_AGAIN:
                    continue
                if error.errno not in _ACCEPT_LATER:
                    raise
                await trio.sleep(0.1)  # out of descriptors: those in use come free in time
                continue
            if len(self._connections) >= MAX_CONNECTIONS:
                sock.close()
                continue
            nursery.start_soon(self._connection, sock)

    async def _connection(self, sock: trio.socket.SocketType) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock)
        self._connections.add(connection)
        try:
            with connection.scope:
                while await self._exchange(connection):
                    pass
        except (_Reset, _Broken):
            pass
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _exchange(self, connection: _Connection) -> bool:
        """One request and its answer; False when the connection has had its last."""
        try:
            request = await connection.receive()
        except ApiError as error:
            await connection.send(refusal(error), close=True)
            await connection.linger()
            return False
        if request is None:
            return False
        plan = self._handler.plan(request)
        if self._faults.outage and not plan.is_control:
            connection.reset()
        verdict = plan.verdict
        if verdict.latency:
            await trio.sleep(verdict.latency)
        if verdict.death is not None:
            self._die(verdict.death, plan)
            connection.reset()
        if verdict.error is not None:
            if verdict.applied and verdict.error is not None and request.method != "GET":
                plan.run(self._clock())
            await connection.send(refusal(verdict.error), head_only=request.method == "HEAD")
            return connection.reusable()
        connection.is_control = plan.is_control  # before it may order an outage
        answer = plan.run(self._clock())
        if isinstance(answer, Visit):
            answer = await trio.to_thread.run_sync(self._visit, answer, abandon_on_cancel=True)
        if isinstance(answer, WatchResponse):
            await self._stream(connection, answer)
            return connection.reusable()
        if self._faults.outage and not plan.is_control:
            connection.reset()
        await connection.send(answer, head_only=request.method == "HEAD")
        return connection.reusable()

    def _visit(self, there: Visit) -> Response:
        """A pod's own answer, from the network the API server is in."""
        try:
            if self.pod_network:
                return Response(*netns.inside(self.pod_network, lambda: podproxy.call(there)))
            return Response(*podproxy.call(there))
        except ApiError as error:
            return refusal(error)
        except OSError as problem:  # the network is gone
            return refusal(ApiError(503, f"error trying to reach service: {problem}"))

    async def _stream(self, connection: _Connection, answer: WatchResponse) -> None:
        watch = answer.watch
        wake = _Bell()
        watch.listen(wake.ring)
        scope = trio.CancelScope()
        self._watches.add(scope)
        broken = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.read_until_gone, scope)
                with scope:
                    try:
                        await connection.start_stream(answer.content_type)
                        await self._feed(connection, watch, wake)
                    except _Broken:  # from a nursery it would come as a group
                        broken = True
                nursery.cancel_scope.cancel()
        finally:
            watch.close(wake.ring)
            self._watches.discard(scope)
        if scope.cancelled_caught or broken:
            connection.reset()
        await connection.end_stream()

    async def _feed(self, connection: _Connection, watch: Watch, wake: _Bell) -> None:
        while (data := watch.take(self._clock())) is not None:
            if data:
                await connection.send_chunk(data)
            if watch.has_more:
                await trio.lowlevel.checkpoint()
                continue
            with trio.move_on_after(max(0.0, watch.wake_at - self._clock())):
                await wake.wait()

    def _drop_watches(self) -> None:
        for scope in tuple(self._watches):
            scope.cancel()

    def _reset_all(self) -> None:
        for connection in tuple(self._connections):
            if not connection.is_control:
                connection.abort()

    def _die(self, death: Death, plan: Plan) -> None:
        if death.applied:
            plan.run(self._clock())
        if death.exit and self.on_death is not None:
            self.on_death()
        self._faults.set_outage(True)


_ACCEPT_AGAIN: Final = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO})
_ACCEPT_LATER: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Bell:
    """Wakes one task; rings while nobody listens are kept as one."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


class _Connection:
    """One client's connection."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.scope = trio.CancelScope()
        self.is_control = False

    def close(self) -> None:
        self._sock.close()

    async def linger(self) -> None:
        """Hear out a client that still writes: closing now would reset it before it has read the answer."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        with trio.move_on_after(LINGER):
            for _ in range(MAX_DISCARDED // RECEIVE):
                if not await self._read():
                    break

    def reset(self) -> None:
        """Leave with a TCP reset.

        Raises:
            _Reset: always.
        """
        self._linger_not()
        raise _Reset

    def abort(self) -> None:
        """`reset`, from another task."""
        self._linger_not()
        self.scope.cancel()

    def _linger_not(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def receive(self) -> Request | None:
        """The next request, None when the client has no more.

        Raises:
            ApiError: it is malformed or too large; nothing more can be read.
        """
        head: h11.Request | None = None
        body = bytearray()
        size = 0
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                status = error.error_status_hint
                raise ApiError(status, f"malformed request: {error}", reason="BadRequest") from None
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
                data = await self._read()
                if not data and head is None and not self._http.trailing_data[0]:
                    return None
                self._http.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size <= MAX_BODY:
                    body += event.data
                elif size > MAX_DISCARDED:
                    raise too_large()
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None, "h11 gives the head first"
                if size > MAX_BODY:
                    raise too_large()
                return _request(head, bytes(body))
            else:  # PAUSED never comes before our answer
                return None

    async def send(self, response: Response, *, close: bool = False, head_only: bool = False) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        if close:
            headers.append(("Connection", "close"))
        head = h11.Response(status_code=response.status, headers=headers)
        try:
            data = self._http.send(head) or b""
        except h11.LocalProtocolError:
            raise _Broken from None  # the client broke off where no answer can follow
        if not head_only:
            data += self._http.send(h11.Data(data=response.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._write(data)

    async def start_stream(self, content_type: str) -> None:
        headers = [
            ("Content-Type", content_type),
            ("Transfer-Encoding", "chunked"),
            ("Cache-Control", "no-cache"),
        ]
        await self._write(self._http.send(h11.Response(status_code=200, headers=headers)))

    async def send_chunk(self, data: bytes) -> None:
        await self._write(self._http.send(h11.Data(data=data)))

    async def end_stream(self) -> None:
        await self._write(self._http.send(h11.EndOfMessage()))

    async def read_until_gone(self, gone: trio.CancelScope) -> None:
        """Read while an answer is being written; a client that pipelines has to wait."""
        while True:
            data = await self._read()
            if not data:
                gone.cancel()
                return
            self._http.receive_data(data)
            if len(self._http.trailing_data[0]) > MAX_HEAD:
                gone.cancel()
                return

    def reusable(self) -> bool:
        """Make ready for the next request, if there can be one."""
        if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is not h11.DONE:
            return False
        if self._http.our_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _read(self) -> bytes:
        try:
            return await self._sock.recv(RECEIVE)
        except OSError:
            return b""

    async def _write(self, data: bytes | None) -> None:
        rest = memoryview(data or b"")
        try:
            while rest:
                rest = rest[await self._sock.send(rest) :]
        except OSError:
            raise _Broken from None


def _request(head: h11.Request, body: bytes) -> Request:
    try:
        target = head.target.decode("ascii")
    except UnicodeDecodeError:
        raise bad_request("the request line is not ASCII") from None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii"), target, headers, body)


@asynccontextmanager
async def serving(server: Server, sockets: Sequence[trio.socket.SocketType]) -> AsyncIterator[None]:
    """Serve within the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, sockets)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
