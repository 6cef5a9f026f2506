"""What is told as Events on Services, and on objects of the configuration.

MetalLB's reasons and texts where it has any, and its component, `metallb-speaker`.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def assigned(service: Service, node: str, protocol: str = "layer2") -> Event:
    """MetalLB's tests find the leader by this event: the node's name is what stands between the first
    quotes.  `protocol`: `layer2` or `bgp`."""
    message = f'announcing from node "{node}" with protocol "{protocol}"'
    return Event(_about(service), "Normal", "nodeAssigned", message)


def no_interface(service: Service, address: str, node: str) -> Event:
    message = (
        f'the interfaces specified by LB IP "{address}" doesn\'t exist in assigned node "{node}" '
        'with protocol "layer2"'
    )
    return Event(_about(service), "Warning", "announceFailed", message)


def refused(about: Reference, why: str) -> Event:
    """An object of the configuration that is not used as it stands; MetalLB has no such event."""
    return Event(about, "Warning", "configurationError", why)


def not_supported(about: Reference, what: str) -> Event:
    """A setting that was accepted and does nothing."""
    return Event(about, "Warning", "notSupported", what)


def conflict(service: Service, address: str, why: str) -> Event:
    """Somebody else goes on announcing the address; MetalLB has no such event."""
    message = f'LB IP "{address}" is also in use by another host: {why or "it was announced"}'
    return Event(_about(service), "Warning", "addressConflict", message)


FOUND: Final[Mapping[str, tuple[EventType, str]]] = {
    "unanswered": ("Warning", "addressUnanswered"),
    "answered_twice": ("Warning", "addressAnsweredTwice"),
    "answered_by_wrong_host": ("Warning", "addressAnsweredByWrongHost"),
    "answered_well": ("Normal", "addressAnsweredWell"),
}


def found(service: Service, what: str, address: str, node: str, why: str) -> Event:
    """What (one of `FOUND`) a node found when it asked the wire; MetalLB has no such event."""
    kind, reason = FOUND[what]
    message = f'LB IP "{address}", as node "{node}" sees it on the wire: {why}'
    return Event(_about(service), kind, reason, message)


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
