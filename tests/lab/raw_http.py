"""A small HTTP client over trio, for tests that care about every octet and every reset."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11
import trio


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One keep-alive connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {
            "Host": "lab", "Content-Type": "application/json", "Content-Length": str(len(data)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }  # fmt: skip
        octets = self._http.send(h11.Request(method=method, target=path, headers=list(fields.items()))) or b""
        octets += self._http.send(h11.Data(data=data)) or b""
        octets += self._http.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(octets)

    async def event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self.stream.receive_some())

    async def receive(self) -> Reply:
        head = await self.event()
        assert isinstance(head, h11.Response), head
        body = b""
        while not isinstance(event := await self.event(), h11.EndOfMessage):
            body += event.data
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Reply(head.status_code, headers, body)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        await self.send(method, path, body, **headers)
        return await self.receive()

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """The events of a watch that was just asked for; ends with it."""
        head = await self.event()
        assert isinstance(head, h11.Response), head
        assert head.status_code == 200, head
        rest = b""
        while isinstance(event := await self.event(), h11.Data):
            *whole, rest = (rest + bytes(event.data)).split(b"\n")
            for line in whole:
                yield json.loads(line)


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    at = urlsplit(url)
    assert at.hostname is not None
    assert at.port is not None
    stream = await trio.open_tcp_stream(at.hostname, at.port)
    async with stream:
        yield Connection(stream)


async def call(url: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """One request on a connection of its own."""
    async with connect(url) as connection:
        return await connection.call(method, path, body, **headers)
