"""Between the version a kind is stored in and the one a client speaks.

Events are one set of objects under two groups with other field names; for everything else served here the
versions differ in name only (the `None` strategy of CRDs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crier.lab.api.kinds import Kind
from crier.lab.api.store import Object

# core/v1 name: events.k8s.io/v1 name
_EVENT_FIELDS: Final[Mapping[str, str]] = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_CORE_FIELDS: Final = {new: core for core, new in _EVENT_FIELDS.items()}


def to_version(kind: Kind, version: str, stored: Object) -> Object:
    """The object as a client of `version` sees it; the stored one is left as it is."""
    wanted = kind.api_version(version)
    if stored.get("apiVersion") == wanted:
        return stored
    if kind.group == "events.k8s.io":
        return {_EVENT_FIELDS.get(key, key): value for key, value in stored.items()} | {"apiVersion": wanted}
    return {**stored, "apiVersion": wanted}


def from_version(kind: Kind, version: str, body: Object) -> Object:
    """The object as it is stored."""
    del version  # any served version is stored the same way
    if kind.group == "events.k8s.io":
        return {_CORE_FIELDS.get(key, key): value for key, value in body.items()} | {"apiVersion": "v1"}
    return {**body, "apiVersion": kind.api_version()}
