"""Node: where speakers may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.addresses import parse_address
from crier.kube.model.wire import NO_LABELS, MetaWire

EXCLUDE_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Its presence, whatever the value, takes a node out of every election."""

DRAIN_ANNOTATION: Final = "crier.dev/drain"
"""On a Node: the addresses it is to hand over, separated by commas, or `*` for all of them."""
ALL_ADDRESSES: Final = "*"
MAX_DRAINED: Final = 4096
"""Addresses in one annotation; who has more to move says `*`."""


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
    drained: frozenset[str] = frozenset()
    """What it is to hand over: canonical addresses, or `ALL_ADDRESSES` alone."""
    drain_fault: str = ""
    """What of the annotation is not understood, and why; the rest of it counts."""

    def drains(self, address: str) -> bool:
        """Whether it is to hand over an address (canonical text)."""
        return address in self.drained or ALL_ADDRESSES in self.drained

    @property
    def excluded(self) -> bool:
        return EXCLUDE_LABEL in self.labels

    @classmethod
    def decode(cls, data: bytes) -> Node:
        """Raises `DecodeError`."""
        found = wire.decode(_DECODER, data)
        meta = wire.named(found.metadata, namespaced=False)
        status = found.status or _StatusWire()
        drained, fault = parse_drain((meta.annotations or {}).get(DRAIN_ANNOTATION, ""))
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
            drained=drained,
            drain_fault=fault,
        )


def parse_drain(text: str) -> tuple[frozenset[str], str]:
    """What the annotation says, and what of it cannot be understood ("" when all can).

    A bad entry spoils neither the others nor the Node: the cluster must not be blind to a node over a typing
    error in an annotation.
    """
    entries = [entry for each in text.split(",", MAX_DRAINED) if (entry := each.strip())]
    if ALL_ADDRESSES in entries:
        return frozenset({ALL_ADDRESSES}), ""
    found: set[str] = set()
    bad: list[str] = []
    for entry in entries[:MAX_DRAINED]:
        try:
            found.add(str(parse_address(entry)))
        except ValueError:
            bad.append(entry)
    problems = [f"{bad[0][:64]!r} is not an address"] if bad else []
    if len(bad) > 1:
        problems.append(f"nor are {len(bad) - 1} more")
    if len(entries) > MAX_DRAINED:
        problems.append(f"more than {MAX_DRAINED} addresses")
    return frozenset(found), f"annotation {DRAIN_ANNOTATION}: {', '.join(problems)}" if problems else ""
