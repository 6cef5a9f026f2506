"""Namespace: its labels decide which pools its services may draw from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crier.kube.model import wire
from crier.kube.model.wire import NO_LABELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    name: str
    labels: Mapping[str, str] = field(default=NO_LABELS)

    @classmethod
    def decode(cls, data: bytes) -> Namespace:
        """Raises `DecodeError`."""
        meta = wire.decode_meta(data)
        return cls(name=meta.name, labels=meta.labels or NO_LABELS)
