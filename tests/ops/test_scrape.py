from __future__ import annotations

import datetime
import json
import socket
import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from crier.kube.client import Api
from crier.kube.errors import unavailable
from crier.kube.resources import TOKEN_REVIEWS, Resource
from crier.ops import scrape, selfsigned
from crier.ops.http import Request, Response
from crier.ops.scrape import BadTls, Reviewer, Tls

ROUTES = {"/metrics": lambda: Response.text("a 1\n")}


class FakeApi(Api):
    """Knows one token, and who may read what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str = "",
    ) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(resource.kind)
        if self.away:
            raise unavailable("away")
        spec = body["spec"]
        if resource is TOKEN_REVIEWS:
            known = spec["token"] in ("good", "poor")
            user = {"username": f"{spec['token']}-user", "groups": ["g"]} if known else {}
            return json.dumps({"status": {"authenticated": known, "user": user}}).encode()
        allowed = spec["user"] == "good-user" and spec["nonResourceAttributes"] == {
            "path": "/metrics",
            "verb": "get",
        }
        return json.dumps({"status": {"allowed": allowed}}).encode()


def asking(token: str | None) -> Request:
    return Request("GET", "/metrics", {} if token is None else {"authorization": token})


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Basic Zm9v", 401),
        ("Bearer ", 401),
        ("Bearer bad", 401),
        ("Bearer poor", 403),
        ("Bearer good", None),
        ("bearer  good", None),
    ],
)
async def test_who_may_scrape(header: str | None, status: int | None) -> None:
    answer = await Reviewer(FakeApi()).review(asking(header))
    assert (answer.status if answer else None) == status


async def test_an_answer_is_remembered_for_a_while(autojump_clock: trio.testing.MockClock) -> None:
    api = FakeApi()
    reviewer = Reviewer(api)
    for _ in range(5):
        assert await reviewer.review(asking("Bearer good")) is None
    assert api.asked == ["TokenReview", "SubjectAccessReview"]
    await trio.sleep(scrape.REMEMBER + 1)
    await reviewer.review(asking("Bearer good"))
    assert len(api.asked) == 4


async def test_without_the_api_nobody_is_let_in_and_nothing_is_remembered() -> None:
    api = FakeApi()
    api.away = True
    reviewer = Reviewer(api)
    answer = await reviewer.review(asking("Bearer good"))
    assert answer is not None
    assert answer.status == 503
    api.away = False
    assert await reviewer.review(asking("Bearer good")) is None


async def test_the_memory_is_bounded() -> None:
    reviewer = Reviewer(FakeApi())
    for number in range(scrape.MAX_REMEMBERED + 50):
        await reviewer.review(asking(f"Bearer {number}"))
    assert len(reviewer._answers) == scrape.MAX_REMEMBERED


async def fetch(port: int, token: str, version: ssl.TLSVersion | None = None) -> tuple[bytes, bytes]:
    """The answer, and the server's certificate (DER)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version is not None:
        context.maximum_version = version
    raw = await trio.open_tcp_stream("127.0.0.1", port)
    async with raw:
        stream = trio.SSLStream(raw, context, https_compatible=True)
        await stream.do_handshake()
        certificate = stream.getpeercert(binary_form=True)
        assert certificate
        head = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        await stream.send_all(f"{head}Connection: close\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream]), certificate


async def test_a_certificate_of_our_own_making(nursery: trio.Nursery) -> None:
    start = partial(scrape.serve, ROUTES, 0, Tls(name="iris1"), FakeApi(), host="127.0.0.1")
    port: int = await nursery.start(start)
    assert (await fetch(port, "good"))[0].endswith(b"\r\n\r\na 1\n")
    assert b" 403 " in (await fetch(port, "poor"))[0]
    with pytest.raises(trio.BrokenResourceError):
        await fetch(port, "good", ssl.TLSVersion.TLSv1_2)


def put(directory: Path, name: str) -> None:
    pem = selfsigned.make(name, datetime.datetime.now(datetime.UTC))
    (directory / "tls.key").write_bytes(pem)
    (directory / "tls.crt").write_bytes(pem[pem.index(b"-----BEGIN CERT") :])


async def test_a_certificate_from_files_is_followed(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "RELOAD_INTERVAL", 0.01)
    put(tmp_path, "one")
    tls = Tls(min_version="VersionTLS12", directory=str(tmp_path))
    port: int = await nursery.start(partial(scrape.serve, ROUTES, 0, tls, FakeApi(), host="127.0.0.1"))
    _, before = await fetch(port, "good", ssl.TLSVersion.TLSv1_2)
    (tmp_path / "tls.crt").write_text("half written")
    put(tmp_path, "two")
    with trio.fail_after(60):
        after = before
        while after == before:
            _, after = await fetch(port, "good")


async def test_plain_metrics_are_for_anybody_and_nothing_else_is(nursery: trio.Nursery) -> None:
    port: int = await nursery.start(scrape.keep_plain, ROUTES["/metrics"], 0)

    async def get(path: str) -> bytes:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return b"".join([chunk async for chunk in stream])

    assert (await get("/metrics")).endswith(b"\r\n\r\na 1\n")
    assert b" 404 " in await get("/status")


async def test_a_plain_port_that_is_taken_is_tried_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    holder = socket.create_server(("", 0))
    port = holder.getsockname()[1]

    async def let_go() -> None:
        await trio.sleep(60)
        holder.close()

    nursery.start_soon(let_go)
    assert await nursery.start(scrape.keep_plain, ROUTES["/metrics"], port) == port
    assert trio.current_time() > 60


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (Tls(min_version="SSL3"), "--tls-min-version: 'SSL3' is neither"),
        (Tls(min_version="VersionTLS12", cipher_suites=("RC4",)), "--tls-cipher-suites: 'RC4' is unknown"),
        (Tls(directory="/nonexistent"), "--metrics-cert-dir: /nonexistent: "),
    ],
)
async def test_bad_tls_names_the_flag(tls: Tls, message: str) -> None:
    with pytest.raises(BadTls, match=message):
        await scrape.serve(ROUTES, 0, tls, FakeApi(), host="127.0.0.1")


def test_gos_cipher_suites_are_known_to_openssl() -> None:
    assert len(scrape._SUITES) == 8
    for suite in scrape._SUITES:
        found = Tls(min_version="VersionTLS12", cipher_suites=(suite,)).context().get_ciphers()
        assert scrape._SUITES[suite] in {each["name"] for each in found}
