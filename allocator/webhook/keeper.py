"""Keeps the webhook's certificate valid, and the API server's trust in it."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import trio

from allocator.webhook.certificates_io import CA, CERTIFICATE, KEY, Outcome, Task
from crier.kube.client import Api, PatchType, decode_document
from crier.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound
from crier.kube.model.errors import DecodeError
from crier.kube.model.secret import Secret
from crier.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    SECRETS,
    VALIDATING_WEBHOOK_CONFIGURATIONS,
    Resource,
)
from crier.ops import logs

log = logs.get(__name__)

CONFIGURATION: Final = "metallb-webhook-configuration"
CONVERTED: Final = "bgppeers.metallb.io"
PROGRAM_PATIENCE: Final = 60.0


class NoCertificate(Exception):
    """None could be made."""


class Keeper:
    """Any number of replicas may do this: they all arrive at what the Secret says."""

    def __init__(self, api: Api, *, namespace: str, secret: str, service: str) -> None:
        self._api = api
        self._namespace = namespace
        self._secret = secret
        self._names = (f"{service}.{namespace}.svc",)
        self._absent: set[str] = set()

    async def bring_up(self) -> bytes:
        """PEM of key and certificate, which everybody trusts once this has returned.

        The trust comes first: a former authority stays trusted, so whoever still shows a certificate of
        its making is believed, too.

        Raises:
            ApiError: try again.
            NoCertificate: the program that makes them failed.
        """
        data = await self._data()
        await self._spread(data[CA])
        return data[KEY] + data[CERTIFICATE]

    async def _data(self) -> Mapping[str, bytes]:
        document: dict[str, Any] | None = None
        held: Mapping[str, bytes] = {}
        try:
            raw = await self._api.get(SECRETS, self._secret, namespace=self._namespace)
            document = decode_document(raw)
            held = Secret.decode(raw).data
        except NotFound:
            log.info("webhook_secret_missing", object=self._secret)
        except DecodeError as problem:
            log.warning("webhook_secret_not_decoded", object=self._secret, error=problem)
        outcome = await _bring_up(self._names, held)
        if not outcome.changed:
            return outcome.data
        encoded = {name: base64.b64encode(value).decode() for name, value in outcome.data.items()}
        try:
            if document is None:
                await self._api.create(SECRETS, self._object(encoded), namespace=self._namespace)
            else:
                body = {**document, "data": encoded}
                await self._api.replace(SECRETS, self._secret, body, namespace=self._namespace)
        except (AlreadyExists, Conflict):
            return await self._data()  # another replica was faster; so there is one now
        log.info("webhook_certificate_made", object=self._secret)
        return outcome.data

    def _object(self, data: Mapping[str, str]) -> dict[str, Any]:
        metadata = {"name": self._secret, "namespace": self._namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}

    async def _spread(self, authority: bytes) -> None:
        bundle = base64.b64encode(authority).decode()
        for resource, name, places in (
            (VALIDATING_WEBHOOK_CONFIGURATIONS, CONFIGURATION, _configured),
            (CUSTOM_RESOURCE_DEFINITIONS, CONVERTED, _converted),
        ):
            try:
                document = decode_document(await self._api.get(resource, name))
                patch = [
                    {"op": "add", "path": f"{path}/caBundle", "value": bundle}
                    for path, client in places(document)
                    if client.get("caBundle") != bundle
                ]
                if patch:
                    await self._patch(resource, name, document, patch)
                self._absent.discard(name)
            except (NotFound, Forbidden) as problem:
                if name not in self._absent:  # told once: without it the rest still works
                    self._absent.add(name)
                    log.warning("webhook_not_registered", object=name, error=problem)

    async def _patch(
        self, resource: Resource, name: str, document: Mapping[str, Any], patch: Sequence[Mapping[str, Any]]
    ) -> None:
        version = document["metadata"]["resourceVersion"]
        same = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        await self._api.patch(resource, name, [same, *patch], kind=PatchType.JSON, field_manager="MetalLB")
        log.info("webhook_trusted", object=name)


def _configured(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, each in enumerate(document.get("webhooks") or ()):
        yield f"/webhooks/{index}/clientConfig", each["clientConfig"]


def _converted(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Nothing while the API server converts by itself."""
    webhook = (document["spec"].get("conversion") or {}).get("webhook") or {}
    if "clientConfig" in webhook:
        yield "/spec/conversion/webhook/clientConfig", webhook["clientConfig"]


async def _bring_up(names: Sequence[str], data: Mapping[str, bytes]) -> Outcome:
    command = [sys.executable, "-m", "allocator.webhook.certificates"]
    task = msgspec.json.encode(Task(tuple(names), dict(data)))
    try:
        with trio.fail_after(PROGRAM_PATIENCE):
            done = await trio.run_process(command, stdin=task, capture_stdout=True)
        return msgspec.json.decode(done.stdout, type=Outcome)
    except (OSError, subprocess.SubprocessError, trio.TooSlowError, msgspec.MsgspecError) as problem:
        raise NoCertificate(f"{type(problem).__name__}: {problem}") from None
