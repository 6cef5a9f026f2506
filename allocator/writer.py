"""One decision to the API, once, and only to the very version of the service it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allocator.reconcile import Write
from crier.kube.client import Api, decode_document
from crier.kube.errors import ApiError, Conflict, NotFound
from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.model.errors import DecodeError
from crier.kube.model.service import Service
from crier.kube.resources import SERVICES


@dataclass(frozen=True, slots=True)
class Done:
    resource_version: str
    """Of the service now."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Nothing was written: the service is another than the one decided on.  Decide again."""

    resource_version: str
    """The version to decide on; "" when the service is gone."""


async def write_service(api: Api, write: Write) -> Done | Stale:
    """Read the service, compare, replace its status.

    A replacement, not a patch: MetalLB's roles allow `update` of services/status and no more.  Reading first
    also tells, after an attempt that got no answer, whether it took effect.

    Raises:
        ApiError: whether it was written is not known, or it was refused; try again.
    """
    namespace, _, name = write.service.partition("/")
    try:
        raw = await api.get(SERVICES, name, namespace=namespace)
    except NotFound:
        return Stale("")
    service = _decode(raw)
    if (service.uid, service.resource_version) != (write.uid, write.resource_version):
        return Stale(service.resource_version)
    try:
        answer = await api.replace(
            SERVICES,
            name,
            _changed(decode_document(raw), write),
            namespace=namespace,
            subresource="status",
        )
    except NotFound:
        return Stale("")
    except Conflict:
        # Somebody was faster by milliseconds.
        try:
            return Stale(_decode(await api.get(SERVICES, name, namespace=namespace)).resource_version)
        except NotFound:
            return Stale("")
    return Done(_decode(answer).resource_version)


def _decode(raw: bytes) -> Service:
    try:
        return Service.decode(raw)
    except DecodeError as problem:
        raise ApiError(200, "NotAService", str(problem)) from None


def _changed(document: dict[str, Any], write: Write) -> dict[str, Any]:
    """The service with another status; all that we do not know of stays as it is."""
    metadata, status = document["metadata"], document.get("status") or {}
    annotations = {**(metadata.get("annotations") or {}), ALLOCATED_FROM: write.pool}
    if not write.pool:
        del annotations[ALLOCATED_FROM]
    balancer = status.get("loadBalancer") or {}
    if tuple(entry.get("ip") or "" for entry in balancer.get("ingress") or ()) != write.addresses:
        balancer = {**balancer, "ingress": [{"ip": address} for address in write.addresses]}
    return {
        **document,
        "metadata": {**metadata, "annotations": annotations},
        "status": {**status, "loadBalancer": balancer},
    }
