"""Kinds that only who looks at a cluster reads: Events, which pod runs with which flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from crier.kube.model import wire
from crier.kube.model.wire import MetaWire

MAX_MESSAGE: Final = 2048
OUR_VARIABLES: Final = "METALLB_"
"""How the variables begin that every pod of controller and speakers has, MetalLB's as well as ours."""


class _AboutWire(msgspec.Struct, frozen=True, gc=False):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None


class _SourceWire(msgspec.Struct, frozen=True, gc=False):
    component: str | None = None
    host: str | None = None


class _EventWire(msgspec.Struct, frozen=True, rename="camel"):
    metadata: MetaWire
    involved_object: _AboutWire | None = None
    source: _SourceWire | None = None
    type: str | None = None
    reason: str | None = None
    message: str | None = None
    count: int | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None


_EVENT: Final = msgspec.json.Decoder(_EventWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A core/v1 Event."""

    namespace: str
    name: str
    about_kind: str
    about: str
    """`namespace/name` of the object, or its name alone."""
    type: str
    reason: str
    message: str
    count: int
    first: str
    last: str
    """RFC 3339, as the API has it."""
    component: str
    host: str
    revision: int = 0
    """Grows with every write to any Event, so it orders those of one second; 0 when it is no number."""

    @classmethod
    def decode(cls, data: bytes) -> Event:
        """Raises `DecodeError`."""
        found = wire.decode(_EVENT, data)
        meta = wire.named(found.metadata, namespaced=True)
        about, source = found.involved_object or _AboutWire(), found.source or _SourceWire()
        created = found.first_timestamp or found.event_time or meta.creation_timestamp or ""
        return cls(
            namespace=meta.namespace or "",
            name=meta.name,
            about_kind=about.kind or "",
            about=wire.object_key(about.namespace, about.name or ""),
            type=found.type or "Normal",
            reason=found.reason or "",
            message=(found.message or "")[:MAX_MESSAGE],
            count=found.count or 1,
            first=created,
            last=found.last_timestamp or found.event_time or created,
            component=source.component or "",
            host=source.host or "",
            revision=int(version) if (version := meta.resource_version or "").isdecimal() else 0,
        )


class _ConditionWire(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    status: str = ""


class _EnvWire(msgspec.Struct, frozen=True, gc=False):
    name: str = ""
    value: str | None = None


class _ContainerWire(msgspec.Struct, frozen=True):
    name: str = ""
    image: str | None = None
    args: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: tuple[_EnvWire, ...] | None = None


class _ContainerStatusWire(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    ready: bool = False
    restart_count: int = 0


class _PodSpecWire(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str | None = None
    containers: tuple[_ContainerWire, ...] | None = None


class _PodStatusWire(msgspec.Struct, frozen=True, rename="camel"):
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    phase: str | None = None
    conditions: tuple[_ConditionWire, ...] | None = None
    container_statuses: tuple[_ContainerStatusWire, ...] | None = None


class _PodWire(msgspec.Struct, frozen=True):
    metadata: MetaWire
    spec: _PodSpecWire | None = None
    status: _PodStatusWire | None = None


_POD: Final = msgspec.json.Decoder(_PodWire)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPod:
    """A pod of ours, with the command lines of its containers."""

    name: str
    component: str
    """`speaker`, `controller`, or what the label says; "" for a pod that is none of ours."""
    node: str
    ip: str
    phase: str
    ready: bool
    restarts: int
    arguments: tuple[str, ...]
    """Of all containers."""
    environment: tuple[tuple[str, str], ...]
    containers: tuple[str, ...] = ()
    """Their names."""

    def flag(self, name: str, variable: str = "") -> str:
        """A flag of the command line, or the variable in its place; "" when neither is given."""
        return flag_of(self.arguments, name) or dict(self.environment).get(variable, "")

    @classmethod
    def decode(cls, data: bytes) -> ProgramPod:
        """Raises `DecodeError`."""
        found = wire.decode(_POD, data)
        meta = wire.named(found.metadata, namespaced=True)
        spec, status = found.spec or _PodSpecWire(), found.status or _PodStatusWire()
        containers = spec.containers or ()
        entries = [entry for each in containers for entry in each.env or ()]
        return cls(
            name=meta.name,
            component=_component(meta.labels or {}, [entry.name for entry in entries]),
            node=spec.node_name or "",
            ip=status.pod_ip or "",
            phase=status.phase or "",
            ready=any(each.type == "Ready" and each.status == "True" for each in status.conditions or ()),
            restarts=sum(each.restart_count for each in status.container_statuses or ()),
            arguments=tuple(
                text for each in containers for text in (*(each.command or ()), *(each.args or ()))
            ),
            environment=tuple((entry.name, entry.value or "") for entry in entries),
            containers=tuple(each.name for each in containers),
        )


def _component(labels: Mapping[str, str], variables: Iterable[str]) -> str:
    if labels.get("app") == "metallb":
        return labels.get("component", "")
    # a chart's labels carry a name of somebody's choice, and other charts have controllers, too
    ours = any(name.startswith(OUR_VARIABLES) for name in variables)
    return labels.get("app.kubernetes.io/component", "") if ours else ""


def flag_of(arguments: Sequence[str], name: str) -> str:
    """The value of `--name value`, `--name=value` or `-name=value`; "true" for a bare one; "" without."""
    for index, text in enumerate(arguments):
        given, separator, value = text.lstrip("-").partition("=")
        if not text.startswith("-") or given != name:
            continue
        if separator:
            return value
        following = arguments[index + 1] if index + 1 < len(arguments) else "-"
        return "true" if following.startswith("-") else following
    return ""
