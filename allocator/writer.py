"""One decision to the API, once, and only to the very version of the service it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from allocator.reconcile import Write
from crier.kube.client import Api, decode_document
from crier.kube.errors import ApiError, Conflict, NotFound, TooManyRequests, Unavailable
from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.model.errors import DecodeError
from crier.kube.model.wire import MetaWire, decode_meta
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


def write_services(api: Api, writes: Sequence[Write]) -> list[Done | Stale | ApiError]:
    """Each of them, one after the other, and what came of it; an ApiError is to be tried again.  Blocks.

    Once the API is away, or wants to be left alone, the rest is not even tried.
    """
    outcomes: list[Done | Stale | ApiError] = []
    for write in writes:
        try:
            outcomes.append(write_service(api, write))
        except (Unavailable, TooManyRequests) as problem:
            return outcomes + [problem] * (len(writes) - len(outcomes))
        except ApiError as problem:
            outcomes.append(problem)
    return outcomes


def write_service(api: Api, write: Write) -> Done | Stale:
    """Replace the service's status, if the service is still the one decided on.  Blocks.

    A replacement, not a patch: MetalLB's roles allow `update` of services/status and no more.  It is made of
    the object that the watch has brought; where that is not at hand, the service is read first.  An attempt
    that got no answer and took effect all the same is `Stale` when it is made again.

    Raises:
        ApiError: whether it was written is not known, or it was refused; try again.
    """
    namespace, _, name = write.service.partition("/")
    path = SERVICES.path(namespace, name)
    try:
        document = write.document
        if not document:
            document = api.call("GET", path)
            found = _meta(document)
            if (found.uid, found.resource_version) != (write.uid, write.resource_version):
                return Stale(found.resource_version or "")
        body = _changed(decode_document(document), write)
        answer = api.call("PUT", SERVICES.path(namespace, name, "status"), body=body)
        return Done(_meta(answer).resource_version or "")
    except NotFound:
        return Stale("")
    except Conflict:
        newer = _find_newer(api, path)
        if newer.resource_version == write.resource_version:
            raise  # somebody's admission hook says so: deciding anew, and at once, would change nothing
        return newer


def _find_newer(api: Api, path: str) -> Stale:
    """The watch may have brought it long ago, or not yet: so wait for what is there now."""
    try:
        return Stale(_meta(api.call("GET", path)).resource_version or "")
    except NotFound:
        return Stale("")


def _meta(raw: bytes) -> MetaWire:
    try:
        return decode_meta(raw)
    except DecodeError as problem:
        raise ApiError(200, "NotAService", str(problem)) from None


def _changed(document: dict[str, Any], write: Write) -> dict[str, Any]:
    """The service with another status; all that we do not know of stays as it is."""
    # who owns which field is the API's to keep: a replacement without it leaves it alone
    metadata = {name: each for name, each in document["metadata"].items() if name != "managedFields"}
    status = document.get("status") or {}
    annotations = {**(metadata.get("annotations") or {}), ALLOCATED_FROM: write.pool}
    if not write.pool:
        del annotations[ALLOCATED_FROM]
    balancer = status.get("loadBalancer") or {}
    if tuple(entry.get("ip") or "" for entry in balancer.get("ingress") or ()) != write.addresses:
        balancer = {**balancer, "ingress": [{"ip": address} for address in write.addresses]}
    return {
        "apiVersion": SERVICES.api_version,
        "kind": SERVICES.kind,
        **document,
        "metadata": {**metadata, "annotations": annotations},
        "status": {**status, "loadBalancer": balancer},
    }
