"""The webhook as a part of the controller.  Nothing else waits for it, and it waits for nothing else."""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from allocator.webhook import admission, conversion, wire
from allocator.webhook.admission import DECODERS, RULES, Rule
from allocator.webhook.keeper import Keeper, NoCertificate
from allocator.webhook.server import Server
from crier.kube.client import Api
from crier.kube.errors import ApiError
from crier.kube.model.errors import DecodeError
from crier.kube.resources import NODES, Resource
from crier.kube.watch import backoff
from crier.ops import logs
from crier.ops.scrape import BadTls, Tls

log = logs.get(__name__)

CONVERT: Final = "/convert"
CHECK: Final = 30.0
"""Seconds between looks at the certificate and at who trusts it."""


class Webhook:
    """Answers the API server."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def answer(self, path: str, body: bytes) -> bytes | None:
        """None where nothing is at that path.  Raises BadReview."""
        if path == CONVERT:
            return _convert(wire.decode_conversion(body))
        rule = RULES.get(path)
        if rule is None:
            return None
        question = wire.decode_admission(body)
        try:
            existing = {resource: await self._list(resource) for resource in _needs(rule, question)}
        except ApiError as problem:
            verdict = wire.Verdict(False, f"what exists already could not be read: {problem}", code=500)
        else:
            verdict = admission.judge(rule, question, existing, self._namespace)
        if not verdict.allowed:
            kind, name = rule.resource.kind, question.name
            log.info("admission_refused", kind=kind, name=name, why=verdict.message)
        return wire.encode_verdict(question, verdict)

    async def _list(self, resource: Resource) -> Sequence[Any]:
        """What is there now, not what a watch told of: two that are made at once must see each other."""
        namespace = None if resource is NODES else self._namespace
        found: list[Any] = []
        async for page in self._api.list_pages(resource, namespace=namespace):
            for item in page.items:
                try:
                    found.append(DECODERS[resource](bytes(item)))
                except DecodeError as problem:  # from before the schema; told in ConfigurationState
                    log.warning("object_not_decoded", kind=resource.kind, error=problem)
        return found


def _needs(rule: Rule, question: wire.Admission) -> Sequence[Resource]:
    return rule.needs if question.operation in rule.operations else ()


def _convert(question: wire.Conversion) -> bytes:
    try:
        converted = [conversion.convert(thing, question.desired) for thing in question.objects]
    except conversion.NotConvertible as problem:
        return wire.encode_not_converted(question, str(problem))
    return wire.encode_converted(question, converted)


async def serve_webhook(
    api: Api, tls: Tls, *, namespace: str, port: int, secret: str, service: str, directory: str
) -> None:
    """For ever; failures are logged and tried again.

    Args:
        directory: with tls.crt and tls.key, made and rotated by others; "" for a certificate of our own in
            the Secret `secret`, for the Service `service`.
    """
    keeper = Keeper(api, namespace=namespace, secret=secret, service=service)
    rng = random.Random()
    failures = 0
    context = _context(tls)
    shown = b""
    async with trio.open_nursery() as nursery:
        while True:
            try:
                pem = _read(Path(directory)) if directory else await keeper.bring_up()
                if pem != shown:
                    _load(context, pem)
                    if not shown:
                        server = Server(Webhook(api, namespace).answer, context)
                        bound = await nursery.start(server.serve, "", port)
                        log.info("webhook_serving", port=bound)
                    shown = pem
                failures = 0
            except (ApiError, NoCertificate, OSError, ssl.SSLError) as problem:
                failures += 1
                log.warning("webhook_not_brought_up", error=problem, attempt=failures)
            await trio.sleep(backoff(failures, rng) if failures else CHECK)


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        return tls.context()
    except BadTls as problem:
        log.warning("tls_settings_not_used", error=problem)
        return Tls().context()


def _read(directory: Path) -> bytes:
    return (directory / "tls.key").read_bytes() + (directory / "tls.crt").read_bytes()


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Also into a context that is in use."""
    # OpenSSL reads keys from files only; this one is in memory: a key has no business on a disk
    fd = os.memfd_create("webhook", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
