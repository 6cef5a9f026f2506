"""CustomResourceDefinitions: what makes one acceptable, and the `Kind` it opens.

Schemas are kept but not enforced: objects are stored as they come.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from crier.lab.api import errors
from crier.lab.api.kinds import Column, Kind
from crier.lab.api.store import Object


def admit(kind: Kind, new: Object, now: float) -> None:
    """Check and complete a CRD in place; it is established at once.

    Raises:
        ApiError: 422 or 400, what is wrong with it.
    """
    name = new["metadata"]["name"]

    def wrong(field: str, text: str) -> errors.ApiError:
        return errors.invalid(kind.group, kind.kind, name, ("FieldValueInvalid", field, text))

    spec = dict(new.get("spec") or {})
    names = spec.get("names")
    if not isinstance(names, dict) or not all(
        isinstance(names.get(field), str) and names[field] for field in ("plural", "kind")
    ):
        raise wrong("spec.names", "Required value: plural and kind are required")
    if not isinstance(spec.get("group"), str) or not spec["group"]:
        raise wrong("spec.group", "Required value")
    if name != f"{names['plural']}.{spec['group']}":
        raise wrong("metadata.name", f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group')
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        raise wrong(
            "spec.scope",
            f'Unsupported value: "{spec.get("scope")}": supported values: "Cluster", "Namespaced"',
        )
    versions = spec.get("versions")
    if not isinstance(versions, list) or not versions:
        raise wrong("spec.versions", "Required value")
    for version in versions:
        if not isinstance(version, dict) or not isinstance(version.get("name"), str) or not version["name"]:
            raise wrong("spec.versions", "Invalid value: every version has a name")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        raise wrong("spec.versions", "Invalid value: must have exactly one version marked as storage version")
    spec["names"] = {
        "singular": names["kind"].lower(), "listKind": names["kind"] + "List", **names,
    }  # fmt: skip
    spec.setdefault("conversion", {"strategy": "None"})
    new["spec"] = spec
    _establish(new, now)
    try:
        kind_of(new)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise errors.bad_request(
            "CustomResourceDefinition cannot be handled: a field has the wrong type"
        ) from None


def _establish(new: Object, now: float) -> None:
    before = new.get("status") or {}
    known = {condition["type"]: condition for condition in before.get("conditions") or ()}
    time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = []
    for name, reason, message in (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ):
        since = known.get(name, {}).get("lastTransitionTime", time)
        conditions.append(
            {
                "type": name,
                "status": "True",
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        )
    stored = next(version["name"] for version in new["spec"]["versions"] if version.get("storage"))
    others = [version for version in before.get("storedVersions") or () if version != stored]
    new["status"] = {
        "acceptedNames": new["spec"]["names"], "conditions": conditions, "storedVersions": [*others, stored],
    }  # fmt: skip


def kind_of(crd: Object) -> Kind:
    """The kind an admitted CRD opens; of its served versions the stored one comes first."""
    spec = crd["spec"]
    names = spec["names"]
    served = [version for version in spec["versions"] if version.get("served")]
    served.sort(key=lambda version: not version.get("storage"))
    first = (served or spec["versions"])[0]
    subresources = first.get("subresources") or {}
    columns = tuple(_column(column) for column in first.get("additionalPrinterColumns") or ())
    schema = (first.get("schema") or {}).get("openAPIV3Schema") or {}
    return Kind(
        group=spec["group"],
        versions=tuple(version["name"] for version in served),
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        singular=names.get("singular", ""),
        categories=tuple(names.get("categories") or ()),
        columns=columns or (Column("Age", ".metadata.creationTimestamp", "date"),),
        has_status="status" in subresources,
        has_scale="scale" in subresources,
        has_generation=True,
        custom=True,
        unconditional_update=False,
        selectable=frozenset(field["jsonPath"].lstrip(".") for field in first.get("selectableFields") or ()),
        merge_keys=(*_map_lists(schema, ""),),
    )


def _column(column: Any) -> Column:
    return Column(
        name=str(column["name"]),
        path=str(column["jsonPath"]),
        type=str(column.get("type", "string")),
        format=str(column.get("format", "")),
        description=str(column.get("description", "")),
        priority=int(column.get("priority", 0)),
    )


def _map_lists(schema: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Lists with `x-kubernetes-list-type: map`, as (dotted path, first key)."""
    if not isinstance(schema, dict) or depth > 64:
        return
    if schema.get("x-kubernetes-list-type") == "map" and (keys := schema.get("x-kubernetes-list-map-keys")):
        yield path, str(keys[0])
    yield from _map_lists(schema.get("items"), path, depth + 1)
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        yield from _map_lists(inner, f"{path}.{name}".lstrip("."), depth + 1)
