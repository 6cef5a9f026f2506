from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial

import h11
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crier.ops import http
from crier.ops.http import Guard, Handler, Request, Response


def fail() -> Response:
    raise RuntimeError("a bug")


async def forever() -> Response:
    await trio.sleep_forever()


ROUTES: Mapping[str, Handler] = {
    "/healthz": lambda: Response.text("ok"),
    "/status": lambda: Response.json({"a": [1, None]}),
    "/big": lambda: Response.text("x" * 5_000_000),
    "/bug": fail,
    "/endless": lambda: forever(),
}


async def ask(port: int, octets: bytes) -> bytes:
    """Everything that comes back until the server closes; the connection is half closed after the request."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(octets)
        await stream.send_eof()
        return b"".join([chunk async for chunk in stream])


async def serving(nursery: trio.Nursery, guard: Guard | None = None) -> int:
    port: int = await nursery.start(partial(http.serve, ROUTES, "127.0.0.1", 0, guard=guard))
    return port


def get(path: str, method: str = "GET", extra: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (get("/healthz"), b"200", b"ok"),
        (get("/healthz?verbose=1"), b"200", b"ok"),
        (get("/status"), b"200", b'{"a":[1,null]}'),
        (get("/healthz", "HEAD"), b"200", b""),
        (get("/nothing"), b"404", b"not found\n"),
        (get("/healthz/../status"), b"404", b"not found\n"),
        (get("/healthz", "POST", "Content-Length: 3\r\n") + b"abc", b"405", b"only GET and HEAD\n"),
        (get("/healthz", "DELETE"), b"405", b"only GET and HEAD\n"),
        (get("/bug"), b"500", b"internal error\n"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200", b"ok"),
    ],
)
async def test_answers(nursery: trio.Nursery, request_: bytes, status: bytes, body: bytes) -> None:
    port = await serving(nursery)
    answer = await ask(port, request_)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert rest == body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"400"),  # TLS to a plain port
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /\r\n\r\n", b"400"),
        (b"\r\n" * 10 + b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 20_000, b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n", b"405"),
    ],
)
async def test_hostile_requests_are_refused_and_the_server_lives(
    nursery: trio.Nursery, request_: bytes, status: bytes
) -> None:
    port = await serving(nursery)
    assert (await ask(port, request_)).split()[1] == status
    assert (await ask(port, get("/healthz"))).endswith(b"\r\n\r\nok")


async def test_a_connection_is_kept_for_the_next_request(nursery: trio.Nursery) -> None:
    port = await serving(nursery)
    answer = await ask(port, get("/healthz") * 3)
    assert answer.count(b"HTTP/1.1 200") == 3


async def test_a_body_ends_the_connection(nursery: trio.Nursery) -> None:
    port = await serving(nursery)
    answer = await ask(port, get("/healthz", extra="Content-Length: 30\r\n") + get("/status"))
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


async def test_a_connection_has_an_end(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REQUESTS_PER_CONNECTION", 2)
    port = await serving(nursery)
    assert (await ask(port, get("/healthz") * 5)).count(b"HTTP/1.1 200") == 2


async def test_a_client_that_reads_nothing_is_let_go(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.05)
    port = await serving(nursery)
    async with await trio.open_tcp_stream("127.0.0.1", port) as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        await silent.send_all(get("/big"))
        with trio.fail_after(60):
            # the server lets go of it, or this would go on for ever
            gone = False
            while not gone:
                try:
                    await silent.send_all(get("/healthz"))
                except trio.BrokenResourceError:
                    gone = True
                await trio.sleep(0.01)
    monkeypatch.undo()
    assert (await ask(port, get("/healthz"))).endswith(b"ok")


async def test_a_page_that_takes_too_long_is_an_answer_too(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.5)
    port = await serving(nursery)
    answer = await ask(port, get("/endless"))
    assert answer.startswith(b"HTTP/1.1 503")
    assert answer.endswith(b"there was no answer within 0.5 s\n")


async def test_a_slow_request_is_cut_off(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.05)
    port = await serving(nursery)
    async with await trio.open_tcp_stream("127.0.0.1", port) as slow:
        await slow.send_all(b"GET /heal")
        with trio.fail_after(60):
            assert await slow.receive_some(100) == b""


async def test_silent_connections_cannot_shut_out_others(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 5)
    port = await serving(nursery)
    silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(20)]
    with trio.fail_after(60):
        for _ in range(10):
            assert (await ask(port, get("/healthz"))).endswith(b"ok")
    for each in silent:
        await each.aclose()


async def test_a_guard_is_asked_first(nursery: trio.Nursery) -> None:
    async def guard(request: Request) -> Response | None:
        await trio.lowlevel.checkpoint()
        if request.headers.get("authorization") == "Bearer right":
            return None
        return Response.text("no\n", 401)

    port = await serving(nursery, guard=guard)
    assert b"HTTP/1.1 401" in await ask(port, get("/status"))
    assert b"HTTP/1.1 401" in await ask(port, get("/status", extra="Authorization: Bearer wrong\r\n"))
    assert b"HTTP/1.1 200" in await ask(port, get("/status", extra="Authorization: Bearer right\r\n"))


async def test_a_port_that_is_taken_is_an_error(nursery: trio.Nursery) -> None:
    port = await serving(nursery)
    with pytest.raises(OSError, match=r"(?i)address already in use"):
        await http.serve(ROUTES, "127.0.0.1", port)


async def test_every_address_includes_ipv4(nursery: trio.Nursery) -> None:
    port: int = await nursery.start(http.serve, ROUTES, "", 0)
    assert (await ask(port, get("/healthz"))).endswith(b"ok")


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(
    st.lists(
        st.binary(max_size=300)
        | st.sampled_from([b"GET ", b"/healthz", b" HTTP/1.1", b"\r\n", b"Host: x", b"\r\n\r\n", b": "]),
        max_size=12,
    )
)
def test_no_octets_do_worse_than_an_error_answer(pieces: list[bytes]) -> None:
    """Through a pair of memory streams: what the server sends is HTTP, and it always comes to an end."""

    async def converse() -> bytes:
        ours, theirs = trio.testing.memory_stream_pair()
        server = http._Server(ROUTES, None, None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server._converse, theirs)
            for piece in pieces:
                await ours.send_all(piece)
            await ours.send_eof()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await theirs.aclose()
        return b"".join([chunk async for chunk in ours])

    answer = trio.run(converse, clock=trio.testing.MockClock(autojump_threshold=0))
    if answer:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer)
        assert isinstance(client.next_event(), h11.Response)
