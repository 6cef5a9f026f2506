"""The Secret with the key of the speakers' gossip: made once, never changed."""

from __future__ import annotations

import base64
import random
import secrets
from typing import Any, Final

import msgspec
import trio

from crier.kube.client import Api
from crier.kube.errors import AlreadyExists, ApiError, NotFound
from crier.kube.model.errors import DecodeError
from crier.kube.model.wire import decode_meta
from crier.kube.resources import DEPLOYMENTS, SECRETS
from crier.kube.watch import backoff
from crier.ops import logs

log = logs.get(__name__)

KEY: Final = "secretkey"
KEY_OCTETS: Final = 16


def new_key() -> bytes:
    """What goes into the Secret: 16 octets of chance as unpadded base64 (22 characters), like MetalLB."""
    return base64.b64encode(secrets.token_bytes(KEY_OCTETS)).rstrip(b"=")


def secret_object(namespace: str, name: str, value: bytes, owner: dict[str, Any] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {KEY: base64.b64encode(value).decode()},
    }


async def ensure_secret(api: Api, namespace: str, name: str, deployment: str) -> None:
    """Make the Secret unless it exists; try until one or the other is so.

    Its owner is our Deployment, so that it goes when we are uninstalled; without one it stays.
    """
    rng = random.Random()
    failures = 0
    while True:
        try:
            await _ensure(api, namespace, name, deployment)
        except ApiError as problem:
            failures += 1
            log.warning("gossip_key_not_made", object=name, error=problem, attempt=failures)
            await trio.sleep(backoff(failures, rng))
        else:
            return


async def _ensure(api: Api, namespace: str, name: str, deployment: str) -> None:
    try:
        await api.get(SECRETS, name, namespace=namespace)
    except NotFound:
        owner = await _owner(api, namespace, deployment) if deployment else None
        try:
            await api.create(SECRETS, secret_object(namespace, name, new_key(), owner), namespace=namespace)
        except AlreadyExists:
            return
        log.info("gossip_key_made", object=name, owner=deployment if owner else "")


async def _owner(api: Api, namespace: str, deployment: str) -> dict[str, Any] | None:
    try:
        meta = decode_meta(msgspec.Raw(await api.get(DEPLOYMENTS, deployment, namespace=namespace)))
    except (NotFound, DecodeError) as problem:
        log.warning("deployment_not_found", deployment=deployment, error=problem)
        return None
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta.name, "uid": meta.uid or ""}
