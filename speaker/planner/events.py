"""What is told as Events on Services: MetalLB's reasons and texts, component `metallb-speaker`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crier.kube import resources
from crier.kube.events import EventType, Reference
from crier.kube.model.service import Service

COMPONENT: Final = "metallb-speaker"


@dataclass(frozen=True, slots=True)
class Event:
    about: Reference
    type: EventType
    reason: str
    message: str


def assigned(service: Service, node: str) -> Event:
    """MetalLB's tests find the leader by this event: the node's name is what stands between the first
    quotes."""
    message = f'announcing from node "{node}" with protocol "layer2"'
    return Event(_about(service), "Normal", "nodeAssigned", message)


def no_interface(service: Service, address: str, node: str) -> Event:
    message = (
        f'the interfaces specified by LB IP "{address}" doesn\'t exist in assigned node "{node}" '
        'with protocol "layer2"'
    )
    return Event(_about(service), "Warning", "announceFailed", message)


def conflict(service: Service, address: str, who: str) -> Event:
    """Somebody on the LAN who is none of us answers for the address too; MetalLB has no such event."""
    message = f'LB IP "{address}" is also in use by {who or "another host"}'
    return Event(_about(service), "Warning", "addressConflict", message)


def _about(service: Service) -> Reference:
    kind = resources.SERVICES
    return Reference(kind.api_version, kind.kind, service.namespace, service.name, service.uid)
