"""Requests: what is sent, what comes back, which error for which answer."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from crier.kube import access, transport
from crier.kube.client import (
    AlreadyExists,
    Api,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    PatchType,
    TooManyRequests,
    Unavailable,
)
from crier.kube.errors import api_error
from crier.kube.resources import EVENTS, NAMESPACES, NODES, SERVICES, Resource
from crier.kube.transport import NoCluster, Transport, load_configuration
from crier.lab.api import Rule, open_api, render_kubeconfig
from crier.ops.http import Handler, serve
from crier.ops.http import Response as HttpResponse


def status(reason: str, **more: Any) -> bytes:
    return msgspec.json.encode({"kind": "Status", "reason": reason, "message": "because", **more})


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (400, status("BadRequest"), ApiError),
        (401, status("Unauthorized"), Forbidden),
        (403, status("Forbidden"), Forbidden),
        (404, status("NotFound"), NotFound),
        (404, b"404 page not found", NotFound),
        (409, status("AlreadyExists"), AlreadyExists),
        (409, status("Conflict"), Conflict),
        (409, b"", Conflict),
        (410, status("Expired"), Gone),
        (422, status("Invalid"), Invalid),
        (429, status("TooManyRequests"), TooManyRequests),
        (500, status("InternalError"), ApiError),
        (502, b"<html>", Unavailable),
        (503, b"", Unavailable),
        (503, status("x", details={"retryAfterSeconds": 2}), TooManyRequests),
        (504, status("Timeout"), Unavailable),
    ],
)
def test_kinds_of_errors(code: int, body: bytes, kind: type[ApiError]) -> None:
    error = api_error(code, body)
    assert type(error) is kind
    assert error.status == code


@pytest.mark.parametrize(
    ("header", "details", "expected"),
    [
        (None, None, 1.0),
        ("7", None, 7.0),
        (None, 3, 3.0),
        ("soon", 4, 4.0),
        ("99999", None, 300.0),
        ("-1", -5, 0.0),
    ],
)
def test_when_to_come_back(header: str | None, details: int | None, expected: float) -> None:
    body = status("x", **({} if details is None else {"details": {"retryAfterSeconds": details}}))
    error = api_error(429, body, header)
    assert isinstance(error, TooManyRequests)
    assert error.retry_after == expected


@given(st.integers(300, 599), st.binary(max_size=200), st.none() | st.text(max_size=8))
def test_any_answer_is_some_error(code: int, body: bytes, header: str | None) -> None:
    error = api_error(code, body, header)
    assert isinstance(error, ApiError)
    assert len(str(error)) < 10_000


@pytest.mark.parametrize(
    ("resource", "arguments", "expected"),
    [
        (NODES, (), "/api/v1/nodes"),
        (NODES, (None, "n1"), "/api/v1/nodes/n1"),
        (SERVICES, (), "/api/v1/services"),
        (SERVICES, ("shop",), "/api/v1/namespaces/shop/services"),
        (SERVICES, ("shop", "web", "status"), "/api/v1/namespaces/shop/services/web/status"),
        (Resource("metallb.io", "v1beta1", "ipaddresspools", "IPAddressPool"), ("m", "p"),
         "/apis/metallb.io/v1beta1/namespaces/m/ipaddresspools/p"),
        (SERVICES, ("..", "a/b?c"), "/api/v1/namespaces/../services/a%2Fb%3Fc"),
    ],
)  # fmt: skip
def test_paths(resource: Resource, arguments: tuple[Any, ...], expected: str) -> None:
    assert resource.path(*arguments) == expected


async def test_the_life_of_an_object() -> None:
    async with open_api(seed=1) as lab:
        api = Api.at(lab.url)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}
        await api.create(NAMESPACES, body)
        with pytest.raises(AlreadyExists):
            await api.create(NAMESPACES, body)
        found = msgspec.json.decode(await api.get(NAMESPACES, "x"))
        found["metadata"]["labels"] = {"a": "1"}
        first = msgspec.json.decode(await api.replace(NAMESPACES, "x", found))
        with pytest.raises(Conflict):
            await api.replace(NAMESPACES, "x", found)
        merged = await api.patch(NAMESPACES, "x", {"metadata": {"labels": {"b": "2"}}})
        patched = await api.patch(
            NAMESPACES, "x", [{"op": "remove", "path": "/metadata/labels/a"}], kind=PatchType.JSON
        )
        assert msgspec.json.decode(merged)["metadata"]["labels"].items() >= {"a": "1", "b": "2"}.items()
        assert "a" not in msgspec.json.decode(patched)["metadata"]["labels"]
        with pytest.raises(Conflict):
            await api.delete(NAMESPACES, "x", uid="somebody else's")
        await api.delete(NAMESPACES, "x", uid=first["metadata"]["uid"])
        for _ in range(2):
            with pytest.raises(NotFound):
                await api.get(NAMESPACES, "x")
        api.close()


async def test_apply_needs_no_object_and_takes_fields_over() -> None:
    async with open_api(seed=1) as lab:
        api = Api.at(lab.url)

        def apply(who: str, value: str, *, force: bool) -> Any:
            body = {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "x", "labels": {"a": value}},
            }
            return api.patch(NAMESPACES, "x", body, kind=PatchType.APPLY, field_manager=who, force=force)

        await apply("one", "1", force=False)
        with pytest.raises(Conflict):
            await apply("two", "2", force=False)
        answer = await apply("two", "2", force=True)
        assert msgspec.json.decode(answer)["metadata"]["labels"]["a"] == "2"
        api.close()


async def test_a_request_has_a_deadline() -> None:
    async with open_api(seed=1) as lab:
        api = Api.at(lab.url, timeout=0.1)
        lab.faults.set(Rule(verb="get", latency=30))
        with pytest.raises(Unavailable), trio.fail_after(60):
            await api.get(NAMESPACES, "default")
        api.close()


async def test_a_request_can_be_abandoned() -> None:
    async with open_api(seed=1) as lab:
        api = Api.at(lab.url)
        lab.faults.set(Rule(verb="get", latency=30))
        with trio.move_on_after(0.05) as scope:
            await api.get(NAMESPACES, "default")
        assert scope.cancelled_caught
        api.close()


async def test_nobody_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, so nobody else gets the port, and not listening
        api = Api.at(f"http://127.0.0.1:{sock.getsockname()[1]}")
        with pytest.raises(Unavailable) as problem:
            await api.get(NAMESPACES, "default")
        assert problem.value.status == 0
        api.close()


@contextmanager
def canned(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives the same answers whatever it is asked, and keeps the heads of the requests."""
    listener = socket.create_server(("127.0.0.1", 0))
    heads: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            with suppress(OSError):
                conn, _ = listener.accept()
                with conn:
                    heads.append(conn.recv(65536))
                    conn.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
    finally:
        listener.close()
        thread.join(5)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 999999 ?\r\n\r\n",
    ],
)
async def test_a_server_that_speaks_badly(answer: bytes) -> None:
    with canned(answer) as (url, _):
        api = Api.at(url, timeout=60)
        with pytest.raises(ApiError):
            await api.get(NAMESPACES, "default")
        api.close()


async def test_redirects_are_not_followed() -> None:
    """Or credentials would be carried to wherever the answer says."""
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with canned(answer) as (url, _):
        api = Api.at(url, timeout=60)
        with pytest.raises(ApiError) as problem:
            await api.get(NAMESPACES, "default")
        assert problem.value.status == 302
        api.close()


async def test_an_answer_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_RESPONSE", 100)
    async with open_api(seed=1) as lab:
        api = Api.at(lab.url)
        with pytest.raises(ApiError, match="more than 100 octets"):
            await api.get(NAMESPACES, "default")
        api.close()


# ------------------------------------------------------------------------------- configuration


def test_no_cluster_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    with pytest.raises(NoCluster, match=r"no Kubernetes API from KUBECONFIG="):
        load_configuration()
    (tmp_path / "bad").write_text("clusters: 5\n")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "bad"))
    with pytest.raises(NoCluster):
        load_configuration()
    with pytest.raises(NoCluster, match=r"no Kubernetes API from --kubeconfig .*/gone: no such file"):
        load_configuration(str(tmp_path / "gone"))
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(NoCluster, match="the pod's service account"):
        load_configuration()


async def test_a_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with open_api(seed=1, tokens={"letmein": "somebody"}) as lab:
        api = Api.at(lab.url)
        with pytest.raises(Forbidden):
            await api.get(NAMESPACES, "default")
        api.close()
        path = tmp_path / "config"
        path.write_text(render_kubeconfig(lab.url, token="letmein"))
        monkeypatch.setenv("KUBECONFIG", str(path))
        api = Api.connect()
        assert b"default" in await api.get(NAMESPACES, "default")
        api.close()


async def test_a_token_that_rotates_is_followed(tmp_path: Path) -> None:
    """The kubelet replaces the pod's token file; a minute later at most the new one is used."""
    now = [1000.0]
    token = tmp_path / "token"
    token.write_text("first\n")
    authority, _ = authority_and_key()
    (tmp_path / "ca.crt").write_bytes(authority)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with canned(answer, answer, answer) as (url, heads):
        found = access.InCluster(
            {access.SERVICE_HOST: "fd00::1", access.SERVICE_PORT: "443"}, tmp_path, lambda: now[0]
        )
        assert found.host == "https://[fd00::1]:443"
        found.host = url  # the canned server has no certificate
        api = Api(Transport(found), timeout=60)
        await api.get(NAMESPACES, "default")
        token.write_text("second")
        await api.get(NAMESPACES, "default")
        now[0] += access.TOKEN_LIFETIME
        await api.get(NAMESPACES, "default")
        token.unlink()
        now[0] += access.TOKEN_LIFETIME
        with pytest.raises(Unavailable, match="credentials"):
            await api.get(NAMESPACES, "default")
        api.close()
    assert [b"authorization: bearer second" in head.lower() for head in heads] == [False, False, True]
    assert b"authorization: bearer first" in heads[0].lower()


async def test_a_pod_talks_tls_to_whom_its_authority_vouches_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text("letmein")
    certificate, key = authority_and_key()
    (tmp_path / "ca.crt").write_bytes(certificate)
    (tmp_path / "both.pem").write_bytes(certificate + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "both.pem")
    routes: dict[str, Handler] = {
        "/api/v1/namespaces/default": lambda: HttpResponse.json({"kind": "Namespace"})
    }
    async with trio.open_nursery() as nursery:
        port = await nursery.start(functools.partial(serve, routes, "127.0.0.1", 0, tls=context))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        monkeypatch.setattr(access.InCluster.__init__, "__defaults__", (os.environ, tmp_path, time.monotonic))
        api = Api.connect(timeout=60)
        assert b"Namespace" in await api.get(NAMESPACES, "default")
        api.close()
        stranger, _ = authority_and_key()
        (tmp_path / "ca.crt").write_bytes(stranger)
        api = Api.connect(timeout=60)
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await api.get(NAMESPACES, "default")
        api.close()
        nursery.cancel_scope.cancel()


def authority_and_key() -> tuple[bytes, bytes]:
    """PEM of an authority that is its own server on loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def test_a_pod_does_not_import_the_official_client() -> None:
    """It costs every start half a second and 20 MB."""
    program = "import sys, allocator.app, speaker.planner.app; sys.exit('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False)
    assert done.returncode == 0


async def test_events_have_their_place() -> None:
    async with open_api(seed=1) as lab:
        api = Api.at(lab.url)
        assert [page.items async for page in api.list_pages(EVENTS, namespace="default")] == [()]
        api.close()
