"""What is told as Events on Services: MetalLB's reasons and texts, component `metallb-speaker`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from crier.kube import resources
from crier.kube.events import EventType, Reference
from crier.kube.model.service import Service

COMPONENT: Final = "metallb-speaker"
LASTING: Final = 3
WITHIN: Final = 240.0
"""Seconds.  A reflex that hears another announce its address says so at most every 2 to 64 seconds."""


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


def conflict(service: Service, address: str, why: str) -> Event:
    """Somebody else goes on announcing the address; MetalLB has no such event."""
    message = f'LB IP "{address}" is also in use by another host: {why or "it was announced"}'
    return Event(_about(service), "Warning", "addressConflict", message)


class Quarrels:
    """Tells a lasting conflict from the short one that every healed partition ends with."""

    def __init__(self) -> None:
        self._noted: dict[str, list[float]] = {}

    def lasts(self, address: str, now: float) -> bool:
        """Note a conflict; True when it is at least the `LASTING`-th within `WITHIN` seconds."""
        for known in [key for key, times in self._noted.items() if now - times[-1] > WITHIN]:
            del self._noted[known]
        recent = [at for at in self._noted.get(address, ()) if now - at <= WITHIN]
        self._noted[address] = [*recent, now][-LASTING:]
        return len(self._noted[address]) == LASTING


def _about(service: Service) -> Reference:
    kind = resources.SERVICES
    return Reference(kind.api_version, kind.kind, service.namespace, service.name, service.uid)
