"""Node: where speakers may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.wire import NO_LABELS, MetaWire

EXCLUDE_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Its presence, whatever the value, takes a node out of every election."""


class _ConditionWire(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    status: str = ""


class _AddressWire(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    address: str = ""


class _StatusWire(msgspec.Struct, frozen=True):
    conditions: tuple[_ConditionWire, ...] | None = None
    addresses: tuple[_AddressWire, ...] | None = None


class _NodeWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    status: _StatusWire | None = None


_DECODER: Final = msgspec.json.Decoder(_NodeWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What we read of a core/v1 Node.  Equal when nothing we use changed, so heartbeats are no news."""

    name: str
    labels: Mapping[str, str] = field(default=NO_LABELS)
    network_unavailable: bool = False
    internal_ips: tuple[str, ...] = ()

    @property
    def excluded(self) -> bool:
        return EXCLUDE_LABEL in self.labels

    @classmethod
    def decode(cls, data: bytes) -> Node:
        """Raises `DecodeError`."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=False)
        status = found.status or _StatusWire()
        return cls(
            name=meta.name,
            labels=meta.labels or NO_LABELS,
            network_unavailable=any(
                condition.type == "NetworkUnavailable" and condition.status == "True"
                for condition in status.conditions or ()
            ),
            internal_ips=tuple(
                entry.address for entry in status.addresses or () if entry.type == "InternalIP"
            ),
        )
