"""ServiceBGPStatus: one object for each service and node that tells at least one peer of it.

Life cycle as MetalLB has it: a node looks only after its own; made in two writes, the object and then its
status; deleted when nobody is told of the service any more.  The peers are those that are to be told,
whether their sessions are up or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from crier.kube.model.states import ServiceBgpStatus
from crier.kube.resources import SERVICE_BGP_STATUSES
from speaker.planner.l2status import (
    Action,
    Amend,
    Create,
    Delete,
    Owner,
    first_write,
    is_current,
    usable,
)

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
        if found.service_key in wanted and found.service_key not in mine and usable(found, me):
            mine[found.service_key] = found
        else:
            deletions.append(Delete(found.name, found.uid))
    writes: list[Action] = []
    for service, peers in sorted(wanted.items()):
        here = mine.get(service)
        if here is None:
            writes.append(Create(service))
        elif here.peers != peers or not is_current(here, service, me, owner):
            writes.append(Amend(here.name, service, peers))
    return deletions + writes


def new_object(service: str, me: str, owner: Owner | None) -> dict[str, Any]:
    """The first of the two writes."""
    return first_write(SERVICE_BGP_STATUSES, "bgp-", service, me, owner)


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
