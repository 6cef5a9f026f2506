"""Label and field selectors, parsed once per request into a predicate."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from crier.lab.api.errors import bad_request
from crier.lab.api.store import Object

Predicate: TypeAlias = Callable[[Object], bool]

MAX_REQUIREMENTS: Final = 256

_KEY = r"[A-Za-z0-9][-A-Za-z0-9_./]*"
_VALUE = r"[-A-Za-z0-9_.]*"
_SET = re.compile(rf"\s*({_KEY})\s+(in|notin)\s+\(([^()]*)\)\s*")
_EQUALITY = re.compile(rf"\s*({_KEY})\s*(==|=|!=|>|<)\s*({_VALUE})\s*")
_EXISTS = re.compile(rf"\s*(!?)\s*({_KEY})\s*")


def label_predicate(text: str) -> Predicate | None:
    """A selector as in `app=x,tier notin (a, b),!legacy`; None when it selects everything.

    Raises:
        ApiError: 400, it is malformed.
    """
    checks = []
    position = 0
    while position < len(text):
        check, position = _requirement(text, position)
        checks.append(check)
        if position < len(text):
            if text[position] != "," or position + 1 == len(text):
                raise _malformed(text, position)
            position += 1
        if len(checks) > MAX_REQUIREMENTS:
            raise bad_request("unable to parse requirement: too many requirements")
    if not checks:
        return None
    return lambda thing: all(check(thing["metadata"].get("labels") or {}) for check in checks)


def _requirement(text: str, position: int) -> tuple[Callable[[Mapping[str, str]], bool], int]:
    if found := _SET.match(text, position):
        key, operator, listed = found.groups()
        values = frozenset(value.strip() for value in listed.split(","))
        if operator == "in":
            return (lambda labels: labels.get(key) in values), found.end()
        return (lambda labels: labels.get(key) not in values), found.end()
    if found := _EQUALITY.match(text, position):
        key, operator, value = found.groups()
        if operator in ("=", "=="):
            return (lambda labels: labels.get(key) == value), found.end()
        if operator == "!=":
            return (lambda labels: labels.get(key) != value), found.end()
        return _ordered(key, operator, value, text), found.end()
    if found := _EXISTS.match(text, position):
        negated, key = bool(found[1]), found[2]
        return (lambda labels: (key in labels) is not negated), found.end()
    raise _malformed(text, position)


def _ordered(key: str, operator: str, value: str, text: str) -> Callable[[Mapping[str, str]], bool]:
    try:
        bound = int(value)
    except ValueError:
        raise bad_request(
            f"unable to parse requirement: {text!r}: for > and < the value is a number"
        ) from None

    def check(labels: Mapping[str, str]) -> bool:
        try:
            number = int(labels[key])
        except (KeyError, ValueError):
            return False
        return number > bound if operator == ">" else number < bound

    return check


def _malformed(text: str, position: int) -> Exception:
    return bad_request(f"unable to parse requirement: {text!r} at {position}")


COMMON_FIELDS: Final = frozenset({"metadata.name", "metadata.namespace"})
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "events": frozenset(
        {
            *(
                f"involvedObject.{name}"
                for name in (
                    "kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath",
                )
            ),
            *("reason", "type", "source", "reportingComponent"),
        }
    ),
    "namespaces": frozenset({"status.phase", "name"}),
    "nodes": frozenset({"spec.unschedulable"}),
    "pods": frozenset(
        {
            *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
            *("spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"),
        }
    ),
    "secrets": frozenset({"type"}),
    "services": frozenset({"spec.clusterIP", "spec.type"}),
}  # fmt: skip
"""Fields a resource may be selected by beside the common ones, as the real server has them."""


def field_predicate(text: str, resource: str, extra: frozenset[str] = frozenset()) -> Predicate | None:
    """A selector as in `spec.nodeName=n1,status.phase!=Running`; None when it selects everything.

    Raises:
        ApiError: 400, it is malformed or names a field this resource cannot be selected by.
    """
    checks = []
    allowed = COMMON_FIELDS | FIELDS.get(resource, frozenset()) | extra
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if found is None:
            raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        path, operator, value = found.groups()
        if path not in allowed:
            raise bad_request(f'field label not supported: "{path}"')
        checks.append((path, operator == "!=", value))
        if len(checks) > MAX_REQUIREMENTS:
            raise bad_request("invalid selector: too many requirements")
    if not checks:
        return None
    return lambda thing: all((lookup(thing, path) == value) is not negated for path, negated, value in checks)


def lookup(thing: Object, path: str) -> str:
    """The text of a field, "" where there is none."""
    if path == "name":
        path = "metadata.name"
    if path == "source":  # events: the component, wherever the writer put it
        return str((thing.get("source") or {}).get("component") or thing.get("reportingComponent") or "")
    value: Any = thing
    for step in path.split("."):
        if not isinstance(value, dict):
            return ""
        value = value.get(step)
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
    return str(value)
