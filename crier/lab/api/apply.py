"""Server-side apply: an object merged with what one field manager wants, and who owns which field.

Ownership is kept in `metadata.managedFields` in the real format (FieldsV1), for appliers only: plain updates
and other patches own nothing here, so they neither cause conflicts nor lose anything.  A field that a manager
applied before and now leaves out is removed unless another applier has it too.

Which lists are maps and by which key comes from the kind (a CRD's schema) and from Kubernetes' builtin types;
every other list is atomic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from crier.lab.api.errors import ApiError, bad_request
from crier.lab.api.kinds import Kind
from crier.lab.api.patch import merge_key
from crier.lab.api.store import Object

Path: TypeAlias = tuple[str, ...]
"""Steps as FieldsV1 writes them: `f:name`, `k:{"type":"Ready"}`, `v:"finalizer"`."""

_KEY_DEFAULTS: Final = {"protocol": "TCP"}
"""Key fields that may be left out."""

_UNOWNED: Final = frozenset(
    ("f:apiVersion", "f:kind", "f:metadata/f:name", "f:metadata/f:namespace", "f:metadata/f:resourceVersion")
)


def apply(
    kind: Kind, old: Object | None, applied: Object, *, manager: str, force: bool, subresource: str, time: str
) -> Object:
    """The new object; neither argument is changed.

    Raises:
        ApiError: 409, another manager owns a field with another value and `force` is not set; 400, a list
            item lacks its key.
    """
    old = old or {"metadata": {}}
    schema = _Lists(kind)
    entries = [entry for entry in old["metadata"].get("managedFields") or () if _usable(entry)]
    mine = [entry for entry in entries if _is_from(entry, manager, subresource)]
    others = [entry for entry in entries if not _is_from(entry, manager, subresource)]
    owned = {path for entry in mine for path in _leaves(entry["fieldsV1"])}
    wanted = {path for path in schema.paths(applied) if "/".join(path) not in _UNOWNED}

    conflicts, kept = [], []
    for entry in others:
        theirs = set(_leaves(entry["fieldsV1"]))
        clashing = {path for path in theirs & wanted if _value_at(old, path) != _value_at(applied, path)}
        conflicts += [(entry["manager"], path) for path in clashing]
        if remaining := theirs - clashing:
            kept.append({**entry, "fieldsV1": _tree(remaining)})
    if conflicts and not force:
        raise _conflict(conflicts)

    held_elsewhere = {path for entry in kept for path in _leaves(entry["fieldsV1"])}
    merged: Object = schema.merge(old, applied)
    for path in _removals(owned - wanted - held_elsewhere, kept=wanted | held_elsewhere):
        merged = _without(merged, path)
    mine_now = {
        "manager": manager, "operation": "Apply", "apiVersion": kind.api_version(), "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": _tree(wanted),
    }  # fmt: skip
    if subresource:
        mine_now["subresource"] = subresource
    if mine and mine[0]["fieldsV1"] == mine_now["fieldsV1"]:
        mine_now["time"] = mine[0]["time"]  # an apply that changes nothing changes nothing
    merged["metadata"] = {**merged["metadata"], "managedFields": [*kept, mine_now] if wanted else kept}
    return merged


def _removals(gone: set[Path], kept: set[Path]) -> list[Path]:
    """What to remove, in an order that works: whole list items before the fields of those that stay."""
    items = [
        path
        for path in gone
        if path[-1] == "." and not any(one[: len(path) - 1] == path[:-1] for one in kept)
    ]
    # the key of an item that stays is what it is found by
    fields = [path for path in gone if path[-1] != "." and not _is_key(path)]
    return [*sorted(items), *sorted(fields, key=len, reverse=True)]


def _is_key(path: Path) -> bool:
    if len(path) < 2 or not path[-2].startswith("k:"):
        return False
    return path[-1].removeprefix("f:") in _parsed_key(path[-2][2:])


class _Lists:
    """Which lists of a kind are maps, and by which fields."""

    def __init__(self, kind: Kind) -> None:
        self._custom = kind.custom
        self._keys: Mapping[str, str] = dict(kind.merge_keys)

    def keys(self, path: str, items: list[Any]) -> tuple[str, ...]:
        """The fields that tell the items of the list at `path` apart; none when it is atomic."""
        if path in self._keys:
            return (self._keys[path],)
        if path == "metadata.ownerReferences":
            return ("uid",)
        key = "" if self._custom else merge_key(path.rpartition(".")[2], items)
        if key in ("port", "containerPort"):
            return (key, "protocol")
        return (key,) if key else ()

    def paths(self, value: Any, dotted: str = "", steps: Path = ()) -> Iterator[Path]:
        """The fields an applied object sets, leaves and the list items themselves."""
        if isinstance(value, dict) and (value or not steps):
            for name, inner in value.items():
                yield from self.paths(inner, f"{dotted}.{name}".lstrip("."), (*steps, f"f:{name}"))
            return
        if isinstance(value, list) and value:
            if dotted == "metadata.finalizers":
                yield from ((*steps, "v:" + _text(item)) for item in value)
                return
            if keys := self.keys(dotted, value):
                for item in value:
                    step = (*steps, "k:" + _text(_key_of(item, keys, dotted)))
                    yield (*step, ".")
                    yield from self.paths(item, dotted, step)
                return
        yield steps

    def merge(self, old: Any, new: Any, dotted: str = "") -> Any:
        if isinstance(old, dict) and isinstance(new, dict):
            merged = dict(old)
            for name, value in new.items():
                merged[name] = self.merge(old.get(name), value, f"{dotted}.{name}".lstrip("."))
            return merged
        if isinstance(old, list) and isinstance(new, list):
            if dotted == "metadata.finalizers":
                return [*old, *(item for item in new if item not in old)]
            if keys := self.keys(dotted, [*old, *new]):
                return self._merge_items(old, new, keys, dotted)
        return new

    def _merge_items(self, old: list[Any], new: list[Any], keys: tuple[str, ...], dotted: str) -> list[Any]:
        merged = list(old)
        for item in new:
            wanted = _key_of(item, keys, dotted)
            at = next((n for n, one in enumerate(merged) if _matches(one, wanted)), None)
            if at is None:
                merged.append(item)
            else:
                merged[at] = self.merge(merged[at], item, dotted)
        return merged


def _key_of(item: Any, keys: tuple[str, ...], dotted: str) -> Object:
    if not isinstance(item, dict):
        raise bad_request(f"{dotted}: element in an associative list that is no object")
    for key in keys:
        if key not in item and key not in _KEY_DEFAULTS:
            raise bad_request(f"{dotted}: element in an associative list without its key {key!r}")
    return {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in keys}


def _matches(item: Any, key: Object) -> bool:
    return isinstance(item, dict) and all(
        item.get(name, _KEY_DEFAULTS.get(name)) == value for name, value in key.items()
    )


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _usable(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("fieldsV1"), dict)
        and isinstance(entry.get("manager"), str)
        and entry.get("operation") == "Apply"
    )


def _is_from(entry: Object, manager: str, subresource: str) -> bool:
    return bool(entry["manager"] == manager and entry.get("subresource", "") == subresource)


def _leaves(tree: Any, steps: Path = ()) -> Iterator[Path]:
    if not isinstance(tree, dict) or not tree:
        if steps:
            yield steps
        return
    for step, inner in tree.items():
        yield from _leaves(inner, (*steps, str(step)))


def _tree(paths: set[Path]) -> Object:
    root: Object = {}
    for path in sorted(paths):
        at = root
        for step in path:
            at = at.setdefault(step, {})
    return root


_MISSING: Final = object()


def _down(value: Any, step: str) -> Any:
    """The value one step further, `_MISSING` where there is none."""
    kind, _, text = step.partition(":")
    if kind == "f" and isinstance(value, dict):
        return value.get(text, _MISSING)
    if kind == "k" and isinstance(value, list):
        return next((item for item in value if _has_key(item, text)), _MISSING)
    if kind == "v" and isinstance(value, list):
        return next((item for item in value if _text(item) == text), _MISSING)
    return _MISSING


def _has_key(item: Any, text: str) -> bool:
    key = _parsed_key(text)
    return bool(key) and _matches(item, key)


def _parsed_key(text: str) -> Object:
    """The fields in a `k:` step; none when it is none of ours, as clients write managedFields too."""
    try:
        key = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return key if isinstance(key, dict) else {}


def _value_at(value: Any, path: Path) -> Any:
    for step in path:
        if step == ".":
            return True  # the item itself: being there is all that is owned
        value = _down(value, step)
        if value is _MISSING:
            return _MISSING
    return value


def _without(value: Any, path: Path) -> Any:
    """The value without one field; what becomes an empty list item or was never there is left alone."""
    step, rest = path[0], path[1:]
    inner = _down(value, step)
    if inner is _MISSING:
        return value
    kind, _, text = step.partition(":")
    whole = not rest or (rest == (".",) and isinstance(inner, dict))
    if kind == "f":
        if not rest:
            return {key: item for key, item in value.items() if key != text}
        return {**value, text: _without(inner, rest)}
    if whole:
        return [item for item in value if item is not inner]
    return [_without(item, rest) if item is inner else item for item in value]


def _conflict(conflicts: list[tuple[str, Path]]) -> ApiError:
    def dotted(path: Path) -> str:
        return "".join(
            f".{step[2:]}" if step.startswith("f:") else f"[{step[2:]}]" for step in path if step != "."
        )

    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"', "field": dotted(path)}
        for manager, path in sorted(conflicts)
    ]
    listed = "\n".join(f"- {cause['field']}" for cause in causes)
    what = "1 conflict" if len(causes) == 1 else f"{len(causes)} conflicts"
    managers = " and ".join(sorted({f'"{manager}"' for manager, _ in conflicts}))
    return ApiError(
        409, f"Apply failed with {what}: conflicts with {managers}:\n{listed}", details={"causes": causes}
    )
