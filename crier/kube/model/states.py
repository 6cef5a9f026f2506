"""What our programs report of themselves: ConfigurationState, ServiceL2Status and ServiceBGPStatus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.wire import MetaWire, OwnerWire

COMPONENT_LABEL: Final = "metallb.io/component-type"
"""`controller` or `speaker`."""
NODE_NAME_LABEL: Final = "metallb.io/node-name"
"""On the ConfigurationState of a speaker."""

NODE_LABEL: Final = "metallb.io/node"
SERVICE_NAME_LABEL: Final = "metallb.io/service-name"
SERVICE_NAMESPACE_LABEL: Final = "metallb.io/service-namespace"
"""On a ServiceL2Status and a ServiceBGPStatus."""

RECONCILED: Final = "Reconciled"
CONFIGURATION_ERROR: Final = "ConfigurationError"
UNKNOWN_ERROR: Final = "UnknownError"


class Result(Enum):
    VALID = "Valid"
    INVALID = "Invalid"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str = ""


class _ConditionWire(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class _StateStatusWire(msgspec.Struct, frozen=True, rename="camel"):
    result: str | None = None
    error_summary: str | None = None
    conditions: tuple[_ConditionWire, ...] | None = None


class _StateWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    status: _StateStatusWire | None = None


_STATE_DECODER: Final = msgspec.json.Decoder(_StateWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationState:
    """Whether a program could use its configuration, and why not."""

    namespace: str
    name: str
    uid: str = ""
    result: str = ""
    error_summary: str = ""
    conditions: tuple[Condition, ...] = ()
    owner_uids: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def decode(cls, data: bytes) -> ConfigurationState:
        """Raises `DecodeError`."""
        found = wire.decode(_STATE_DECODER, data)
        meta = wire.named(found.metadata, namespaced=True)
        status = found.status or _StateStatusWire()
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            uid=meta.uid or "",
            result=status.result or "",
            error_summary=status.error_summary or "",
            conditions=tuple(
                Condition(entry.type, entry.status, entry.reason, entry.message)
                for entry in status.conditions or ()
            ),
            owner_uids=_uids(meta.owner_references),
        )


def judge(conditions: Sequence[Condition]) -> tuple[Result, str]:
    """The result and the error summary that follow from the conditions."""
    if not conditions:
        return Result.UNKNOWN, ""
    errors = [
        condition.message
        for condition in conditions
        if condition.status == "False" and condition.reason == CONFIGURATION_ERROR
    ]
    return (Result.INVALID, "\n".join(errors)) if errors else (Result.VALID, "")


class _ServiceStatusWire(msgspec.Struct, frozen=True, rename="camel"):
    node: str | None = None
    service_name: str | None = None
    service_namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """What one node does about a service: the part that is the same in layer 2 and routed mode."""

    namespace: str
    name: str
    uid: str = ""
    node_label: str = ""
    service_key: str = ""
    """`namespace/name` from the labels; "" when one is missing."""
    node: str = ""
    """From the status; "" until the second of the two writes that make the object."""
    status_service_key: str = ""
    owner_uids: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def _common(found: MetaWire, status: _ServiceStatusWire) -> dict[str, Any]:
    """The fields of `ServiceStatus`.  Raises `DecodeError`."""
    meta = wire.named(found, namespaced=True)
    labels = meta.labels or {}
    return {
        "namespace": meta.namespace or "",
        "name": meta.name,
        "uid": meta.uid or "",
        "node_label": labels.get(NODE_LABEL, ""),
        "service_key": _key(labels.get(SERVICE_NAMESPACE_LABEL), labels.get(SERVICE_NAME_LABEL)),
        "node": status.node or "",
        "status_service_key": _key(status.service_namespace, status.service_name),
        "owner_uids": _uids(meta.owner_references),
    }


class _InterfaceWire(msgspec.Struct, frozen=True, gc=False):
    name: str = ""


class _L2StatusStatusWire(_ServiceStatusWire, frozen=True):
    interfaces: tuple[_InterfaceWire, ...] | None = None


class _L2StatusWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    status: _L2StatusStatusWire | None = None


_L2_DECODER: Final = msgspec.json.Decoder(_L2StatusWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceL2Status(ServiceStatus):
    """Which node answers for a service."""

    interfaces: tuple[str, ...] = ()

    @classmethod
    def decode(cls, data: bytes) -> ServiceL2Status:
        """Raises `DecodeError`."""
        found = wire.decode(_L2_DECODER, data)
        status = found.status or _L2StatusStatusWire()
        return cls(
            **_common(found.metadata, status),
            interfaces=tuple(entry.name for entry in status.interfaces or ()),
        )


class _BgpStatusStatusWire(_ServiceStatusWire, frozen=True):
    peers: tuple[str, ...] | None = None


class _BgpStatusWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    status: _BgpStatusStatusWire | None = None


_BGP_DECODER: Final = msgspec.json.Decoder(_BgpStatusWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBgpStatus(ServiceStatus):
    """Which peers a node tells of a service."""

    peers: tuple[str, ...] = ()

    @classmethod
    def decode(cls, data: bytes) -> ServiceBgpStatus:
        """Raises `DecodeError`."""
        found = wire.decode(_BGP_DECODER, data)
        status = found.status or _BgpStatusStatusWire()
        return cls(**_common(found.metadata, status), peers=status.peers or ())


def _key(namespace: str | None, name: str | None) -> str:
    return f"{namespace}/{name}" if namespace and name else ""


def _uids(owners: Sequence[OwnerWire] | None) -> tuple[str, ...]:
    return tuple(owner.uid for owner in owners or ())
