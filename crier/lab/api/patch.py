"""The three patches that are not server-side apply: merge, JSON and strategic merge.

All are pure: they return a new value and share with the old one what they did not touch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from crier.lab.api.errors import ApiError, bad_request

MAX_OPERATIONS: Final = 10_000

_ATOMIC: Final = ""

MERGE_KEYS: Final[Mapping[str, str]] = {
    "addresses": "type",  # of a Node's status
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "secrets": "name",
    "taints": "key",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
    "webhooks": "name",
}
"""Lists that strategic merge joins by a key, by the name of the field that holds them; `ports` see below.
Lists that are not here are replaced whole.  (Kubernetes' `patchMergeKey` tags.)"""

SETS: Final = frozenset({"finalizers"})
"""Lists of scalars that strategic merge joins."""


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902.

    Raises:
        ApiError: 400, the patch is malformed; 422, it does not fit the object.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is an array of operations")
    if len(operations) > MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, message)
    document = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise bad_request("error decoding patch: an operation is an object with op and path")
        document = _operate(document, operation)
    return document


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    path = _pointer(operation["path"])
    match operation.get("op"):
        case "add":
            return _add(document, path, _value(operation))
        case "remove":
            return _remove(document, path)
        case "replace":
            if not path:
                return _value(operation)
            _get(document, path)
            return _add(_remove(document, path), path, _value(operation))
        case "test":
            if _get(document, path) != operation.get("value"):
                raise _unprocessable(f"testing value {operation['path']} failed")
            return document
        case "move" | "copy" as op:
            source = _pointer(operation.get("from"))
            value = copy.deepcopy(_get(document, source))
            if op == "move":
                document = _remove(document, source)
            return _add(document, path, value)
        case other:
            raise bad_request(f"error decoding patch: unknown operation {other!r}")


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise bad_request(f"error decoding patch: {operation['op']} without value")
    return copy.deepcopy(operation["value"])


def _unprocessable(message: str) -> ApiError:
    return ApiError(422, f"the server rejected our request due to an error in our request: {message}")


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise bad_request(f"error decoding patch: {text!r} is not a JSON pointer")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _index(container: list[Any], step: str, *, end: int) -> int:
    if not step.isascii() or not step.isdigit() or len(step) > 9 or int(step) >= end:
        raise _unprocessable(f"no index {step!r} in an array of {len(container)}")
    return int(step)


def _get(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, list):
            document = document[_index(document, step, end=len(document))]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            raise _unprocessable(f"path /{'/'.join(path)} does not exist")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    container, last = _get(document, path[:-1]), path[-1]
    if isinstance(container, list):
        end = len(container)
        container.insert(end if last == "-" else _index(container, last, end=end + 1), value)
    elif isinstance(container, dict):
        container[last] = value
    else:
        raise _unprocessable(f"path /{'/'.join(path)} does not exist")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise _unprocessable("the whole object cannot be removed")
    _get(document, path)
    container, last = _get(document, path[:-1]), path[-1]
    del container[int(last) if isinstance(container, list) else last]
    return document


def strategic_merge_patch(target: Any, patch: Any) -> Any:
    """Kubernetes' own: as a merge patch, but lists with a merge key are joined item by item.

    Understands the directives `$patch: replace|delete|merge`, `$deleteFromPrimitiveList/<list>`,
    `$setElementOrder/<list>` and `$retainKeys`.

    Raises:
        ApiError: 400, a directive is malformed.
    """
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: a strategic merge patch is an object")
    return _strategic(target if isinstance(target, dict) else {}, patch)


def _strategic(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    merged = dict(target)
    retain = patch.get("$retainKeys")
    if isinstance(retain, list):
        merged = {key: value for key, value in merged.items() if key in retain}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            gone = value if isinstance(value, list) else []
            merged[name] = [item for item in merged.get(name) or [] if item not in gone]
        elif key.startswith("$"):
            continue
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            inner = merged.get(key)
            merged[key] = _strategic(inner if isinstance(inner, dict) else {}, value)
        elif isinstance(value, list):
            old = merged.get(key)
            merged[key] = _strategic_list(key, old if isinstance(old, list) else [], value)
        else:
            merged[key] = value
    for key, value in patch.items():
        if key.startswith("$setElementOrder/"):
            name = key.partition("/")[2]
            if isinstance(merged.get(name), list) and isinstance(value, list):
                merged[name] = _ordered(name, merged[name], value)
    return merged


def merge_key(name: str, items: list[Any]) -> str:
    """The field that identifies an item of the list called `name`; "" when the list is replaced whole."""
    if name == "ports":  # containers number theirs by containerPort, Services by port
        if any(isinstance(item, dict) and "containerPort" in item for item in items):
            return "containerPort"
        return "port"
    key = MERGE_KEYS.get(name, _ATOMIC)
    if key and all(isinstance(item, dict) for item in items):
        return key
    return _ATOMIC


def _strategic_list(name: str, old: list[Any], new: list[Any]) -> list[Any]:
    if name in SETS:
        return [*old, *(item for item in new if item not in old)]
    key = merge_key(name, [*old, *new])
    if not key:
        return new
    if any(item.get("$patch") == "replace" for item in new):
        return [item for item in new if "$patch" not in item]
    merged = list(old)
    for item in new:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        at = next((index for index, one in enumerate(merged) if one.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del merged[at]
        elif at is None:
            merged.append(_strategic({}, item))
        else:
            merged[at] = _strategic(merged[at], item)
    return merged


def _ordered(name: str, items: list[Any], order: list[Any]) -> list[Any]:
    """The items the patch lists in its order; the others stay behind the one they followed."""
    key = merge_key(name, [item for item in items if isinstance(item, dict)]) if items else ""

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    ranks = [identity(entry) for entry in order]
    listed = iter(sorted((i for i in items if identity(i) in ranks), key=lambda i: ranks.index(identity(i))))
    return [next(listed) if identity(item) in ranks else item for item in items]
