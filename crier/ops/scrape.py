"""Metrics over HTTPS for Prometheus: who asks shows a token, and the API says whether it may read them.

As MetalLB serves them: TLS 1.3 unless told otherwise, the bearer token checked by a TokenReview and a
SubjectAccessReview for `get` on the URL asked for.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import ssl
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from crier.kube import resources
from crier.kube.client import Api, ApiError
from crier.kube.watch import backoff
from crier.ops import http, logs
from crier.ops.http import Handler, Request, Response

log = logs.get(__name__)

MAX_REMEMBERED: Final = 256
PROXIED_TOKEN: Final = "x-crier-authorization"  # noqa: S105 - the name of a header
"""Header with the token for those who ask through the API server's proxy, which keeps `Authorization`."""
REMEMBER: Final = 60.0
"""Seconds an answer of the API about a token is believed; a scrape comes every 15 to 60."""
RELOAD_INTERVAL: Final = 60.0
"""Seconds between looks at whether the certificate's files have changed."""

_VERSIONS: Final = {
    "": ssl.TLSVersion.TLSv1_3,
    "VersionTLS13": ssl.TLSVersion.TLSv1_3,
    "VersionTLS12": ssl.TLSVersion.TLSv1_2,
}
# Go's names, and OpenSSL's, of the suites of TLS 1.2 that are still safe to offer
_SUITES: Final = {
    f"TLS_ECDHE_{key}_WITH_{cipher}": f"ECDHE-{key}-{opened}"
    for key in ("RSA", "ECDSA")
    for cipher, opened in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("CHACHA20_POLY1305", "CHACHA20-POLY1305"),
    )
}


class BadTls(ValueError):
    """TLS cannot be served as asked; the text names the flag."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The flags `--tls-*` and `--metrics-cert-dir`."""

    min_version: str = ""
    cipher_suites: Sequence[str] = ()
    """Go's names; TLS 1.2 only."""
    directory: str = ""
    """With tls.crt and tls.key; "" for a certificate of our own making."""
    name: str = "localhost"
    """In a certificate of our own making."""

    def context(self) -> ssl.SSLContext:
        """Everything but the certificate.  Raises BadTls."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.min_version not in _VERSIONS:
            raise BadTls(f"--tls-min-version: {self.min_version!r} is neither VersionTLS12 nor VersionTLS13")
        context.minimum_version = _VERSIONS[self.min_version]
        unknown = [suite for suite in self.cipher_suites if suite not in _SUITES]
        if unknown:
            raise BadTls(f"--tls-cipher-suites: {unknown[0]!r} is unknown, or not safe to offer")
        if self.cipher_suites:
            context.set_ciphers(":".join(dict.fromkeys(_SUITES[suite] for suite in self.cipher_suites)))
        return context

    async def load(self, context: ssl.SSLContext) -> None:
        """Certificate and key, also into a context that is in use.  Raises BadTls."""
        try:
            if self.directory:
                context.load_cert_chain(Path(self.directory, "tls.crt"), Path(self.directory, "tls.key"))
            else:
                await _load_self_signed(context, self.name)
        except (OSError, subprocess.SubprocessError) as problem:
            source = f"--metrics-cert-dir: {self.directory}" if self.directory else "self-signed certificate"
            raise BadTls(f"{source}: {problem}") from None

    def stamp(self) -> object:
        """Changes when the files do; kubelet replaces them all at once."""
        try:
            return self.directory and [
                os.stat(os.path.join(self.directory, name)).st_mtime_ns for name in ("tls.crt", "tls.key")
            ]
        except OSError:
            return None


async def _load_self_signed(context: ssl.SSLContext, name: str) -> None:
    command = [sys.executable, "-m", "crier.ops.selfsigned", name]
    pem = (await trio.run_process(command, capture_stdout=True)).stdout
    # OpenSSL reads keys from files only; this one is in memory, because the root file system is read-only
    # and a key has no business on a disk
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)  # some kilobytes of memory: written whole
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


async def serve(
    routes: Mapping[str, Handler],
    port: int,
    tls: Tls,
    api: Api,
    *,
    host: str = "",
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled.  Raises BadTls, and OSError when it cannot listen."""
    stamp = tls.stamp()
    context = tls.context()
    await tls.load(context)
    guard = Reviewer(api).review
    async with trio.open_nursery() as nursery:
        task_status.started(
            await nursery.start(functools.partial(http.serve, routes, host, port, guard=guard, tls=context))
        )
        while True:
            await trio.sleep(RELOAD_INTERVAL)
            if (now := tls.stamp()) not in (stamp, None):
                try:
                    await tls.load(context)
                except BadTls as problem:  # the old one serves on
                    log.warning("certificate_not_loaded", error=problem)
                else:
                    stamp = now


async def keep_plain(
    metrics: Handler, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """`/metrics` alone, over plain HTTP and for anybody, for ever: a port that is taken is tried again."""
    failures = 0
    while True:
        try:
            await http.serve({"/metrics": metrics}, "", port, task_status=task_status)
        except OSError as problem:
            failures += 1
            log.warning("metrics_not_served", port=port, error=problem)
        await trio.sleep(backoff(failures, random.Random()))


class _UserWire(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()


class _ReviewStatusWire(msgspec.Struct, frozen=True):
    authenticated: bool = False
    allowed: bool = False
    user: _UserWire = _UserWire()


class _ReviewWire(msgspec.Struct, frozen=True):
    status: _ReviewStatusWire = _ReviewStatusWire()


_REVIEW: Final = msgspec.json.Decoder(_ReviewWire)


class Reviewer:
    """Asks the API about the bearer of a token; remembers the answers, never the tokens."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._answers: OrderedDict[bytes, tuple[Response | None, float]] = OrderedDict()

    async def review(self, request: Request) -> Response | None:
        """None lets the request pass."""
        shown = request.headers.get("authorization") or request.headers.get(PROXIED_TOKEN, "")
        scheme, _, token = shown.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return Response.text("a bearer token is needed\n", 401)
        key = hashlib.sha256(f"{request.path} {token.strip()}".encode()).digest()
        known = self._answers.get(key)
        if known is not None and known[1] > trio.current_time():
            return known[0]
        try:
            answer = await self._ask(token.strip(), request.path)
        except (ApiError, msgspec.MsgspecError) as problem:
            log.warning("scrape_not_reviewed", error=problem)
            return Response.text("the Kubernetes API could not be asked\n", 503)
        self._answers[key] = (answer, trio.current_time() + REMEMBER)
        while len(self._answers) > MAX_REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    async def _ask(self, token: str, path: str) -> Response | None:
        kind = resources.TOKEN_REVIEWS
        user = (await self._post(kind, {"token": token})).user
        if not user.username:
            return Response.text("the token is not valid\n", 401)
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        allowed = (await self._post(resources.SUBJECT_ACCESS_REVIEWS, spec)).allowed
        return None if allowed else Response.text(f"{user.username} may not get {path}\n", 403)

    async def _post(self, kind: resources.Resource, spec: dict[str, Any]) -> _ReviewStatusWire:
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        status = _REVIEW.decode(await self._api.create(kind, body)).status
        if kind is resources.TOKEN_REVIEWS and not status.authenticated:
            return _ReviewStatusWire()
        return status
