"""ServiceL2Status: at most one object per service, that of the node which announces it.

Life cycle as MetalLB has it: the announcing node deletes what other nodes left and duplicates of its own,
then makes its own object in two writes (the object, then its status); a node that does not announce
deletes only what is its own.  The objects belong to the speaker's Pod, so that a deleted speaker's go
with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from crier.kube.model.states import (
    NODE_LABEL,
    SERVICE_NAME_LABEL,
    SERVICE_NAMESPACE_LABEL,
    ServiceL2Status,
    ServiceStatus,
)
from crier.kube.resources import SERVICE_L2_STATUSES, Resource

PAUSE_FIRST: Final = 0.5
PAUSE_MAX: Final = 60.0
"""Seconds between two objects made for one service.  When two speakers that cannot hear each other both
announce it, each deletes the other's; the pause keeps that from becoming a storm of writes."""
CALM: Final = 120.0
"""Seconds without a new object after which the pause is the first again."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The Pod the objects belong to."""

    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}


@dataclass(frozen=True, slots=True)
class Create:
    service: str


@dataclass(frozen=True, slots=True)
class Amend:
    """Write status and owner of an object that is ours."""

    name: str
    service: str
    listed: tuple[str, ...]
    """Interfaces, or peers."""


@dataclass(frozen=True, slots=True)
class Delete:
    name: str
    uid: str


Action: TypeAlias = Create | Amend | Delete


def reconcile(
    wanted: Mapping[str, tuple[str, ...]],
    existing: Iterable[ServiceL2Status],
    me: str,
    owner: Owner | None,
) -> list[Action]:
    """What makes the objects right.  `wanted`: the services we announce, and the interfaces they name."""
    deletions: list[Action] = []
    mine: dict[str, ServiceL2Status] = {}
    for found in sorted(existing, key=lambda each: each.name):
        if not found.service_key or not found.node_label:
            continue  # not one of ours to judge: MetalLB too looks only at objects with all three labels
        ours = found.node_label == me
        if found.service_key in wanted:
            if ours and found.service_key not in mine and usable(found, me):
                mine[found.service_key] = found
            else:
                deletions.append(Delete(found.name, found.uid))
        elif ours:
            deletions.append(Delete(found.name, found.uid))
    writes: list[Action] = []
    for service, interfaces in sorted(wanted.items()):
        here = mine.get(service)
        if here is None:
            writes.append(Create(service))
        elif here.interfaces != interfaces or not is_current(here, service, me, owner):
            writes.append(Amend(here.name, service, interfaces))
    return deletions + writes


def usable(found: ServiceStatus, me: str) -> bool:
    """The names in the status can be set once and never changed, so a wrong one is no use."""
    return found.node in ("", me) and found.status_service_key in ("", found.service_key)


def is_current(found: ServiceStatus, service: str, me: str, owner: Owner | None) -> bool:
    """Whether all but the list in it says what it should."""
    return (
        found.node == me
        and found.status_service_key == service
        and (owner is None or owner.uid in found.owner_uids)
    )


def first_write(kind: Resource, prefix: str, service: str, me: str, owner: Owner | None) -> dict[str, Any]:
    """An object of either kind of status, which the API is to name."""
    namespace, _, name = service.partition("/")
    metadata: dict[str, Any] = {
        "generateName": prefix,
        "labels": {NODE_LABEL: me, SERVICE_NAME_LABEL: name, SERVICE_NAMESPACE_LABEL: namespace},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner.reference()]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": {}}


def new_object(service: str, me: str, owner: Owner | None) -> dict[str, Any]:
    """The first of the two writes."""
    return first_write(SERVICE_L2_STATUSES, "l2-", service, me, owner)


def status_patch(service: str, me: str, interfaces: tuple[str, ...]) -> dict[str, Any]:
    """The second: a merge patch of the status."""
    namespace, _, name = service.partition("/")
    return {
        "status": {
            "node": me,
            "serviceName": name,
            "serviceNamespace": namespace,
            # null takes the list away: no list means all interfaces
            "interfaces": [{"name": each} for each in interfaces] or None,
        }
    }


class Damper:
    """When an object may be made for a service again."""

    def __init__(self, most: float = PAUSE_MAX) -> None:
        """`most`: the longest pause, seconds."""
        self._most = most
        self._made: dict[str, tuple[float, float]] = {}
        """Service to when its last object was made, and the pause that follows."""

    def ready_at(self, service: str) -> float:
        made_at, pause = self._made.get(service, (float("-inf"), 0.0))
        return made_at + pause

    def made(self, service: str, now: float) -> None:
        made_at, pause = self._made.get(service, (float("-inf"), 0.0))
        pause = PAUSE_FIRST if now - made_at > CALM else min(pause * 2, self._most)
        self._made[service] = (now, pause)

    def forget(self, keep: Iterable[str], now: float) -> None:
        """Drop what is calm and no longer wanted, so that the memory does not grow for ever."""
        kept = set(keep)
        for service in [key for key, (at, _) in self._made.items() if key not in kept and now - at > CALM]:
            del self._made[service]
