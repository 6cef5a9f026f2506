"""Connections that stay open: used again while they are good, and left alone when they are not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest
from urllib3.util.wait import wait_for_read

from crier.kube import connections
from crier.kube.connections import Connections
from crier.kube.transport import Transport, plain_configuration

PATIENCE = 60.0
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"


@dataclass
class Server:
    """Gives the answers it has, so many on each connection before it ends it."""

    per_connection: int
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    heads: list[bytes] = field(default_factory=list)
    accepted: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self, answers: list[bytes]) -> None:
        while answers:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                for _ in range(self.per_connection):
                    if not answers or not (head := connection.recv(65536)):
                        break
                    self.heads.append(head)
                    connection.sendall(answers.pop(0))


@contextmanager
def serving(*answers: bytes, per_connection: int) -> Iterator[Server]:
    server = Server(per_connection)
    thread = threading.Thread(target=server.serve, args=[list(answers)], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            server.listener.shutdown(socket.SHUT_RDWR)  # a thread may still wait for somebody
        server.listener.close()
        thread.join(PATIENCE)


def ask(found: Connections) -> bytes:
    status, _, data = found.request("GET", "/x", {}, None, timeout=PATIENCE, most=10)
    assert status == 200
    return data


@pytest.mark.parametrize("answer", [BODY, CHUNKED])
def test_one_connection_for_one_request_after_the_other(answer: bytes) -> None:
    with serving(*[answer] * 3, per_connection=3) as server:
        found = Connections(lambda: HTTPConnection("127.0.0.1", server.port))
        assert [ask(found) for _ in range(3)] == [b"ok"] * 3
        assert server.accepted == 1
        found.close()


def test_one_that_the_server_has_ended_is_not_used() -> None:
    """It said nothing of it beforehand, as at the end of an idle timeout."""
    with serving(BODY, BODY, per_connection=1) as server:
        found = Connections(lambda: HTTPConnection("127.0.0.1", server.port))
        assert ask(found) == b"ok"
        (idle,) = found._idle
        assert wait_for_read(idle.sock, timeout=PATIENCE), "the end of it is here"
        assert ask(found) == b"ok"
        assert server.accepted == 2
        found.close()


def test_an_answer_that_says_that_it_is_the_last_is() -> None:
    last = BODY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with serving(last, per_connection=2) as server:
        found = Connections(lambda: HTTPConnection("127.0.0.1", server.port))
        assert ask(found) == b"ok"
        assert found._idle == []
        found.close()


def test_no_more_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "POOL_SIZE", 0)
    with serving(BODY, per_connection=1) as server:
        found = Connections(lambda: HTTPConnection("127.0.0.1", server.port))
        assert ask(found) == b"ok"
        assert found._idle == []


def test_an_api_that_is_not_at_the_root_of_its_server() -> None:
    with serving(BODY, per_connection=1) as server:
        api = Transport(plain_configuration(f"http://127.0.0.1:{server.port}/clusters/one"))
        assert api.request("GET", "/api/v1/nodes", query={"limit": "5"}, timeout=PATIENCE) == b"ok"
        assert server.heads[0].startswith(b"GET /clusters/one/api/v1/nodes?limit=5 HTTP/1.1\r\n")
        api.close()
