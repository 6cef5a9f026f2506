"""ServiceBGPStatus: one object for each service and node that tells at least one peer of it.

Life cycle as MetalLB has it: a node looks only after its own; made in two writes, the object and then its
status; deleted when nobody is told of the service any more.  The peers are those that are to be told,
whether their sessions are up or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from crier.kube.model.states import (
    NODE_LABEL,
    SERVICE_NAME_LABEL,
    SERVICE_NAMESPACE_LABEL,
    ServiceBgpStatus,
)
from crier.kube.resources import SERVICE_BGP_STATUSES
from speaker.planner.l2status import Action, Amend, Create, Delete, Owner

PAUSE_MAX: Final = 1.0
"""Seconds between two objects made for one service.  No other speaker deletes them, only people do."""


def reconcile(
    wanted: Mapping[str, tuple[str, ...]],
    existing: Iterable[ServiceBgpStatus],
    me: str,
    owner: Owner | None,
) -> list[Action]:
    """What makes the objects right.  `wanted`: the services that somebody is told of, and whom."""
    deletions: list[Action] = []
    mine: dict[str, ServiceBgpStatus] = {}
    for found in sorted(existing, key=lambda each: each.name):
        if not found.service_key or found.node_label != me:
            continue  # another node's, or nobody's
        if found.service_key in wanted and found.service_key not in mine and _usable(found, me):
            mine[found.service_key] = found
        else:
            deletions.append(Delete(found.name, found.uid))
    writes: list[Action] = []
    for service, peers in sorted(wanted.items()):
        here = mine.get(service)
        if here is None:
            writes.append(Create(service))
        elif (
            here.node != me
            or here.status_service_key != service
            or here.peers != peers
            or (owner is not None and owner.uid not in here.owner_uids)
        ):
            writes.append(Amend(here.name, service, peers))
    return deletions + writes


def _usable(found: ServiceBgpStatus, me: str) -> bool:
    """The names in the status can be set once and never changed, so a wrong one is no use."""
    return found.node in ("", me) and found.status_service_key in ("", found.service_key)


def new_object(service: str, me: str, owner: Owner | None) -> dict[str, Any]:
    """The first of the two writes."""
    namespace, _, name = service.partition("/")
    metadata: dict[str, Any] = {
        "generateName": "bgp-",
        "labels": {NODE_LABEL: me, SERVICE_NAME_LABEL: name, SERVICE_NAMESPACE_LABEL: namespace},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner.reference()]
    return {
        "apiVersion": SERVICE_BGP_STATUSES.api_version,
        "kind": SERVICE_BGP_STATUSES.kind,
        "metadata": metadata,
        "spec": {},
    }


def status_patch(service: str, me: str, peers: tuple[str, ...]) -> dict[str, Any]:
    """The second: a merge patch of the status."""
    namespace, _, name = service.partition("/")
    return {
        "status": {
            "node": me,
            "serviceName": name,
            "serviceNamespace": namespace,
            "peers": list(peers),
        }
    }
