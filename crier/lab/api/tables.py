"""The Table representation: the columns `kubectl get` prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from crier.lab.api.kinds import Column, Kind
from crier.lab.api.store import Object

_NAME: Final = Column(
    "Name", ".metadata.name", format="name", description="Name must be unique within a namespace."
)


def column_definitions(kind: Kind) -> list[Object]:
    return [
        {
            "name": column.name,
            "type": "string" if column.path.startswith("=") or column.type == "date" else column.type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in (_NAME, *kind.columns)
    ]


def table(
    kind: Kind, things: Iterable[Object], metadata: Object, *, now: float, include: str, heads: bool = True
) -> Object:
    """A `meta.k8s.io/v1` Table; `include` is Metadata, Object or None."""
    made: Object = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    if heads:
        made["columnDefinitions"] = column_definitions(kind)
    else:
        made["columnDefinitions"] = None
    made["rows"] = [_row(kind, thing, now, include) for thing in things]
    return made


def _row(kind: Kind, thing: Object, now: float, include: str) -> Object:
    cells = [thing["metadata"]["name"], *(_cell(column, thing, now) for column in kind.columns)]
    row: Object = {"cells": cells}
    if include == "Object":
        row["object"] = thing
    elif include != "None":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": thing["metadata"],
        }
    return row


_COUNTS: Final = frozenset(
    {
        *(".spec.replicas", ".status.replicas", ".status.readyReplicas", ".status.updatedReplicas"),
        *(".status.availableReplicas", ".status.desiredNumberScheduled", ".status.currentNumberScheduled"),
        *(".status.numberReady", ".status.updatedNumberScheduled", ".status.numberAvailable"),
    }
)
"""Numbers that Go leaves out of the JSON when they are 0."""


def _cell(column: Column, thing: Object, now: float) -> Any:
    if column.path.startswith("="):
        try:
            return _FUNCTIONS[column.path[1:]](thing, now)
        except (AttributeError, KeyError, TypeError, ValueError):
            return "<unknown>"  # most kinds are stored as they come: a field may have any shape
    found = json_path(thing, column.path)
    if not found and column.path in _COUNTS:
        return 0
    if not found:
        return None if column.type in ("integer", "number", "boolean") else ""
    value = found[0]
    if column.type == "date":
        return age(value, now)
    if column.type == "string" and not isinstance(value, str):
        return _text(value)
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return str(value)


_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\*)\]|\[\?\(@\.([^=()]+)==[\"']([^\"']*)[\"']\)\]|\['([^']+)'\]")


def json_path(thing: Any, path: str) -> list[Any]:
    """The values a JSONPath names; of the language what printer columns use: fields, indices, one filter."""
    values = [thing]
    for step in _STEP.finditer(path.replace("\\.", "\0")):
        name, index, filter_field, wanted, quoted = step.groups()
        name = (name or quoted or "").replace("\0", ".")
        following: list[Any] = []
        for value in values:
            if name:
                if isinstance(value, dict) and value.get(name) is not None:
                    following.append(value[name])
            elif not isinstance(value, list):
                continue
            elif index == "*":
                following.extend(value)
            elif index:
                following.extend(value[int(index) : int(index) + 1])
            else:
                following.extend(
                    item for item in value if isinstance(item, dict) and str(item.get(filter_field)) == wanted
                )
        values = following
    return values


def age(timestamp: Any, now: float) -> str:
    """Time since an RFC 3339 timestamp, as kubectl writes it: `5s`, `3m10s`, `4h`, `12d`."""
    if not isinstance(timestamp, str):
        return "<unknown>"
    try:
        then = datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return "<unknown>"
    return human_duration(now - then)


def human_duration(seconds: float) -> str:
    """apimachinery's `duration.HumanDuration`."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(total, 0)
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    return f"{days // 365}y"


def _age(thing: Object, now: float) -> str:
    return age(thing["metadata"].get("creationTimestamp"), now)


def _conditions(thing: Object) -> dict[str, str]:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return {condition["type"]: condition["status"] for condition in conditions}


def _node_status(thing: Object, now: float) -> str:
    del now
    ready = {"True": "Ready", "False": "NotReady"}.get(_conditions(thing).get("Ready", ""), "Unknown")
    cordoned = (thing.get("spec") or {}).get("unschedulable")
    return f"{ready},SchedulingDisabled" if cordoned else ready


def _node_roles(thing: Object, now: float) -> str:
    del now
    prefix = "node-role.kubernetes.io/"
    labels = thing["metadata"].get("labels") or {}
    return (
        ",".join(sorted(label.removeprefix(prefix) for label in labels if label.startswith(prefix)))
        or "<none>"
    )


def _node_internal_ip(thing: Object, now: float) -> str:
    del now
    addresses = (thing.get("status") or {}).get("addresses") or ()
    return next((one["address"] for one in addresses if one["type"] == "InternalIP"), "<none>")


def _pod_ready(thing: Object, now: float) -> str:
    del now
    states = (thing.get("status") or {}).get("containerStatuses") or ()
    total = len((thing.get("spec") or {}).get("containers") or ())
    return f"{sum(bool(state.get('ready')) for state in states)}/{total}"


def _pod_status(thing: Object, now: float) -> str:
    del now
    if thing["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = thing.get("status") or {}
    for state in status.get("containerStatuses") or ():
        waiting = (state.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason"):
            return str(waiting["reason"])
    return str(status.get("reason") or status.get("phase") or "Unknown")


def _pod_restarts(thing: Object, now: float) -> str:
    del now
    states = (thing.get("status") or {}).get("containerStatuses") or ()
    return str(sum(state.get("restartCount", 0) for state in states))


def _service_cluster_ip(thing: Object, now: float) -> str:
    del now
    return (thing.get("spec") or {}).get("clusterIP") or "<none>"


def _service_external_ip(thing: Object, now: float) -> str:
    del now
    spec = thing.get("spec") or {}
    external = spec.get("externalIPs") or []
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName"))
    if spec.get("type") != "LoadBalancer":
        return ",".join(external) or "<none>"
    ingress = ((thing.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    given = [entry.get("ip") or entry.get("hostname") or "" for entry in ingress]
    return ",".join([*filter(None, given), *external]) or "<pending>"


def _service_ports(thing: Object, now: float) -> str:
    del now
    ports = (thing.get("spec") or {}).get("ports") or ()
    texts = (
        f"{port['port']}:{port['nodePort']}/{port['protocol']}" if port.get("nodePort")
        else f"{port['port']}/{port['protocol']}"
        for port in ports
    )  # fmt: skip
    return ",".join(texts) or "<none>"


def _map_text(pairs: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((pairs or {}).items())) or "<none>"


def _service_selector(thing: Object, now: float) -> str:
    del now
    return _map_text((thing.get("spec") or {}).get("selector"))


def _node_selector(thing: Object, now: float) -> str:
    del now
    template = ((thing.get("spec") or {}).get("template") or {}).get("spec") or {}
    return _map_text(template.get("nodeSelector"))


def _deployment_ready(thing: Object, now: float) -> str:
    del now
    status = thing.get("status") or {}
    return f"{status.get('readyReplicas', 0)}/{(thing.get('spec') or {}).get('replicas', 0)}"


def _data_count(thing: Object, now: float) -> int:
    del now
    return len(thing.get("data") or {}) + len(thing.get("binaryData") or {})


def _secrets_count(thing: Object, now: float) -> int:
    del now
    return len(thing.get("secrets") or ())


def _webhooks_count(thing: Object, now: float) -> int:
    del now
    return len(thing.get("webhooks") or ())


def _role_ref(thing: Object, now: float) -> str:
    del now
    return f"{thing['roleRef']['kind']}/{thing['roleRef']['name']}"


_SHOWN_ITEMS: Final = 3


def _few(items: list[str]) -> str:
    more = f" + {len(items) - _SHOWN_ITEMS} more..." if len(items) > _SHOWN_ITEMS else ""
    return ",".join(items[:_SHOWN_ITEMS]) + more


def _slice_ports(thing: Object, now: float) -> str:
    del now
    ports = [str(port.get("port", "*")) for port in thing.get("ports") or ()]
    return _few(ports) or "<unset>"


def _slice_endpoints(thing: Object, now: float) -> str:
    del now
    addresses = [address for endpoint in thing.get("endpoints") or () for address in endpoint["addresses"]]
    return _few(addresses) or "<unset>"


def _endpoints(thing: Object, now: float) -> str:
    del now
    pairs = [
        f"{address['ip']}:{port['port']}"
        for subset in thing.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in subset.get("ports") or ()
    ]
    return _few(pairs) or "<none>"


def _event_last_seen(thing: Object, now: float) -> str:
    series = thing.get("series") or {}
    last = series.get("lastObservedTime") or thing.get("lastTimestamp") or thing.get("eventTime")
    return age(last or thing["metadata"].get("creationTimestamp"), now)


def _event_object(thing: Object, now: float) -> str:
    del now
    involved = thing.get("involvedObject") or thing.get("regarding") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


_FUNCTIONS: Final[Mapping[str, Callable[[Object, float], str | int]]] = {
    "age": _age,
    "data_count": _data_count,
    "deployment_ready": _deployment_ready,
    "endpoints": _endpoints,
    "event_last_seen": _event_last_seen,
    "event_object": _event_object,
    "node_internal_ip": _node_internal_ip,
    "node_roles": _node_roles,
    "node_selector": _node_selector,
    "node_status": _node_status,
    "pod_ready": _pod_ready,
    "pod_restarts": _pod_restarts,
    "pod_status": _pod_status,
    "role_ref": _role_ref,
    "secrets_count": _secrets_count,
    "service_cluster_ip": _service_cluster_ip,
    "service_external_ip": _service_external_ip,
    "service_ports": _service_ports,
    "service_selector": _service_selector,
    "slice_endpoints": _slice_endpoints,
    "slice_ports": _slice_ports,
    "webhooks_count": _webhooks_count,
}
