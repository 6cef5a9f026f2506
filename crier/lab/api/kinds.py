"""What the API serves: one `Kind` per resource, and the registry requests are looked up in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

ALL_VERBS: Final = (
    *("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    path: str
    """JSONPath into the object, as in a CRD's `additionalPrinterColumns`; for builtin kinds the name of a
    function in `tables`, after a `=`."""
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0
    """0 is always shown, more only by `-o wide`."""


StatusWrite = Literal["status", "status and metadata"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource and how it behaves."""

    group: str
    versions: tuple[str, ...]
    """Served versions; the first is the one objects are stored in."""
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    singular: str = ""
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (Column("Age", "=age"),)
    has_status: bool = False
    """Whether there is a status subresource (and the main resource does not write the status)."""
    status_write: StatusWrite = "status"
    """What a write to the status subresource changes."""
    has_scale: bool = False
    has_generation: bool = False
    """Whether `metadata.generation` counts changes of the spec."""
    custom: bool = False
    """Defined by a CRD: no strategic merge, no unconditional update."""
    unconditional_update: bool = True
    storage: str = ""
    """Where the objects are kept, when two groups serve the same ones; empty means by this kind's name."""
    selectable: frozenset[str] = frozenset()
    """Fields beside the common ones that field selectors may name (a CRD's `selectableFields`)."""
    merge_keys: tuple[tuple[str, str], ...] = ()
    """(dotted path of a list, key field) of the CRD's `x-kubernetes-list-type: map` lists."""
    defaults: tuple[tuple[str, Any], ...] = ()
    """(dotted path of a field, value) of the CRD's defaults; one whose parent is absent is left out."""

    @property
    def resource(self) -> str:
        """Name within the API and the store: `plural.group`, or `plural` in the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored_as(self) -> str:
        return self.storage or self.resource

    @property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

    def api_version(self, version: str = "") -> str:
        version = version or self.versions[0]
        return f"{self.group}/{version}" if self.group else version


_VERSION = re.compile(r"v(\d{1,9})(?:(alpha|beta)(\d{1,9}))?")
_STABILITY: Final = {None: 0, "beta": 1, "alpha": 2}


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sorts v2, v1, v1beta2, v1beta1, v1alpha1 and then what is no version, as Kubernetes prefers them."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return 3, 0, 0, version
    major, stability, minor = found.groups()
    return _STABILITY[stability], -int(major), -int(minor or 0), version


class Kinds:
    """The kinds by group, version and plural; CRDs come and go."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._by_name: dict[tuple[str, str], Kind] = {}
        for kind in kinds:
            self.add(kind)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_name.values())

    def add(self, kind: Kind) -> None:
        self._by_name[kind.group, kind.plural] = kind

    def discard(self, group: str, plural: str) -> None:
        self._by_name.pop((group, plural), None)

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        kind = self._by_name.get((group, plural))
        return kind if kind is not None and version in kind.versions else None

    def named(self, group: str, plural: str) -> Kind | None:
        return self._by_name.get((group, plural))

    def by_storage(self, resource: str) -> Kind | None:
        """The kind that owns a resource of the store."""
        plural, _, group = resource.partition(".")
        return self._by_name.get((group, plural))

    def groups(self) -> dict[str, list[str]]:
        """Served versions per named group, preferred first."""
        groups: dict[str, list[str]] = {}
        for kind in self:
            if kind.group:
                served = groups.setdefault(kind.group, [])
                served.extend(version for version in kind.versions if version not in served)
        for served in groups.values():
            served.sort(key=version_rank)
        return groups

    def of(self, group: str, version: str) -> list[Kind]:
        return [kind for kind in self if kind.group == group and version in kind.versions]
