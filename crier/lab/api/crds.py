"""CustomResourceDefinitions: what makes one acceptable, and the `Kind` it opens.

Of schemas the defaults and the lists' keys are honoured; objects are not held against them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from crier.lab.api import errors
from crier.lab.api.kinds import Column, Kind
from crier.lab.api.store import Object


class _Names(msgspec.Struct, frozen=True, rename="camel"):
    plural: str
    kind: str
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None


class _Column(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    type: str
    json_path: str
    format: str = ""
    description: str = ""
    priority: int = 0


class _Selectable(msgspec.Struct, frozen=True, rename="camel"):
    json_path: str


class _Schema(msgspec.Struct, frozen=True):
    openAPIV3Schema: dict[str, Any] = {}  # noqa: N815 - as it is written


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    served: bool
    storage: bool
    schema: _Schema | None = None
    subresources: dict[str, dict[str, Any]] | None = None
    additional_printer_columns: tuple[_Column, ...] | None = None
    selectable_fields: tuple[_Selectable, ...] | None = None


class _Spec(msgspec.Struct, frozen=True):
    group: str
    scope: str
    names: _Names
    versions: tuple[_Version, ...]
    conversion: dict[str, Any] | None = None


class _Condition(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    last_transition_time: str | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    conditions: tuple[_Condition, ...] | None = None
    stored_versions: tuple[str, ...] | None = None


class _Definition(msgspec.Struct, frozen=True):
    """The fields of a CRD that matter here."""

    spec: _Spec
    status: _Status | None = None


def admit(kind: Kind, new: Object, now: float) -> None:
    """Check and complete a CRD in place; it is established at once.

    Raises:
        ApiError: 422 or 400, what is wrong with it.
    """
    name = new["metadata"]["name"]
    try:
        spec = _definition(new).spec
    except msgspec.ValidationError as error:
        text = f'{kind.kind} in version "v1" cannot be handled as a {kind.kind}: {error}'
        raise errors.bad_request(text) from None
    for field, text in _problems(name, spec):
        raise errors.invalid(kind.group, kind.kind, name, ("FieldValueInvalid", field, text))
    names = {**new["spec"]["names"]}
    names["singular"] = spec.names.singular or spec.names.kind.lower()
    names["listKind"] = spec.names.list_kind or f"{spec.names.kind}List"
    conversion = new["spec"].get("conversion") or {"strategy": "None"}
    new["spec"] = {**new["spec"], "names": names, "conversion": conversion}
    _establish(new, now)


def _definition(crd: Object) -> _Definition:
    return msgspec.convert(crd, type=_Definition)


def _problems(name: str, spec: _Spec) -> Iterator[tuple[str, str]]:
    if not spec.group:
        yield "spec.group", "Required value"
    if not spec.names.plural or not spec.names.kind:
        yield "spec.names", "Required value: plural and kind are required"
    if name != f"{spec.names.plural}.{spec.group}":
        yield "metadata.name", f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group'
    if spec.scope not in ("Namespaced", "Cluster"):
        yield "spec.scope", f'Unsupported value: "{spec.scope}": supported values: "Cluster", "Namespaced"'
    if sum(version.storage for version in spec.versions) != 1:
        yield "spec.versions", "Invalid value: must have exactly one version marked as storage version"
    if not all(version.name for version in spec.versions):
        yield "spec.versions", "Required value: every version has a name"


def _establish(new: Object, now: float) -> None:
    definition = _definition(new)
    before = definition.status or _Status()
    since = {condition.type: condition.last_transition_time for condition in before.conditions or ()}
    time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": name, "status": "True", "lastTransitionTime": since.get(name) or time,
         "reason": reason, "message": message}
        for name, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]  # fmt: skip
    stored = next(version.name for version in definition.spec.versions if version.storage)
    others = [version for version in before.stored_versions or () if version != stored]
    names = new["spec"]["names"]
    new["status"] = {"acceptedNames": names, "conditions": conditions, "storedVersions": [*others, stored]}


def kind_of(crd: Object) -> Kind:
    """The kind an admitted CRD opens; of its served versions the stored one comes first."""
    spec = _definition(crd).spec
    served = [version for version in spec.versions if version.served]
    served.sort(key=lambda version: not version.storage)
    first = (served or spec.versions)[0]
    subresources = first.subresources or {}
    return Kind(
        group=spec.group,
        versions=tuple(version.name for version in served),
        kind=spec.names.kind,
        plural=spec.names.plural,
        namespaced=spec.scope == "Namespaced",
        short_names=spec.names.short_names or (),
        singular=spec.names.singular,
        categories=spec.names.categories or (),
        columns=tuple(map(_column, first.additional_printer_columns or ())) or _DEFAULT_COLUMNS,
        has_status="status" in subresources,
        has_scale="scale" in subresources,
        has_generation=True,
        custom=True,
        unconditional_update=False,
        selectable=frozenset(field.json_path.lstrip(".") for field in first.selectable_fields or ()),
        merge_keys=(*_map_lists(first.schema.openAPIV3Schema if first.schema else {}, ""),),
        defaults=(*_defaults(first.schema.openAPIV3Schema if first.schema else {}, ""),),
    )


_DEFAULT_COLUMNS = (Column("Age", ".metadata.creationTimestamp", "date"),)


def _column(column: _Column) -> Column:
    return Column(
        column.name, column.json_path, column.type, column.format, column.description, column.priority
    )  # fmt: skip


def fill_in(kind: Kind, thing: Object) -> None:
    """Give fields that are not there their defaults, in place."""
    for path, value in kind.defaults:
        *steps, last = path.split(".")
        at: Any = thing
        for step in steps:
            at = at.get(step) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.setdefault(last, copy.deepcopy(value))


def _defaults(schema: Any, path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Defaults of fields, an object's own before those inside it; none inside lists."""
    properties = schema.get("properties") if isinstance(schema, dict) and depth <= 64 else None
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        if isinstance(inner, dict):
            field = f"{path}.{name}".lstrip(".")
            if "default" in inner:
                yield field, inner["default"]
            yield from _defaults(inner, field, depth + 1)


def _map_lists(schema: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Lists with `x-kubernetes-list-type: map`, as (dotted path, first key)."""
    if not isinstance(schema, dict) or depth > 64:
        return
    keys = schema.get("x-kubernetes-list-map-keys")
    if schema.get("x-kubernetes-list-type") == "map" and isinstance(keys, list) and keys:
        yield path, str(keys[0])
    yield from _map_lists(schema.get("items"), path, depth + 1)
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        yield from _map_lists(inner, f"{path}.{name}".lstrip("."), depth + 1)
